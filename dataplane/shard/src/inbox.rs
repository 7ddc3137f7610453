//! What other threads may touch of a shard: its mailbox, its list of woken tasks, its bell and its counters.
//!
//! **The bell.** Whoever puts something in rings the bell only if the shard announced that it sleeps, and only
//! the first one does. The shard announces, then looks once more, then sleeps; a full fence on both sides
//! makes it impossible that both miss the other.

use crate::counters::Counters;
use crate::task::{TaskRef, WokenList};
use crate::watch::Watch;
use crossbeam_queue::ArrayQueue;
use forebay_types::ShardId;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    fence,
};

/// A message: it runs on the shard and usually spawns a task there.
pub(crate) type Letter = Box<dyn FnOnce() + Send>;

/// How far a shard is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Takes letters and runs tasks.
    Running = 0,
    /// Takes letters from its peers only; lets its tasks finish.
    Draining = 1,
    /// Drops its tasks.
    Ending = 2,
}

pub(crate) struct Inbox {
    pub(crate) id: ShardId,
    pub(crate) counters: Counters,
    /// Tells the shards of one `Shards` from those of another.
    pub(crate) group: u64,
    pub(crate) watch: Watch,
    woken: WokenList,
    letters: ArrayQueue<Letter>,
    /// Places taken in `letters`, ahead of the push: so a push never fails and a refused closure goes back.
    places: AtomicUsize,
    sleeping: AtomicBool,
    phase: AtomicU8,
    /// No shard will look in here again.
    closed: AtomicBool,
    bell: OwnedFd,
    /// The shard's ring, or -1. The runtime holds a duplicate open until every shard that may use it ended.
    ring: AtomicI32,
}

impl Inbox {
    pub(crate) fn new(id: ShardId, group: u64, mailbox_len: usize) -> io::Result<Arc<Self>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self {
            id,
            counters: Counters::default(),
            group,
            watch: Watch::new(),
            woken: WokenList::default(),
            letters: ArrayQueue::new(mailbox_len),
            places: AtomicUsize::new(0),
            sleeping: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Running as u8),
            closed: AtomicBool::new(false),
            bell,
            ring: AtomicI32::new(-1),
        }))
    }

    pub(crate) fn set_ring(&self, ring: RawFd) {
        self.ring.store(ring, SeqCst);
    }

    pub(crate) fn ring_fd(&self) -> Option<RawFd> {
        let ring = self.ring.load(Acquire);
        (ring >= 0).then_some(ring)
    }

    pub(crate) fn bell_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Queues a task that another thread woke.
    pub(crate) fn push_woken(&self, task: Arc<TaskRef>) {
        self.woken.push(task);
        self.ring_bell();
        if self.closed.load(SeqCst) {
            // Nobody will come for it: break the circle of the list and the task that refers to it.
            self.woken.drain_into(&mut VecDeque::new());
        }
    }

    /// Takes a place in the mailbox. True: [`Self::post`] must follow.
    pub(crate) fn reserve(&self) -> bool {
        let free = |taken: usize| (taken < self.letters.capacity()).then_some(taken + 1);
        let got = self.places.fetch_update(AcqRel, Acquire, free).is_ok();
        if !got {
            self.counters.mailbox_full.add(1);
        }
        got
    }

    /// Puts a letter in the place that was reserved.
    pub(crate) fn post(&self, letter: Letter) {
        assert!(self.letters.push(letter).is_ok(), "the place was reserved");
        self.ring_bell();
        if self.closed.load(SeqCst) {
            self.drop_letters();
        }
    }

    /// The oldest letter. Its place stays taken until [`Self::letter_done`].
    pub(crate) fn take_letter(&self) -> Option<Letter> {
        self.letters.pop()
    }

    /// Frees the place of a letter that was taken and has run: until then the shard is not idle.
    pub(crate) fn letter_done(&self) {
        self.places.fetch_sub(1, AcqRel);
    }

    /// Letters that wait or run.
    pub(crate) fn letters_pending(&self) -> usize {
        self.places.load(Acquire)
    }

    pub(crate) fn drain_woken(&self, ready: &mut VecDeque<Arc<TaskRef>>) {
        if !self.woken.is_empty() {
            self.woken.drain_into(ready);
        }
    }

    /// Whether a letter or a woken task waits.
    pub(crate) fn has_news(&self) -> bool {
        !self.woken.is_empty() || !self.letters.is_empty()
    }

    /// Announces sleep. False: something came in meanwhile, stay awake.
    pub(crate) fn fall_asleep(&self, phase_seen: Phase) -> bool {
        self.sleeping.store(true, SeqCst);
        fence(SeqCst);
        let quiet = !self.has_news() && self.phase() == phase_seen;
        if !quiet {
            self.sleeping.store(false, Relaxed);
        }
        quiet
    }

    pub(crate) fn wake_up(&self) {
        self.sleeping.store(false, Relaxed);
    }

    fn ring_bell(&self) {
        fence(SeqCst);
        if self.sleeping.load(Relaxed) && self.sleeping.swap(false, AcqRel) {
            self.counters.wakes.add(1);
            if !crate::core::ring_peer(self) {
                self.ring_by_eventfd();
            }
        }
    }

    /// Wakes the shard by its eventfd, which it always has a poll on.
    pub(crate) fn ring_by_eventfd(&self) {
        // EAGAIN says that the counter is full: then the shard has been rung already.
        if let Err(error) = rustix::io::write(&self.bell, &1u64.to_ne_bytes())
            && error != rustix::io::Errno::AGAIN
        {
            tracing::error!(%error, shard = %self.id, "the shard could not be woken");
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Ending,
        }
    }

    /// Moves on to a later phase and tells the shard.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.fetch_max(to as u8, SeqCst);
        self.ring_bell();
    }

    /// The shard's last act: whatever comes in from now on is dropped by whoever brings it.
    pub(crate) fn close(&self) {
        self.phase.fetch_max(Phase::Ending as u8, SeqCst);
        self.closed.store(true, SeqCst);
        fence(SeqCst);
        self.woken.drain_into(&mut VecDeque::new());
        self.drop_letters();
    }

    fn drop_letters(&self) {
        while self.take_letter().is_some() {
            self.letter_done();
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({}, {:?})", self.id, self.phase())
    }
}
