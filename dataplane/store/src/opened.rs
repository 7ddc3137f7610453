//! Which extent files of a tier are open, and which of them are closed when more are than there may be.
//!
//! **Owns** the count and the order in which they were opened. **Never does** close a file that somebody holds, nor wait
//! for a lock: it is called by whoever has just opened a file, on any shard.
//!
//! **Why this shape:** a file stays open because it will likely be asked for again, so nothing says when it is done with.
//! Whoever opens one more than there may be looks at the oldest few: what was used since the last look goes to the end of
//! the order, what was not is closed (second chance, as the page cache of many kernels has it). So descriptors run out
//! at no rate of opens, and no look takes longer with more extents.

use crate::extent::Extent;
use crate::store::Store;
use crate::tier::Tier;
use forebay_types::ExtentId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many files an open that is one too many looks at. With more than one, files are closed faster than they are opened.
const LOOKS: usize = 4;
/// How many are looked at when the process may open no more at all.
const LOOKS_AT_THE_LIMIT: usize = 256;

/// The open extent files of one tier.
#[derive(Debug)]
pub(crate) struct OpenedFiles {
    /// How many may be open without being in use.
    max: usize,
    count: AtomicUsize,
    /// Extents whose file was opened, oldest first. Each is in it once ([`Extent::in_order`]); those that were closed or
    /// removed meanwhile are dropped when their turn comes.
    order: Mutex<VecDeque<ExtentId>>,
}

/// What becomes of an extent whose turn it is.
enum Turn {
    Later,
    Done,
}

impl OpenedFiles {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, count: AtomicUsize::new(0), order: Mutex::default() }
    }

    /// A file of this extent, which the store knows, was opened.
    pub(crate) fn opened(&self, extent: &Extent) {
        self.count_one();
        self.push(extent);
    }

    /// An extent begins with its file open; the store knows it a moment later ([`Self::enter`]).
    pub(crate) fn count_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The store knows an extent from now on.
    pub(crate) fn enter(&self, extent: &Extent) {
        if extent.is_open() {
            self.push(extent);
        }
    }

    fn push(&self, extent: &Extent) {
        if !extent.in_order.swap(true, Ordering::AcqRel) {
            self.order.lock().push_back(extent.id());
        }
    }

    pub(crate) fn closed(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// More are open, or known of, than may be.
    fn is_over(&self) -> bool {
        self.order.lock().len().max(self.count.load(Ordering::Relaxed)) > self.max
    }

    /// One extent's turn; false when there is none.
    fn turn(&self, store: &Store, spare_used: bool) -> bool {
        let Some(id) = self.order.lock().pop_front() else { return false };
        // One that is known no more takes its file with it; one that has moved to another tier counts there.
        let here = |extent: &Arc<Extent>| std::ptr::eq(&extent.tier().opened, self);
        let Some(extent) = store.get(id).filter(here) else { return true };
        match extent.turn_to_close(spare_used) {
            Turn::Later => self.order.lock().push_back(id),
            Turn::Done => {
                extent.in_order.store(false, Ordering::Release);
                // Somebody may have opened it between the look and the line above.
                self.enter(&extent);
            }
        }
        true
    }
}

impl Extent {
    /// Whether its own file is open, or the one past the page cache.
    fn is_open(&self) -> bool {
        self.has_open_file() || self.direct.lock().is_some()
    }

    fn turn_to_close(&self, spare_used: bool) -> Turn {
        if !self.is_open() {
            return Turn::Done;
        }
        match (spare_used && self.take_recently_used()) || !self.close_idle() {
            true => Turn::Later,
            false => Turn::Done,
        }
    }
}

impl Tier {
    /// Closes a few files that nobody uses if more are open than there may be.
    pub(crate) fn close_some_idle(&self) {
        self.close_idle(LOOKS, true);
    }

    /// Whether more files are open than may be.
    pub(crate) fn has_too_many_open(&self) -> bool {
        self.opened.is_over()
    }

    /// Closes idle files until no more are open than there may be, or all were looked at.
    pub(crate) fn close_all_idle(&self) {
        let known = self.opened.order.lock().len();
        self.close_idle(known, true);
    }

    /// The process may open no more: closes what nobody holds, used or not.
    pub(crate) fn close_at_the_limit(&self) {
        let Some(store) = self.owner() else { return };
        for _ in 0..LOOKS_AT_THE_LIMIT {
            if !self.opened.turn(&store, false) {
                return;
            }
        }
    }

    fn close_idle(&self, looks: usize, spare_used: bool) {
        if !self.opened.is_over() {
            return;
        }
        let Some(store) = self.owner() else { return };
        for _ in 0..looks {
            if !self.opened.is_over() || !self.opened.turn(&store, spare_used) {
                return;
            }
        }
    }

    fn owner(&self) -> Option<Arc<Store>> {
        self.store.get().and_then(std::sync::Weak::upgrade)
    }
}
