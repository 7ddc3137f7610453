//! What changes the meaning of an extent's bits: becoming the authority for its bytes, giving that up, truncation and
//! allocation.
//!
//! **Owns** the order in which such a change reaches the disk. A length shrinks in the file before it shrinks in the
//! sidecar: recovery takes the smaller of the two, so between the steps no hole is taken for data. **Never does**
//! anything while another change runs: `change` is held exclusively throughout.

use crate::error::StoreError;
use crate::extent::{Authority, Extent, Origin};
use crate::guard::Hold;
use crate::residency::Pages;
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

    /// Gives the authority back to the under file system, which has these very bytes now. Every page is resident,
    /// and durable only where it was.
    pub(crate) async fn settle(self: &Arc<Self>, checksums: &[PageChecksum]) -> Result<(), StoreError> {
        let _held = self.hold(Hold::Filling)?;
        let _alone = self.change.write().await;
        if self.authority() == Authority::Origin {
            return Ok(());
        }
        if !self.is_complete() {
            return self.settle_partly().await;
        }
        let (size, len) = (self.page_size(), self.stat()?.len);
        self.store_len(len);
        let pages = Pages::new(size.pages_in(len));
        for page in 0..pages.count() {
            pages.set_written(PageIndex(page), checksums.get(page as usize).copied());
        }
        self.set_origin(|_| Origin { authority: Authority::Origin, len, pages: Arc::new(pages) });
        self.flush_settled().await
    }

    /// Some of the bytes were never here: what is absent stays so, what was written here has no checksum.
    async fn settle_partly(&self) -> Result<(), StoreError> {
        let (size, len) = (self.page_size(), self.stat()?.len);
        self.store_len(len);
        self.set_origin(|old| {
            let pages = old.pages.resized(size.pages_in(len));
            let pages_before = old.pages.count();
            (pages_before..pages.count()).for_each(|page| pages.set_written(PageIndex(page), None));
            let kept = old.pages.resident_pages().take_while(|page| page.0 < pages.count());
            kept.for_each(|page| pages.set_written(page, None));
            Origin { authority: Authority::Origin, len, pages: Arc::new(pages) }
        });
        self.flush_settled().await
    }

    /// Page records of an earlier time may still be on disk and say "durable" of bytes that were replaced since. They
    /// are overwritten, on the disk itself, before the header makes records count again.
    async fn flush_settled(&self) -> Result<(), StoreError> {
        self.origin().pages.resident_pages().for_each(|page| self.sidecar.note_page(page));
        self.sync_sidecar().await?;
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
