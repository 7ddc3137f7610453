//! What only this process gets: open files for passthrough, the end of a write, space.

use crate::Worker;
use crate::counters::add;
use crate::place::content_of;
use crate::sessions::{Returning, Sessions};
use forebay_net::{Backing, Local, Space};
use forebay_shard::Frame;
use forebay_store::{Authority, Extent, Hold, Store, StoreError};
use forebay_types::{ContentLocation, ExtentId, FsResult};
use std::sync::Arc;
use std::time::Duration;

impl Local for Worker {
    fn read_now(
        &self,
        at: &ContentLocation,
        offset: u64,
        priority: Option<i32>,
        mut frame: Frame,
    ) -> Result<Frame, Frame> {
        let Ok(Some(extent)) = self.find_extent(at) else { return Err(frame) };
        let len = Self::length(at, Some(&extent)).saturating_sub(offset).min(frame.len() as u64);
        // Who reads what is not all here is read ahead for.
        if len == 0 || !extent.is_complete() {
            return Err(frame);
        }
        frame.truncate(len as usize);
        let frame = extent.read_now(frame, offset)?;
        if let Some(priority) = priority {
            extent.rank(priority);
        }
        add(&self.counters.read_bytes, len);
        add(&self.counters.reads_hit, 1);
        Ok(frame)
    }

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
        let file = extent.file().ok()?.shared();
        self.settle_behind(at, &extent);
        extent.touch(0);
        Some(Backing::new(extent.id(), file, guard))
    }

    fn publish(&self, id: ExtentId, changed: bool) {
        let (Some(session), Some(extent)) = (self.sessions.get(id), self.store.get(id)) else { return };
        session.publish(changed, || extent.note_writer());
    }

    fn end_write(&self, id: ExtentId, changed: bool) {
        if let (Some(session), Some(extent)) = (self.sessions.get(id), self.store.get(id)) {
            // Before the session is gone: who finds none must not count it.
            match (changed, session.was_published()) {
                (false, false) => extent.note_unchanged(),
                // What was published of it is not what it has now.
                (true, true) => extent.note_writer(),
                _ => {}
            }
        }
        let Some(session) = self.sessions.end(id) else { return };
        let keys = session.close();
        drop(session);
        if changed || keys.is_empty() {
            return;
        }
        let (store, sessions, within) =
            (Arc::clone(&self.store), Arc::clone(&self.sessions), self.config.turn_within);
        let returning = self.sessions.begin_return(id, keys);
        forebay_shard::spawn(async move {
            if let Err(error) = give_back(&store, &sessions, returning, within).await {
                tracing::warn!(extent = %id, %error, "an unchanged file is fetched again when it is next read");
            }
        });
    }

    fn rank(&self, id: ExtentId, priority: i32) {
        if let Some(extent) = self.store.get(id) {
            extent.rank(priority);
        }
    }

    fn space(&self) -> Space {
        let tier = self.store.written_to();
        let taken = tier.authored + tier.reserved;
        Space { total: tier.quota, available: tier.quota.saturating_sub(taken) }
    }
}

/// Has an extent found by its keys again, unless the next writer has taken them over.
async fn give_back(
    store: &Arc<Store>,
    sessions: &Sessions,
    returning: Returning,
    within: Duration,
) -> FsResult<()> {
    let _turn = sessions.turn(returning.id, within).await?;
    store.rebind(returning.id, &returning.keys_left()).await?;
    // Its keys are in the store, and the turn is still ours.
    drop(returning);
    Ok(())
}

impl Worker {
    /// The extent that holds bytes of a location, if there is one.
    pub fn extent_of(&self, at: &ContentLocation) -> Option<Arc<Extent>> {
        self.find_extent(at).ok().flatten()
    }

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

    /// What the kernel reads by itself is to be found by whoever takes over from this process, who knows what is settled.
    fn settle_behind(&self, at: &ContentLocation, extent: &Extent) {
        let unsettled = at.extent.is_none() && extent.authority() == Authority::Here;
        if let Some(content) = content_of(at).filter(|_| unsettled) {
            self.later.urge(content);
        }
    }

    /// Bytes of a location that are here.
    pub(crate) fn resident_bytes(&self, at: &ContentLocation) -> FsResult<u64> {
        Ok(self.find_extent(at)?.map_or(0, |extent| extent.resident_bytes()))
    }

    /// Evicts what is clean of a location and in nobody's use.
    pub(crate) async fn evict(&self, at: &ContentLocation) -> FsResult<u64> {
        if let Some(content) = content_of(at)
            && let Err(error) = self.settle_now(content).await
        {
            tracing::debug!(extent = ?at.extent, %error, "what was to be evicted could not be settled");
        }
        let Some(extent) = self.find_extent(at)? else { return Ok(0) };
        match self.store.evict_now(extent.id()) {
            Err(StoreError::Gone(_)) => Ok(0),
            freed => Ok(freed?),
        }
    }
}
