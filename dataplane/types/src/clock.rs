//! Time as a parameter, so that the simulator and the tests can turn it.

use crate::attr::TimeSpec;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where wall-clock time comes from. Cheap to call on a hot path.
pub trait Clock: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> TimeSpec;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeSpec {
        // A clock before 1970 is a broken machine; 0 keeps the file system alive on it.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimeSpec { secs: since_epoch.as_secs() as i64, nanos: since_epoch.subsec_nanos() }
    }
}

/// A clock that stands still until it is turned.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    const NANOS_PER_SEC: i64 = 1_000_000_000;

    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        self.0.fetch_add(by.as_nanos() as i64, SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimeSpec {
        let nanos = self.0.load(SeqCst);
        TimeSpec { secs: nanos / Self::NANOS_PER_SEC, nanos: (nanos % Self::NANOS_PER_SEC) as u32 }
    }
}
