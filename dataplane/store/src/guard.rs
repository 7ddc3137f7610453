//! Roles of an extent as types: who uses it, and who may take it away.
//!
//! **Owns** one atomic word an extent: the number of [`Held`] guards out, or the mark that an [`Evictable`] token is.
//! Each excludes the other: a token is only given while no guard is out, and while it is out no guard is given. So
//! whatever destroys, punches or moves an extent takes an `Evictable` by value, and the compiler sees to it that
//! nothing dirty, pinned, open for passthrough or being filled is ever touched.
//!
//! **Never** waits: both sides get an answer at once and look again.

use crate::error::StoreError;
use crate::extent::Extent;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Why an extent must stay as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It holds bytes that are nowhere else yet.
    Dirty,
    /// A user asked for it to stay.
    Pinned,
    /// The kernel reads or writes its file behind our back.
    OpenPassthrough,
    /// Pages are being put into it, or its bytes are being synced.
    Filling,
}

const KINDS: usize = 4;
/// An `Evictable` is out.
const TAKEN: u32 = 1 << 31;
/// It was taken for good.
const RETIRED: u32 = 1 << 30;
const COUNT_MASK: u32 = RETIRED - 1;

#[derive(Debug, Default)]
pub(crate) struct Guards {
    word: AtomicU32,
    kinds: [AtomicU32; KINDS],
    /// An eviction policy gave this extent up because it was held, and wants to hear when it no longer is.
    parked: AtomicBool,
}

impl Guards {
    fn enter(&self, kind: Hold) -> bool {
        let entered = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            assert!(word & COUNT_MASK < COUNT_MASK, "more guards than memory could hold");
            (word & (TAKEN | RETIRED) == 0).then_some(word + 1)
        });
        if entered.is_ok() {
            self.kinds[kind as usize].fetch_add(1, Ordering::AcqRel);
        }
        entered.is_ok()
    }

    /// Says whether this was the last guard out.
    fn leave(&self, kind: Hold) -> bool {
        self.kinds[kind as usize].fetch_sub(1, Ordering::AcqRel);
        let before = self.word.fetch_sub(1, Ordering::SeqCst);
        before & COUNT_MASK == 1
    }

    pub(crate) fn count(&self, kind: Hold) -> u32 {
        self.kinds[kind as usize].load(Ordering::Acquire)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.word.load(Ordering::Acquire) & COUNT_MASK != 0
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.word.load(Ordering::Acquire) & RETIRED != 0
    }

    /// Marks the extent as gone whoever holds it: it was deleted, and its guards only keep its bytes readable. Says
    /// whether this call did it.
    pub(crate) fn retire(&self) -> bool {
        self.word.fetch_or(RETIRED, Ordering::AcqRel) & RETIRED == 0
    }

    /// Asks to hear of the last guard's release; false if there is none out (any more).
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        if self.word.load(Ordering::SeqCst) & COUNT_MASK != 0 {
            return true;
        }
        // Either the last guard saw the mark and reports it, or we take the mark back here: never both.
        !self.parked.swap(false, Ordering::SeqCst)
    }

    fn unpark(&self) -> bool {
        self.parked.swap(false, Ordering::SeqCst)
    }
}

/// A guard: while it is out, the extent is not evicted, punched or moved.
pub struct Held {
    extent: Arc<Extent>,
    kind: Hold,
}

impl Held {
    /// [`StoreError::Gone`] after the extent was taken away (look it up again), [`StoreError::Busy`] while it is
    /// being moved or punched (wait a little, or do without).
    pub(crate) fn take(extent: &Arc<Extent>, kind: Hold) -> Result<Self, StoreError> {
        if extent.guards().enter(kind) {
            return Ok(Self { extent: Arc::clone(extent), kind });
        }
        if extent.guards().is_retired() {
            return Err(StoreError::Gone(extent.id()));
        }
        Err(StoreError::Busy { extent: extent.id(), what: "it is being moved or partly evicted" })
    }

    /// The extent.
    pub fn extent(&self) -> &Arc<Extent> {
        &self.extent
    }

    /// Why it is held.
    pub fn kind(&self) -> Hold {
        self.kind
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let guards = self.extent.guards();
        if guards.leave(self.kind) && guards.unpark() {
            self.extent.tier().returned(self.extent.id());
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({:?}, {})", self.kind, self.extent.id())
    }
}

/// The right to take an extent's bytes away: given only while no guard is out, and excludes every guard.
#[derive(Debug)]
pub struct Evictable {
    extent: Arc<Extent>,
}

impl Evictable {
    /// `None` while a guard is out or the bytes are nowhere else.
    pub(crate) fn take(extent: &Arc<Extent>) -> Option<Self> {
        if !extent.is_replaceable() {
            return None;
        }
        let word = &extent.guards().word;
        word.compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Acquire).ok()?;
        let token = Self { extent: Arc::clone(extent) };
        // Looked at again: it may have been written to before the guards were shut out.
        extent.is_replaceable().then_some(token)
    }

    /// The extent.
    pub fn extent(&self) -> &Arc<Extent> {
        &self.extent
    }

    /// Ends the extent: no guard will ever be given again. `None` if it was removed meanwhile.
    pub(crate) fn retire(self) -> Option<Arc<Extent>> {
        self.extent.guards().retire().then(|| Arc::clone(&self.extent))
    }
}

impl Drop for Evictable {
    fn drop(&mut self) {
        self.extent.guards().word.fetch_and(!TAKEN, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_count_by_kind_and_the_last_one_reports() {
        let guards = Guards::default();
        assert!(guards.enter(Hold::Dirty) && guards.enter(Hold::Pinned));
        assert_eq!((guards.count(Hold::Dirty), guards.count(Hold::Filling)), (1, 0));
        assert!(guards.park());
        assert!(!guards.leave(Hold::Dirty));
        assert!(guards.leave(Hold::Pinned) && guards.unpark());
        assert!(!guards.park(), "nobody would report it");
        assert!(!guards.unpark());
    }

    #[test]
    fn nothing_is_held_once_retired() {
        let guards = Guards::default();
        assert!(guards.enter(Hold::Dirty));
        guards.retire();
        assert!(!guards.enter(Hold::Dirty));
        assert!(guards.leave(Hold::Dirty), "guards taken before still leave");
    }
}
