//! Questions about the queue that change nothing: what waits, how much of it, and what it looks like to who waits for it.

use super::Queue;
use super::entry::{Entry, Status};
use crate::record::Slot;
use forebay_types::{Ino, MountId, Name};

/// What a name looks like to who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Tells it from one that was queued after it was carried.
    pub(crate) born: u64,
    pub(crate) failures: u64,
    pub(crate) failure: Option<String>,
    pub(crate) written_beside: u64,
    pub(crate) open_for_write: bool,
    pub(crate) set_aside: bool,
    /// It is a directory that waits, in its own time, for what was queued in it since somebody was in a hurry.
    pub(crate) goes_last: bool,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) names: usize,
    pub(crate) bytes: u64,
    pub(crate) out: usize,
    pub(crate) set_aside: usize,
    pub(crate) oldest_since_ms: Option<u64>,
}

impl Queue {
    pub(crate) fn see(&self, slot: &Slot) -> Option<Seen> {
        self.state.lock().entries.get(slot).map(Entry::seen)
    }

    /// All names that were queued up to `seq`.
    pub(crate) fn up_to(&self, seq: u64) -> Vec<(Slot, Seen)> {
        let state = self.state.lock();
        let old = state.entries.iter().filter(|(_, entry)| entry.seq <= seq);
        old.map(|(slot, entry)| (slot.clone(), entry.seen())).collect()
    }

    /// All names in a directory that are queued and of which `wanted` holds.
    pub(crate) fn seen_in(&self, dir: Ino, wanted: impl Fn(&Name) -> bool) -> Vec<(Slot, Seen)> {
        let state = self.state.lock();
        let found = state.queued_in(dir).filter(|(slot, _)| wanted(&slot.1));
        found.map(|(slot, entry)| (slot.clone(), entry.seen())).collect()
    }

    /// The number of names that are queued.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    pub(crate) fn totals(&self) -> Totals {
        let state = self.state.lock();
        Totals {
            names: state.entries.len(),
            bytes: state.bytes,
            out: state.out.len(),
            set_aside: state.entries.values().filter(|entry| entry.is_set_aside()).count(),
            oldest_since_ms: state
                .entries
                .values()
                .filter(|entry| !entry.only_time)
                .map(|entry| entry.since_ms)
                .min(),
        }
    }

    /// Whether anything in a directory goes before the directory's own time, whose name is `slot`.
    pub(crate) fn any_first(&self, dir: Ino, slot: &Slot) -> bool {
        self.state.lock().any_first(dir, slot)
    }

    /// Whether anything in a directory is being carried or waits for that: what the UFS says of the directory itself
    /// may be our own doing.
    pub(crate) fn is_busy_in(&self, dir: Ino) -> bool {
        self.state.lock().queued_in(dir).any(|(_, entry)| entry.status != Status::OpenForWrite)
    }

    /// Whether anything of a directory is queued or out: a mount that is to be removed must have nothing.
    pub(crate) fn has_mount(&self, mount: MountId) -> bool {
        self.state.lock().entries.values().any(|entry| entry.mount == mount)
    }
}
