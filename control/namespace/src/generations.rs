//! A bounded table of which nobody counts the uses.
//!
//! **Owns** what is in two generations: what comes in goes to the young one, and when that is full the old one is dropped whole
//! and the young one takes its place. So what was put in last stays for at least half of the bound, and nothing is sorted or
//! counted when it is looked up. **Never does** lock.

use hashbrown::HashMap;
use std::hash::Hash;

/// What is kept no more. To drop it may take long: not under a lock that others wait for.
#[must_use = "it is to be dropped when the lock is let go of"]
pub(crate) struct Displaced<V>(#[expect(dead_code, reason = "it is only ever dropped")] Vec<V>);

/// The entries, with what each weighs.
pub(crate) struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_weight: usize,
    young_max: usize,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    /// A table of entries that weigh at most `max` together.
    pub(crate) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_weight: 0, young_max: (max / 2).max(1) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key)).map(|(value, _)| value)
    }

    /// Whether an entry is too heavy to be kept.
    pub(crate) fn is_too_heavy(&self, weight: usize) -> bool {
        weight > self.young_max
    }

    /// Puts an entry in the place of what was there, unless it is too heavy; yields what is not kept any more.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) -> Displaced<V> {
        let mut displaced: Vec<V> = self.remove(&key).into_iter().collect();
        if self.is_too_heavy(weight) {
            displaced.push(value);
            return Displaced(displaced);
        }
        if self.young_weight + weight > self.young_max {
            let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            displaced.extend(old.into_values().map(|(value, _)| value));
            self.young_weight = 0;
        }
        self.young_weight += weight;
        self.young.insert(key, (value, weight));
        Displaced(displaced)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.old.remove(key) {
            return Some(value);
        }
        let (value, weight) = self.young.remove(key)?;
        self.young_weight -= weight;
        Some(value)
    }

    pub(crate) fn clear(&mut self) -> Displaced<V> {
        let all = std::mem::replace(self, Self::new(2 * self.young_max));
        Displaced(all.young.into_values().chain(all.old.into_values()).map(|(value, _)| value).collect())
    }

    /// What all of them weigh.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> usize {
        self.young.values().chain(self.old.values()).map(|(_, weight)| weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_last_stays_and_the_bound_holds() {
        let mut table = Generations::new(100);
        for n in 0..1000_usize {
            drop(table.insert(n, n, 1 + n % 7));
            assert!(table.weight() <= 100);
            assert!((n.saturating_sub(5)..=n).all(|known| table.get(&known) == Some(&known)), "{n}");
        }
        assert_eq!(table.get(&900), None);
        drop(table.insert(2000, 1, 51));
        assert_eq!(table.get(&2000), None, "too heavy");
        drop(table.clear());
        assert_eq!((table.get(&999), table.weight()), (None, 0));
    }

    #[test]
    fn an_entry_counts_once_however_often_it_is_put_in() {
        let mut table = Generations::new(100);
        drop(table.insert(1, 'a', 30));
        (0..1000).for_each(|_| drop(table.insert(2, 'b', 20)));
        assert_eq!((table.get(&1), table.get(&2), table.weight()), (Some(&'a'), Some(&'b'), 50));
        assert_eq!(table.remove(&2), Some('b'));
        assert_eq!((table.get(&2), table.weight()), (None, 30));
    }
}
