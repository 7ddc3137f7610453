//! The policies as their papers state them, with vectors that are searched from end to end: slow, and short enough to be
//! compared with the text by eye.

use super::{EvictionKind, Policy};

pub(super) fn of(kind: EvictionKind, capacity: usize) -> Box<dyn Policy> {
    match kind {
        EvictionKind::S3Fifo => Box::new(S3Fifo { capacity, ..S3Fifo::default() }),
        EvictionKind::Lru => Box::new(Ranked::new(|past, _now| *past.last().unwrap() as f64)),
        EvictionKind::Lfu => Box::new(Ranked::new(|past, _now| past.len() as f64)),
        EvictionKind::Lrfu => Box::new(Ranked::new(|past, now| {
            // The definition: the sum over all past uses of (1/2)^(lambda x age).
            past.iter().map(|use_at| 0.5f64.powf(0.001 * (now - use_at) as f64)).sum()
        })),
        EvictionKind::Sieve => Box::new(Sieve::default()),
    }
}

/// What a unit's uses are worth at a time.
type Rank = fn(&[u64], u64) -> f64;

/// The lowest rank goes; of equals the least recently used.
struct Ranked {
    rank: Rank,
    now: u64,
    uses: Vec<(u64, Vec<u64>)>,
}

impl std::fmt::Debug for Ranked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ranked")
    }
}

impl Ranked {
    fn new(rank: Rank) -> Self {
        Self { rank, now: 0, uses: Vec::new() }
    }
}

impl Policy for Ranked {
    fn insert(&mut self, unit: u64, _weight: u64) {
        self.now += 1;
        self.uses.push((unit, vec![self.now]));
    }
    fn access(&mut self, unit: u64) {
        self.now += 1;
        let now = self.now;
        self.uses.iter_mut().filter(|(u, _)| *u == unit).for_each(|(_, uses)| uses.push(now));
    }
    fn remove(&mut self, unit: u64) {
        self.uses.retain(|(u, _)| *u != unit);
    }
    fn pick(&mut self) -> Option<u64> {
        let key = |(_, uses): &(u64, Vec<u64>)| ((self.rank)(uses, self.now), *uses.last().unwrap());
        let order = |a: &(f64, u64), b: &(f64, u64)| {
            // Two sums of the same terms may differ in their last bits; what is that near counts as equal.
            if (a.0 - b.0).abs() < 1e-9 { a.1.cmp(&b.1) } else { a.0.total_cmp(&b.0) }
        };
        let victim = self.uses.iter().min_by(|a, b| order(&key(a), &key(b)))?.0;
        self.remove(victim);
        Some(victim)
    }
    fn len(&self) -> usize {
        self.uses.len()
    }
}

/// SIEVE, algorithm 1: newest first; the hand points at an object or at nothing.
#[derive(Debug, Default)]
struct Sieve {
    queue: Vec<(u64, bool)>,
    hand: Option<u64>,
}

impl Sieve {
    fn at(&self, unit: u64) -> usize {
        self.queue.iter().position(|(u, _)| *u == unit).unwrap()
    }
    fn before(&self, at: usize) -> Option<u64> {
        at.checked_sub(1).map(|at| self.queue[at].0)
    }
}

impl Policy for Sieve {
    fn insert(&mut self, unit: u64, _weight: u64) {
        self.queue.insert(0, (unit, false));
    }
    fn access(&mut self, unit: u64) {
        self.queue.iter_mut().filter(|(u, _)| *u == unit).for_each(|(_, visited)| *visited = true);
    }
    fn remove(&mut self, unit: u64) {
        let Some(at) = self.queue.iter().position(|(u, _)| *u == unit) else { return };
        if self.hand == Some(unit) {
            self.hand = self.before(at);
        }
        self.queue.remove(at);
    }
    fn pick(&mut self) -> Option<u64> {
        let mut at = match self.hand {
            Some(unit) => self.at(unit),
            None => self.queue.len().checked_sub(1)?,
        };
        while self.queue[at].1 {
            self.queue[at].1 = false;
            at = at.checked_sub(1).unwrap_or(self.queue.len() - 1);
        }
        self.hand = self.before(at);
        Some(self.queue.remove(at).0)
    }
    fn len(&self) -> usize {
        self.queue.len()
    }
}

/// S3-FIFO, algorithm 1: newest first, with the number of uses.
#[derive(Debug, Default)]
struct S3Fifo {
    capacity: usize,
    small: Vec<(u64, u8)>,
    main: Vec<(u64, u8)>,
    ghosts: Vec<u64>,
}

impl S3Fifo {
    /// EVICTS
    fn evict_small(&mut self) -> Option<u64> {
        let (unit, uses) = self.small.pop()?;
        if uses > 1 {
            self.main.insert(0, (unit, 0));
            return None;
        }
        self.ghosts.insert(0, unit);
        self.ghosts.truncate(self.len().max(64));
        Some(unit)
    }
    /// EVICTM
    fn evict_main(&mut self) -> Option<u64> {
        let (unit, uses) = self.main.pop()?;
        if uses == 0 {
            return Some(unit);
        }
        self.main.insert(0, (unit, uses - 1));
        None
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, unit: u64, _weight: u64) {
        if self.ghosts.contains(&unit) {
            self.ghosts.retain(|ghost| *ghost != unit);
            self.main.insert(0, (unit, 0));
        } else {
            self.small.insert(0, (unit, 0));
        }
    }
    fn access(&mut self, unit: u64) {
        let all = self.small.iter_mut().chain(&mut self.main);
        all.filter(|(u, _)| *u == unit).for_each(|(_, uses)| *uses = 3.min(*uses + 1));
    }
    fn remove(&mut self, unit: u64) {
        self.small.retain(|(u, _)| *u != unit);
        self.main.retain(|(u, _)| *u != unit);
    }
    fn pick(&mut self) -> Option<u64> {
        while self.len() > 0 {
            let small_is_full = self.small.len() >= self.capacity / 10 && !self.small.is_empty();
            let victim =
                if small_is_full || self.main.is_empty() { self.evict_small() } else { self.evict_main() };
            if victim.is_some() {
                return victim;
            }
        }
        None
    }
    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}
