//! Writers on a full tier: they wait for what is being carried away, and fail only if nothing is.
//!
//! **Owns** the look at how full the tiers are (a cheap one for every write, a true one when they are nearly
//! full) and the wait. Clean bytes never make a writer wait: the store evicts them.

use crate::Worker;
use forebay_store::{StoreError, TierKind};
use forebay_types::FsResult;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Above this share of a tier's quota, in percent, writes look before they leap.
const NEARLY_FULL: u64 = 90;
/// How old the cheap look may be.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The pause between two looks of a writer who waits.
const PAUSE: Duration = Duration::from_millis(50);

/// Carries bytes away so that they may be evicted.
pub(crate) trait Drain: Send + Sync {
    /// Hastens it; says whether there is anything to carry.
    fn hurry(&self) -> bool;
}

/// How full the tiers are, and who empties them.
pub(crate) struct Pressure {
    began: Instant,
    looked_at_ms: AtomicU64,
    nearly_full: AtomicBool,
    drain: RwLock<Option<Weak<dyn Drain>>>,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            looked_at_ms: AtomicU64::new(u64::MAX),
            nearly_full: AtomicBool::new(false),
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
    /// Waits until `len` more bytes may be written.
    ///
    /// # Errors
    /// `NoSpace` if they do not fit and nothing is being carried away, or not in time.
    pub(crate) async fn room_to_write(&self, len: u64) -> FsResult<()> {
        if !self.is_nearly_full() {
            return Ok(());
        }
        let until = Instant::now() + self.config.drain_within;
        loop {
            match self.store.reserve(len).await {
                Ok(_) => return Ok(()),
                Err(StoreError::NoSpace { .. }) if self.pressure.hurry() && Instant::now() < until => {
                    forebay_shard::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_nearly_full(&self) -> bool {
        let pressure = &self.pressure;
        let now = pressure.began.elapsed().as_millis() as u64;
        let looked_at = pressure.looked_at_ms.load(Relaxed);
        if now.wrapping_sub(looked_at) < LOOK_EVERY.as_millis() as u64 {
            return pressure.nearly_full.load(Relaxed);
        }
        let tiers = self.store.usage();
        let mut written_to = tiers.iter().filter(|tier| tier.kind != TierKind::Mem);
        let full = written_to.any(|tier| (tier.used + tier.reserved) * 100 >= tier.quota * NEARLY_FULL);
        pressure.nearly_full.store(full, Relaxed);
        pressure.looked_at_ms.store(now, Relaxed);
        full
    }
}
