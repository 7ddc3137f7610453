//! Waiting for time, and giving others a turn.

use crate::{core, error::Elapsed, inbox::Inbox, offshard, timers::TimerKey};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Ready after `time`. On a shard it is one of its timers; elsewhere a clock thread wakes the task.
pub fn sleep(time: Duration) -> Sleep {
    sleep_until(core::now() + time)
}

/// Ready at `deadline`, by [`crate::now`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// The future of [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    timer: Option<(Place, TimerKey)>,
}

/// Whose timer it is. A future may move between threads before it is first polled, not between shards after.
#[derive(Debug)]
enum Place {
    Shard(Weak<Inbox>),
    OffShard,
}

impl Sleep {
    /// When it will be ready.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    fn update(&self, waker: &Waker) -> bool {
        match &self.timer {
            Some((Place::OffShard, key)) => offshard::update(*key, waker),
            Some((Place::Shard(owner), key)) => {
                core::with_owner(owner, |core| core.timers.borrow_mut().update(*key, waker)).unwrap_or(false)
            }
            None => false,
        }
    }

    fn add(&mut self, waker: &Waker) {
        let on_shard = core::with(|core| {
            let key = core.timers.borrow_mut().add(self.deadline, waker.clone());
            (Place::Shard(Arc::downgrade(&core.inbox)), key)
        });
        self.cancel();
        let timer =
            on_shard.unwrap_or_else(|| (Place::OffShard, offshard::add(self.deadline, waker.clone())));
        self.timer = Some(timer);
    }

    fn cancel(&mut self) {
        match self.timer.take() {
            Some((Place::OffShard, key)) => offshard::cancel(key),
            Some((Place::Shard(owner), key)) => {
                // On another thread the timer is left to fire: a spurious wake at the deadline, no more.
                let waker = core::with_owner(&owner, |core| core.timers.borrow_mut().cancel(key));
                drop(waker);
            }
            None => {}
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if core::now() >= self.deadline {
            self.cancel();
            return Poll::Ready(());
        }
        if !self.update(cx.waker()) {
            self.add(cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Runs a future for `time` at most, counted from when it first has to wait; it is dropped when the time is up.
///
/// # Errors
/// [`Elapsed`] when the time was up first.
pub fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    Timeout { future, time, sleep: None }
}

/// The future of [`timeout`]. It looks at the clock only when its future has to wait: most never do.
#[derive(Debug)]
pub struct Timeout<F> {
    future: F,
    time: Duration,
    sleep: Option<Sleep>,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is never moved out of the pinned `self` (structural pinning, no Drop impl on
        // `Timeout`), and `sleep` is `Unpin`.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        if let Poll::Ready(output) = future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if let Some(sleep) = &mut this.sleep {
            return Pin::new(sleep).poll(cx).map(|()| Err(Elapsed));
        }
        if this.time.is_zero() {
            return Poll::Ready(Err(Elapsed));
        }
        // Its time begins now, so no look at the clock could find it over.
        this.sleep.insert(sleep(this.time)).add(cx.waker());
        Poll::Pending
    }
}

/// Lets the other tasks of this executor run before it goes on.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
