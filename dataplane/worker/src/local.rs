//! What only this process gets: open files for passthrough, the end of a write, space.

use crate::Worker;
use forebay_net::{Backing, Local, Space};
use forebay_store::{Extent, Hold, StoreError, TierKind};
use forebay_types::{ContentLocation, ExtentId, FsResult};
use std::sync::Arc;

impl Local for Worker {
    fn backing(&self, at: &ContentLocation) -> Option<Backing> {
        let extent = self.find_extent(at).ok().flatten()?;
        let keeps_times = self.sessions.get(extent.id()).is_some_and(|session| session.keeps_times());
        let as_long_as_told = at.extent.is_some() || extent.len() == at.size;
        if keeps_times || !as_long_as_told || !extent.permits_passthrough() {
            return None;
        }
        let guard = match extent.hold(Hold::OpenPassthrough) {
            Ok(guard) => guard,
            Err(StoreError::Unverified(_)) => {
                self.verify_behind(extent);
                return None;
            }
            Err(_) => return None,
        };
        let file = extent.file().ok()?.std().try_clone().ok()?;
        extent.touch(0);
        Some(Backing::new(extent.id(), Arc::new(file), guard))
    }

    fn end_write(&self, id: ExtentId, changed: bool) {
        let Some(session) = self.sessions.end(id) else { return };
        let keys = session.keys();
        if changed || keys.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        forebay_shard::spawn(async move {
            for key in keys {
                if let Err(error) = store.bind(id, key).await {
                    tracing::warn!(extent = %id, %error, "an unchanged file is fetched again when it is next read");
                }
            }
        });
    }

    fn space(&self) -> Space {
        let tiers = self.store.usage();
        let written_to = tiers.iter().filter(|tier| tier.kind != TierKind::Mem);
        written_to.fold(Space::default(), |sum, tier| Space {
            total: sum.total + tier.quota,
            available: sum.available + tier.quota.saturating_sub(tier.used + tier.reserved),
        })
    }
}

impl Worker {
    /// After an unclean boot the bytes are compared with their checksums before the kernel serves them unchecked.
    /// Until that is done the file is read through the daemon.
    fn verify_behind(&self, extent: Arc<Extent>) {
        if !self.verifying.lock().insert(extent.id()) {
            return;
        }
        let verifying = Arc::clone(&self.verifying);
        forebay_shard::spawn(async move {
            if let Err(error) = extent.verify().await {
                tracing::warn!(extent = %extent.id(), %error, "cannot verify an extent");
            }
            verifying.lock().remove(&extent.id());
        });
    }

    /// Bytes of a location that are here.
    ///
    /// # Errors
    /// `Stale` as for a read.
    pub fn resident_bytes(&self, at: &ContentLocation) -> FsResult<u64> {
        Ok(self.find_extent(at)?.map_or(0, |extent| extent.resident_bytes()))
    }
}
