//! Priorities over a policy: as many policies of one kind as there are priorities in use, of which the lowest gives up its
//! units first.
//!
//! **Owns** which priority a unit has. **Never does** choose within a priority; that is the policy's. Each policy is told
//! the whole capacity, since any priority may fill the tier.

use super::{EvictionKind, Policy};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// What nobody gave a priority.
const PLAIN: i32 = 0;

/// An order of eviction over units with priorities.
#[derive(Debug)]
pub(crate) struct Ranked {
    kind: EvictionKind,
    capacity: u64,
    classes: BTreeMap<i32, Box<dyn Policy>>,
    /// The priorities of units that have another than [`PLAIN`].
    ranks: HashMap<u64, i32>,
}

impl Ranked {
    /// An empty order for a tier of `capacity` bytes.
    pub(crate) fn new(kind: EvictionKind, capacity: u64) -> Self {
        Self { kind, capacity, classes: BTreeMap::new(), ranks: HashMap::new() }
    }

    fn rank_of(&self, unit: u64) -> i32 {
        self.ranks.get(&unit).copied().unwrap_or(PLAIN)
    }

    fn class(&mut self, rank: i32) -> &mut dyn Policy {
        let (kind, capacity) = (self.kind, self.capacity);
        &mut **self.classes.entry(rank).or_insert_with(|| kind.policy(capacity))
    }

    /// Takes in a unit, or gives one that is there another priority. One that is there with the same counts as used.
    pub(crate) fn insert(&mut self, unit: u64, weight: u64, rank: i32) {
        let before = self.rank_of(unit);
        if before != rank {
            self.class(before).remove(unit);
        }
        match rank {
            PLAIN => drop(self.ranks.remove(&unit)),
            rank => drop(self.ranks.insert(unit, rank)),
        }
        self.class(rank).insert(unit, weight);
    }

    /// A unit was used.
    pub(crate) fn access(&mut self, unit: u64) {
        let rank = self.rank_of(unit);
        self.class(rank).access(unit);
    }

    /// A unit left for another reason than this order's choice.
    pub(crate) fn remove(&mut self, unit: u64) {
        let rank = self.ranks.remove(&unit).unwrap_or(PLAIN);
        self.class(rank).remove(unit);
    }

    /// Takes out the unit that should go next.
    pub(crate) fn pick(&mut self) -> Option<u64> {
        let unit = self.classes.values_mut().find_map(|policy| policy.pick())?;
        self.ranks.remove(&unit);
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::HashSet;

    const ALL: [EvictionKind; 5] =
        [EvictionKind::S3Fifo, EvictionKind::Lru, EvictionKind::Lfu, EvictionKind::Lrfu, EvictionKind::Sieve];

    /// Hits by rank of a trace of (unit, rank) over a cache of `capacity` units of weight 1.
    fn hits(kind: EvictionKind, capacity: usize, trace: &[(u64, i32)]) -> HashMap<i32, (u64, u64)> {
        let (mut order, mut there) = (Ranked::new(kind, capacity as u64), HashSet::new());
        let mut counts: HashMap<i32, (u64, u64)> = HashMap::new();
        for (unit, rank) in trace {
            let count = counts.entry(*rank).or_default();
            count.1 += 1;
            if there.contains(unit) {
                order.access(*unit);
                count.0 += 1;
                continue;
            }
            if there.len() == capacity {
                assert!(there.remove(&order.pick().unwrap()), "the victim was not there");
            }
            order.insert(*unit, 1, *rank);
            there.insert(*unit);
        }
        counts
    }

    /// 100 units of high priority, asked for now and then, in a stream of 20 times as many of low priority.
    fn scanned() -> Vec<(u64, i32)> {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut low = 1000;
        let mut next = || {
            if rng.random::<f64>() < 0.05 {
                return (rng.random_range(0..100), 5);
            }
            low += 1;
            (low, -5)
        };
        (0..100_000).map(|_| next()).collect()
    }

    #[test]
    fn what_has_priority_stays_whatever_passes_by() {
        for kind in ALL {
            let counts = hits(kind, 150, &scanned());
            let (hit, asked) = counts[&5];
            assert_eq!(asked - hit, 100, "{kind:?}: only the first request of each missed");
            let plain: Vec<_> = scanned().into_iter().map(|(unit, _)| (unit, 0)).collect();
            let without = hits(kind, 150, &plain)[&0].0;
            assert!(without < hit, "{kind:?}: {without} hits without priorities, {hit} with");
        }
    }

    #[test]
    fn without_priorities_it_is_the_policy_itself() {
        for kind in ALL {
            let (mut order, mut policy) = (Ranked::new(kind, 50), kind.policy(50));
            let mut rng = SmallRng::seed_from_u64(2);
            for _ in 0..10_000 {
                let unit = rng.random_range(0..80);
                match rng.random_range(0..4) {
                    0 => (order.insert(unit, 1, PLAIN), policy.insert(unit, 1)).0,
                    1 => (order.access(unit), policy.access(unit)).0,
                    2 => (order.remove(unit), policy.remove(unit)).0,
                    _ => assert_eq!(order.pick(), policy.pick(), "{kind:?}"),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_goes_before_what_has_a_lower_priority(
            steps in prop::collection::vec((0_u64..40, -2_i32..3, any::<bool>()), 1..200),
        ) {
            for kind in ALL {
                let (mut order, mut model) = (Ranked::new(kind, 20), HashMap::new());
                for (unit, rank, pick) in &steps {
                    if !pick {
                        order.insert(*unit, 1, *rank);
                        model.insert(*unit, *rank);
                        continue;
                    }
                    let picked = order.pick();
                    prop_assert_eq!(picked.is_some(), !model.is_empty());
                    let Some(picked) = picked else { continue };
                    let lowest = *model.values().min().unwrap();
                    prop_assert_eq!(model.remove(&picked), Some(lowest));
                }
            }
        }
    }
}
