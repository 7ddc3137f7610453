//! The home: the one place where the mutations of its partition are executed and ordered.
//!
//! **Owns** the log's writing end, the counter of inode numbers and the order of everything: the [`Desk`], which one
//! at a time sits at. A mutation, or a batch of them, is executed against the state before it; all records go to the
//! log with one write(2), then to the overlay and the inode table, and only then is anybody answered. So a reader
//! never sees what is not in the log, and what cannot be logged leaves nothing.
//!
//! **Who sits there:** whoever has a mutation, on its own core, if the desk is free and nothing but memory and one
//! write to the page cache is needed; a change of threads would cost ten times as much as the mutation. Everything
//! else queues for the home's thread, which takes all that waits as one batch: what comes while the desk is taken, what
//! has to ask the engine, and all mutations for a while after the log's disk was slow.
//!
//! **Never does** wait for the UFS, for the engine's commits (except, on its thread, when the overlay has reached its
//! bound), or for a disk: the log is synced by [`crate::sync`], the engine is fed by [`crate::commit`].

use crate::commit::{Committer, Encoded};
use crate::log::{Appender, encode_record};
use crate::names::{Answer, Cached};
use crate::record::{Dentry, Slot};
use crate::shared::Shared;
use crate::txn::{Changes, Fate, InoRange, OpResult, Refusal, Staged, Txn};
use forebay_types::{FsError, FsErrorKind, FsResult};
use futures_timer::Delay;
use futures_util::future::{Either, select};
use parking_lot::{Mutex, MutexGuard};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// The most mutations that share one write of the log.
const BATCH_MAX: usize = 256;
/// How often a taken desk is looked at again before the mutation goes to the queue: about as long as one mutation takes,
/// a small part of a change of threads.
const DESK_LOOKS: usize = 64;
/// An append that takes longer (than a thread waits for its turn on a busy machine) found a disk that makes writers wait.
/// For a while shards then leave it to the thread.
const SLOW_APPEND: Duration = Duration::from_millis(10);
const SLOW_FOR: Duration = Duration::from_millis(100);
/// The memory for records that is kept from one batch to the next.
const BYTES_KEPT: usize = 64 << 10;

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

/// The callers' end.
pub(crate) struct Home {
    desk: Arc<Mutex<Desk>>,
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
        let slow_until = Instant::now();
        let desk = Desk { shared, committer, log, inos, next_seq, slow_until, bytes: Vec::new() };
        let desk = Arc::new(Mutex::new(desk));
        let worker = Worker { desk: Arc::clone(&desk), waiting, places: Arc::clone(&places) };
        let queue_deadline = bounds.deadline;
        let thread = std::thread::Builder::new().name("fby-home".into()).spawn(move || worker.run())?;
        Ok(Self { desk, queue, places, queue_deadline, thread: Some(thread) })
    }

    /// Has a mutation executed; yields its result once it is in the log. The mutation may be executed more than once,
    /// of which only the last time counts.
    pub(crate) async fn execute<T: Send + 'static>(
        &self,
        op: impl Fn(&mut Txn<'_>) -> OpResult<T> + Send + 'static,
    ) -> OpResult<T> {
        let here = self.desk().and_then(|mut desk| desk.execute_here(&op));
        match here {
            Some(result) => result,
            None => Box::pin(self.execute_queued(op)).await,
        }
    }

    /// The desk, if it is free or about to be.
    fn desk(&self) -> Option<MutexGuard<'_, Desk>> {
        (0..DESK_LOOKS).find_map(|_| {
            let free = self.desk.try_lock();
            if free.is_none() {
                std::hint::spin_loop();
            }
            free
        })
    }

    /// Has a mutation executed by the home's thread; yields its result once it is in the log.
    pub(crate) async fn execute_queued<T: Send + 'static>(
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

/// The home's thread: takes to the desk what queues.
struct Worker {
    desk: Arc<Mutex<Desk>>,
    waiting: Receiver<Message>,
    places: Arc<Semaphore>,
}

impl Worker {
    fn run(&self) {
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
            let logged = self.desk.lock().execute(&mut jobs);
            for job in jobs {
                job.answer(&logged);
            }
        }
    }
}

/// Where mutations are executed.
struct Desk {
    shared: Arc<Shared>,
    committer: Arc<Committer>,
    log: Appender,
    inos: InoRange,
    next_seq: u64,
    /// Until then the log's disk is taken to be slow.
    slow_until: Instant,
    /// The records of one batch, as the log gets them.
    bytes: Vec<u8>,
}

