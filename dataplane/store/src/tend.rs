//! Housekeeping: what makes the store keep its promises while nobody asks for anything.
//!
//! **Owns** the rhythm of background work on a store: keeping tiers below their watermark, syncing filled pages so that
//! they count after a power loss, closing files that nobody uses, scrubbing, packing, moving between tiers. **Never
//! does** anything a caller waits for, and every step of a round is bounded, so that the shard it runs on stays quick.

use crate::error::StoreError;
use crate::extent::{Authority, Extent};
use crate::scrub::Scrubber;
use crate::sidecar::overloaded;
use crate::store::Store;
use crate::tier::Tier;
use forebay_shard::{blocking, sleep, stop_requested};
use forebay_types::PageIndex;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The time between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// Above this many extents to sync, one `syncfs` is cheaper than two `fdatasync` each.
const SYNC_ONE_BY_ONE_MAX: usize = 16;
/// The most extents made durable in one round.
const SYNC_AT_ONCE_MAX: usize = 4096;

impl Store {
    /// Works on the store until the shard is asked to stop. To be spawned once, on one shard.
    pub async fn tend(self: Arc<Self>) {
        let mut scrubber = Scrubber::default();
        let mut stop = pin!(stop_requested());
        while let Either::Left(_) = select(pin!(sleep(ROUND)), &mut stop).await {
            self.tend_once(&mut scrubber, ROUND).await;
        }
    }

    /// One round, `elapsed` after the last.
    pub(crate) async fn tend_once(self: &Arc<Self>, scrubber: &mut Scrubber, elapsed: Duration) {
        for tier in self.tiers() {
            log_failure("evicting below the watermark", self.keep_below_watermark(tier).await);
            log_failure("syncing filled pages", self.sync_filled(tier).await);
            log_failure("moving to a faster tier", self.promote_hot(tier).await);
            log_failure("packing", self.pack_due(tier).await);
        }
        log_failure("closing idle files", self.close_idle_files().await);
        log_failure("scrubbing", scrubber.step(self, elapsed).await);
    }

    /// Makes pages durable that were filled a while ago.
    async fn sync_filled(&self, tier: &Arc<Tier>) -> Result<(), StoreError> {
        let due = tier.take_filled(self.config().sync_delay, SYNC_AT_ONCE_MAX);
        let due: Vec<_> = due.into_iter().filter_map(|id| self.get(id)).filter(|e| !e.is_durable()).collect();
        if due.len() > SYNC_ONE_BY_ONE_MAX {
            match self.sync_together(tier, &due).await {
                // Each file's own sync tells whether it was that one.
                Err(error) => log_failure::<()>("syncing many files at once", Err(error)),
                synced => return synced,
            }
        }
        for extent in due {
            match extent.sync().await {
                // It is going, so nothing of it needs to last.
                Ok(()) | Err(StoreError::Gone(_)) => {}
                Err(StoreError::Io { what, source }) if extent.authority() == Authority::Origin => {
                    tracing::warn!(what, error = %source, "a cached file is dropped: its bytes may be lost");
                    self.end(&extent);
                }
                Err(StoreError::Busy { .. }) => tier.note_filled(extent.id()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One `syncfs` for the bytes of many extents. Their sidecars follow when the kernel writes them back.
    async fn sync_together(&self, tier: &Arc<Tier>, due: &[Arc<Extent>]) -> Result<(), StoreError> {
        // What the kernel has told of and forgotten is not in this sync.
        let due = due.iter().filter(|extent| !extent.sync_failed.load(Ordering::Acquire));
        let held: Vec<_> = due.filter_map(|e| e.hold(crate::Hold::Filling).ok()).collect();
        let covered: Vec<Vec<PageIndex>> =
            held.iter().map(|held| held.extent().origin().pages.not_durable()).collect();
        let whole = Arc::clone(tier);
        let synced = blocking(move || whole.sync_all()).await.map_err(|e| overloaded("syncing a tier", e))?;
        synced.map_err(|e| StoreError::io(format!("syncing tier {}", tier.name), e))?;
        for (held, pages) in held.iter().zip(covered) {
            held.extent().mark_durable(&pages);
            held.extent().len_synced.store(true, Ordering::Release);
            held.extent().flush_sidecar().await?;
        }
        Ok(())
    }

    /// Closes files that were not used since the last look, while more are open than there may be. Away from the shard: it
    /// may look at every one that is open.
    async fn close_idle_files(self: &Arc<Self>) -> Result<(), StoreError> {
        if !self.tiers().iter().any(|tier| tier.has_too_many_open()) {
            return Ok(());
        }
        let store = Arc::clone(self);
        let closed = blocking(move || store.tiers().iter().for_each(|tier| tier.close_all_idle()));
        closed.await.map_err(|e| overloaded("closing idle files", e))
    }
}

fn log_failure<T>(what: &'static str, result: Result<T, StoreError>) {
    match result {
        Ok(_) | Err(StoreError::NoSpace { .. }) => {}
        Err(error) => tracing::warn!(what, %error, "housekeeping failed and is tried again"),
    }
}

/// Extents with filled pages that no sync has covered, by the time of the first such fill.
#[derive(Debug, Default)]
pub(crate) struct Filled(std::collections::VecDeque<(Instant, forebay_types::ExtentId)>);

impl Filled {
    pub(crate) fn note(&mut self, id: forebay_types::ExtentId) {
        self.0.push_back((Instant::now(), id));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take_due(&mut self, delay: Duration, max: usize) -> Vec<forebay_types::ExtentId> {
        let due = self.0.iter().take(max).take_while(|(since, _)| since.elapsed() >= delay).count();
        self.0.drain(..due).map(|(_, id)| id).collect()
    }
}
