//! A phase: lanes that are made ready, start together, and end together; what they measured, added up.
//!
//! The thread that runs a phase starts the lanes, shows the progress and adds up. The time of a phase is from the end of
//! the warm-up to the end of its last operation, so that no operation in flight at the end makes a rate look better.

use super::kind::Kind;
use super::lane::{Lane, Pace, Shared, Shown, Times};
use super::stage::Stage;
use crate::error::{Error, Result};
use crate::units;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The time between two looks at the lanes while they run.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a phase lasts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limit {
    /// Operations that begin within it are not counted.
    pub(crate) warm_up: Duration,
    /// How long to go on after that; else the lanes know when they are done.
    pub(crate) duration: Option<Duration>,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct PhaseSpec {
    /// Its name in the report.
    pub(crate) name: String,
    /// How many lanes this node runs.
    pub(crate) lanes: usize,
    /// How long.
    pub(crate) limit: Limit,
    /// Operations a second of all lanes of this node together; else as fast as they can.
    pub(crate) rate: Option<f64>,
}

impl PhaseSpec {
    /// Lanes that do a given amount of work, as fast as they can.
    pub(crate) fn once(name: impl Into<String>, lanes: usize) -> Self {
        Self { name: name.into(), lanes, limit: Limit::default(), rate: None }
    }
}

/// What a phase measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// Its name.
    pub(crate) name: String,
    /// Lanes of all nodes.
    pub(crate) lanes: usize,
    /// The rate that was asked for, of all nodes, in operations a second.
    pub(crate) target: Option<f64>,
    /// How long was measured, in nanoseconds; of the slowest node.
    pub(crate) wall_ns: u64,
    /// Operations that were due at the rate that was asked for, and not even begun when the time was over.
    pub(crate) not_begun: u64,
    /// What was measured, by kind of operation.
    pub(crate) kinds: Vec<(String, Kind)>,
}

impl Phase {
    /// How long was measured, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.wall_ns as f64 / 1e9
    }

    /// Operations of `kind` a second.
    pub(crate) fn rate(&self, kind: &Kind) -> f64 {
        per_second(kind.ops(), self.wall_ns)
    }

    /// Bytes of `kind` a second.
    pub(crate) fn throughput(&self, kind: &Kind) -> f64 {
        per_second(kind.bytes(), self.wall_ns)
    }

    /// What was measured of one kind of operation.
    pub(crate) fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|(known, _)| known == name).map(|(_, kind)| kind)
    }

    /// Operations that failed.
    pub(crate) fn errors(&self) -> u64 {
        self.kinds.iter().map(|(_, kind)| kind.errors()).sum()
    }

    /// Adds what another node measured of the same phase.
    pub(crate) fn merge(&mut self, other: Self) {
        self.lanes += other.lanes;
        self.target = self.target.zip(other.target).map(|(a, b)| a + b);
        self.wall_ns = self.wall_ns.max(other.wall_ns);
        self.not_begun += other.not_begun;
        for (name, kind) in other.kinds {
            self.add(&name, kind);
        }
    }

    fn add(&mut self, name: &str, kind: Kind) {
        match self.kinds.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.merge(kind),
            None => self.kinds.push((name.to_owned(), kind)),
        }
    }

    fn of(spec: &PhaseSpec, lanes: Vec<Lane>) -> Self {
        let measured =
            lanes.iter().map(|lane| lane.last_end.saturating_duration_since(lane.times.measured_from));
        // Where the time was over, the pause after the last operation is part of it.
        let over = lanes.iter().any(|lane| lane.time_over).then_some(spec.limit.duration).flatten();
        let wall = measured.chain(over).max();
        let mut phase = Self {
            name: spec.name.clone(),
            lanes: spec.lanes,
            target: spec.rate,
            wall_ns: wall.unwrap_or_default().as_nanos() as u64,
            not_begun: lanes.iter().map(|lane| lane.not_begun).sum(),
            kinds: Vec::new(),
        };
        for (name, kind) in lanes.into_iter().flat_map(|lane| lane.kinds) {
            phase.add(name, kind);
        }
        phase
    }
}

fn per_second(count: u64, nanos: u64) -> f64 {
    if nanos == 0 { 0.0 } else { count as f64 * 1e9 / nanos as f64 }
}

/// The two steps at which all lanes wait: when they are ready, and when the clock has started.
struct Gate {
    ready: Barrier,
    go: Barrier,
    times: OnceLock<Times>,
}

