//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): new units wait in a small
//! queue of a tenth of the space; those used more than once there move to the main queue; of those that were not, a
//! ghost remembers the name, and a unit that comes back while its ghost is there goes to the main queue at once.

use super::Policy;
use super::queue::{Place, Queue};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The small queue's share of the space: one in ten, as in the paper.
const SMALL_SHARE: u64 = 10;
/// Uses are counted up to here, as in the paper.
const USES_MAX: u8 = 3;
/// A unit used more often than this in the small queue moves to the main one, as in the paper.
const USES_TO_STAY: u8 = 1;
/// Ghosts are kept for at least this many units, so that an emptied cache does not forget everything.
const GHOSTS_MIN: usize = 64;

#[derive(Debug)]
struct Entry {
    place: Place,
    weight: u64,
    uses: u8,
    in_main: bool,
}

#[derive(Debug)]
pub(super) struct S3Fifo {
    capacity: u64,
    small: Queue,
    main: Queue,
    small_weight: u64,
    entries: HashMap<u64, Entry>,
    ghosts: Ghosts,
}

impl S3Fifo {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            small: Queue::default(),
            main: Queue::default(),
            small_weight: 0,
            entries: HashMap::new(),
            ghosts: Ghosts::default(),
        }
    }

    fn push(&mut self, unit: u64, weight: u64, in_main: bool, uses: u8) {
        let queue = if in_main { &mut self.main } else { &mut self.small };
        let place = queue.push(unit);
        if !in_main {
            self.small_weight += weight;
        }
        self.entries.insert(unit, Entry { place, weight, uses, in_main });
    }

    fn take_out(&mut self, unit: u64) -> Option<Entry> {
        let entry = self.entries.remove(&unit)?;
        if entry.in_main {
            self.main.remove(entry.place);
        } else {
            self.small.remove(entry.place);
            self.small_weight -= entry.weight;
        }
        Some(entry)
    }

    /// One step at the old end of the small queue: out, or over to the main queue.
    fn step_small(&mut self) -> Option<u64> {
        let unit = self.small.unit(self.small.oldest()?);
        let entry = self.take_out(unit)?;
        if entry.uses > USES_TO_STAY {
            self.push(unit, entry.weight, true, 0);
            return None;
        }
        self.ghosts.remember(unit, self.entries.len().max(GHOSTS_MIN));
        Some(unit)
    }

    /// One step at the old end of the main queue: out, or around once more with one use less.
    fn step_main(&mut self) -> Option<u64> {
        let unit = self.main.unit(self.main.oldest()?);
        let entry = self.take_out(unit)?;
        if entry.uses == 0 {
            return Some(unit);
        }
        self.push(unit, entry.weight, true, entry.uses - 1);
        None
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, unit: u64, weight: u64) {
        if self.entries.contains_key(&unit) {
            return self.access(unit);
        }
        let in_main = self.ghosts.forget(unit);
        self.push(unit, weight, in_main, 0);
    }

    fn access(&mut self, unit: u64) {
        if let Some(entry) = self.entries.get_mut(&unit) {
            entry.uses = USES_MAX.min(entry.uses + 1);
        }
    }

    fn remove(&mut self, unit: u64) {
        self.take_out(unit);
    }

    fn pick(&mut self) -> Option<u64> {
        while !self.entries.is_empty() {
            let small_is_full = self.small_weight >= self.capacity / SMALL_SHARE;
            let from_small = self.small.len() > 0 && (small_is_full || self.main.len() == 0);
            let victim = if from_small { self.step_small() } else { self.step_main() };
            if victim.is_some() {
                return victim;
            }
        }
        None
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Names of units evicted from the small queue, oldest first.
#[derive(Debug, Default)]
struct Ghosts {
    /// With the number under which each was remembered; an older number in the queue is void.
    names: HashMap<u64, u64>,
    order: VecDeque<(u64, u64)>,
    number: u64,
}

impl Ghosts {
    fn remember(&mut self, unit: u64, bound: usize) {
        self.number += 1;
        self.names.insert(unit, self.number);
        self.order.push_back((unit, self.number));
        while self.names.len() > bound {
            let Some((oldest, number)) = self.order.pop_front() else { return };
            if self.names.get(&oldest) == Some(&number) {
                self.names.remove(&oldest);
            }
        }
        if self.order.len() > 2 * bound {
            self.order.retain(|(unit, number)| self.names.get(unit) == Some(number));
        }
    }

    /// Whether the unit was remembered.
    fn forget(&mut self, unit: u64) -> bool {
        self.names.remove(&unit).is_some()
    }
}
