//! The home: one thread that executes and orders the mutations of its partition.
//!
//! **Owns** the log's writing end, the counter of inode numbers and the order of everything. It takes what
//! waits in its queue as one batch: executes each mutation against the state before it, writes all their
//! records to the log with one write(2), applies them to the overlay and the inode table, and only then
//! answers. So a reader never sees what is not in the log, and a batch that cannot be logged leaves nothing.
//!
//! **Never does** wait for the UFS, for the engine's commits (except when the overlay has reached its bound),
//! or for a disk: the log is synced by [`crate::sync`], the engine is fed by [`crate::commit`].

use crate::commit::Committer;
use crate::log::{Appender, encode_record};
use crate::names::{Answer, Cached};
use crate::record::Dentry;
use crate::shared::Shared;
use crate::txn::{Changes, Fate, InoRange, OpResult, Refusal, Staged, Txn};
use forebay_types::{FsError, FsErrorKind, FsResult};
use futures_timer::Delay;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// The most mutations that share one write of the log.
const BATCH_MAX: usize = 256;

/// A mutation in the queue, whatever it yields.
trait Job: Send {
    /// Executes it; keeps the result and says whether it was executed.
    fn run(&mut self, txn: &mut Txn<'_>) -> bool;
    /// It cannot be logged: nothing of it happens.
    fn refuse(&mut self, error: FsError);
    /// Answers; `logged` is what became of the batch.
    fn answer(self: Box<Self>, logged: &FsResult<()>);
}

struct Typed<T, F> {
    op: Option<F>,
    result: Option<OpResult<T>>,
    reply: oneshot::Sender<OpResult<T>>,
}

impl<T: Send, F: FnOnce(&mut Txn<'_>) -> OpResult<T> + Send> Job for Typed<T, F> {
    fn run(&mut self, txn: &mut Txn<'_>) -> bool {
        let Some(op) = self.op.take() else { return false };
        let result = op(txn);
        let executed = result.is_ok();
        self.result = Some(result);
        executed
    }

    fn refuse(&mut self, error: FsError) {
        self.result = Some(Err(Refusal::Fs(error)));
    }

    fn answer(self: Box<Self>, logged: &FsResult<()>) {
        let result = match (self.result, logged) {
            (Some(Ok(_)), Err(error)) => Err(Refusal::Fs(error.clone())),
            (Some(result), _) => result,
            (None, _) => Err(FsErrorKind::ShuttingDown.into()),
        };
        // Who no longer waits for the answer does not want it.
        let _ = self.reply.send(result);
    }
}

enum Message {
    Job(Box<dyn Job>),
    Stop,
}

/// Where the home begins.
pub(crate) struct Start {
    pub(crate) log: Appender,
    pub(crate) inos: InoRange,
    pub(crate) next_seq: u64,
}

/// The bounds of the queue: how many mutations wait, and how long one waits for a place.
pub(crate) struct Queue {
    pub(crate) len: usize,
    pub(crate) deadline: Duration,
}

/// The callers' end of the home's queue.
pub(crate) struct Home {
    queue: Sender<Message>,
    /// Places in the queue.
    places: Arc<Semaphore>,
    queue_deadline: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Home {
    /// Starts the thread.
    pub(crate) fn start(
        shared: Arc<Shared>,
        committer: Arc<Committer>,
        start: Start,
        bounds: Queue,
    ) -> std::io::Result<Self> {
        let (queue, waiting) = channel();
        let places = Arc::new(Semaphore::new(bounds.len));
        let Start { log, inos, next_seq } = start;
        let mut worker =
            Worker { shared, committer, log, inos, next_seq, waiting, places: Arc::clone(&places) };
        let queue_deadline = bounds.deadline;
        let thread = std::thread::Builder::new().name("fby-home".into()).spawn(move || worker.run())?;
        Ok(Self { queue, places, queue_deadline, thread: Some(thread) })
    }

    /// Has a mutation executed; yields its result once it is in the log.
    pub(crate) async fn execute<T: Send + 'static>(
        &self,
        op: impl FnOnce(&mut Txn<'_>) -> OpResult<T> + Send + 'static,
    ) -> OpResult<T> {
        self.take_place().await?;
        let (reply, result) = oneshot::channel();
        let job = Box::new(Typed { op: Some(op), result: None, reply });
        let stopped = || FsError::from(FsErrorKind::ShuttingDown);
        self.queue.send(Message::Job(job)).map_err(|_| stopped())?;
        // Bounded: the home answers all that is in its queue, and only the log's disk can hold it up.
        result.await.map_err(|_| stopped())?
    }

    /// Waits for a place in the queue, which the home gives back when it takes the mutation out.
    async fn take_place(&self) -> FsResult<()> {
        if let Ok(place) = self.places.try_acquire() {
            place.forget();
            return Ok(());
        }
        match select(pin!(self.places.acquire()), Delay::new(self.queue_deadline)).await {
            Either::Left((Ok(place), _)) => {
                place.forget();
                Ok(())
            }
            Either::Left((Err(_), _)) => Err(FsErrorKind::ShuttingDown.into()),
            Either::Right(_) => Err(FsError::new(FsErrorKind::Overloaded, "the home's queue is full")),
        }
    }

    /// Ends the thread after what is in the queue.
    pub(crate) fn stop(&mut self) {
        // An error means that the thread is gone already.
        let _ = self.queue.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the home's thread panicked");
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    committer: Arc<Committer>,
    log: Appender,
    inos: InoRange,
    next_seq: u64,
    waiting: Receiver<Message>,
    places: Arc<Semaphore>,
}

impl Worker {
    fn run(&mut self) {
        let mut stopping = false;
        while !stopping {
            let Ok(first) = self.waiting.recv() else { return };
            let mut jobs = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Stop => stopping = true,
                }
                let more = !stopping && jobs.len() < BATCH_MAX;
                next = if more { self.waiting.try_recv().ok() } else { None };
            }
            self.places.add_permits(jobs.len());
            self.execute(jobs);
        }
    }

