//! What the worker did since it was started: numbers that only grow, read without waiting.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters in memory.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64),* }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct WorkerCounters { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> WorkerCounters {
                WorkerCounters { $($name: self.$name.load(Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Reads of which every byte was here.
    reads_hit,
    /// Reads that had to wait for a fetch, or pass bytes on.
    reads_missed,
    /// Bytes read through the worker.
    read_bytes,
    /// Bytes written through the worker.
    written_bytes,
    /// Ranged reads sent to under file systems.
    ufs_gets,
    /// Bytes they brought.
    ufs_get_bytes,
    /// Ranged reads that failed, after the retries of the under file system's own layers.
    ufs_get_errors,
    /// Fetches that were kept nowhere: by policy, or because the tiers were full.
    fetched_uncached,
    /// Pages that somebody waited for while another brought them.
    flights_joined,
    /// Requests to fetch ahead that were cut because memory was short.
    ahead_pressed,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}
