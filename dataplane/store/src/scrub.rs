//! The scrubber: reads everything that has a checksum, slowly, over and over.
//!
//! **Owns** where it is in its round over the extents, and its pace in bytes a second. **Never does** more than its pace,
//! and never looks at what was written here: that has no checksum until it was carried to the under file system.

use crate::error::StoreError;
use crate::extent::Extent;
use crate::store::Store;
use crate::verify::Verdict;
use forebay_types::{ExtentId, PageIndex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Scrubber {
    to_come: VecDeque<ExtentId>,
    /// The page of the first extent to come at which to go on.
    next_page: u64,
    /// Bytes it may read now; never more than a second's worth is saved up.
    allowance: u64,
}

impl Scrubber {
    /// Reads what the pace permits after `elapsed` more time.
    pub(crate) async fn step(&mut self, store: &Arc<Store>, elapsed: Duration) -> Result<(), StoreError> {
        let rate = store.config().scrub_rate.as_u64();
        let earned = rate as u128 * elapsed.as_millis() / 1000;
        self.allowance = (self.allowance + earned as u64).min(rate);
        if self.to_come.is_empty() {
            let mut ids: Vec<_> = store.table().all().iter().map(|extent| extent.id()).collect();
            ids.sort_unstable();
            self.to_come = ids.into();
        }
        while let Some(id) = self.to_come.front().copied() {
            if !self.extent(store, id).await? {
                return Ok(());
            }
            self.to_come.pop_front();
            self.next_page = 0;
        }
        Ok(())
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
