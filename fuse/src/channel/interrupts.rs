//! Requests that somebody waits for and may give up on (FUSE_INTERRUPT).
//!
//! **Owns** the table of those that are being served and did not end at once. A signal to the waiting program makes the
//! kernel send an INTERRUPT with the request's number, on whatever queue; if the program is being killed, the request is
//! dropped, and the program hears EINTR if it hears anything. **Never does** stop a request that would leave something half
//! done: the caller says which may be.
//!
//! An INTERRUPT may be read by another shard before its request is in the table, so the last few that named nothing
//! are kept, and looked through by each request that enters.

use super::dying::until_dying;
use crate::op::{OpKind, RequestId};
use futures_util::future::{Either, select};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use tokio::sync::oneshot;

/// Interrupts that named no request and are kept for one that is about to enter.
const EARLY_MAX: usize = 64;

/// The requests of a mount that may be interrupted.
#[derive(Debug, Default)]
pub(super) struct Interrupts(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<RequestId, oneshot::Sender<()>>,
    early: VecDeque<RequestId>,
}

/// The request was given up by whoever waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interrupted;

/// Whether a request can be dropped at any point and leave nothing: no handle, no reference, no half of a change.
pub(super) fn may_be_interrupted(kind: OpKind) -> bool {
    use OpKind as K;
    matches!(kind, K::Lookup | K::GetAttr | K::ReadLink | K::Read | K::FSync | K::FSyncDir | K::StatFs)
}

impl Interrupts {
    /// Runs `serving` to its end, or until the request is interrupted and the thread that waits for it is being killed.
    pub(super) async fn unless_interrupted<F: Future>(
        &self,
        (id, thread): (RequestId, u32),
        serving: F,
    ) -> Result<F::Output, Interrupted> {
        let mut serving = pin!(serving);
        // Most requests end here, and never see the lock.
        if let std::task::Poll::Ready(output) = futures_util::poll!(serving.as_mut()) {
            return Ok(output);
        }
        let mut place = self.enter(id);
        let given_up = pin!(async {
            if let Some(place) = &mut place {
                // Whoever could tell goes only with the place.
                let _ = (&mut place.told).await;
            }
            until_dying(thread).await;
        });
        match select(serving, given_up).await {
            Either::Left((output, _)) => Ok(output),
            Either::Right(_) => Err(Interrupted),
        }
    }

    /// Takes an INTERRUPT.
    pub(super) fn interrupt(&self, id: RequestId) {
        let mut table = self.0.lock();
        if let Some(tell) = table.waiting.remove(&id) {
            drop(table);
            // The request may have ended just now.
            let _ = tell.send(());
            return;
        }
        if table.early.len() == EARLY_MAX {
            table.early.pop_front();
        }
        table.early.push_back(id);
    }

    /// `None` if it was interrupted before.
    fn enter(&self, id: RequestId) -> Option<Place<'_>> {
        let (tell, told) = oneshot::channel();
        let mut table = self.0.lock();
        if let Some(at) = table.early.iter().position(|early| *early == id) {
            table.early.remove(at);
            return None;
        }
        table.waiting.insert(id, tell);
        Some(Place { table: self, id, told })
    }
}

/// A request's place in the table.
struct Place<'a> {
    table: &'a Interrupts,
    id: RequestId,
    told: oneshot::Receiver<()>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.table.0.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::block_on;
    use std::future::{pending, ready};
    use std::sync::Arc;

    /// A thread that nobody has, which is given up a while after it was interrupted.
    const UNSEEN: u32 = 0;

    #[test]
    fn what_ends_at_once_is_never_in_the_table() {
        let interrupts = Interrupts::default();
        assert_eq!(block_on(interrupts.unless_interrupted((RequestId(1), UNSEEN), ready(7))), Ok(7));
        assert!(interrupts.0.lock().waiting.is_empty());
    }

    #[test]
    fn an_interrupt_ends_its_request_and_no_other() {
        let interrupts = Arc::new(Interrupts::default());
        let waits = Arc::clone(&interrupts);
        let waiter = std::thread::spawn(move || {
            block_on(waits.unless_interrupted((RequestId(4), UNSEEN), pending::<()>()))
        });
        while interrupts.0.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        interrupts.interrupt(RequestId(6));
        assert!(!waiter.is_finished());
        interrupts.interrupt(RequestId(4));
        assert_eq!(waiter.join().unwrap(), Err(Interrupted));
        assert!(interrupts.0.lock().waiting.is_empty());
    }

    #[test]
    fn who_is_not_being_killed_waits_for_the_answer() {
        let interrupts = Interrupts::default();
        interrupts.interrupt(RequestId(1));
        let answer = async {
            forebay_shard::sleep(std::time::Duration::from_millis(200)).await;
            7
        };
        let served = block_on(interrupts.unless_interrupted((RequestId(1), std::process::id()), answer));
        assert_eq!(served, Ok(7));
    }

    #[test]
    fn an_interrupt_may_come_before_its_request_and_old_ones_are_dropped() {
        let interrupts = Interrupts::default();
        interrupts.interrupt(RequestId(1));
        let served = block_on(interrupts.unless_interrupted((RequestId(1), UNSEEN), pending::<()>()));
        assert_eq!(served, Err(Interrupted));
        for id in 0..1000 {
            interrupts.interrupt(RequestId(id));
        }
        assert_eq!(interrupts.0.lock().early.len(), EARLY_MAX);
    }
}