impl Stage {
    /// Runs a phase on this node: `prepare` for each lane, then `body` on all of them at once.
    ///
    /// # Errors
    /// What a lane could not do beside its measured operations.
    pub(crate) fn run<S>(
        &self,
        spec: &PhaseSpec,
        prepare: impl Fn(usize) -> Result<S> + Sync,
        body: impl Fn(&mut S, &mut Lane) -> Result<()> + Sync,
    ) -> Result<Phase> {
        let gate = Gate {
            ready: Barrier::new(spec.lanes + 1),
            go: Barrier::new(spec.lanes + 1),
            times: OnceLock::new(),
        };
        let shared = Shared {
            stop: self.stop.clone(),
            abort: Arc::new(AtomicBool::new(false)),
            shown: (0..spec.lanes).map(|_| Shown::default()).collect(),
        };
        let running = AtomicUsize::new(spec.lanes);
        let (gate, running, prepare, body) = (&gate, &running, &prepare, &body);
        let lanes = std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..spec.lanes)
                .map(|index| {
                    let (shared, watcher) = (shared.clone(), std::thread::current());
                    scope.spawn(move || {
                        let _leaving = Leaving { running, watcher };
                        one_lane(spec, index, gate, shared, prepare, body)
                    })
                })
                .collect();
            gate.ready.wait();
            let times = gate.times.get_or_init(|| starting_now(spec.limit));
            gate.go.wait();
            self.watch(spec, times, &shared.shown, running);
            lanes
                .into_iter()
                .map(|lane| lane.join().unwrap_or(Err(Error::Panicked(spec.name.clone()))))
                .collect::<Result<Vec<_>>>()
        });
        self.clear();
        Ok(Phase::of(spec, lanes?))
    }

    /// Shows how far it is, until no lane runs.
    fn watch(&self, spec: &PhaseSpec, times: &Times, shown: &[Shown], running: &AtomicUsize) {
        let mut before = (0, 0, Instant::now());
        while running.load(Ordering::Acquire) > 0 {
            std::thread::park_timeout(LOOK_EVERY);
            let elapsed = before.2.elapsed();
            if !self.watched || elapsed < LOOK_EVERY {
                continue;
            }
            let sum = |of: fn(&Shown) -> u64| shown.iter().map(of).sum::<u64>();
            let now = (
                sum(|s| s.ops.load(Ordering::Relaxed)),
                sum(|s| s.bytes.load(Ordering::Relaxed)),
                Instant::now(),
            );
            let rate = |from: u64, to: u64| (to - from) as f64 / elapsed.as_secs_f64();
            self.say(&format!(
                "{:<14} {:>6.1} s  {:>12} ops  {:>10} ops/s  {:>12}/s",
                spec.name,
                times.start.elapsed().as_secs_f64(),
                now.0,
                units::count(rate(before.0, now.0)),
                units::bytes(rate(before.1, now.1)),
            ));
            before = now;
        }
    }
}

/// Says that a lane has ended, however it did.
struct Leaving<'a> {
    running: &'a AtomicUsize,
    watcher: Thread,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Release);
        self.watcher.unpark();
    }
}

fn starting_now(limit: Limit) -> Times {
    let start = Instant::now();
    let measured_from = start + limit.warm_up;
    Times { start, measured_from, end: limit.duration.map(|duration| measured_from + duration) }
}

