//! Throughput over time, in a bounded number of slots: when they are used up, each two become one of twice the length.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The length of a slot at first: short enough to show a stall of a run of seconds.
const SLOT_MS: u64 = 100;
/// The most slots: more than a chart has points.
const SLOTS_MAX: usize = 600;

/// What ended within one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Operations.
    pub(crate) ops: u64,
    /// The bytes they moved.
    pub(crate) bytes: u64,
}

/// Slots from the start of the measurement on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Series {
    slot_ms: u64,
    slots: Vec<Slot>,
}

impl Default for Series {
    fn default() -> Self {
        Self { slot_ms: SLOT_MS, slots: Vec::new() }
    }
}

impl Series {
    /// Counts one operation that ended `at` after the start.
    pub(crate) fn record(&mut self, at: Duration, bytes: u64) {
        let millis = u64::try_from(at.as_millis()).expect("a run is shorter than half a billion years");
        while (millis / self.slot_ms) as usize >= SLOTS_MAX {
            self.fold();
        }
        let index = (millis / self.slot_ms) as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        self.slots[index].ops += 1;
        self.slots[index].bytes += bytes;
    }

    /// Makes each two slots one.
    fn fold(&mut self) {
        self.slots =
            self.slots.chunks(2).map(|pair| pair.iter().copied().fold(Slot::default(), sum)).collect();
        self.slot_ms *= 2;
    }

    /// Adds what another lane or node counted from the same start on.
    pub(crate) fn merge(&mut self, mut other: Self) {
        while self.slot_ms < other.slot_ms {
            self.fold();
        }
        while other.slot_ms < self.slot_ms {
            other.fold();
        }
        if self.slots.len() < other.slots.len() {
            self.slots.resize(other.slots.len(), Slot::default());
        }
        for (into, from) in self.slots.iter_mut().zip(other.slots) {
            *into = sum(*into, from);
        }
    }

    /// The length of a slot.
    pub(crate) fn slot(&self) -> Duration {
        Duration::from_millis(self.slot_ms)
    }

    /// The slots, the first one first.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

fn sum(a: Slot, b: Slot) -> Slot {
    Slot { ops: a.ops + b.ops, bytes: a.bytes + b.bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn total(series: &Series) -> Slot {
        series.slots().iter().copied().fold(Slot::default(), sum)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_by_folding_and_merging(a in proptest::collection::vec(0u64..10_000_000, 0..50), b in proptest::collection::vec(0u64..5_000, 0..50)) {
            let of = |times: &[u64]| {
                let mut series = Series::default();
                times.iter().for_each(|at| series.record(Duration::from_millis(*at), 3));
                series
            };
            let mut merged = of(&a);
            merged.merge(of(&b));
            let ops = (a.len() + b.len()) as u64;
            prop_assert_eq!(total(&merged), Slot { ops, bytes: 3 * ops });
            prop_assert!(merged.slots().len() <= SLOTS_MAX);
        }
    }
}
