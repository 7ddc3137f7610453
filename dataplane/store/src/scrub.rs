//! The scrubber: reads everything that has a checksum, slowly, over and over.
//!
//! **Owns** where it is in its round over the extents, and its pace in bytes a second. **Never does** more than its pace,
//! never looks at more extents in one step than the shard has time for, and never at what was written here: that has no
//! checksum until it was carried to the under file system.

use crate::error::StoreError;
use crate::extent::Extent;
use crate::store::Store;
use crate::table::Table;
use crate::verify::Verdict;
use forebay_types::{ExtentId, PageIndex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The most extents looked at in one step. What has nothing to read costs nothing of the pace, but the shard waits.
const LOOKS_PER_STEP: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Scrubber {
    /// What is still to come of the part of the index that it is in.
    to_come: VecDeque<ExtentId>,
    /// The part of the index that comes after that.
    next_part: usize,
    /// The page of the first extent to come at which to go on.
    next_page: u64,
    /// Bytes it may read now; never more than a second's worth is saved up.
    allowance: u64,
}

impl Scrubber {
    /// Reads what the pace permits after `elapsed` more time; says how many extents it is done with.
    pub(crate) async fn step(&mut self, store: &Arc<Store>, elapsed: Duration) -> Result<usize, StoreError> {
        let rate = store.config().scrub_rate.as_u64();
        let earned = rate as u128 * elapsed.as_millis() / 1000;
        self.allowance = (self.allowance + earned as u64).min(rate);
        let mut parts = 0;
        for done in 0..LOOKS_PER_STEP {
            while self.to_come.is_empty() && parts < Table::PARTS {
                parts += 1;
                self.turn_to_next_part(store.table());
            }
            let Some(id) = self.to_come.front().copied() else { return Ok(done) };
            if !self.extent(store, id).await? {
                return Ok(done);
            }
            self.to_come.pop_front();
            self.next_page = 0;
        }
        Ok(LOOKS_PER_STEP)
    }

    fn turn_to_next_part(&mut self, table: &Table) {
        self.to_come = table.ids_of_part(self.next_part).into();
        self.next_part = (self.next_part + 1) % Table::PARTS;
    }

    /// Goes on within one extent; says whether it is done with it.
    async fn extent(&mut self, store: &Arc<Store>, id: ExtentId) -> Result<bool, StoreError> {
        let Some(extent) = store.get(id) else { return Ok(true) };
        let was_open = extent.has_open_file();
        let done = self.pages(store, &extent).await;
        if !was_open {
            extent.close_idle();
        }
        done
    }

    async fn pages(&mut self, store: &Store, extent: &Arc<Extent>) -> Result<bool, StoreError> {
        let pages = extent.page_size().pages_in(extent.len());
        while self.next_page < pages {
            let page = PageIndex(self.next_page);
            if extent.checksum(page).is_none() {
                self.next_page += 1;
                continue;
            }
            let cost = extent.page_size().len_of(page, extent.len());
            if cost > self.allowance {
                return Ok(false);
            }
            self.allowance -= cost;
            store.counters().scrubbed(cost);
            if extent.verify_page(page).await? == Verdict::Dropped {
                tracing::warn!(extent = %extent.id(), page = page.0, "the scrubber dropped a page");
            }
            self.next_page += 1;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::{ExtentSpec, StoreConfig, TierConfig, TierKind};
    use forebay_shard::{Shards, ShardsConfig};
    use forebay_types::{ByteSize, ContentKey, NodeId};

    async fn with_empty_extents(dir: std::path::PathBuf, count: usize) -> Arc<Store> {
        let tier = TierConfig { name: "nvme".into(), dir, quota: ByteSize::gib(1), kind: TierKind::Nvme };
        let (store, _) = Store::open(StoreConfig::new(NodeId::new("test").unwrap(), vec![tier])).unwrap();
        for key in 1..=count as u128 {
            store.create(ExtentSpec::fetched(ContentKey(key), 0)).await.unwrap();
        }
        store
    }

    #[test]
    fn many_extents_without_a_byte_do_not_keep_the_shard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let shards = Shards::start(&ShardsConfig { cores: vec![0], ..ShardsConfig::default() }).unwrap();
        let looks = shards.handles()[0].block_on(move || async move {
            let store = with_empty_extents(path, 2 * LOOKS_PER_STEP + 1).await;
            let mut scrubber = Scrubber::default();
            let mut looks = Vec::new();
            for _ in 0..4 {
                looks.push(scrubber.step(&store, Duration::from_millis(500)).await.unwrap());
            }
            looks
        });
        assert_eq!(looks.unwrap(), [LOOKS_PER_STEP; 4], "the round begins anew after the third step");
    }

    #[test]
    fn a_step_goes_once_over_a_few_extents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let shards = Shards::start(&ShardsConfig { cores: vec![0], ..ShardsConfig::default() }).unwrap();
        let looks = shards.handles()[0].block_on(move || async move {
            let store = with_empty_extents(path, 10).await;
            Scrubber::default().step(&store, Duration::from_millis(500)).await.unwrap()
        });
        assert_eq!(looks.unwrap(), 10);
    }
}
