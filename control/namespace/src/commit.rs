//! The committing task: carries what the log has to the engine, in batches.
//!
//! **Owns** the changes that wait for the engine, and the trimming of the log behind it. Only the newest value
//! of a key is carried: a directory in which a thousand files were made is written once. Each commit also says
//! up to which log record the engine has everything, so that replaying the log never takes it back.
//!
//! **What it bounds:** the bytes that wait. At the bound the home waits, and with it every mutation; if the
//! engine cannot take them because its disk is full, mutations are refused.

use crate::keys::{self, Key};
use crate::log::LogFiles;
use crate::overlay::Value;
use crate::shared::Shared;
use forebay_meta::{Batch, MetaError};
use forebay_types::{FsError, FsErrorKind, FsResult};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The changes of one log record.
pub(crate) type Encoded = Vec<(Key, Value)>;

/// How long the home waits for the engine to take what has gathered, before it refuses.
const ROOM_DEADLINE: Duration = Duration::from_secs(30);
/// How long after a failed commit the next is tried.
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Waiting {
    records: Vec<(u64, Encoded)>,
    bytes: usize,
    /// Somebody waits for the engine to have everything: no time is spent gathering.
    hurry: bool,
    stop: bool,
    /// The last record that was pushed, and the last one the engine has.
    pushed: u64,
    committed: u64,
    failure: Option<FsError>,
}

/// The task's shared half.
pub(crate) struct Committer {
    waiting: Mutex<Waiting>,
    /// Something was pushed, or the task is to hurry or stop.
    wake: Condvar,
    /// A commit was done or failed.
    done: Condvar,
    bytes_max: usize,
    gather: Duration,
}

impl Committer {
    /// `committed` is the last log record the engine has; `gather` how long changes gather before a commit.
    pub(crate) fn new(committed: u64, bytes_max: usize, gather: Duration) -> Self {
        let waiting = Waiting { pushed: committed, committed, ..Default::default() };
        Self { waiting: Mutex::new(waiting), wake: Condvar::new(), done: Condvar::new(), bytes_max, gather }
    }

    /// Adds the records of a batch.
    pub(crate) fn push(&self, records: Vec<(u64, Encoded)>) {
        let Some((last, _)) = records.last() else { return };
        let mut waiting = self.waiting.lock();
        waiting.pushed = *last;
        waiting.bytes += records.iter().map(|(_, encoded)| bytes_of(encoded)).sum::<usize>();
        // The task is asleep until there is something, and then until it is time or much has gathered: a change of
        // threads for each record would cost more than all else that is done for it.
        let to_wake = waiting.records.is_empty() || waiting.bytes >= self.bytes_max / 2;
        waiting.records.extend(records);
        if to_wake {
            self.wake.notify_one();
        }
    }

