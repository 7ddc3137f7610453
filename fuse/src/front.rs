//! From the thread that reads a request to the shard that serves it.
//!
//! **Owns** the rule which shard that is (the one with the number of the arriving thread, modulo the shards; for a
//! request that arrives on a shard, that one), the wait when its mailbox is full, and the promise that every request is answered once whatever becomes of it.
//! **Never does** look into a request.
//!
//! A mailbox that stays full is answered with EAGAIN after [`HANDOFF_WAIT`]; a request that must not be lost
//! (FORGET, RELEASE) waits on, so that no handle and no reference leaks. While an arriving thread waits it reads no
//! further request: the queue that grows is the kernel's, which is bounded by those who wait in it.

use crate::dispatch::Dispatch;
use crate::op::Request;
use crate::reply::{Reply, Responder};
use forebay_shard::{ShardHandle, SpawnError};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// How long a request waits for a place in a shard's mailbox.
const HANDOFF_WAIT: Duration = Duration::from_secs(30);
/// The first pause between two tries; each doubles, up to the last.
const PAUSE_MIN: Duration = Duration::from_micros(20);
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// Where channels hand their requests in.
pub(crate) struct Front {
    dispatch: Arc<Dispatch>,
    shards: Vec<ShardHandle>,
}

impl Front {
    /// A front before `shards`, of which there must be one.
    pub(crate) fn new(dispatch: Arc<Dispatch>, shards: Vec<ShardHandle>) -> Self {
        assert!(!shards.is_empty(), "a mount needs a shard to serve it");
        Self { dispatch, shards }
    }

    /// The shards that serve.
    pub(crate) fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// Runs `job` on a shard, and comes back when it has; blocks. For what a session begins with.
    pub(crate) fn start_on(&self, shard: usize, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (tell, told) = sync_channel(1);
        let mut job = move || {
            job();
            // Whoever waited has given up.
            let _ = tell.send(());
            std::future::ready(())
        };
        let mut pause = Pause::new();
        loop {
            match self.shards[shard].try_spawn(job) {
                Ok(()) => break,
                Err(SpawnError::Stopped(_)) => return Err(io::Error::other("the shard has stopped")),
                Err(SpawnError::Full(back)) => job = back,
            }
            if pause.wait() > HANDOFF_WAIT {
                return Err(io::Error::other("the shard takes no more tasks"));
            }
        }
        told.recv_timeout(HANDOFF_WAIT).map_err(io::Error::other)
    }

    /// Serves a request on the shard that runs this, if that takes no waiting.
    pub(crate) fn serve_now(&self, request: &mut Request) -> Option<Reply> {
        self.dispatch.serve_now(Self::shard_here(), request)
    }

    /// Serves a request on the shard that runs this.
    pub(crate) async fn serve(&self, request: Request, responder: impl Responder) {
        self.dispatch.serve(Self::shard_here(), request, Answer::new(responder)).await;
    }

    fn shard_here() -> usize {
        forebay_shard::current().map_or(0, |shard| usize::from(shard.0))
    }

    /// Hands a request to the shard of arriving thread `arrival`; the answer comes from there.
    pub(crate) fn submit(&self, arrival: usize, request: Request, responder: impl Responder + Send) {
        let shard = &self.shards[arrival % self.shards.len()];
        let must_arrive = request.op.kind().must_arrive();
        let shard_number = usize::from(shard.id().0);
        let dispatch = Arc::clone(&self.dispatch);
        let answer = Answer::new(responder);
        let mut job = move || async move { dispatch.serve(shard_number, request, answer).await };
        let mut pause = Pause::new();
        loop {
            match shard.try_spawn(job) {
                Ok(()) => return,
                Err(SpawnError::Stopped(_)) => return,
                Err(SpawnError::Full(back)) => job = back,
            }
            let waited = pause.wait();
            if waited > HANDOFF_WAIT && !must_arrive {
                return;
            }
        }
    }
}

struct Pause {
    begun: Instant,
    next: Duration,
}

impl Pause {
    fn new() -> Self {
        Self { begun: Instant::now(), next: PAUSE_MIN }
    }

    /// Waits a little longer than the last time; says how long it has been in all.
    fn wait(&mut self) -> Duration {
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(PAUSE_MAX);
        self.begun.elapsed()
    }
}

/// Answers a request once, at the latest when it is dropped.
pub(crate) struct Answer<R: Responder> {
    responder: Option<R>,
    begun: bool,
}

impl<R: Responder> Answer<R> {
    fn new(responder: R) -> Self {
        Self { responder: Some(responder), begun: false }
    }

    /// The shard took the request up: from here on it is not merely to be repeated.
    pub(crate) fn begin(&mut self) -> &mut R {
        self.begun = true;
        self.responder.as_mut().expect("the responder leaves only with the answer")
    }

    /// Sends the answer.
    pub(crate) fn send(mut self, reply: Reply) {
        if let Some(responder) = self.responder.take() {
            responder.send(reply);
        }
    }
}

impl<R: Responder> Drop for Answer<R> {
    fn drop(&mut self) {
        if let Some(responder) = self.responder.take() {
            // Never begun: the mailbox stayed full or the shard stopped. Begun: the shard stopped in the middle.
            let errno = if self.begun { Errno::IO } else { Errno::AGAIN };
            responder.send(Reply::Error(errno));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Room, Validity};
    use forebay_vfs::Listed;
    use std::sync::mpsc::{Sender, channel};

    struct Told(Sender<Reply>);

    impl Responder for Told {
        fn add_entry(&mut self, _: &Listed<'_>, _: Validity) -> Room {
            Room::Full
        }
        fn takes_bare_entries(&self) -> bool {
            true
        }
        fn entries_left(&self, _: usize) -> usize {
            0
        }
        fn send(self, reply: Reply) {
            self.0.send(reply).unwrap();
        }
    }

    #[test]
    fn every_request_is_answered_once() {
        let (tell, told) = channel();
        drop(Answer::new(Told(tell.clone())));
        assert!(matches!(told.recv().unwrap(), Reply::Error(Errno::AGAIN)));
        let mut answer = Answer::new(Told(tell.clone()));
        answer.begin();
        drop(answer);
        assert!(matches!(told.recv().unwrap(), Reply::Error(Errno::IO)));
        Answer::new(Told(tell)).send(Reply::Done);
        assert!(matches!(told.recv().unwrap(), Reply::Done));
        assert!(told.recv().is_err(), "there was a second answer");
    }
}
