//! What can be set about a worker.

use forebay_types::{ByteSize, PageSize};
use std::time::Duration;

/// Bounds in memory, in requests and in time.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Memory for bytes that were fetched and not yet handed on. A part of the arena: keep it below that.
    pub fetch_memory: ByteSize,
    /// The longest ranged read of an under file system.
    pub get_len: ByteSize,
    /// Ranged reads under way at one time, over all mounts.
    pub gets: usize,
    /// How long one ranged read may take, the retries of the under file system's own layers included.
    pub get_within: Duration,
    /// How long a fetch waits for memory and for its turn.
    pub turn_within: Duration,
    /// Room that every writer is promised from its open to its close, so that many who were let in together do not
    /// overrun the tier.
    pub reserve: ByteSize,
    /// Above this share of the quota, in percent, taken by anything, writes look before they leap.
    pub full_mark: u8,
    /// Above this share, in percent, taken by bytes that are nowhere else, writers wait while any are carried away:
    /// what is left is for the writers whom the kernel serves without asking us.
    pub dirty_mark: u8,
    /// How long a writer on a full tier waits for dirty bytes to be carried away.
    pub drain_within: Duration,
    /// How long a stat, or a page of a listing, may take.
    pub meta_within: Duration,
}

impl WorkerConfig {
    /// The memory below which one read of an unaligned megabyte of the smallest pages could wait for itself.
    pub(crate) const FETCH_MEMORY_MIN: ByteSize = ByteSize::mib(4);
}

const _: () = assert!(WorkerConfig::FETCH_MEMORY_MIN.as_u64() > 2 * PageSize::DEFAULT.bytes());

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            fetch_memory: ByteSize::mib(128),
            get_len: ByteSize::mib(4),
            gets: 32,
            get_within: Duration::from_secs(60),
            turn_within: Duration::from_secs(30),
            reserve: ByteSize::mib(1),
            full_mark: 90,
            dirty_mark: 80,
            drain_within: Duration::from_secs(60),
            meta_within: Duration::from_secs(30),
        }
    }
}
