//! Extents that were carried and are settled later.
//!
//! **Owns** the extents whose bytes the under file system has, and the name space knows it, but which the store does not know as
//! clean yet: settling takes two syncs and a file, and while much is waiting to be carried, that is worth more to
//! what is still nowhere else. Until then they are found as what was just carried ([`crate::sessions`]), and a crash costs no
//! more than fetching them again.
//!
//! **Never does** settle anything: the persist engine does when it has nothing better to do, and who wants to evict, rename or
//! write to one does it on the spot. What is kept here cannot be evicted, so nothing is put here while room is short.
//!
//! Whoever takes one to settle it and is cut short has put it back by that ([`Taken`]): an extent that nothing finds any more would
//! take room until the next start.
//!
//! **Bounded** by [`UNSETTLED_MAX`], each no longer than [`UNSETTLED_LEN_MAX`].

use crate::sessions::JustCarried;
use forebay_types::{ByteSize, ContentKey, ExtentId, PageChecksum};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The most extents that wait, so that their memory is some megabytes.
const UNSETTLED_MAX: usize = 1 << 14;
/// The longest that waits. Of longer ones the sync is a small part of what carrying them takes.
const UNSETTLED_LEN_MAX: ByteSize = ByteSize::kib(256);

/// An extent whose bytes were carried and recorded as `content`.
pub(crate) struct Unsettled {
    pub(crate) content: ContentKey,
    pub(crate) id: ExtentId,
    pub(crate) len: u64,
    /// One a page, in order.
    pub(crate) checksums: Vec<PageChecksum>,
    /// How many writers had begun on it before its bytes were read.
    pub(crate) writers: u64,
    /// It is found by its content as long as this is there.
    pub(crate) _told: JustCarried,
}

/// One that was taken to be settled: it waits again unless that is [`Taken::done`].
pub(crate) struct Taken {
    one: Option<Unsettled>,
    later: Arc<Later>,
}

impl Taken {
    pub(crate) fn one(&self) -> &Unsettled {
        self.one.as_ref().expect("it is there until it is done, which consumes this")
    }

    /// It is settled, or there is nothing to settle any more.
    pub(crate) fn done(mut self) {
        self.one = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(one) = self.one.take() {
            self.later.waiting.lock().put_back(one);
            self.later.came.notify_one();
        }
    }
}

/// Those that wait.
#[derive(Default)]
pub(crate) struct Later {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Default)]
struct Waiting {
    of: HashMap<ContentKey, (Instant, Unsettled)>,
    /// As they came; those that were taken by their content are still named here.
    order: VecDeque<ContentKey>,
    /// Those that are not to wait any more.
    urgent: Vec<ContentKey>,
}

impl Waiting {
    fn put(&mut self, one: Unsettled) -> Option<Unsettled> {
        let Self { of, order, .. } = self;
        if order.len() >= 2 * UNSETTLED_MAX {
            order.retain(|content| of.contains_key(content));
        }
        order.push_back(one.content);
        of.insert(one.content, (Instant::now(), one)).map(|(_, before)| before)
    }

    /// Of two of one content the one that came last counts: the other was to be replaced.
    fn put_back(&mut self, one: Unsettled) {
        if !self.of.contains_key(&one.content) {
            self.put(one);
        }
    }
}

impl Later {
    /// Has an extent wait.
    ///
    /// # Errors
    /// The one that is to be settled now: itself, or another of the same content.
    pub(crate) fn put(self: &Arc<Self>, one: Unsettled) -> Result<(), Taken> {
        let mut waiting = self.waiting.lock();
        if one.len > UNSETTLED_LEN_MAX.as_u64() || waiting.of.len() >= UNSETTLED_MAX {
            return Err(self.taken(one));
        }
        let before = waiting.put(one);
        drop(waiting);
        self.came.notify_one();
        before.map_or(Ok(()), |before| Err(self.taken(before)))
    }

    /// One that does not wait at all.
    pub(crate) fn taken(self: &Arc<Self>, one: Unsettled) -> Taken {
        Taken { one: Some(one), later: Arc::clone(self) }
    }

    /// The one that waits as `content`, if it `is_right`.
    pub(crate) fn take(
        self: &Arc<Self>,
        content: ContentKey,
        is_right: impl FnOnce(&Unsettled) -> bool,
    ) -> Option<Taken> {
        let mut waiting = self.waiting.lock();
        let right = waiting.of.get(&content).is_some_and(|(_, one)| is_right(one));
        let one = if right { waiting.of.remove(&content) } else { None };
        one.map(|(_, one)| self.taken(one))
    }

    /// The one that waits as `content` is to be settled with the next ones.
    pub(crate) fn urge(&self, content: ContentKey) {
        let mut waiting = self.waiting.lock();
        if waiting.of.contains_key(&content) && waiting.urgent.len() < UNSETTLED_MAX {
            waiting.urgent.push(content);
        }
    }

    /// Those that are urgent, and those that came first, up to `most` of those that have waited for `at_least`.
    pub(crate) fn take_first(self: &Arc<Self>, most: usize, at_least: Duration) -> Vec<Taken> {
        let mut waiting = self.waiting.lock();
        let Waiting { of, order, urgent } = &mut *waiting;
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(content) = urgent.pop()
        {
            taken.extend(of.remove(&content).map(|(_, one)| self.taken(one)));
        }
        while taken.len() < most
            && let Some(content) = order.front()
        {
            if of.get(content).is_some_and(|(since, _)| since.elapsed() < at_least) {
                break;
            }
            taken.extend(of.remove(content).map(|(_, one)| self.taken(one)));
            order.pop_front();
        }
        taken
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().of.len()
    }

    /// Returns when some wait.
    pub(crate) async fn some(&self) {
        while self.len() == 0 {
            self.came.notified().await;
        }
    }
}
