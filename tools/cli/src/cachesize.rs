//! How much the cache may take of its disk.
//!
//! **Owns** the rule where nobody has set a size: a share of what is free, the cache's own bytes counted as free, so
//! that a cache keeps its size over restarts; and the refusal of a disk on which a start would fail halfway.

use crate::failure::{Failure, Outcome};
use forebay_store::Store;
use forebay_types::ByteSize;
use std::path::Path;

/// The share of the space that a cache takes when nobody says how much.
const SHARE: (u64, u64) = (4, 5);
/// The smallest cache.
pub(crate) const CACHE_MIN: ByteSize = ByteSize::mib(64);
/// The least space to start a new cache with: the metadata engine maps its files, and a disk that is full would end
/// the process where a write fails elsewhere.
const FREE_MIN: ByteSize = ByteSize::mib(64);
/// The same for a cache that is there: what fills the disk is mostly its own, and goes when room is wanted.
const FREE_MIN_AGAIN: ByteSize = ByteSize::mib(8);
const _: () = assert!(FREE_MIN_AGAIN.as_u64() < FREE_MIN.as_u64());

/// What was found out before the cache is opened.
#[derive(Debug)]
pub(crate) struct CacheSize {
    wanted: Option<ByteSize>,
    free: u64,
    total: u64,
}

impl CacheSize {
    /// Looks at the disk of the cache directory `dir`. `again`: a cache is in it already.
    ///
    /// # Errors
    /// The disk is full, or the size that is wanted is too small.
    pub(crate) fn look(dir: &Path, wanted: Option<ByteSize>, again: bool) -> Outcome<Self> {
        let shown = dir.display();
        let found = rustix::fs::statvfs(dir)
            .map_err(|error| Failure::new(format!("cannot see the free space of {shown}: {error}")))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let least = if again { FREE_MIN_AGAIN } else { FREE_MIN };
        if free < least.as_u64() {
            let free = ByteSize::bytes(free);
            return Err(Failure::new(format!(
                "the disk of the cache directory {shown} is full: {free} are free"
            ))
            .remedy(format!("free at least {least}, or choose another disk with --cache")));
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted < CACHE_MIN) {
            return Err(Failure::new(format!("a cache of {wanted} is too small"))
                .remedy(format!("give at least {CACHE_MIN}")));
        }
        Ok(Self { wanted, free, total: found.f_blocks.saturating_mul(found.f_frsize) })
    }

    /// What the store is opened with, before it says what it holds: as much as it could ever be.
    pub(crate) fn at_most(&self) -> ByteSize {
        self.wanted.unwrap_or(share_of(self.total))
    }

    /// Gives the open store its size.
    ///
    /// # Errors
    /// There is no tier.
    pub(crate) fn settle(&self, store: &Store) -> Outcome<ByteSize> {
        let used: u64 = store.usage().iter().map(|tier| tier.used).sum();
        let size = self.wanted.unwrap_or_else(|| share_of(self.free + used).max(CACHE_MIN));
        store.set_quota(crate::parts::CACHE_TIER, size).map_err(Failure::new)?;
        Ok(size)
    }
}

fn share_of(bytes: u64) -> ByteSize {
    ByteSize::bytes(bytes / SHARE.1 * SHARE.0)
}
