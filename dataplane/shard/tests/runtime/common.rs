//! What the tests of the runtime share.

use forebay_shard::{Shards, ShardsConfig};
use forebay_types::ByteSize;
use std::time::Duration;

/// Small shards on the first `count` cores of this machine (fewer if there are fewer).
pub(crate) fn small(count: usize) -> ShardsConfig {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    ShardsConfig {
        cores: (0..count.min(cores)).collect(),
        ring_entries: 64,
        arena: ByteSize::mib(32),
        frame_wait: Duration::from_secs(60),
        blocking_threads: 2,
        ..ShardsConfig::default()
    }
}

/// Starts them.
pub(crate) fn start(config: &ShardsConfig) -> Shards {
    Shards::start(config).expect("the tests need io_uring")
}
