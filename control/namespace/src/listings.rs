//! The listings that are under way, and what was turned over beside them.
//!
//! **Owns** what a listing has to know of files that are written or carried while it is read: whether a file was clean
//! when it began, also if it was turned more than once since, and which names it found on their way to another place. Both
//! decide where a name is shown, and it is decided twice, for the entries of the UFS and for our own: the same way. Also
//! which names stopped being ours: a listing that goes through our names alone finds out by them what they are now.
//!
//! **Never does** remember a name that nothing happens to. A listing that is left open while very much is turned forgets
//! what came last, and may then show such a file twice or not at all.

use crate::record::{Dentry, InodeRecord, Slot};
use forebay_types::{Ino, InodeState, Name};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The most files of which one listing remembers what they were.
const MARKS_MAX: usize = 1 << 16;

/// What one listing remembers.
pub(crate) struct Marks {
    /// The log's number when it began.
    pub(crate) began: u64,
    /// Whether a file that was turned since was clean when it began.
    was_clean: Mutex<HashMap<Ino, bool>>,
    /// The names that were found leaving.
    left: Mutex<HashSet<Name>>,
    /// The names that stopped being ours.
    gone: Mutex<BTreeSet<Name>>,
}

/// All that are under way.
#[derive(Default)]
pub(crate) struct Listings {
    of: Mutex<HashMap<Ino, Vec<Arc<Marks>>>>,
    count: AtomicUsize,
}

impl Marks {
    /// Whether a file was clean when the listing began.
    pub(crate) fn was_clean(&self, ino: Ino, record: &InodeRecord) -> bool {
        if let Some(was_clean) = self.was_clean.lock().get(&ino) {
            return *was_clean;
        }
        is_clean(record) == (record.turned_at <= self.began)
    }

    /// Whether a name was found leaving, now or before.
    pub(crate) fn has_left(&self, name: &Name, leaves_now: bool) -> bool {
        let mut left = self.left.lock();
        if leaves_now && left.len() < MARKS_MAX {
            left.insert(name.clone());
        }
        leaves_now || left.contains(name)
    }

    /// The names that have stopped being ours since it began, of those after `after` and up to `until`.
    pub(crate) fn gone_between(&self, after: Option<&Name>, until: Option<&Name>) -> Vec<Name> {
        let gone = self.gone.lock();
        let after = after.map_or(Unbounded, Excluded);
        gone.range((after, Unbounded))
            .take_while(|name| until.is_none_or(|until| *name <= until))
            .cloned()
            .collect()
    }

    fn goes(&self, name: &Name) {
        let mut gone = self.gone.lock();
        if gone.len() < MARKS_MAX {
            gone.insert(name.clone());
        }
    }

    /// A file is turned: what it was `before` is what it was when the listing began, unless it was turned since then and
    /// before the listing was known.
    fn turned(&self, ino: Ino, before: &InodeRecord, now: &InodeRecord) {
        let mut was_clean = self.was_clean.lock();
        if now.turned_at > self.began && was_clean.len() < MARKS_MAX {
            was_clean.entry(ino).or_insert(is_clean(before) == (before.turned_at <= self.began));
        }
    }
}

impl Listings {
    /// A listing of `dir` begins with the log's number that `pushed` says.
    pub(crate) fn begin(&self, dir: Ino, pushed: impl FnOnce() -> u64) -> Arc<Marks> {
        let mut of = self.of.lock();
        self.count.fetch_add(1, SeqCst);
        let (was_clean, left, gone) = (Mutex::default(), Mutex::default(), Mutex::default());
        let marks = Marks { began: pushed(), was_clean, left, gone };
        let marks = Arc::new(marks);
        of.entry(dir).or_default().push(Arc::clone(&marks));
        marks
    }

    pub(crate) fn end(&self, dir: Ino, marks: &Arc<Marks>) {
        let mut of = self.of.lock();
        let Some(known) = of.get_mut(&dir) else { return };
        known.retain(|other| !Arc::ptr_eq(other, marks));
        if known.is_empty() {
            of.remove(&dir);
        }
        self.count.fetch_sub(1, SeqCst);
    }

    /// Names are about to stop being ours in directories of which some are given back to the UFS.
    pub(crate) fn note_gone(&self, given_back: &BTreeSet<Ino>, dentries: &BTreeMap<Slot, Option<Dentry>>) {
        if given_back.is_empty() || self.count.load(SeqCst) == 0 {
            return;
        }
        let of = self.of.lock();
        let going = dentries.iter().filter(|(_, dentry)| dentry.is_none());
        for ((dir, name), _) in going.filter(|((dir, _), _)| given_back.contains(dir)) {
            of.get(dir).into_iter().flatten().for_each(|marks| marks.goes(name));
        }
    }

    /// An inode is about to be shown as it is `now`, instead of as it was `before`.
    pub(crate) fn note(
        &self,
        ino: Ino,
        now: &InodeRecord,
        before: impl FnOnce() -> Option<Arc<InodeRecord>>,
    ) {
        if self.count.load(SeqCst) == 0 {
            return;
        }
        let listings = self.showing(now);
        if listings.is_empty() {
            return;
        }
        let Some(before) = before().filter(|before| is_clean(before) != is_clean(now)) else { return };
        listings.iter().for_each(|marks| marks.turned(ino, &before, now));
    }

    /// The listings in which an inode may be shown.
    fn showing(&self, record: &InodeRecord) -> Vec<Arc<Marks>> {
        let of = self.of.lock();
        if record.nlink > 1 {
            return of.values().flatten().cloned().collect();
        }
        let dir = record.at.as_ref().and_then(|(dir, _)| of.get(dir));
        dir.cloned().unwrap_or_default()
    }
}

fn is_clean(record: &InodeRecord) -> bool {
    record.state == InodeState::Clean
}
