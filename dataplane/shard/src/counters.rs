//! What a shard counts. Written by the shard (the wakes by others), read by whoever scrapes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that is read without stopping who writes it.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// For counters with a single writer: no locked instruction.
    pub(crate) fn add_mine(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The live counters; names as in [`ShardCounters`].
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) submitted: Count,
    pub(crate) completed: Count,
    pub(crate) enters: Count,
    pub(crate) sleeps: Count,
    pub(crate) polls: Count,
    pub(crate) spawned: Count,
    pub(crate) finished: Count,
    pub(crate) panicked: Count,
    pub(crate) stalls: Count,
    pub(crate) stalled_nanos: Count,
    pub(crate) stuck: Count,
    pub(crate) starved: Count,
    pub(crate) wakes: Count,
    pub(crate) mailbox_full: Count,
}

/// What a shard counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Operations handed to the ring.
    pub submitted: u64,
    /// Operations that the ring completed.
    pub completed: u64,
    /// System calls that entered the ring.
    pub enters: u64,
    /// How often the shard had nothing to do and slept.
    pub sleeps: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Tasks started.
    pub spawned: u64,
    /// Tasks ended, the panicked ones included.
    pub finished: u64,
    /// Tasks that panicked.
    pub panicked: u64,
    /// Polls that held the shard for longer than `stall_after`.
    pub stalls: u64,
    /// The time that these polls took in all, in nanoseconds.
    pub stalled_nanos: u64,
    /// Polls that the watch saw still running long after `stall_after`.
    pub stuck: u64,
    /// Polls that took long only because others had the core: the machine is too busy for its shards.
    pub starved: u64,
    /// How often another thread had to wake the sleeping shard.
    pub wakes: u64,
    /// Messages refused because the mailbox was full.
    pub mailbox_full: u64,
}

impl Counters {
    pub(crate) fn read(&self) -> ShardCounters {
        ShardCounters {
            submitted: self.submitted.get(),
            completed: self.completed.get(),
            enters: self.enters.get(),
            sleeps: self.sleeps.get(),
            polls: self.polls.get(),
            spawned: self.spawned.get(),
            finished: self.finished.get(),
            panicked: self.panicked.get(),
            stalls: self.stalls.get(),
            stalled_nanos: self.stalled_nanos.get(),
            stuck: self.stuck.get(),
            starved: self.starved.get(),
            wakes: self.wakes.get(),
            mailbox_full: self.mailbox_full.get(),
        }
    }
}
