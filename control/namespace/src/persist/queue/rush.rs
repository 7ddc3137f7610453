//! Whether many names are being changed just now: made, written, moved or removed.
//!
//! **Owns** a count of the names that were queued lately. **Never does** know what became of them.

/// What is counted at a time.
const WINDOW_MS: u64 = 250;
/// From so many in one on programs are busy with names: 200 a second.
const MANY: u32 = 50;

/// The names of this window, and of the one before.
#[derive(Debug, Default)]
pub(super) struct Rush {
    since_ms: u64,
    count: u32,
    before: u32,
}

impl Rush {
    /// A name was queued.
    pub(super) fn note(&mut self, now_ms: u64) {
        self.turn(now_ms);
        self.count = self.count.saturating_add(1);
    }

    /// Whether there were many in this window or the one before.
    pub(super) fn is_on(&mut self, now_ms: u64) -> bool {
        self.turn(now_ms);
        self.count.max(self.before) >= MANY
    }

    fn turn(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.since_ms);
        if passed < WINDOW_MS && now_ms >= self.since_ms {
            return;
        }
        self.before = if passed < 2 * WINDOW_MS { self.count } else { 0 };
        (self.since_ms, self.count) = (now_ms, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rush_is_many_names_in_a_short_time_and_passes() {
        let mut rush = Rush::default();
        (0..1000).for_each(|n| rush.note(10_000 + 10 * n));
        assert!(!rush.is_on(20_000), "100 a second are few");
        (0..200).for_each(|n| rush.note(30_000 + 2 * n));
        assert!(rush.is_on(30_400) && rush.is_on(30_600));
        assert!(!rush.is_on(31_000));
        rush.note(100);
        assert!(!rush.is_on(100), "a clock that goes back is no rush");
    }
}
