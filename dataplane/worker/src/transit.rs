//! Fetched bytes, kept in memory for a moment.
//!
//! **Owns** short queues of fetched bodies. One is for content that has no extent: reads that are not to be cached, and
//! reads while the tiers are full; a reader comes for a page in many pieces, and read-ahead brings pages before
//! their reader, so without it each piece would be a request of its own. The other is for what was just put into its
//! extent: the reader it was fetched for gets it from here, and the disk is not asked for what it has just been given.
//!
//! **Why this shape:** first in, first out, with a bound in bytes; looked through from the newest end, and only
//! on a miss. It is no cache: nothing in it lives longer than the readers of a window need.

use crate::body::Body;
use forebay_types::ContentKey;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bodies on their way through.
pub(crate) struct Transit {
    capacity: u64,
    queue: Mutex<Queue>,
    /// The bytes in the queue, for a look without the lock.
    bytes: AtomicU64,
}

/// Why a body is kept nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Its content has no extent.
    NotToBeKept,
    /// Its content has an extent, and the tier would not take the bytes. A reader who has the extent takes these
    /// bytes too; those that were not to be kept he fetches again, to keep them.
    Refused,
    /// It is in its extent.
    Landed,
}

struct Passing {
    content: ContentKey,
    why: Why,
    body: Arc<Body>,
    /// Bytes of it that a reader took.
    taken: u64,
}

#[derive(Default)]
struct Queue {
    bodies: VecDeque<Passing>,
    bytes: u64,
}

impl Transit {
    /// Keeps at most `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, queue: Mutex::default(), bytes: AtomicU64::new(0) }
    }

    /// How many bytes it may keep.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Keeps a body; the oldest go where there are too many.
    pub(crate) fn keep(&self, content: ContentKey, why: Why, body: &Arc<Body>) {
        let mut queue = self.queue.lock();
        queue.bytes += body.len() as u64;
        queue.bodies.push_back(Passing { content, why, body: Arc::clone(body), taken: 0 });
        queue.shrink_to(self.capacity);
        self.bytes.store(queue.bytes, Ordering::Relaxed);
    }

    /// Whether there is nothing in it: so it is at most times, and then a reader takes no lock.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    /// The bodies that have a range between them, in order, for a reader who takes it. One that was taken to its last
    /// byte is not kept any longer. `None` if a part of the range is in none.
    pub(crate) fn take_all(&self, content: ContentKey, range: &Range<u64>) -> Option<Vec<Arc<Body>>> {
        let mut queue = self.queue.lock();
        let found = queue.covering(content, range)?;
        let bodies = found.iter().map(|at| Arc::clone(&queue.bodies[*at].body)).collect();
        queue.note_taken(&found, range);
        self.bytes.store(queue.bytes, Ordering::Relaxed);
        Some(bodies)
    }

    /// The body that has all of `range`, kept for `at_least` that reason.
    pub(crate) fn find(&self, content: ContentKey, at_least: Why, range: Range<u64>) -> Option<Arc<Body>> {
        let queue = self.queue.lock();
        let mut newest_first =
            queue.bodies.iter().rev().filter(|p| p.content == content && p.why >= at_least);
        let found = newest_first.find(|passing| passing.body.slice(range.clone()).is_some());
        found.map(|passing| Arc::clone(&passing.body))
    }

    /// Lets go of everything: memory is short.
    pub(crate) fn clear(&self) {
        self.shrink_to(0);
    }

    /// Lets go of the oldest until no more than `most` bytes are left.
    pub(crate) fn shrink_to(&self, most: u64) {
        let mut queue = self.queue.lock();
        queue.shrink_to(most);
        self.bytes.store(queue.bytes, Ordering::Relaxed);
    }
}

impl Queue {
    /// The places of the bodies that have a range between them.
    fn covering(&self, content: ContentKey, range: &Range<u64>) -> Option<Vec<usize>> {
        let (mut found, mut from) = (Vec::with_capacity(2), range.start);
        while from < range.end {
            let has = |passing: &Passing| passing.content == content && passing.body.range().contains(&from);
            let at = self.bodies.iter().rposition(has)?;
            from = self.bodies[at].body.range().end;
            found.push(at);
        }
        Some(found)
    }

    fn note_taken(&mut self, found: &[usize], range: &Range<u64>) {
        for at in found {
            let passing = &mut self.bodies[*at];
            let body = passing.body.range();
            passing.taken += body.end.min(range.end) - body.start.max(range.start);
        }
        let before = self.bodies.len();
        self.bodies.retain(|passing| passing.why != Why::Landed || passing.taken < passing.body.len() as u64);
        if self.bodies.len() < before {
            self.bytes = self.bodies.iter().map(|passing| passing.body.len() as u64).sum();
        }
    }

    fn shrink_to(&mut self, capacity: u64) {
        while self.bytes > capacity {
            let Some(passing) = self.bodies.pop_front() else { return };
            self.bytes -= passing.body.len() as u64;
        }
    }
}
