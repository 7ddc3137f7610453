//! Writers on a full tier: they wait for what is being carried away, and fail only if nothing is.
//!
//! **Owns** the look at how full the tiers are (a cheap one for every write, a true one when they are nearly
//! full), the promise of `reserve` bytes that every writer holds from its open to its close, and the wait. Clean bytes never make a writer wait: the store evicts them.

use crate::{Worker, WorkerConfig};
use forebay_shard::Frame;
use forebay_store::{Extent, Reservation, StoreError, TierUsage};
use forebay_types::{ExtentId, FsErrorKind, FsResult};
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How old the cheap look may be.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The pause between two looks of a writer who waits.
const PAUSE: Duration = Duration::from_millis(50);

/// Carries bytes away so that they may be evicted.
pub(crate) trait Drain: Send + Sync {
    /// Hastens it; says whether there is anything to carry.
    fn hurry(&self) -> bool;
}

/// How full the tier is that holds what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Level {
    /// There is room.
    Free,
    /// There may be none.
    Full,
    /// Much of it is nowhere else.
    Dirty,
}

/// How full the tiers are, and who empties them.
pub(crate) struct Pressure {
    began: Instant,
    looked_at_ms: AtomicU64,
    level: AtomicU8,
    drain: RwLock<Option<Weak<dyn Drain>>>,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            looked_at_ms: AtomicU64::new(u64::MAX),
            level: AtomicU8::new(Level::Free as u8),
            drain: RwLock::new(None),
        }
    }
}

impl Pressure {
    /// Says who carries bytes away from now on.
    pub(crate) fn drained_by(&self, drain: Weak<dyn Drain>) {
        *self.drain.write() = Some(drain);
    }

    fn hurry(&self) -> bool {
        let drain: Option<Arc<dyn Drain>> = self.drain.read().as_ref().and_then(Weak::upgrade);
        drain.is_some_and(|drain| drain.hurry())
    }
}

impl Worker {
    /// Waits until `len` more bytes may be written; they are promised until what comes back is dropped.
    ///
    /// # Errors
    /// `NoSpace` if they do not fit and nothing is being carried away, or not in time.
    pub(crate) async fn room_to_write(&self, len: u64) -> FsResult<Reservation> {
        let until = Instant::now() + self.config.drain_within;
        while self.level() == Level::Dirty && self.drains(until) {
            forebay_shard::sleep(PAUSE).await;
        }
        loop {
            match self.store.reserve(len).await {
                Ok(promised) => return Ok(promised),
                Err(StoreError::NoSpace { .. }) if self.drains(until) => forebay_shard::sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Room for one write to an extent. Where there is none, its writer has some that was promised at the open.
    ///
    /// # Errors
    /// Those of [`Self::room_to_write`].
    pub(crate) async fn room_for(&self, extent: ExtentId, len: u64) -> FsResult<Reservation> {
        match self.room_to_write(len).await {
            Err(error) if error.kind() == FsErrorKind::NoSpace => {
                self.sessions.get(extent).and_then(|session| session.lend(len)).ok_or(error)
            }
            room => room,
        }
    }

    /// Whether the tiers are far from full.
    pub(crate) fn has_room(&self) -> bool {
        self.level() == Level::Free
    }

    /// Whether waiting for room makes sense.
    fn drains(&self, until: Instant) -> bool {
        Instant::now() < until && self.pressure.hurry()
    }

    /// Writes a frame into an extent that we are the authority for. Room that others took meanwhile is waited for.
    pub(crate) async fn write_frame(
        &self,
        extent: &Arc<Extent>,
        mut frame: Frame,
        offset: u64,
    ) -> FsResult<()> {
        let until = Instant::now() + self.config.drain_within;
        loop {
            frame = match extent.write(frame, offset).await {
                Ok(_) => return Ok(()),
                Err((StoreError::NoSpace { .. }, frame)) if self.drains(until) => frame,
                Err((StoreError::Busy { .. }, frame)) if Instant::now() < until => frame,
                Err((error, _)) => return Err(error.into()),
            };
            forebay_shard::sleep(PAUSE).await;
        }
    }

    fn level(&self) -> Level {
        let pressure = &self.pressure;
        let now = pressure.began.elapsed().as_millis() as u64;
        let looked_at = pressure.looked_at_ms.load(Relaxed);
        if now.wrapping_sub(looked_at) < LOOK_EVERY.as_millis() as u64 {
            return Level::of(pressure.level.load(Relaxed));
        }
        let level = Level::of_tier(&self.store.written_to(), &self.config);
        pressure.level.store(level as u8, Relaxed);
        pressure.looked_at_ms.store(now, Relaxed);
        level
    }
}

impl Level {
    fn of(byte: u8) -> Self {
        [Self::Free, Self::Full, Self::Dirty][usize::from(byte)]
    }

    fn of_tier(tier: &TierUsage, marks: &WorkerConfig) -> Self {
        let over =
            |bytes: u64, mark: u8| u128::from(bytes) * 100 >= u128::from(tier.quota) * u128::from(mark);
        if over(tier.authored, marks.dirty_mark) {
            return Self::Dirty;
        }
        if over(tier.used + tier.reserved, marks.full_mark) { Self::Full } else { Self::Free }
    }
}
