//! Counts of what was asked of a store and what came of it.
//!
//! Owns relaxed atomic counters, written on every call and read when somebody scrapes; a snapshot may be off
//! by calls in progress, never by more.

use super::op::Op;
use crate::error::{UfsError, UfsErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How many latency buckets there are. Bucket `i` counts the attempts that took less than 2^i microseconds and
/// no less than half of that; the last one also all that took longer (2^27 us: about two minutes).
pub const LATENCY_BUCKETS: usize = 28;

#[derive(Debug)]
struct OpCounters {
    attempts: AtomicU64,
    nanos: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
    errors: [AtomicU64; UfsErrorKind::ALL.len()],
}

impl OpCounters {
    const fn new() -> Self {
        Self {
            attempts: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            latency: [const { AtomicU64::new(0) }; LATENCY_BUCKETS],
            errors: [const { AtomicU64::new(0) }; UfsErrorKind::ALL.len()],
        }
    }
}

/// The counters of one store.
#[derive(Debug)]
pub struct UfsStats {
    ops: [OpCounters; Op::ALL.len()],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    retries: AtomicU64,
    in_flight: AtomicU64,
}

impl Default for UfsStats {
    fn default() -> Self {
        Self {
            ops: [const { OpCounters::new() }; Op::ALL.len()],
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        }
    }
}

/// The counters of one kind of call at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpSnapshot {
    /// Which kind.
    pub op: Op,
    /// Attempts that ended, retries counted.
    pub attempts: u64,
    /// The time they took in all.
    pub busy: Duration,
    /// How many took how long; see [`LATENCY_BUCKETS`].
    pub latency: [u64; LATENCY_BUCKETS],
    /// How many failed how; kinds that never occurred are left out.
    pub errors: Vec<(UfsErrorKind, u64)>,
}

/// The counters of a store at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// By kind of call; kinds never used are left out.
    pub ops: Vec<OpSnapshot>,
    /// Bytes of content that came from the store.
    pub bytes_read: u64,
    /// Bytes of content that went to it.
    pub bytes_written: u64,
    /// Attempts after the first of a call.
    pub retries: u64,
    /// Attempts in progress.
    pub in_flight: u64,
}

impl UfsStats {
    /// Counts an attempt as in progress until the guard is dropped.
    pub(super) fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self)
    }

    pub(super) fn count(&self, op: Op, took: Duration, error: Option<&UfsError>) {
        let counters = &self.ops[op as usize];
        counters.attempts.fetch_add(1, Relaxed);
        counters.nanos.fetch_add(took.as_nanos() as u64, Relaxed);
        counters.latency[bucket(took)].fetch_add(1, Relaxed);
        if let Some(error) = error {
            counters.errors[error.kind() as usize].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_written(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_retries(&self, repeats: u32) {
        self.retries.fetch_add(repeats.into(), Relaxed);
    }

    /// The counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let used = |op: &Op| self.ops[*op as usize].attempts.load(Relaxed) > 0;
        StatsSnapshot {
            ops: Op::ALL.into_iter().filter(used).map(|op| self.op_snapshot(op)).collect(),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            retries: self.retries.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
        }
    }

    fn op_snapshot(&self, op: Op) -> OpSnapshot {
        let counters = &self.ops[op as usize];
        let errors =
            UfsErrorKind::ALL.into_iter().map(|kind| (kind, counters.errors[kind as usize].load(Relaxed)));
        OpSnapshot {
            op,
            attempts: counters.attempts.load(Relaxed),
            busy: Duration::from_nanos(counters.nanos.load(Relaxed)),
            latency: counters.latency.each_ref().map(|count| count.load(Relaxed)),
            errors: errors.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

fn bucket(took: Duration) -> usize {
    let micros = took.as_micros().max(1) as u64;
    ((u64::BITS - micros.leading_zeros()) as usize).min(LATENCY_BUCKETS - 1)
}

/// An attempt in progress.
pub(super) struct InFlight<'a>(&'a UfsStats);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_index_their_own_counters() {
        for (at, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, at);
        }
        for (at, kind) in UfsErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
    }

    #[test]
    fn buckets_double() {
        for (micros, expected) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (1000, 10), (u64::MAX, 27)] {
            assert_eq!(bucket(Duration::from_micros(micros)), expected, "{micros} us");
        }
    }

    #[test]
    fn a_snapshot_tells_what_was_counted() {
        let stats = UfsStats::default();
        stats.count(Op::Read, Duration::from_micros(3), None);
        stats.count(Op::Read, Duration::from_micros(3), Some(&UfsError::Timeout("read a".into())));
        stats.count_read(7);
        let in_flight = stats.enter();
        let snapshot = stats.snapshot();
        assert_eq!((snapshot.bytes_read, snapshot.in_flight, snapshot.ops.len()), (7, 1, 1));
        let read = &snapshot.ops[0];
        assert_eq!((read.op, read.attempts, read.latency[2]), (Op::Read, 2, 2));
        assert_eq!(read.errors, [(UfsErrorKind::Timeout, 1)]);
        drop(in_flight);
        assert_eq!(stats.snapshot().in_flight, 0);
    }
}
