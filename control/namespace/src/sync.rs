//! What an fsync waits for: the log on the disk, one fdatasync for all who wait.
//!
//! **Owns** the thread that syncs. While it syncs, more callers gather; the next sync is for all of them. A
//! sync that fails says nothing about which bytes the disk has, and the kernel forgets that it failed, so the
//! log is then not believed any more: the engine has to take everything before anybody is told that it is
//! durable.

use crate::commit::Committer;
use crate::log::LogFiles;
use forebay_types::{FsErrorKind, FsResult};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long the engine may take to make durable what the log could not.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);

type Waiter = oneshot::Sender<FsResult<()>>;

#[derive(Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    stop: bool,
}

#[derive(Default)]
struct Lane {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

/// The callers' end.
pub(crate) struct Syncer {
    lane: Arc<Lane>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(crate) fn start(log: Arc<LogFiles>, committer: Arc<Committer>) -> std::io::Result<Self> {
        let lane = Arc::new(Lane::default());
        let theirs = Arc::clone(&lane);
        let thread = std::thread::Builder::new().name("fby-logsync".into());
        let thread = thread.spawn(move || run(&theirs, &log, &committer))?;
        Ok(Self { lane, thread: Some(thread) })
    }

    /// Makes durable everything that was logged before the call.
    pub(crate) async fn sync(&self) -> FsResult<()> {
        let (waiter, synced) = oneshot::channel();
        {
            let mut waiting = self.lane.waiting.lock();
            if waiting.stop {
                return Err(FsErrorKind::ShuttingDown.into());
            }
            waiting.waiters.push(waiter);
        }
        self.lane.wake.notify_one();
        synced.await.map_err(|_| FsErrorKind::ShuttingDown)?
    }

    pub(crate) fn stop(&mut self) {
        self.lane.waiting.lock().stop = true;
        self.lane.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's syncing thread panicked");
        }
    }
}

fn run(lane: &Lane, log: &LogFiles, committer: &Committer) {
    let mut log_failed = false;
    loop {
        let waiters = {
            let mut waiting = lane.waiting.lock();
            while waiting.waiters.is_empty() && !waiting.stop {
                lane.wake.wait(&mut waiting);
            }
            if waiting.stop && waiting.waiters.is_empty() {
                return;
            }
            std::mem::take(&mut waiting.waiters)
        };
        let synced = sync_once(log, committer, &mut log_failed);
        for waiter in waiters {
            // Who no longer waits for the answer does not want it.
            let _ = waiter.send(synced.clone());
        }
    }
}

fn sync_once(log: &LogFiles, committer: &Committer, log_failed: &mut bool) -> FsResult<()> {
    if committer.is_settled() {
        return Ok(());
    }
    if !*log_failed {
        match log.sync() {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::error!(%error, "the home's log cannot be synced; the engine takes its place");
                *log_failed = true;
            }
        }
    }
    committer.flush(Instant::now() + FLUSH_DEADLINE)
}