    /// Whether the changes that wait for the engine are below their bound.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.lock().bytes <= self.bytes_max
    }

    /// Waits until the changes that wait for the engine are below their bound.
    pub(crate) fn wait_for_room(&self) -> FsResult<()> {
        let deadline = Instant::now() + ROOM_DEADLINE;
        let mut waiting = self.waiting.lock();
        while waiting.bytes > self.bytes_max {
            if let Some(failure) = &waiting.failure {
                return Err(failure.clone());
            }
            waiting.hurry = true;
            self.wake.notify_one();
            if self.done.wait_until(&mut waiting, deadline).timed_out() {
                return Err(FsError::new(FsErrorKind::Overloaded, "the metadata engine is behind"));
            }
        }
        Ok(())
    }

    /// Waits until the engine has everything that was pushed before the call.
    pub(crate) fn flush(&self, deadline: Instant) -> FsResult<()> {
        let mut waiting = self.waiting.lock();
        let target = waiting.pushed;
        while waiting.committed < target {
            if let Some(failure) = &waiting.failure {
                return Err(failure.clone());
            }
            waiting.hurry = true;
            self.wake.notify_one();
            if self.done.wait_until(&mut waiting, deadline).timed_out() {
                return Err(FsErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// The number of the last log record.
    pub(crate) fn pushed(&self) -> u64 {
        self.waiting.lock().pushed
    }

    /// The bytes of the changes that wait for the engine, and of what holds them.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.lock().bytes
    }

    /// Whether the engine has everything.
    pub(crate) fn is_settled(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.committed == waiting.pushed
    }

    /// Ends the task at once, as a crash would: the log keeps what the engine does not have.
    pub(crate) fn stop(&self) {
        self.waiting.lock().stop = true;
        self.wake.notify_one();
    }

    /// The task's thread.
    pub(crate) fn run(&self, shared: &Shared, log: &LogFiles) {
        let mut gathered = Gathered::default();
        while self.gather(&mut gathered) {
            self.settle(&mut gathered, shared, log);
        }
    }

    /// Waits for changes, lets some more gather, and takes them. `false`: the task is to end.
    fn gather(&self, gathered: &mut Gathered) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.records.is_empty() && gathered.changes.is_empty() && !waiting.stop {
            self.done.notify_all();
            self.wake.wait(&mut waiting);
        }
        let pause = if waiting.failure.is_some() { RETRY_AFTER } else { self.gather };
        let until = Instant::now() + pause;
        while !waiting.hurry && !waiting.stop && waiting.bytes < self.bytes_max / 2 {
            if self.wake.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        if waiting.failure.is_some() && !waiting.stop {
            // Hurry must not turn a full disk into a busy loop.
            self.wake.wait_until(&mut waiting, until);
        }
        for (seq, encoded) in std::mem::take(&mut waiting.records) {
            gathered.seq = seq;
            gathered.changes.extend(encoded);
        }
        gathered.bytes = waiting.bytes;
        waiting.hurry = false;
        !waiting.stop
    }

    fn settle(&self, gathered: &mut Gathered, shared: &Shared, log: &LogFiles) {
        let committed = commit(gathered, shared);
        if committed.is_ok() {
            shared.view.overlay.committed(gathered.changes.keys().map(|key| &**key), gathered.seq);
            shared.table.set_committed(gathered.seq);
            if let Err(error) = log.trim(gathered.seq) {
                tracing::warn!(%error, "an old segment of the home's log stays until the next start");
            }
        }
        let mut waiting = self.waiting.lock();
        match committed {
            Ok(()) => {
                waiting.committed = gathered.seq;
                waiting.bytes -= gathered.bytes;
                waiting.failure = None;
                *gathered = Gathered::default();
            }
            Err(error) => {
                tracing::error!(%error, "the metadata engine cannot commit; it is tried again");
                waiting.failure = Some(error.into());
            }
        }
        self.done.notify_all();
    }
}

/// What was taken and is not committed yet.
#[derive(Default)]
struct Gathered {
    changes: BTreeMap<Key, Value>,
    seq: u64,
    bytes: usize,
}

fn bytes_of(encoded: &Encoded) -> usize {
    // Keys and values, and what the maps need to hold them.
    const ENTRY_COST: usize = 128;
    let of =
        |(key, value): &(Key, Value)| key.len() + value.as_ref().map_or(0, |value| value.len()) + ENTRY_COST;
    encoded.iter().map(of).sum()
}

fn commit(gathered: &Gathered, shared: &Shared) -> Result<(), MetaError> {
    let mut batch = Batch::new();
    for (key, value) in &gathered.changes {
        match value {
            Some(value) => batch.put(key.clone(), &**value),
            None => batch.delete(key.clone()),
        };
    }
    batch.put(keys::COMMITTED, gathered.seq.to_be_bytes());
    shared.view.engine.commit(&batch)
}

/// Starts the task's thread.
pub(crate) fn start(
    committer: Arc<Committer>,
    shared: Arc<Shared>,
    log: Arc<LogFiles>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("fby-commit".into());
    thread.spawn(move || committer.run(&shared, &log))
}
