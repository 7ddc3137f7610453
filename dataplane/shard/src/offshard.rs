//! Timers for futures that are polled on threads which are no shards: one clock thread for the process,
//! started when the first of them waits.
//!
//! Control work runs on tokio, but this crate's own waits (for a frame, for a place in the blocking pool) must
//! have a deadline on any executor without asking for tokio's timer, so they come here.

use crate::timers::{TimerKey, Timers};
use parking_lot::{Condvar, Mutex};
use std::sync::Once;
use std::task::Waker;
use std::time::Instant;

static TIMERS: Mutex<Timers> = Mutex::new(Timers::new());
static EARLIER: Condvar = Condvar::new();
static STARTED: Once = Once::new();

/// Wakes `waker` at `deadline`.
pub(crate) fn add(deadline: Instant, waker: Waker) -> TimerKey {
    STARTED.call_once(start);
    let mut timers = TIMERS.lock();
    let first = timers.earliest().is_none_or(|earliest| deadline < earliest);
    let key = timers.add(deadline, waker);
    drop(timers);
    if first {
        EARLIER.notify_one();
    }
    key
}

/// As [`Timers::update`].
pub(crate) fn update(key: TimerKey, waker: &Waker) -> bool {
    TIMERS.lock().update(key, waker)
}

/// As [`Timers::cancel`].
pub(crate) fn cancel(key: TimerKey) {
    let waker = TIMERS.lock().cancel(key);
    drop(waker);
}

fn start() {
    let thread = std::thread::Builder::new().name("forebay-clock".into());
    if let Err(error) = thread.spawn(run) {
        tracing::error!(%error, "no clock thread: waits outside the shards have no deadline");
    }
}

fn run() {
    let mut timers = TIMERS.lock();
    loop {
        if let Some(waker) = timers.pop_due(Instant::now()) {
            drop(timers);
            waker.wake();
            timers = TIMERS.lock();
            continue;
        }
        match timers.earliest() {
            Some(deadline) => drop(EARLIER.wait_until(&mut timers, deadline)),
            None => EARLIER.wait(&mut timers),
        }
    }
}
