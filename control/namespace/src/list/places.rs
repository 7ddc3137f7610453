//! Places from which a listing goes on, as few as will do.

use forebay_types::Name;
use std::collections::VecDeque;

/// The most places to start again from; then every second is dropped.
const CHECKPOINTS_MAX: usize = 1024;
/// The most own names whose places are known exactly.
const RECENT_MAX: usize = 4096;
/// How many of those that lie before the place where a read begins.
const BEHIND: u64 = 1024;

/// A place to start again from.
struct Checkpoint<T> {
    index: u64,
    at: T,
}

/// Places to start again from, thinned out as they become many.
pub(super) struct Checkpoints<T> {
    kept: Vec<Checkpoint<T>>,
    stride: u64,
}

impl<T: Clone> Checkpoints<T> {
    pub(super) fn new() -> Self {
        Self { kept: Vec::new(), stride: 1 }
    }

    pub(super) fn add(&mut self, index: u64, at: T) {
        let last = self.kept.last().map_or(0, |last| last.index);
        if index < last.saturating_add(self.stride) {
            return;
        }
        self.kept.push(Checkpoint { index, at });
        if self.kept.len() >= CHECKPOINTS_MAX {
            let mut n = 0;
            self.kept.retain(|_| {
                n += 1;
                n % 2 == 0
            });
            let span = self.kept.last().map_or(0, |last| last.index);
            self.stride = (span / (CHECKPOINTS_MAX as u64 / 2)).max(self.stride);
        }
    }

    /// The last place at or before `index`.
    pub(super) fn before(&self, index: u64) -> Option<(u64, T)> {
        let count = self.kept.partition_point(|checkpoint| checkpoint.index <= index);
        let found = self.kept.get(count.checked_sub(1)?)?;
        Some((found.index, found.at.clone()))
    }
}

/// The places of our own names: exactly those that were shown since the last read began and some before, and of older ones
/// a few.
pub(super) struct Places {
    recent: VecDeque<(u64, Name)>,
    old: Checkpoints<Name>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { recent: VecDeque::new(), old: Checkpoints::new() }
    }

    /// What lies far before `index` is asked for only by who goes back on purpose.
    pub(super) fn goes_on_from(&mut self, index: u64) {
        while self.recent.front().is_some_and(|(at, _)| at.saturating_add(BEHIND) < index) {
            self.recent.pop_front();
        }
    }

    /// The name that was shown at the place `at`.
    pub(super) fn remember(&mut self, at: u64, name: &Name) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((at, name.clone()));
        self.old.add(at, name.clone());
    }

    /// How many own names lie before the place where the search for `index` begins, and the last of them.
    pub(super) fn before(&self, index: u64) -> (u64, Option<Name>) {
        if index == 0 {
            return (0, None);
        }
        // The last one: after names came or went, what was read again has other places than it had.
        if let Some((at, name)) = self.recent.iter().rfind(|(at, _)| *at == index) {
            return (*at, Some(name.clone()));
        }
        match self.old.before(index) {
            Some((at, name)) => (at, Some(name)),
            None => (0, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_start_again_from_stay_few_and_near() {
        let mut places = Checkpoints::new();
        for index in 0..100_000_u64 {
            places.add(index, index);
        }
        assert!(places.kept.len() < CHECKPOINTS_MAX);
        for index in (0..100_000).step_by(997) {
            let (found, at) = places.before(index).unwrap_or_default();
            assert!(found == at && found <= index && index - found <= 4 * places.stride, "{index}: {found}");
        }
    }

    #[test]
    fn what_was_shown_since_a_read_began_is_found_where_it_was() {
        let name = |n: u64| Name::new(format!("n{n}").into_bytes()).unwrap();
        let mut places = Places::new();
        (1..=3000).for_each(|at| places.remember(at, &name(at)));
        places.goes_on_from(2100);
        (3001..=3600).for_each(|at| places.remember(at, &name(at)));
        assert!((2100 - BEHIND..=3600).all(|at| places.before(at) == (at, Some(name(at)))));
        let (at, before) = places.before(801);
        assert!(at <= 801 && before == Some(name(at)), "{at}");
        assert_eq!(places.before(0), (0, None));
    }
}
