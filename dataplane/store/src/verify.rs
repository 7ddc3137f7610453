//! Comparing what is on the disk with its checksums.
//!
//! **Owns** what happens to a bad page: one that can be fetched again is dropped, quietly counted; one that cannot is
//! reported loudly and left as it is. **Never does** decide when: the scrubber, a read for a peer and the first
//! passthrough open after an unclean boot come here.

use crate::error::StoreError;
use crate::extent::{Authority, Extent};
use crate::sidecar::overloaded;
use forebay_shard::arena;
use forebay_types::{PageChecksum, PageIndex};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What became of a page that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes have their checksum.
    Good,
    /// There is nothing to compare: absent, or written here.
    Unknown,
    /// They do not; the page was dropped and will be fetched again.
    Dropped,
}

impl Extent {
    /// Compares every page that has a checksum, and drops the bad ones; returns how many. Afterwards the extent may be
    /// opened for passthrough, if it is still complete.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Overloaded`]: it stays unverified. [`StoreError::Gone`]: it was packed, and
    /// ended with its bad page.
    pub async fn verify(self: &Arc<Self>) -> Result<u64, StoreError> {
        let mut dropped = 0;
        let pages: Vec<_> = self.origin().pages.resident_pages().collect();
        for page in pages {
            if self.verify_page(page).await? == Verdict::Dropped {
                dropped += 1;
            }
        }
        if self.is_gone() {
            return Err(StoreError::Gone(self.id()));
        }
        self.verified.store(true, Ordering::Release);
        Ok(dropped)
    }

    /// Compares one page.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Overloaded`]: nothing is known.
    pub async fn verify_page(self: &Arc<Self>, page: PageIndex) -> Result<Verdict, StoreError> {
        let Some(expected) = self.checksum(page) else { return Ok(Verdict::Unknown) };
        let frame = arena().frame(self.page_size().bytes() as usize).await;
        let frame = frame.map_err(|e| overloaded("a frame to verify a page", e))?;
        let (file, base) = self.place()?;
        let (read, frame) = file.read_at(frame, base + self.page_size().start_of(page)).await;
        let n = read.map_err(|e| StoreError::io(format!("verifying extent {}", self.id()), e))?;
        let len = self.page_size().len_of(page, self.len()) as usize;
        if n >= len && PageChecksum::of(&frame[..len]) == expected {
            return Ok(Verdict::Good);
        }
        if self.checksum(page) != Some(expected) {
            // It was evicted or written to while it was read.
            return Ok(Verdict::Unknown);
        }
        self.report_corrupt(page).await?;
        Ok(Verdict::Dropped)
    }

    /// A page whose bytes are wrong: gone if it can be fetched again.
    pub(crate) async fn report_corrupt(self: &Arc<Self>, page: PageIndex) -> Result<(), StoreError> {
        self.tier().counters.corrupt();
        if self.authority() == Authority::Here {
            tracing::error!(extent = %self.id(), page = page.0, "a page that is nowhere else failed its checksum");
            return Ok(());
        }
        tracing::warn!(extent = %self.id(), page = page.0, "a page failed its checksum and is fetched again");
        if self.is_packed() {
            // An entry of a segment is whole or nothing.
            if let Some(store) = self.tier().store.get().and_then(std::sync::Weak::upgrade) {
                store.end(self);
            }
            return Ok(());
        }
        self.drop_page(page).await
    }
}