impl Desk {
    /// Executes one mutation, on a thread that may wait for nothing. `None`: it is for the home's thread.
    fn execute_here<T>(&mut self, op: &impl Fn(&mut Txn<'_>) -> OpResult<T>) -> Option<OpResult<T>> {
        if self.log.is_long() || !self.committer.has_room() || Instant::now() < self.slow_until {
            return None;
        }
        let staged = Staged { changes: Changes::default(), inos: self.inos };
        let mut txn = Txn::new(&self.shared, &staged, self.next_seq).in_memory();
        let result = op(&mut txn);
        let finished = result.and_then(|result| Ok((result, txn.finish()?)));
        if txn.needs_engine() {
            return None;
        }
        let (result, (changes, inos)) = match finished {
            Ok(finished) => finished,
            Err(refusal) => return Some(Err(refusal)),
        };
        if changes.is_empty() {
            return Some(Ok(result));
        }
        let seq = self.next_seq;
        let encoded = changes.encoded();
        self.begin_batch();
        self.add_record(seq, &encoded);
        let logged = self.write_log(seq + 1);
        if logged.is_ok() {
            self.inos = inos;
            self.apply(changes, vec![(seq, encoded)], seq + 1);
        }
        Some(logged.map(|()| result).map_err(Refusal::Fs))
    }

    /// Executes a batch; yields whether it is in the log.
    fn execute(&mut self, jobs: &mut [Box<dyn Job>]) -> FsResult<()> {
        let mut staged = Staged { changes: Changes::default(), inos: self.inos };
        let mut pending = Vec::new();
        let mut seq = self.next_seq;
        self.begin_batch();
        for job in jobs {
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
            self.add_record(seq, &encoded);
            pending.push((seq, encoded));
            staged.take_in(changes, inos);
            seq += 1;
        }
        if pending.is_empty() {
            return Ok(());
        }
        self.committer.wait_for_room()?;
        self.write_log(seq)?;
        if let Err(error) = self.log.rotate_if_long(seq) {
            tracing::warn!(%error, "the home's log goes on in its old segment");
        }
        self.inos = staged.inos;
        self.apply(staged.changes, pending, seq);
        Ok(())
    }

    fn begin_batch(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT);
    }

    fn add_record(&mut self, seq: u64, encoded: &Encoded) {
        encode_record(seq, encoded.iter().map(|(key, value)| (&**key, value.as_deref())), &mut self.bytes);
    }

    /// Writes the batch.
    fn write_log(&mut self, next_seq: u64) -> FsResult<()> {
        let failed = |error: std::io::Error| FsError::from(error).during("writing the home's log");
        let began = Instant::now();
        self.log.append(&self.bytes, next_seq - 1).map_err(failed)?;
        self.next_seq = next_seq;
        let ended = Instant::now();
        if ended - began > SLOW_APPEND {
            self.slow_until = ended + SLOW_FOR;
        }
        Ok(())
    }

    /// Shows the batch to readers. New states come before new names, and new names before names that go, so
    /// that a name always leads to something and a file that is renamed is never nowhere.
    fn apply(&self, changes: Changes, pending: Vec<(u64, Encoded)>, next_seq: u64) {
        let seq = next_seq - 1;
        self.note_turned(&changes);
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
        // Before the names are no longer ours: whoever finds that one is not must not go by what was seen of the UFS while it
        // was.
        for dir in changes.given_back.iter().filter_map(|dir| self.shared.table.get(*dir)) {
            dir.name_given_back();
        }
        // A listing that began before that is told; one that begins now does not take the directory for ours alone.
        self.shared.listings.note_gone(&changes.given_back, &changes.dentries);
        let (present, going): (Vec<_>, Vec<_>) = changes
            .dentries
            .into_iter()
            .partition(|(_, dentry)| dentry.as_ref().is_some_and(|dentry| dentry.target.is_some()));
        for (slot, dentry) in present.into_iter().chain(going) {
            self.show_name(slot, dentry, seq);
        }
        for (key, value) in &changes.keys {
            match key[0] {
                crate::keys::QUEUE => self.shared.note_queued(key, value.as_deref()),
                crate::keys::BEGUN => self.shared.note_begun(key, value.is_some()),
                _ => {}
            }
        }
        self.committer.push(pending);
    }

    /// Shows one name as the log has it now.
    fn show_name(&self, (dir, name): Slot, dentry: Option<Dentry>, seq: u64) {
        let Shared { table, images, view, names, .. } = &*self.shared;
        let value = dentry.as_ref().map(|dentry| Arc::from(dentry.encode()));
        let to = dentry.as_ref().and_then(|dentry| dentry.target).map(|(ino, _)| ino);
        let inode = table.get(dir);
        // Before others see it: an image that is drawn after that says so too.
        let led_there = inode.as_ref().is_some_and(|inode| images.say(inode, &name, to));
        view.overlay.set(crate::keys::dentry(dir, &name), value, seq);
        let inode = inode.or_else(|| table.get(dir));
        if let Some(inode) = &inode {
            inode.name_changed(&name);
            if !led_there {
                images.name_changed(inode);
            }
        }
        names.forget(dir, &name);
        if inode.is_some()
            && let Some(cached) = dentry.and_then(|dentry| self.answer(&dentry))
        {
            names.learn(dir, names.epoch(dir, &name), &name, cached);
        }
    }

    /// Tells the listings under way what a file was before, while that can still be seen.
    fn note_turned(&self, changes: &Changes) {
        for (ino, (record, _)) in &changes.inodes {
            self.shared.listings.note(*ino, record, || self.shared.record(*ino).ok());
        }
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
