//! The timers of one thread: an ordered map of deadlines. The ring (or the condition variable of
//! [`crate::offshard`]) waits no longer than the earliest.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// Names a timer until it fired: its deadline, and a number that tells equal deadlines apart.
pub(crate) type TimerKey = (Instant, u64);

#[derive(Debug, Default)]
pub(crate) struct Timers {
    next: u64,
    waiting: BTreeMap<TimerKey, Waker>,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self { next: 0, waiting: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let key = (deadline, self.next);
        self.next += 1;
        self.waiting.insert(key, waker);
        key
    }

    /// Whether the timer still waits; it will wake this waker from now on.
    pub(crate) fn update(&mut self, key: TimerKey, waker: &Waker) -> bool {
        self.waiting.get_mut(&key).map(|w| w.clone_from(waker)).is_some()
    }

    /// The waker is returned so that the caller drops it after it let go of the timers.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        self.waiting.remove(&key)
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes one timer whose time has come, earliest first.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Waker> {
        let due = self.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        Some(due.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_come_due_in_order_and_not_before() {
        let mut timers = Timers::new();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        timers.add(at(20), Waker::noop().clone());
        let first = timers.add(at(10), Waker::noop().clone());
        timers.add(at(10), Waker::noop().clone());
        assert_eq!(timers.earliest(), Some(at(10)));
        assert!(timers.pop_due(at(9)).is_none());
        assert!(timers.cancel(first).is_some() && timers.cancel(first).is_none());
        assert!(timers.pop_due(at(15)).is_some());
        assert!(timers.pop_due(at(15)).is_none());
        assert!(timers.pop_due(at(20)).is_some());
        assert_eq!(timers.earliest(), None);
    }
}
