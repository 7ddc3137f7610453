//! Whether programs write much just now, so that what can wait does.
//!
//! **Owns** the look at the files that are open for write: whether a large one has changed lately, or is being made
//! durable. **Never does** look more often than [`LOOK_EVERY`], or at more than [`LOOKS_MAX`] of them.
//!
//! **Why this shape:** what the kernel writes by itself, by passthrough, no request tells of. The times of the file
//! do, for as long as somebody writes; while what was written is on its way to the disk they do not, but that the
//! daemon is asked for.

use crate::Worker;
use crate::sessions::Session;
use forebay_types::{Clock, LARGE_LEN, SystemClock, TimeSpec, Writers};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// How old the last look may be.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A file that has not changed for so long is not being written.
const LATELY: Duration = Duration::from_millis(500);
/// The most open files that are looked at.
const LOOKS_MAX: usize = 1024;

/// The last look, and what it said.
#[derive(Default)]
pub(crate) struct Busy(Mutex<Option<(Instant, bool)>>);

impl Writers for Worker {
    /// On a tier that fills up nothing waits for anybody: then it is carrying that writers wait for.
    fn are_busy(&self) -> bool {
        let mut last = self.busy.0.lock();
        if let Some((_, busy)) = last.filter(|(at, _)| at.elapsed() < LOOK_EVERY) {
            return busy;
        }
        let now = SystemClock.now();
        let busy = self.has_room() && self.sessions.any(LOOKS_MAX, |session| session.is_busy(now));
        *last = Some((Instant::now(), busy));
        busy
    }

    fn have_room(&self) -> bool {
        self.has_room()
    }
}

impl Session {
    fn is_busy(&self, now: TimeSpec) -> bool {
        let Ok(stat) = self.extent().stat() else { return false };
        let changed_at = self.times(stat.len).map_or(stat.mtime, |times| times.mtime);
        stat.len >= LARGE_LEN && (self.is_syncing() || is_lately(changed_at, now))
    }
}

/// Whether a time is now or a little before. A program can set any time: one to come says nothing.
fn is_lately(at: TimeSpec, now: TimeSpec) -> bool {
    let nanos = |time: TimeSpec| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    (0..=LATELY.as_nanos() as i128).contains(&(nanos(now) - nanos(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_just_changed_is_being_written() {
        let at = |secs, nanos| TimeSpec { secs, nanos };
        let now = at(100, 200_000_000);
        for lately in [now, at(100, 0), at(99, 700_000_000)] {
            assert!(is_lately(lately, now), "{lately:?}");
        }
        for other in [at(99, 699_999_999), at(0, 0), at(-1, 0), at(100, 200_000_001), at(i64::MAX, 0)] {
            assert!(!is_lately(other, now), "{other:?}");
        }
    }
}
