//! One lane of a phase: when its next operation is due, how long each took, when it is over.
//!
//! At a fixed rate the latency of an operation counts from when it was meant to begin, not from when the lane came to it:
//! else a system that stalls would be asked less just while it stalls, and the stall would not show ("coordinated
//! omission"). Lanes share nothing but two counters each for the progress line.

use super::kind::Kind;
use super::stage::Stop;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest sleep between two looks at whether to stop.
const NAP: Duration = Duration::from_millis(100);
/// So many failures of a lane end the phase: what fails always measures nothing.
const ERRORS_MAX: u64 = 100;

/// What a lane shows while it runs; apart from the others' in the caches of the cores.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shown {
    pub(super) ops: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// When things begin and end; the same for all lanes of a phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The start of all lanes.
    pub(super) start: Instant,
    /// Operations that begin earlier are the warm-up, and not counted.
    pub(super) measured_from: Instant,
    /// No operation begins later.
    pub(super) end: Option<Instant>,
}

/// What the lanes of a phase have in common.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) stop: Stop,
    /// A lane could not go on, so the others need not.
    pub(super) abort: Arc<AtomicBool>,
    pub(super) shown: Arc<[Shown]>,
}

/// The due times of a lane at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Seconds between two operations of this lane.
    pub(super) interval: f64,
    /// Seconds from the start to its first.
    pub(super) offset: f64,
    /// How many it began.
    pub(super) begun: u64,
}

impl Pace {
    /// The pace of lane `index` of `lanes`, which together do `rate` operations a second, evenly spread.
    pub(super) fn new(rate: f64, index: usize, lanes: usize) -> Self {
        let interval = lanes as f64 / rate;
        Self { interval, offset: interval * index as f64 / lanes as f64, begun: 0 }
    }

    /// When the next operation is due, counted from the start.
    fn due(&self) -> Duration {
        self.due_after(self.begun)
    }

    /// When the operation is due that comes after so many.
    fn due_after(&self, begun: u64) -> Duration {
        Duration::from_secs_f64(self.offset + self.interval * begun as f64)
    }

    /// How many operations are due before `end` and were not begun.
    pub(super) fn behind(&self, end: Duration) -> u64 {
        // Divided, it may be one off what adds up; what counts is when each would have begun.
        let about = ((end.as_secs_f64() - self.offset) / self.interval).max(0.0) as u64;
        let all = (about.saturating_sub(1)..about + 2).find(|begun| self.due_after(*begun) >= end);
        all.unwrap_or(about + 2).saturating_sub(self.begun)
    }
}

/// One lane: a thread that does one operation after the other.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Its number, from 0 on; on this node.
    pub(crate) index: usize,
    pub(super) times: Times,
    pub(super) shared: Shared,
    pub(super) pace: Option<Pace>,
    /// When the operation that comes next was meant to begin.
    intended: Option<Instant>,
    pub(super) kinds: Vec<(&'static str, Kind)>,
    pub(super) last_end: Instant,
    pub(super) not_begun: u64,
    /// It left off because the time of the phase was over.
    pub(super) time_over: bool,
    errors: u64,
}

impl Lane {
    pub(super) fn new(index: usize, times: Times, shared: Shared, pace: Option<Pace>) -> Self {
        Self {
            index,
            times,
            shared,
            pace,
            intended: None,
            kinds: Vec::new(),
            last_end: times.start,
            not_begun: 0,
            time_over: false,
            errors: 0,
        }
    }

    /// Whether another operation is to be done; at a fixed rate, returns when it is due.
    pub(crate) fn go_on(&mut self) -> bool {
        if self.stopped() {
            return false;
        }
        if self.times.end.is_some_and(|end| Instant::now() >= end) {
            return self.over();
        }
        let Some(pace) = &mut self.pace else { return true };
        let due = self.times.start + pace.due();
        if self.times.end.is_some_and(|end| due >= end) {
            return self.over();
        }
        pace.begun += 1;
        self.intended = Some(due);
        self.wait_until(due)
    }

