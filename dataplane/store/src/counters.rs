//! What the store counts, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start of the store.
#[derive(Debug, Default)]
pub struct Counters {
    evictions: AtomicU64,
    evicted_bytes: AtomicU64,
    corrupt_pages: AtomicU64,
    scrubbed_bytes: AtomicU64,
    promotions: AtomicU64,
    promoted_bytes: AtomicU64,
    demotions: AtomicU64,
    demoted_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn evicted(&self, bytes: u64) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
        self.evicted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn promoted(&self, bytes: u64) {
        self.promotions.fetch_add(1, Ordering::Relaxed);
        self.promoted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn demoted(&self, bytes: u64) {
        self.demotions.fetch_add(1, Ordering::Relaxed);
        self.demoted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.scrubbed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn corrupt(&self) {
        self.corrupt_pages.fetch_add(1, Ordering::Relaxed);
    }

    /// Extents and regions evicted.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Bytes on disk that evictions gave back.
    pub fn evicted_bytes(&self) -> u64 {
        self.evicted_bytes.load(Ordering::Relaxed)
    }

    /// Extents that moved to a faster tier.
    pub fn promotions(&self) -> u64 {
        self.promotions.load(Ordering::Relaxed)
    }

    /// Their bytes.
    pub fn promoted_bytes(&self) -> u64 {
        self.promoted_bytes.load(Ordering::Relaxed)
    }

    /// Extents that moved to a slower tier instead of being evicted.
    pub fn demotions(&self) -> u64 {
        self.demotions.load(Ordering::Relaxed)
    }

    /// Their bytes.
    pub fn demoted_bytes(&self) -> u64 {
        self.demoted_bytes.load(Ordering::Relaxed)
    }

    /// Pages that failed their checksum.
    pub fn corrupt_pages(&self) -> u64 {
        self.corrupt_pages.load(Ordering::Relaxed)
    }

    /// Bytes the scrubber read.
    pub fn scrubbed_bytes(&self) -> u64 {
        self.scrubbed_bytes.load(Ordering::Relaxed)
    }
}
