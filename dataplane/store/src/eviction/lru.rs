//! Least recently used.

use super::Policy;
use super::queue::{Place, Queue};
use hashbrown::HashMap;

#[derive(Debug, Default)]
pub(super) struct Lru {
    queue: Queue,
    places: HashMap<u64, Place>,
}

impl Policy for Lru {
    fn insert(&mut self, unit: u64, _weight: u64) {
        self.remove(unit);
        self.places.insert(unit, self.queue.push(unit));
    }

    fn access(&mut self, unit: u64) {
        if let Some(place) = self.places.get_mut(&unit) {
            self.queue.remove(*place);
            *place = self.queue.push(unit);
        }
    }

    fn remove(&mut self, unit: u64) {
        if let Some(place) = self.places.remove(&unit) {
            self.queue.remove(place);
        }
    }

    fn pick(&mut self) -> Option<u64> {
        let unit = self.queue.remove(self.queue.oldest()?);
        self.places.remove(&unit);
        Some(unit)
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}