/// The life of a lane.
fn one_lane<S>(
    spec: &PhaseSpec,
    index: usize,
    gate: &Gate,
    shared: Shared,
    prepare: impl Fn(usize) -> Result<S>,
    body: impl Fn(&mut S, &mut Lane) -> Result<()>,
) -> Result<Lane> {
    // Sleeps end when they should, not up to 50 us later; a kernel that refuses makes pacing less exact, nothing else.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let state = prepare(index);
    if state.is_err() {
        shared.abort.store(true, Ordering::Relaxed);
    }
    gate.ready.wait();
    gate.go.wait();
    let times = *gate.times.get().expect("the clock was started before the gate opened");
    let pace = spec.rate.map(|rate| Pace::new(rate, index, spec.lanes));
    let mut state = state?;
    let mut lane = Lane::new(index, times, shared, pace);
    let ended = if lane.stopped() { Ok(()) } else { body(&mut state, &mut lane) };
    if ended.is_err() {
        lane.shared.abort.store(true, Ordering::Relaxed);
    }
    ended.map(|()| lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Stop, search};
    use std::sync::Mutex;
    use std::thread::sleep;

    fn stage() -> Stage {
        Stage { stop: Stop::default(), watched: false }
    }

    fn timed(lanes: usize, millis: u64, rate: Option<f64>) -> PhaseSpec {
        let limit = Limit { warm_up: Duration::ZERO, duration: Some(Duration::from_millis(millis)) };
        PhaseSpec { name: "phase".to_owned(), lanes, limit, rate }
    }

    /// Does one operation after the other for as long as the phase goes on.
    fn repeat(stage: &Stage, spec: &PhaseSpec, operation: impl Fn() + Sync) -> Phase {
        let body = |(): &mut (), lane: &mut Lane| {
            while lane.go_on() {
                lane.time("op", 1, || {
                    operation();
                    Ok::<_, Error>(())
                });
            }
            Ok(())
        };
        stage.run(spec, |_| Ok(()), body).unwrap()
    }

    /// What a machine can show that is not too busy just then.
    fn sometimes(shows: impl FnMut(usize) -> bool) -> bool {
        (0..30).any(shows)
    }

    #[test]
    fn a_rate_is_kept() {
        let is_kept = |_| {
            let phase = repeat(&stage(), &timed(3, 500, Some(200.0)), || {});
            let kind = phase.kind("op").unwrap();
            assert_eq!((kind.ops() + phase.not_begun, phase.lanes), (100, 3));
            assert!(phase.rate(kind) <= 200.0, "{}", phase.rate(kind));
            assert_eq!(kind.series().slots().iter().map(|slot| slot.bytes).sum::<u64>(), kind.ops());
            phase.rate(kind) >= 170.0
        };
        assert!(sometimes(is_kept), "it is always slower");
    }

    #[test]
    fn what_was_begun_and_what_was_not_add_up_to_what_was_due() {
        for (index, all) in [(0, 20), (1, 20), (2, 20)] {
            let mut pace = Pace::new(100.0, index, 3);
            for begun in 0..=all {
                pace.begun = begun;
                assert_eq!(begun + pace.behind(Duration::from_millis(600)), all, "lane {index}");
            }
        }
        let mut pace = Pace::new(100.0, 0, 1);
        for begun in 0..=60 {
            pace.begun = begun;
            assert_eq!(begun + pace.behind(Duration::from_millis(600)), 60, "{begun} were begun");
        }
        assert_eq!(Pace::new(100.0, 2, 3).behind(Duration::from_millis(10)), 0);
    }

    #[test]
    fn a_stall_counts_for_all_that_should_have_begun_meanwhile() {
        let stalled = Mutex::new(false);
        let phase = repeat(&stage(), &timed(1, 600, Some(100.0)), || {
            if !std::mem::replace(&mut *stalled.lock().unwrap(), true) {
                sleep(Duration::from_millis(400));
            }
        });
        let kind = phase.kind("op").unwrap();
        assert_eq!(kind.ops() + phase.not_begun, 60);
        // Forty operations were due within the stall, the first of them waited for all of it.
        assert!(
            kind.max() >= 400_000_000 && kind.percentile(50.0) >= 80_000_000,
            "{}",
            kind.percentile(50.0)
        );
    }

    #[test]
    fn what_is_asked_beyond_the_target_s_speed_is_not_reached() {
        let phase = repeat(&stage(), &timed(1, 300, Some(1000.0)), || sleep(Duration::from_millis(10)));
        let kind = phase.kind("op").unwrap();
        assert!(kind.ops() <= 31 && phase.rate(kind) < 110.0);
        assert_eq!(kind.ops() + phase.not_begun, 300);
    }

    #[test]
    fn the_rate_of_a_throttled_target_is_found() {
        let every = Duration::from_millis(2);
        let next = Mutex::new(Instant::now());
        let throttled = || {
            let turn = {
                let mut next = next.lock().unwrap();
                *next = Instant::now().max(*next) + every;
                *next
            };
            sleep(turn.saturating_duration_since(Instant::now()));
        };
        let find = || {
            let found = search(40.0, |target| {
                let phase = repeat(&stage(), &timed(4, 300, Some(target)), throttled);
                Ok(Some(phase.rate(phase.kind("op").unwrap())))
            });
            let (found, trials) = found.unwrap();
            // The target lets 500 a second through.
            assert!(found <= 515.0, "{found}: {trials:?}");
            found
        };
        // A machine that stops for 10 ms within a trial makes that trial miss, as it should: it may try again.
        assert!(sometimes(|_| find() >= 450.0));
    }

    #[test]
    fn the_warm_up_is_not_counted() {
        let limit = Limit { warm_up: Duration::from_millis(300), duration: Some(Duration::from_millis(100)) };
        let spec = PhaseSpec { limit, ..timed(1, 0, Some(100.0)) };
        let is_not_counted = |_| {
            let phase = repeat(&stage(), &spec, || {});
            let ops = phase.kind("op").map_or(0, |kind| kind.ops());
            assert!(ops <= 10 && phase.seconds() >= 0.1, "{ops} in {} s", phase.seconds());
            ops >= 7 && phase.seconds() < 0.3
        };
        assert!(sometimes(is_not_counted));
    }

    #[test]
    fn a_lane_that_cannot_be_prepared_ends_all() {
        let prepare = |lane| if lane == 1 { Err(Error::usage("no", "none")) } else { Ok(()) };
        let body = |(): &mut (), lane: &mut Lane| {
            while lane.go_on() {
                sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        assert!(stage().run(&PhaseSpec::once("endless", 3), prepare, body).is_err());
    }

    #[test]
    fn what_always_fails_ends() {
        let body = |(): &mut (), lane: &mut Lane| {
            while lane.go_on() {
                lane.time("op", 1, || Err::<(), _>("no"));
            }
            Ok(())
        };
        let phase = stage().run(&PhaseSpec::once("failing", 2), |_| Ok(()), body).unwrap();
        assert_eq!((phase.errors(), phase.kind("op").unwrap().ops()), (200, 0));
    }
}
