//! Least frequently used among what is in the cache; of equals, the least recently used.

use super::Policy;
use hashbrown::HashMap;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Lfu {
    /// Counts the operations, so that equals are ordered by time.
    clock: u64,
    /// (uses, time of the last use) of each unit.
    ranks: HashMap<u64, (u64, u64)>,
    order: BTreeMap<(u64, u64), u64>,
}

impl Policy for Lfu {
    fn insert(&mut self, unit: u64, _weight: u64) {
        if self.ranks.contains_key(&unit) {
            return self.access(unit);
        }
        self.clock += 1;
        self.ranks.insert(unit, (1, self.clock));
        self.order.insert((1, self.clock), unit);
    }

    fn access(&mut self, unit: u64) {
        let Some(rank) = self.ranks.get_mut(&unit) else { return };
        self.clock += 1;
        self.order.remove(rank);
        *rank = (rank.0 + 1, self.clock);
        self.order.insert(*rank, unit);
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
