//! One request, from an [`Op`](crate::op::Op) to the bytes of its answer, on the shard where it arrived.
//!
//! The same for both of our own channels: they differ in how bytes come in and go out, and in nothing else. Whatever
//! happens there is an answer, also when the code that serves the request panics.

use super::decode::Form;
use super::encode::{Encoded, encode, failure};
use super::interrupts::{Interrupts, may_be_interrupted};
use super::listing::Listing;
use crate::front::Front;
use crate::op::{OpKind, Request};
use crate::reply::{Reply, Responder, Room, Validity};
use forebay_vfs::Listed;
use futures_util::FutureExt;
use rustix::io::Errno;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

/// What serves the requests of a session.
#[derive(Clone)]
pub(super) struct Serving {
    front: Arc<Front>,
    interrupts: Arc<Interrupts>,
}

impl Serving {
    pub(super) fn new(front: Arc<Front>) -> Self {
        Self { front, interrupts: Arc::default() }
    }

    /// Those who hand requests in, and the shards they come to.
    pub(super) fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Takes an INTERRUPT.
    pub(super) fn interrupt(&self, id: crate::op::RequestId) {
        self.interrupts.interrupt(id);
    }

    /// The answer to a request that takes no waiting. `None` leaves it as it was, for [`Self::answer`].
    pub(super) fn answer_now(&self, request: &mut Request, form: Form) -> Option<Encoded> {
        match catch_unwind(AssertUnwindSafe(|| self.front.serve_now(request))) {
            Ok(reply) => reply.map(|reply| encode(form, reply, Listing::default())),
            Err(_) => Some(panicked(request.op.kind())),
        }
    }

    /// Serves a request here, whatever it takes.
    pub(super) async fn answer(&self, request: Request, form: Form) -> Encoded {
        let (asked, kind) = ((request.unique, request.caller.pid), request.op.kind());
        let slot = Rc::new(Cell::new(None));
        let responder = Gathering { form, listing: Listing::default(), slot: Rc::clone(&slot) };
        // It stays where it is: it is long, and moving it costs more than many a request takes.
        let mut serving = pin!(AssertUnwindSafe(self.front.serve(request, responder)).catch_unwind());
        let served = if may_be_interrupted(kind) {
            self.interrupts.unless_interrupted(asked, serving.as_mut()).await
        } else {
            Ok(serving.await)
        };
        match (served, slot.take()) {
            (Ok(Ok(())), Some(answer)) => answer,
            (Err(_), _) => failure(Errno::INTR),
            (Ok(Err(_)), _) => panicked(kind),
            (Ok(Ok(())), None) => unreachable!("a request that was served has an answer"),
        }
    }
}

fn panicked(kind: OpKind) -> Encoded {
    tracing::error!(op = kind.name(), "a request made its handler panic");
    failure(Errno::IO)
}

/// Keeps the answer for the channel.
struct Gathering {
    form: Form,
    listing: Listing,
    slot: Rc<Cell<Option<Encoded>>>,
}

impl Responder for Gathering {
    fn add_entry(&mut self, entry: &Listed<'_>, valid: Validity) -> Room {
        match self.form {
            Form::Listing { plus, room } => self.listing.add(room, plus, entry, valid),
            _ => Room::Full,
        }
    }

    fn takes_bare_entries(&self) -> bool {
        true
    }

    fn entries_left(&self, name_len: usize) -> usize {
        match self.form {
            Form::Listing { plus, room } => self.listing.entries_left(room, plus, name_len),
            _ => 0,
        }
    }

    fn send(self, reply: Reply) {
        self.slot.set(Some(encode(self.form, reply, self.listing)));
    }
}