    fn execute(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let mut staged = Staged { changes: Changes::default(), inos: self.inos };
        let mut records = Vec::new();
        let mut pending = Vec::new();
        let mut seq = self.next_seq;
        for job in &mut jobs {
            let mut txn = Txn::new(&self.shared, &staged, seq);
            if !job.run(&mut txn) {
                continue;
            }
            let (changes, inos) = match txn.finish() {
                Ok(finished) => finished,
                Err(error) => {
                    job.refuse(error);
                    continue;
                }
            };
            if changes.is_empty() {
                continue;
            }
            let encoded = changes.encoded();
            encode_record(seq, encoded.iter().map(|(key, value)| (&**key, value.as_deref())), &mut records);
            pending.push((seq, encoded));
            staged.take_in(changes, inos);
            seq += 1;
        }
        let logged = self.write_log(&records, seq);
        if logged.is_ok() {
            self.inos = staged.inos;
            self.apply(staged.changes, pending, seq);
        }
        for job in jobs {
            job.answer(&logged);
        }
    }

    fn write_log(&mut self, records: &[u8], next_seq: u64) -> FsResult<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.committer.wait_for_room()?;
        let failed = |error: std::io::Error| FsError::from(error).during("writing the home's log");
        self.log.append(records, next_seq - 1).map_err(failed)?;
        self.next_seq = next_seq;
        if let Err(error) = self.log.rotate_if_long(next_seq) {
            tracing::warn!(%error, "the home's log goes on in its old segment");
        }
        Ok(())
    }

    /// Shows the batch to readers. New states come before new names, and new names before names that go, so
    /// that a name always leads to something and a file that is renamed is never nowhere.
    fn apply(&self, changes: Changes, pending: Vec<(u64, crate::commit::Encoded)>, next_seq: u64) {
        let seq = next_seq - 1;
        for (record_seq, encoded) in &pending {
            for (key, value) in encoded.iter().filter(|(key, _)| key[0] != crate::keys::DENTRY) {
                self.shared.view.overlay.set(key.clone(), value.clone(), *record_seq);
            }
        }
        for (ino, (record, fate)) in changes.inodes {
            match fate {
                Fate::Stored => self.shared.table.apply(ino, record, seq),
                Fate::Gone => self.shared.table.apply_gone(ino, record, seq),
            }
        }
        let (present, going): (Vec<_>, Vec<_>) = changes
            .dentries
            .into_iter()
            .partition(|(_, dentry)| dentry.as_ref().is_some_and(|dentry| dentry.target.is_some()));
        for ((dir, name), dentry) in present.into_iter().chain(going) {
            let value = dentry.as_ref().map(|dentry| Arc::from(dentry.encode()));
            self.shared.view.overlay.set(crate::keys::dentry(dir, &name), value, seq);
            let Some(inode) = self.shared.table.get(dir) else {
                self.shared.names.forget(dir, &name);
                continue;
            };
            inode.names_changed();
            if dentry.is_none() {
                inode.name_given_back();
            }
            self.shared.names.forget(dir, &name);
            if let Some(cached) = dentry.and_then(|dentry| self.answer(&dentry)) {
                let epoch = self.shared.names.epoch(dir, &name);
                self.shared.names.learn(dir, epoch, &name, cached);
            }
        }
        for (key, value) in changes.keys.iter().filter(|(key, _)| key[0] == crate::keys::QUEUE) {
            self.shared.note_queued(key, value.as_deref());
        }
        self.committer.push(pending);
    }

    /// What the cache of names may say of a dentry that was just written.
    fn answer(&self, dentry: &Dentry) -> Option<Cached> {
        let Some((ino, _)) = dentry.target else {
            return Some(Cached { answer: Answer::Absent, asked_ms: None });
        };
        let record = self.shared.table.get(ino)?.record();
        // What the UFS is the authority for is asked for again in due time.
        let asked_ms = (record.is_settled() && dentry.is_carried()).then(|| self.shared.now_ms());
        Some(Cached { answer: Answer::Present(ino), asked_ms })
    }
}
