//! Time, chance, and the operations under way.

use super::{SimConfig, SimDisk};
use crate::driver::{Event, Op, Span, Token};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What goes wrong on the simulated disk. A rate of `n` means once in `n` operations on average, 0 never.
#[derive(Debug, Clone)]
pub struct Faults {
    /// How long an operation takes, drawn evenly.
    pub latency: Range<Duration>,
    /// A hundred times longer than that.
    pub slow: u32,
    /// A read or write moves only a part.
    pub short: u32,
    /// A read fails with EIO.
    pub read_error: u32,
    /// A write fails with EIO and has no effect.
    pub write_error: u32,
    /// A write fails with ENOSPC and has no effect.
    pub no_space: u32,
    /// A sync fails with EIO. As on Linux, what it covered is then lost unless it is written again, even if
    /// the next sync succeeds.
    pub sync_error: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(20)..Duration::from_micros(200),
            slow: 0,
            short: 0,
            read_error: 0,
            write_error: 0,
            no_space: 0,
            sync_error: 0,
        }
    }
}

/// Short reads and writes end on this grid, as the block layer's do.
const SECTOR: u32 = 512;

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (SplitMix64). Written out here
/// because a seed must mean the same run with every version of every library.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is far below what a test could notice.
        self.draw() % end
    }

    pub(super) fn once_in(&mut self, n: u32) -> bool {
        n > 0 && self.below(u64::from(n)) == 0
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Debug)]
struct Underway {
    shard: usize,
    token: Token,
    op: Op,
}

#[derive(Debug)]
pub(super) struct World {
    epoch: Instant,
    now: Duration,
    chance: Chance,
    faults: Faults,
    disk: SimDisk,
    /// By the time of completion; the number keeps equal times apart.
    underway: BTreeMap<(Duration, u64), Underway>,
    started: u64,
    /// What completed, by shard, until its driver fetches it.
    completed: Vec<VecDeque<Event>>,
    trace: u64,
}

impl World {
    pub(super) fn new(config: &SimConfig, disk: SimDisk) -> Self {
        Self {
            epoch: Instant::now(),
            now: Duration::ZERO,
            chance: Chance::new(config.seed),
            faults: config.faults.clone(),
            disk,
            underway: BTreeMap::new(),
            started: 0,
            completed: vec![VecDeque::new(); config.shards],
            trace: 0,
        }
    }

    pub(super) fn disk(&self) -> SimDisk {
        self.disk.clone()
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    pub(super) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.chance.draw()
    }

    /// 0 to `count` in an order drawn anew.
    pub(super) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.chance.below(last as u64 + 1) as usize);
        }
        order
    }

    pub(super) fn start(&mut self, shard: usize, token: Token, op: Op) {
        let Range { start, end } = self.faults.latency;
        let spread = (end.saturating_sub(start)).as_nanos() as u64;
        let drawn = start + Duration::from_nanos(self.chance.below(spread.max(1)));
        let latency = if self.chance.once_in(self.faults.slow) { drawn * 100 } else { drawn };
        self.started += 1;
        self.underway.insert((self.now + latency, self.started), Underway { shard, token, op });
    }

    /// A cancellation comes too late as often as not.
    pub(super) fn cancel(&mut self, shard: usize, token: Token) {
        let named = |(_, u): &(&(Duration, u64), &Underway)| u.shard == shard && u.token == token;
        let found = self.underway.iter().find(named).map(|(key, _)| *key);
        if let Some(key) = found
            && self.chance.once_in(2)
        {
            self.underway.remove(&key);
            self.complete(shard, token, -libc::ECANCELED);
        }
    }

    pub(super) fn next_completion(&self) -> Option<Duration> {
        self.underway.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn has_completions(&self) -> bool {
        self.completed.iter().any(|events| !events.is_empty())
    }

    pub(super) fn fetch(&mut self, shard: usize, events: &mut Vec<Event>) {
        events.extend(self.completed[shard].drain(..));
    }

    pub(super) fn forget_operations(&mut self) {
        self.underway.clear();
        self.completed.iter_mut().for_each(VecDeque::clear);
    }

    /// Moves the clock on, never back, and lets happen what is due.
    pub(super) fn advance_to(&mut self, time: Duration) {
        self.now = self.now.max(time);
        while let Some(due) = self.underway.first_entry().filter(|first| first.key().0 <= self.now) {
            let Underway { shard, token, op } = due.remove();
            let result = self.perform(op);
            self.complete(shard, token, result);
        }
    }

    fn complete(&mut self, shard: usize, token: Token, result: i32) {
        let happened = (self.now.as_nanos() as u64) ^ ((shard as u64) << 56) ^ ((result as u32 as u64) << 20);
        self.trace = mix(self.trace.wrapping_add(happened).wrapping_add(token as u64));
        self.completed[shard].push_back(Event::Done { token, result });
    }

    /// Does what the operation asks for, or what chance makes of it.
    fn perform(&mut self, op: Op) -> i32 {
        let (faults, disk) = (self.faults.clone(), self.disk.clone());
        match op {
            Op::Read { .. } if self.chance.once_in(faults.read_error) => -libc::EIO,
            Op::Write { .. } if self.chance.once_in(faults.write_error) => -libc::EIO,
            Op::Write { .. } if self.chance.once_in(faults.no_space) => -libc::ENOSPC,
            Op::Read { fd, span, offset } => disk.read(fd, self.cut(span), offset),
            Op::Write { fd, span, offset } => disk.write(fd, self.cut(span), offset),
            Op::Sync { fd, .. } => disk.sync(fd, self.chance.once_in(faults.sync_error)),
            Op::Allocate { fd, mode, offset, len } => disk.allocate(fd, mode, offset, len),
            // The simulated disk has neither devices nor anything to wait for.
            Op::Poll { .. } | Op::Command { .. } => -libc::EOPNOTSUPP,
        }
    }

    /// The whole span, or a part of at least one sector.
    fn cut(&mut self, span: Span) -> Span {
        let sectors = span.len / SECTOR;
        if sectors < 2 || !self.chance.once_in(self.faults.short) {
            return span;
        }
        let kept = 1 + self.chance.below(u64::from(sectors - 1)) as u32;
        Span { len: kept * SECTOR, ..span }
    }
}
