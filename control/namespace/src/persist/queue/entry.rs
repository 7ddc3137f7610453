//! One queued name: since when it waits, for what, and how often it was tried in vain.
//!
//! **Owns** the rules by which a newer entry takes over from an older one of the same name, and the back-off after a
//! failure. **Never does** know of other names.

use super::due::{Lane, Stand};
use super::{Seen, Times};
use crate::proto::Queued;
use forebay_types::{Ino, LARGE_LEN, MountId};

/// The first wait after a failure, the longest, and the failures after which a name is set aside.
const BACK_OFF_FIRST_MS: u64 = 1_000;
const BACK_OFF_MAX_MS: u64 = 300_000;
const TRIES_MAX: u32 = 8;

/// Where a name stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// To be looked at from this time on, in milliseconds of the clock.
    Due(u64),
    Out(u64),
    OpenForWrite,
}

/// A queued name.
pub(super) struct Entry {
    pub(super) seq: u64,
    /// Its `seq` when it was not queued before.
    pub(super) born: u64,
    pub(super) mount: MountId,
    pub(super) bytes: u64,
    pub(super) since_ms: u64,
    pub(super) status: Status,
    /// Where it was put into the schedule, if it is due at some time.
    pub(super) stand: Option<Stand>,
    /// From then on it is carried whoever writes.
    regardless_ms: u64,
    /// Waits for nothing but its mount's `persist_delay`.
    pub(super) delayed: bool,
    /// A directory of which nothing but its time is to be carried.
    pub(super) only_time: bool,
    /// Somebody waits for it: no delay and no back-off.
    pub(super) urgent: bool,
    pub(super) tries: u32,
    pub(super) failure: Option<String>,
    /// Counts failures since start, so that who waits sees a new one.
    pub(super) failures: u64,
    /// Counts the tasks since start that found it written meanwhile, while it was published.
    pub(super) written_beside: u64,
}

impl Entry {
    pub(super) fn new(queued: Queued, now_ms: u64, times: Times) -> Self {
        Self {
            seq: queued.seq,
            born: queued.seq,
            mount: MountId(queued.mount),
            bytes: queued.bytes,
            since_ms: now_ms,
            status: Status::Due(times.due_ms),
            stand: None,
            regardless_ms: times.regardless_ms,
            delayed: true,
            only_time: false,
            urgent: false,
            tries: 0,
            failure: None,
            failures: 0,
            written_beside: 0,
        }
    }

    /// Takes over from an entry of the same name: what is changed again and again is not put off for ever.
    pub(super) fn succeed(&mut self, known: &Self, times: Times) {
        self.since_ms = known.since_ms;
        self.born = known.born;
        if known.status != Status::OpenForWrite {
            self.regardless_ms = known.regardless_ms.min(times.regardless_ms);
        }
        if self.seq == known.seq {
            // Nobody has changed it: what was tried in vain is not new.
            self.tries = known.tries;
            self.failure = known.failure.clone();
        }
        self.failures = known.failures;
        self.written_beside = known.written_beside;
        self.urgent = known.urgent;
        self.delayed = known.delayed;
        self.status = match known.status {
            Status::Out(id) => Status::Out(id),
            _ if known.urgent => Status::Due(0),
            Status::Due(at) if self.seq == known.seq => Status::Due(at),
            Status::Due(at) => Status::Due(at.min(times.due_ms)),
            Status::OpenForWrite => {
                self.delayed = true;
                Status::Due(times.due_ms)
            }
        };
    }

    pub(super) fn is_set_aside(&self) -> bool {
        self.tries >= TRIES_MAX
    }

    pub(super) fn is_large(&self) -> bool {
        self.bytes >= LARGE_LEN
    }

    /// Where it belongs in the schedule. What somebody waits for and what has failed gives way to nobody.
    pub(super) fn stand_now(&self) -> Option<Stand> {
        let Status::Due(at_ms) = self.status else { return None };
        let lane = match self.bytes {
            _ if self.urgent || self.tries > 0 => Lane::Plain,
            LARGE_LEN.. => Lane::Large,
            // What was looked at has given way long enough.
            _ if !self.delayed => Lane::Plain,
            _ => Lane::Small,
        };
        Some(Stand { lane, at_ms, until_ms: self.regardless_ms, seq: self.seq })
    }

    /// Whether the time of the directory it is in is set after it: what is open for write, or keeps failing, would
    /// hold that up for long.
    pub(super) fn goes_first(&self) -> bool {
        self.status != Status::OpenForWrite && self.tries == 0
    }

    /// Its task has failed: when it is to be tried again.
    pub(super) fn failed(&mut self, dir: Ino, why: String, now_ms: u64) -> u64 {
        self.failure = Some(why);
        self.failures += 1;
        self.tries = self.tries.saturating_add(1);
        let wait = (BACK_OFF_FIRST_MS << self.tries.min(16).saturating_sub(1)).min(BACK_OFF_MAX_MS);
        now_ms + wait - jitter(dir, now_ms, wait / 4)
    }

    /// What it looks like to who waits for it.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            born: self.born,
            failures: self.failures,
            failure: self.failure.clone(),
            written_beside: self.written_beside,
            open_for_write: self.status == Status::OpenForWrite,
            set_aside: self.is_set_aside(),
            goes_last: self.only_time && !self.urgent,
        }
    }
}

/// Spreads retries that would fall together.
fn jitter(dir: Ino, now_ms: u64, below: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&dir.0.to_le_bytes(), now_ms) % below.max(1)
}