    /// Whether to leave off before the work of the phase is done.
    pub(crate) fn stopped(&self) -> bool {
        self.errors >= ERRORS_MAX || self.shared.stop.is_set() || self.shared.abort.load(Ordering::Relaxed)
    }

    fn wait_until(&self, due: Instant) -> bool {
        while let Some(rest) = due.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            if self.stopped() {
                return false;
            }
            std::thread::sleep(rest.min(NAP));
        }
        true
    }

    /// The time is over; what was due and not begun is counted.
    fn over(&mut self) -> bool {
        self.time_over = true;
        if let (Some(pace), Some(end)) = (&self.pace, self.times.end) {
            self.not_begun = pace.behind(end - self.times.start);
        }
        false
    }

    /// When the operation that now begins begins: now, or at a fixed rate when it was meant to.
    pub(crate) fn begin(&mut self) -> Instant {
        self.intended.take().unwrap_or_else(Instant::now)
    }

    /// When all lanes of the phase began.
    pub(crate) fn started(&self) -> Instant {
        self.times.start
    }

    /// The lane itself, to be used elsewhere, like on a shard; what stays here measures nothing, until it is put back.
    pub(crate) fn lend(&mut self) -> Self {
        let stays = Self::new(self.index, self.times, self.shared.clone(), None);
        std::mem::replace(self, stays)
    }

    /// Takes down an operation of `kind` that has ended.
    pub(crate) fn end<T, E: Display>(
        &mut self,
        kind: &'static str,
        begun: Instant,
        bytes: u64,
        result: Result<T, E>,
    ) -> Option<T> {
        let ended = Instant::now();
        self.last_end = ended;
        if result.is_ok() {
            let shown = &self.shared.shown[self.index];
            shown.ops.fetch_add(1, Ordering::Relaxed);
            shown.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let measured = begun >= self.times.measured_from;
        let at = ended.saturating_duration_since(self.times.measured_from);
        let of = self.kind(kind);
        match result {
            Ok(value) => {
                if measured {
                    of.record(ended.saturating_duration_since(begun), at, bytes);
                }
                Some(value)
            }
            Err(why) => {
                of.fail(why);
                self.errors += 1;
                None
            }
        }
    }

    /// Does and takes down one operation; `bytes` are what it moves when it succeeds. `None`: it failed, and is counted.
    pub(crate) fn time<T, E: Display>(
        &mut self,
        kind: &'static str,
        bytes: u64,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Option<T> {
        let begun = self.begin();
        let result = operation();
        self.end(kind, begun, bytes, result)
    }

    /// Counts a failure that is found beside the measured operations, like wrong bytes.
    pub(crate) fn fail(&mut self, kind: &'static str, why: impl Display) {
        self.kind(kind).fail(why);
        self.errors += 1;
    }

    fn kind(&mut self, name: &'static str) -> &mut Kind {
        let index = self.kinds.iter().position(|(known, _)| *known == name);
        let index = index.unwrap_or_else(|| {
            self.kinds.push((name, Kind::default()));
            self.kinds.len() - 1
        });
        &mut self.kinds[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lanes_of_a_rate_are_evenly_spread() {
        let mut due: Vec<_> = (0..4)
            .flat_map(|lane| {
                let mut pace = Pace::new(1000.0, lane, 4);
                (0..3).map(move |_| {
                    let due = pace.due();
                    pace.begun += 1;
                    due
                })
            })
            .collect();
        due.sort();
        for (index, due) in due.iter().enumerate() {
            assert!(due.abs_diff(Duration::from_millis(index as u64)) < Duration::from_micros(1), "{due:?}");
        }
    }

    #[test]
    fn what_was_not_begun_is_counted() {
        let mut pace = Pace::new(100.0, 0, 1);
        pace.begun = 30;
        assert_eq!(pace.behind(Duration::from_secs(1)), 70);
        pace.begun = 100;
        assert_eq!(pace.behind(Duration::from_secs(1)), 0);
    }
}
