//! How far the fetching of a file has come.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters that one side moves and the other shows.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    fetched: AtomicU64,
}

impl Progress {
    /// Bytes that are to be here at the end.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Bytes of those that are known to be here.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Bytes that had to be brought from the under file system for it.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Relaxed)
    }

    pub(crate) fn add_total(&self, bytes: u64) {
        self.total.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_done(&self, bytes: u64, fetched: u64) {
        self.done.fetch_add(bytes, Relaxed);
        self.fetched.fetch_add(fetched, Relaxed);
    }
}
