//! SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): one queue in order of insertion, a bit a unit, and a
//! hand that moves from old to new, clearing bits, and evicts the first unit without one.

use super::Policy;
use super::queue::{Place, Queue};
use hashbrown::HashMap;

#[derive(Debug)]
struct Entry {
    place: Place,
    visited: bool,
}

#[derive(Debug, Default)]
pub(super) struct Sieve {
    queue: Queue,
    entries: HashMap<u64, Entry>,
    hand: Option<Place>,
}

impl Sieve {
    fn take_out(&mut self, place: Place) -> u64 {
        if self.hand == Some(place) {
            self.hand = self.queue.newer(place);
        }
        self.queue.remove(place)
    }
}

impl Policy for Sieve {
    fn insert(&mut self, unit: u64, _weight: u64) {
        if self.entries.contains_key(&unit) {
            return self.access(unit);
        }
        let place = self.queue.push(unit);
        self.entries.insert(unit, Entry { place, visited: false });
    }

    fn access(&mut self, unit: u64) {
        if let Some(entry) = self.entries.get_mut(&unit) {
            entry.visited = true;
        }
    }

    fn remove(&mut self, unit: u64) {
        if let Some(entry) = self.entries.remove(&unit) {
            self.take_out(entry.place);
        }
    }

    fn pick(&mut self) -> Option<u64> {
        loop {
            let place = self.hand.or_else(|| self.queue.oldest())?;
            let unit = self.queue.unit(place);
            let entry = self.entries.get_mut(&unit).expect("what is queued has an entry");
            if std::mem::take(&mut entry.visited) {
                self.hand = self.queue.newer(place);
                continue;
            }
            self.hand = Some(place);
            self.entries.remove(&unit);
            return Some(self.take_out(place));
        }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}
