//! Counters and latencies of the requests, one row for each kind of [`Op`](crate::op::Op).
//!
//! **Owns** the counts and how they are kept: one block a shard, written by that shard alone in the usual case and
//! summed when somebody looks, so that counting costs a few unshared nanoseconds. **Never does** any exporting:
//! the metrics page asks for a [`StatsSnapshot`].
//!
//! Latencies go into a histogram with four steps to each doubling, from 1 us to about 70 minutes: an error of a
//! figure read from it is below 25 %, and the bounds never change, so rows can be added up across nodes.

use crate::op::OpKind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Steps to each doubling, as a power of two.
const STEP_BITS: u32 = 2;
const STEPS: usize = 1 << STEP_BITS;
/// Doublings above the first microsecond.
const DOUBLINGS: usize = 32;
/// Buckets of a histogram.
pub const BUCKETS: usize = STEPS * (DOUBLINGS + 1);
const KINDS: usize = OpKind::ALL.len();

/// The bucket of a latency.
fn bucket_of(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2();
    let step = (micros >> (doubling - STEP_BITS)) as usize & (STEPS - 1);
    (((doubling - STEP_BITS + 1) as usize) * STEPS + step).min(BUCKETS - 1)
}

/// The smallest latency in microseconds that no longer falls into a bucket.
pub fn bucket_end_us(bucket: usize) -> u64 {
    let next = bucket + 1;
    if next < STEPS {
        return next as u64;
    }
    let (octave, step) = (next / STEPS, next % STEPS);
    ((STEPS + step) as u64) << (octave - 1)
}

struct Row {
    errors: AtomicU64,
    total_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Row {
    fn new() -> Self {
        Self {
            errors: AtomicU64::new(0),
            total_us: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// The counts of one shard.
struct Block(Box<[Row]>);

/// The counts of one mount.
pub(crate) struct Stats {
    blocks: Box<[Block]>,
}

impl Stats {
    /// Counters for so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        let block = || Block((0..KINDS).map(|_| Row::new()).collect());
        Self { blocks: (0..shards.max(1)).map(|_| block()).collect() }
    }

    /// Counts one request that ended; `shard` is where.
    pub(crate) fn record(&self, shard: usize, kind: OpKind, latency: Duration, failed: bool) {
        let row = &self.blocks[shard % self.blocks.len()].0[kind as usize];
        row.buckets[bucket_of(latency)].fetch_add(1, Relaxed);
        row.total_us.fetch_add(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Relaxed);
        if failed {
            row.errors.fetch_add(1, Relaxed);
        }
    }

    /// The sums over all shards.
    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot { ops: OpKind::ALL.map(|kind| self.row(kind)).to_vec() }
    }

    fn row(&self, kind: OpKind) -> OpStats {
        let mut sum = OpStats { kind, count: 0, errors: 0, total_us: 0, buckets: vec![0; BUCKETS] };
        for row in self.blocks.iter().map(|block| &block.0[kind as usize]) {
            sum.errors += row.errors.load(Relaxed);
            sum.total_us = sum.total_us.saturating_add(row.total_us.load(Relaxed));
            for (total, bucket) in sum.buckets.iter_mut().zip(&row.buckets) {
                *total += bucket.load(Relaxed);
            }
        }
        sum.count = sum.buckets.iter().sum();
        sum
    }
}

/// The counts of one kind of request since the mount began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpStats {
    /// Which requests.
    pub kind: OpKind,
    /// How many ended.
    pub count: u64,
    /// How many of them with an errno; a lookup that finds nothing is one.
    pub errors: u64,
    /// All their latencies together, in microseconds.
    pub total_us: u64,
    /// How many fell into each bucket; [`bucket_end_us`] gives a bucket's upper bound.
    pub buckets: Vec<u64>,
}

impl OpStats {
    /// The latency in microseconds that this share of the requests (0 to 1) did not exceed; 0 without requests.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return bucket_end_us(bucket);
            }
        }
        0
    }
}

/// The counts of a mount at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// One row for each kind of request.
    pub ops: Vec<OpStats>,
}

impl StatsSnapshot {
    /// The row of one kind.
    pub fn of(&self, kind: OpKind) -> &OpStats {
        &self.ops[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        let mut start = 0;
        for bucket in 0..BUCKETS - 1 {
            let end = bucket_end_us(bucket);
            assert!(end > start, "bucket {bucket} is empty");
            assert_eq!(bucket_of(Duration::from_micros(start)), bucket);
            assert_eq!(bucket_of(Duration::from_micros(end - 1)), bucket);
            start = end;
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn rows_of_all_shards_add_up() {
        let stats = Stats::new(2);
        stats.record(0, OpKind::Read, Duration::from_micros(10), false);
        stats.record(1, OpKind::Read, Duration::from_micros(1000), true);
        let read = stats.snapshot().of(OpKind::Read).clone();
        assert_eq!((read.count, read.errors, read.total_us), (2, 1, 1010));
        assert_eq!(stats.snapshot().of(OpKind::Write).count, 0);
        assert!((10..=13).contains(&read.quantile_us(0.5)));
        assert!((1000..=1280).contains(&read.quantile_us(0.99)));
    }

    proptest! {
        #[test]
        fn a_latency_is_below_its_buckets_end_by_a_quarter_at_most(micros in 0_u64..1 << 31) {
            let end = bucket_end_us(bucket_of(Duration::from_micros(micros)));
            prop_assert!(end > micros && end - micros <= micros / 4 + 1);
        }
    }
}
