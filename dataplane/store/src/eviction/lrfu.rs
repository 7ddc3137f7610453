//! Least recently and frequently used (Lee et al., "LRFU: A Spectrum of Policies", IEEE Transactions on Computers
//! 50(12), 2001): each use counts 1 when it happens and half of it after every `1/LAMBDA` operations.

use super::Policy;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// How fast a use fades: 1 would be LRU, 0 would be LFU. The paper finds its best results between 10^-5 and 10^-2.
const LAMBDA: f64 = 0.001;

/// A number without NaN that orders as it should.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank {
    /// log2(combined recency and frequency) + LAMBDA x time. All values fade alike, so their order never changes
    /// between uses, and this form of it needs no update.
    value: f64,
    time: u64,
}

impl Eq for Rank {}
impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.total_cmp(&other.value).then(self.time.cmp(&other.time))
    }
}

#[derive(Debug, Default)]
pub(super) struct Lrfu {
    clock: u64,
    ranks: HashMap<u64, Rank>,
    order: BTreeMap<Rank, u64>,
}

impl Lrfu {
    fn rank_now(&self, before: Option<Rank>) -> Rank {
        let faded_time = LAMBDA * self.clock as f64;
        let past = before.map_or(0.0, |rank| (rank.value - faded_time).exp2());
        Rank { value: (1.0 + past).log2() + faded_time, time: self.clock }
    }
}

impl Policy for Lrfu {
    fn insert(&mut self, unit: u64, _weight: u64) {
        if self.ranks.contains_key(&unit) {
            return self.access(unit);
        }
        self.clock += 1;
        let rank = self.rank_now(None);
        self.ranks.insert(unit, rank);
        self.order.insert(rank, unit);
    }

    fn access(&mut self, unit: u64) {
        let Some(before) = self.ranks.get(&unit).copied() else { return };
        self.clock += 1;
        let rank = self.rank_now(Some(before));
        self.order.remove(&before);
        self.order.insert(rank, unit);
        self.ranks.insert(unit, rank);
    }

    fn remove(&mut self, unit: u64) {
        if let Some(rank) = self.ranks.remove(&unit) {
            self.order.remove(&rank);
        }
    }

    fn pick(&mut self) -> Option<u64> {
        let (_, unit) = self.order.pop_first()?;
        self.ranks.remove(&unit);
        Some(unit)
    }

    fn len(&self) -> usize {
        self.ranks.len()
    }
}
