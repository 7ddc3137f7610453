//! The watch over the shards: one thread that reports a task while it still holds its shard.
//!
//! The shard itself counts a stall when the poll is over. A poll that never ends would never be counted, so
//! the watch looks from outside, at what the shard writes down before and after each poll.

use crate::inbox::{Inbox, Phase};
use crate::runqueue::RunQueue;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// When the present poll of a shard began: nanoseconds since `epoch`, 0 between polls.
#[derive(Debug)]
pub(crate) struct Watch {
    epoch: Instant,
    began: AtomicU64,
    /// The scheduler's account of the shard's thread.
    run_queue: OnceLock<RunQueue>,
    /// What that said last, and when, both in nanoseconds.
    waited: AtomicU64,
    asked: AtomicU64,
}

/// How old the last look at the run queue may be: by so much a wait may be counted that was before a poll.
const ASK_EVERY: Duration = Duration::from_millis(10);

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            began: AtomicU64::new(0),
            run_queue: OnceLock::new(),
            waited: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }
    }

    pub(crate) fn begin(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        self.began.store(nanos.max(1), Relaxed);
    }

    /// Begins to keep account of the calling thread, which is the shard's.
    pub(crate) fn account_for_this_thread(&self) {
        if let Some(run_queue) = RunQueue::of_this_thread() {
            // A shard has one thread, which calls this once.
            let _ = self.run_queue.set(run_queue);
        }
    }

    /// Looks at the run queue if the last look is old. Only on the shard.
    pub(crate) fn look(&self, now: Instant) {
        let now = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        if now.saturating_sub(self.asked.load(Relaxed)) >= ASK_EVERY.as_nanos() as u64 {
            self.asked.store(now, Relaxed);
            self.note_waited();
        }
    }

    /// Remembers how long the thread has waited so far.
    pub(crate) fn note_waited(&self) {
        if let Some(waited) = self.run_queue.get().and_then(RunQueue::waited) {
            self.waited.store(waited.as_nanos() as u64, Relaxed);
        }
    }

    /// How long the shard has waited for its core since it last looked.
    pub(crate) fn waited(&self) -> Duration {
        let now = self.run_queue.get().and_then(RunQueue::waited).unwrap_or_default();
        now.saturating_sub(Duration::from_nanos(self.waited.load(Relaxed)))
    }

    pub(crate) fn end(&self) {
        self.began.store(0, Relaxed);
    }

    /// When the present poll began, as a name for it, and for how long it has run.
    fn present(&self) -> Option<(u64, Duration)> {
        let began = self.began.load(Relaxed);
        let since = || self.epoch.elapsed().saturating_sub(Duration::from_nanos(began));
        (began != 0).then(|| (began, since()))
    }
}

/// Ends the watching thread when dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn start(shards: Arc<[Arc<Inbox>]>, stall_after: Duration) -> std::io::Result<Self> {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let seen = Arc::clone(&over);
        let body = move || watch(&shards, stall_after, &seen);
        let thread = std::thread::Builder::new().name("forebay-watch".into()).spawn(body)?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        *self.over.0.lock() = true;
        self.over.1.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has no code that panics; and a watch that died is no reason to fail a stop.
            let _ = thread.join();
        }
    }
}

fn watch(shards: &[Arc<Inbox>], stall_after: Duration, over: &(Mutex<bool>, Condvar)) {
    let interval = (stall_after * 4).clamp(Duration::from_millis(20), Duration::from_secs(1));
    let mut reported = vec![0u64; shards.len()];
    let mut ended = over.0.lock();
    while !*ended {
        over.1.wait_for(&mut ended, interval);
        for (shard, reported) in shards.iter().zip(&mut reported) {
            report(shard, stall_after.max(interval), reported);
        }
    }
}

/// Says once for each poll that it goes on for too long.
fn report(shard: &Inbox, limit: Duration, reported: &mut u64) {
    let Some((began, held)) = shard.watch.present() else { return };
    let held = held.saturating_sub(if held > limit { shard.watch.waited() } else { Duration::ZERO });
    if held > limit && *reported != began && shard.phase() != Phase::Ending {
        *reported = began;
        shard.counters.stuck.add(1);
        tracing::error!(shard = %shard.id, ?held, "a task holds its shard and has not let go");
    }
}
