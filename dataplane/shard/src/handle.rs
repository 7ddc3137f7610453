//! Reaching a shard from elsewhere.

use crate::core;
use crate::counters::ShardCounters;
use crate::error::{CallError, SpawnError};
use crate::inbox::{Inbox, Phase};
use forebay_types::ShardId;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use tokio::sync::oneshot;

/// Names a shard and starts work on it, from any thread.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    pub(crate) inbox: Arc<Inbox>,
}

impl ShardHandle {
    /// The shard.
    pub fn id(&self) -> ShardId {
        self.inbox.id
    }

    /// What the shard counted so far.
    pub fn counters(&self) -> ShardCounters {
        self.inbox.counters.read()
    }

    /// Starts `f()` on that shard. What one thread starts begins there in the same order.
    ///
    /// # Errors
    /// The mailbox is full, or the shard was stopped; `f` comes back. While it stops, its peers may still
    /// reach it, so that work in progress can end.
    pub fn try_spawn<F, Fut>(&self, f: F) -> Result<(), SpawnError<F>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        if !self.is_open() {
            return Err(SpawnError::Stopped(f));
        }
        if !self.inbox.reserve() {
            return Err(SpawnError::Full(f));
        }
        self.inbox.post(Box::new(move || core::spawn(f())));
        Ok(())
    }

    fn is_open(&self) -> bool {
        match self.inbox.phase() {
            Phase::Running => true,
            Phase::Draining => core::with(|core| core.inbox.group == self.inbox.group).unwrap_or(false),
            Phase::Ending => false,
        }
    }

    /// Runs `f()` on that shard and brings the result back. May be awaited on any executor; dropping the
    /// future does not stop what runs there.
    ///
    /// # Errors
    /// [`CallError`]: nothing ran when it is `Full`.
    pub async fn call<F, Fut, T>(&self, f: F) -> Result<T, CallError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let task = move || {
            let future = f();
            async move {
                // The caller may have gone: then nobody wants the result.
                drop(sender.send(future.await));
            }
        };
        self.try_spawn(task).map_err(|error| match error {
            SpawnError::Full(_) => CallError::Full,
            SpawnError::Stopped(_) => CallError::Stopped,
        })?;
        receiver.await.map_err(|_| self.why_lost())
    }

    /// A task that ended without a result either panicked or was dropped by a stop.
    fn why_lost(&self) -> CallError {
        if self.inbox.phase() == Phase::Running { CallError::Panicked } else { CallError::Stopped }
    }

    /// As [`Self::call`], for a thread that has no executor: it sleeps until the result is there.
    ///
    /// # Errors
    /// As [`Self::call`].
    ///
    /// # Panics
    /// On a shard, which it would block.
    pub fn block_on<F, Fut, T>(&self, f: F) -> Result<T, CallError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        assert!(core::current().is_none(), "block_on would block a shard");
        park_on(self.call(f))
    }
}

/// Unparks a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread, which sleeps in between.
fn park_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
