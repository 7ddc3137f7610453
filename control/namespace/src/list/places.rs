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

    /// Adds a place, if it is far enough from the last one.
    pub(super) fn add(&mut self, index: u64, at: &T) {
        let last = self.kept.last().map_or(0, |last| last.index);
        if index < last.saturating_add(self.stride) {
            return;
        }
        self.kept.push(Checkpoint { index, at: at.clone() });
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
        self.recall(at, name);
        self.old.add(at, name);
    }

    /// After the place `at` all names up to this one were seen, and none of them is shown: the search for what comes after
    /// the place begins behind them. Whether a name is shown here is decided once for a listing, so none is missed.
    pub(super) fn pass(&mut self, at: u64, name: &Name) {
        match self.recent.back_mut() {
            Some((last, known)) if *last == at => *known = name.clone(),
            _ => self.recall(at, name),
        }
    }

    fn recall(&mut self, at: u64, name: &Name) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((at, name.clone()));
    }

    /// How many own names lie before the place where the search for `index` begins, and the name it begins behind.
    pub(super) fn before(&self, index: u64) -> (u64, Option<Name>) {
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
            places.add(index, &index);
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

    #[test]
    fn names_that_are_not_shown_are_passed_once() {
        let name = |n: u64| Name::new(format!("n{n:04}").into_bytes()).unwrap();
        let mut places = Places::new();
        places.pass(0, &name(3));
        assert_eq!(places.before(0), (0, Some(name(3))));
        places.remember(1, &name(4));
        places.pass(1, &name(6));
        places.pass(1, &name(9));
        assert_eq!(places.recent.len(), 2);
        assert_eq!((places.before(0), places.before(1)), ((0, Some(name(3))), (1, Some(name(9)))));
        // What was shown is found again where it was, and only what comes after it is elsewhere.
        places.remember(2, &name(10));
        assert_eq!(places.before(1), (1, Some(name(9))));
    }
}
