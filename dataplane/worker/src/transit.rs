//! Bytes that are passed on without being cached, kept for a moment.
//!
//! **Owns** a short queue of fetched bodies whose content has no extent: reads that are not to be cached, and
//! reads while the tiers are full. A reader comes for a page in many pieces, and read-ahead brings pages before
//! their reader; without this queue each piece would be a request of its own.
//!
//! **Why this shape:** first in, first out, with a bound in bytes; looked through from the newest end, and only
//! on a miss. It is no cache: nothing in it lives longer than the readers of a window need.

use crate::body::Body;
use forebay_types::ContentKey;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Bodies on their way through.
pub(crate) struct Transit {
    capacity: u64,
    queue: Mutex<Queue>,
}

/// Why a body is kept nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Its content has no extent.
    NotToBeKept,
    /// Its content has an extent, and the tier would not take the bytes. A reader who has the extent takes these
    /// bytes too; those that were not to be kept he fetches again, to keep them.
    Refused,
}

struct Passing {
    content: ContentKey,
    why: Why,
    body: Arc<Body>,
}

#[derive(Default)]
struct Queue {
    bodies: VecDeque<Passing>,
    bytes: u64,
}

impl Transit {
    /// Keeps at most `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, queue: Mutex::default() }
    }

    /// How many bytes it may keep.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Keeps a body; the oldest go where there are too many.
    pub(crate) fn keep(&self, content: ContentKey, why: Why, body: &Arc<Body>) {
        let mut queue = self.queue.lock();
        queue.bytes += body.len() as u64;
        queue.bodies.push_back(Passing { content, why, body: Arc::clone(body) });
        queue.shrink_to(self.capacity);
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
        self.queue.lock().shrink_to(0);
    }
}

impl Queue {
    fn shrink_to(&mut self, capacity: u64) {
        while self.bytes > capacity {
            let Some(passing) = self.bodies.pop_front() else { return };
            self.bytes -= passing.body.len() as u64;
        }
    }
}
