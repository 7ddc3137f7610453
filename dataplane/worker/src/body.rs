//! Fetched bytes, and the memory they may take.
//!
//! **Owns** the budget of bodies in flight: a part of the process's memory with a name, counted in bytes and
//! never exceeded. A [`Body`] carries its share with it and gives it back when the last reader has let go.

use forebay_shard::Frame;
use forebay_types::{ByteSize, FsError, FsErrorKind, FsResult};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in these, so that a 64-bit budget fits a semaphore.
const UNIT: u64 = 4096;

/// The memory of bodies in flight.
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: u64,
    /// Bytes beyond `total`, of what is larger than all of it.
    beyond: Arc<AtomicU64>,
}

/// A share of it.
#[derive(Debug)]
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
    beyond: u64,
    beyond_all: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.beyond_all.fetch_sub(self.beyond, Relaxed);
    }
}

impl Budget {
    pub(crate) fn new(total: ByteSize) -> Self {
        let units = (total.as_u64() / UNIT).min(Semaphore::MAX_PERMITS as u64);
        Self { units: Arc::new(Semaphore::new(units as usize)), total: units * UNIT, beyond: Arc::default() }
    }

    fn units_for(&self, len: usize) -> u32 {
        // What is larger than all of it waits until it is alone.
        (len as u64).min(self.total).div_ceil(UNIT).max(1) as u32
    }

    /// Room for `len` bytes, waiting for it at most `within`.
    pub(crate) async fn take(&self, len: usize, within: Duration) -> FsResult<Room> {
        let permit = Arc::clone(&self.units).acquire_many_owned(self.units_for(len));
        match forebay_shard::timeout(within, permit).await {
            Ok(Ok(permit)) => Ok(self.room(permit, len)),
            _ => {
                Err(FsError::new(FsErrorKind::Overloaded, "no memory for fetched bytes became free in time"))
            }
        }
    }

    /// Room for `len` bytes, if there is some left over: `spare` bytes stay free for those who cannot do without.
    pub(crate) fn try_take(&self, len: usize, spare: u64) -> Option<Room> {
        if self.free() < spare.saturating_add(len as u64) {
            return None;
        }
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_for(len)).ok()?;
        Some(self.room(permit, len))
    }

    fn room(&self, permit: OwnedSemaphorePermit, len: usize) -> Room {
        let beyond = (len as u64).saturating_sub(self.total);
        self.beyond.fetch_add(beyond, Relaxed);
        Room { _permit: permit, beyond, beyond_all: Arc::clone(&self.beyond) }
    }

    /// Bytes not taken.
    pub(crate) fn free(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }

    /// Bytes taken, those beyond all of it included.
    pub(crate) fn used(&self) -> u64 {
        self.total.saturating_sub(self.free()) + self.beyond.load(Relaxed)
    }

    /// All of it, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

/// Bytes of a file that were fetched.
#[derive(Debug)]
pub(crate) struct Body {
    frame: Frame,
    start: u64,
    _room: Room,
}

impl Body {
    /// The bytes of `frame` are those of the file from `start` on.
    pub(crate) fn new(frame: Frame, start: u64, room: Room) -> Self {
        Self { frame, start, _room: room }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }

    /// Which bytes of the file these are.
    pub(crate) fn range(&self) -> Range<u64> {
        self.start..self.start + self.frame.len() as u64
    }

    /// The bytes of a range of the file that lies wholly within; `None` if it does not.
    pub(crate) fn slice(&self, range: Range<u64>) -> Option<&[u8]> {
        let from = range.start.checked_sub(self.start)?;
        let to = range.end.checked_sub(self.start)?;
        self.frame.get(from as usize..to as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn room_is_counted_and_given_back() {
        let budget = Budget::new(ByteSize::mib(1));
        let half = run(budget.take(512 << 10, SOON)).unwrap();
        assert_eq!(budget.free(), 512 << 10);
        assert!(budget.try_take(1, 512 << 10).is_none(), "what is to stay free stays free");
        let rest = budget.try_take(512 << 10, 0).unwrap();
        assert_eq!(run(budget.take(1, SOON)).unwrap_err().kind(), FsErrorKind::Overloaded);
        drop((half, rest));
        assert_eq!(budget.free(), budget.total());
    }

    #[test]
    fn what_is_larger_than_all_of_it_goes_alone() {
        let budget = Budget::new(ByteSize::mib(1));
        let small = run(budget.take(1, SOON)).unwrap();
        assert!(run(budget.take(8 << 20, SOON)).is_err());
        drop(small);
        let large = run(budget.take(8 << 20, SOON)).unwrap();
        assert_eq!((budget.free(), budget.used()), (0, 8 << 20), "what it takes is told");
        drop(large);
        assert_eq!((budget.free(), budget.used()), (1 << 20, 0));
    }
}
