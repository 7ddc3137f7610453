//! What a process says about its shards.

use forebay_types::ByteSize;
use std::time::Duration;

/// How many shards there are and what they may use. Everything in it needs a restart to change.
#[derive(Debug, Clone)]
pub struct ShardsConfig {
    /// The cores to pin a shard to, by the kernel's number. Empty: all that this process may run on.
    pub cores: Vec<usize>,
    /// Entries of each submission ring: a power of two.
    pub ring_entries: u32,
    /// The most messages that may wait for one shard. Beyond it [`crate::ShardHandle::try_spawn`] refuses.
    pub mailbox_len: usize,
    /// Registered memory for the whole process, allocated and prefaulted at start. Cut to whole 2 MiB.
    pub arena: ByteSize,
    /// The most tasks that may wait for a frame when the arena is exhausted.
    pub frame_queue_len: usize,
    /// How long a task waits for a frame before it gets [`crate::ArenaError::Exhausted`].
    pub frame_wait: Duration,
    /// Threads for calls that block.
    pub blocking_threads: usize,
    /// Blocking calls that may wait for one of these threads.
    pub blocking_queue_len: usize,
    /// How long a blocking call waits for a place before it gets [`crate::BlockingError::Busy`].
    pub blocking_wait: Duration,
    /// A task that holds its shard for longer is reported and counted.
    pub stall_after: Duration,
}

impl Default for ShardsConfig {
    fn default() -> Self {
        Self {
            cores: Vec::new(),
            ring_entries: 1024,
            mailbox_len: 4096,
            arena: ByteSize::mib(256),
            frame_queue_len: 65_536,
            frame_wait: Duration::from_secs(10),
            blocking_threads: 4,
            blocking_queue_len: 1024,
            blocking_wait: Duration::from_secs(30),
            stall_after: Duration::from_millis(20),
        }
    }
}

/// The smallest ring that is of use: below it the backlog would see every burst.
pub(crate) const RING_ENTRIES_MIN: u32 = 8;
/// The largest ring that the kernel grants (`IORING_MAX_ENTRIES`).
pub(crate) const RING_ENTRIES_MAX: u32 = 32_768;
/// The smallest arena: one frame of the largest class.
pub(crate) const ARENA_MIN: ByteSize = ByteSize::mib(16);

impl ShardsConfig {
    /// What is wrong with these settings, in words, or `None`.
    pub(crate) fn fault(&self) -> Option<String> {
        let ring_fits = (RING_ENTRIES_MIN..=RING_ENTRIES_MAX).contains(&self.ring_entries);
        if !ring_fits || !self.ring_entries.is_power_of_two() {
            return Some(format!(
                "ring_entries is {}: give a power of two from 8 to 32768",
                self.ring_entries
            ));
        }
        if self.arena < ARENA_MIN {
            return Some(format!("arena is {}: give at least {ARENA_MIN}", self.arena));
        }
        let counts = [
            ("mailbox_len", self.mailbox_len),
            ("frame_queue_len", self.frame_queue_len),
            ("blocking_threads", self.blocking_threads),
            ("blocking_queue_len", self.blocking_queue_len),
        ];
        counts.iter().find(|(_, n)| *n == 0).map(|(name, _)| format!("{name} is 0: give at least 1"))
    }
}
