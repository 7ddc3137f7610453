//! What changes the meaning of an extent's bits: becoming the authority for its bytes, giving that up, truncation and
//! allocation.
//!
//! **Owns** the order in which such a change reaches the disk. A length shrinks in the file before it shrinks in the
//! sidecar: recovery takes the smaller of the two, so between the steps no hole is taken for data. **Never does**
//! anything while another change runs: `change` is held exclusively throughout.

use crate::error::StoreError;
use crate::extent::{Authority, Extent, Origin};
use crate::guard::Hold;
use crate::residency::{Pages, TRACKED_PAGES_MAX};
use crate::sidecar::overloaded;
use forebay_shard::{Allocate, blocking};
use forebay_types::{PageChecksum, PageIndex};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Extent {
    /// Makes us the authority for the bytes, durably: checksums no longer count, and the length is the file's own.
    /// The index forgets the keys first ([`crate::Store::unbind_all`]).
    pub(crate) async fn become_authority(self: &Arc<Self>) -> Result<(), StoreError> {
        let _held = self.hold(Hold::Filling)?;
        let _alone = self.change.write().await;
        if self.authority() == Authority::Here {
            return Ok(());
        }
        self.unpack().await?;
        let len_unsynced = !self.len_synced.load(Ordering::Acquire);
        if len_unsynced || (self.is_complete() && !self.is_durable()) {
            // From now on the file's own length counts, and after a power loss it would be what it was before. And the
            // kernel may write all that is here without a word to us: sync(2) makes its bytes durable, but no record says so.
            let covered = self.origin().pages.not_durable();
            self.sync_bytes().await?;
            self.mark_durable(&covered);
        }
        self.punches.fetch_add(1, Ordering::AcqRel);
        self.set_origin(|old| {
            let all_safe = old.pages.resident() == old.pages.count() && old.pages.not_durable().is_empty();
            if all_safe {
                return Origin::absent(Authority::Here, 0, self.page_size());
            }
            Origin { authority: Authority::Here, len: old.len, pages: Arc::clone(&old.pages) }
        });
        self.note_all();
        self.sync_sidecar().await?;
        // Without its sidecar the file would pass for one that was born here whole.
        self.sync_entry().await
    }

    /// Gives the authority back to the under file system, which has these very bytes now.
    ///
    /// The bytes are synced first, and every page is durable from then on: whoever thinks after a power loss that this
    /// node is still the authority finds all that was ever synced.
    pub(crate) async fn settle(self: &Arc<Self>, checksums: &[PageChecksum]) -> Result<(), StoreError> {
        let _held = self.hold(Hold::Filling)?;
        let _alone = self.change.write().await;
        if self.authority() == Authority::Origin {
            return Ok(());
        }
        self.sync_bytes().await?;
        let (size, len) = (self.page_size(), self.stat()?.len);
        if size.pages_in(len) > TRACKED_PAGES_MAX {
            return Err(StoreError::Invalid("the file has too many pages to be cached"));
        }
        self.store_len(len);
        self.set_origin(|old| {
            let pages = settled_pages(&old.pages, size.pages_in(len), checksums);
            Origin { authority: Authority::Origin, len, pages: Arc::new(pages) }
        });
        self.flush_settled().await
    }

    /// Page records of an earlier time may still be on disk and say "durable" of bytes that were replaced since, and
    /// new ones must be there before a header says that what has none is absent. So they are on the disk itself first.
    async fn flush_settled(&self) -> Result<(), StoreError> {
        self.origin().pages.resident_pages().for_each(|page| self.sidecar.note_page(page));
        self.sync_records().await?;
        self.sidecar.note_header();
        self.flush_sidecar().await
    }

    /// The whole sidecar is to be written.
    fn note_all(&self) {
        self.sidecar.note_header();
        self.origin().pages.resident_pages().for_each(|page| self.sidecar.note_page(page));
    }

    /// Cuts or extends to `len`. What is added reads as zeros; what is cut is gone, also when the file grows again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] unless [`crate::Store::unbind_all`] went before; [`StoreError::Io`].
    pub async fn set_len(self: &Arc<Self>, len: u64) -> Result<(), StoreError> {
        let _held = self.hold(Hold::Filling)?;
        let _alone = self.change.write().await;
        self.check_authored()?;
        self.truncate_file(len).await?;
        if len == 0 {
            // Of what could not be written nothing is left.
            self.sync_failed.store(false, Ordering::Release);
        }
        self.store_len(len);
        if len < self.origin().len {
            self.shrink_origin(len).await?;
        }
        let _ = self.stat();
        Ok(())
    }

    async fn truncate_file(&self, len: u64) -> Result<(), StoreError> {
        let file = self.file()?;
        let truncated = blocking(move || file.std().set_len(len)).await;
        let truncated = truncated.map_err(|e| overloaded("truncating an extent", e))?;
        truncated.map_err(|e| StoreError::io(format!("truncating extent {} to {len}", self.id()), e))
    }

    async fn shrink_origin(&self, len: u64) -> Result<(), StoreError> {
        if !self.is_complete() {
            // The shorter length must be on disk before the sidecar says that nothing beyond it is missing.
            self.sync_bytes().await?;
        }
        let size = self.page_size();
        self.set_origin(|old| {
            let pages = old.pages.resized(size.pages_in(len));
            Origin { authority: old.authority, len, pages: Arc::new(pages) }
        });
        self.note_all();
        self.flush_sidecar().await
    }

    /// `fallocate(2)` on the extent, with the bits kept right.
    ///
    /// # Errors
    /// As [`Self::write`] for a page that is changed in part; [`StoreError::Invalid`] for modes that move bytes.
    pub async fn allocate(self: &Arc<Self>, mode: Allocate, offset: u64, len: u64) -> Result<(), StoreError> {
        let _held = self.hold(Hold::Filling)?;
        let end = offset.checked_add(len).ok_or(StoreError::Invalid("allocate past 2^64"))?;
        let (replaces, grows) = match mode {
            Allocate::Reserve { keep_size } => (false, !keep_size),
            Allocate::PunchHole => (true, false),
            Allocate::ZeroRange { keep_size } => (true, !keep_size),
            _ => return Err(StoreError::Invalid("an extent's bytes stay at their offsets")),
        };
        if !matches!(mode, Allocate::PunchHole) {
            self.tier().ensure_room(len).await?;
        }
        let _alone = self.change.write().await;
        self.check_authored()?;
        let covered = if replaces { self.absent_covered(offset, end.min(self.len()))? } else { Vec::new() };
        let done = self.file()?.allocate(mode, offset, len).await;
        done.map_err(|e| StoreError::io(format!("fallocate of extent {}", self.id()), e))?;
        if grows {
            self.raise_len(end);
        }
        self.mark_written(&covered);
        self.flush_sidecar().await?;
        let _ = self.stat();
        Ok(())
    }

    /// Makes a page absent whose bytes can be had again.
    pub(crate) async fn drop_page(self: &Arc<Self>, page: PageIndex) -> Result<(), StoreError> {
        let _alone = self.change.write().await;
        self.punches.fetch_add(1, Ordering::AcqRel);
        self.origin().pages.clear(page);
        self.sidecar.note_page(page);
        self.sync_sidecar().await
    }
}

/// The pages of an extent that is clean again: what was absent stays so, all else is here and synced.
fn settled_pages(before: &Pages, count: u64, checksums: &[PageChecksum]) -> Pages {
    let pages = Pages::new(count);
    let whole = before.resident() == before.count();
    for page in (0..count).map(PageIndex).filter(|page| before.is_resident(*page)) {
        // Where something is absent, the checksums are not those of what is here.
        pages.set_written(page, checksums.get(page.0 as usize).copied().filter(|_| whole));
        pages.set_durable(page);
    }
    pages
}
