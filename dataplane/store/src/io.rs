//! Bytes in and out of an extent: read, fill, write, sync.
//!
//! **Owns** the order of steps that keeps the bits true: bytes reach the file before their bit is set, a bit is on disk as
//! durable only after an `fdatasync` that covered its bytes, and a page that is already here is never filled over.
//! **Never does** fetch anything: an absent page is an error that says which. All of it is polled on a shard.

use crate::error::StoreError;
use crate::extent::{Authority, Extent};
use crate::guard::Hold;
use crate::sidecar::overloaded;
use forebay_shard::{File, Frame, blocking, spawn};
use forebay_types::{PageChecksum, PageIndex};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl Extent {
    /// Reads into the frame's whole length at `offset`; the frame is cut short at the end of the file.
    ///
    /// # Errors
    /// [`StoreError::NotResident`] if a page is not here, or was evicted while it was read: fetch it.
    pub async fn read(self: &Arc<Self>, mut frame: Frame, offset: u64) -> Result<Frame, StoreError> {
        if self.is_packed() {
            if self.needs_verify() {
                self.verify().await?;
            }
            // What follows in the segment is another file.
            frame.truncate(self.len().saturating_sub(offset) as usize);
        }
        let end = offset.saturating_add(frame.len() as u64);
        let punches = self.punches.load(Ordering::Acquire);
        self.check_resident(offset, end)?;
        self.touch(offset);
        self.mark_used();
        let (read, mut frame) = match self.direct_for_read(&frame, offset) {
            Some(file) => file.read_at(frame, offset).await,
            None => {
                let (file, base) = self.place()?;
                let done = file.read_now_at(&mut frame, base + offset);
                self.note_memory(done == frame.len());
                file.read_rest_at(frame, done, base + offset).await
            }
        };
        let n = read.map_err(|e| StoreError::io(format!("reading extent {}", self.id()), e))?;
        if self.punches.load(Ordering::Acquire) != punches {
            // A hole may have been read. The bits were cleared before it was punched.
            return Err(StoreError::NotResident {
                extent: self.id(),
                page: self.page_size().page_of(offset),
            });
        }
        frame.truncate(n);
        Ok(frame)
    }

    /// Reads one whole page (short at the end of the file) and compares its checksum where one counts.
    ///
    /// # Errors
    /// As [`Self::read`]; [`StoreError::Corrupt`] if the bytes are not what they were: a page that can be fetched
    /// again was dropped, so fetch it.
    pub async fn read_verified(self: &Arc<Self>, page: PageIndex, frame: Frame) -> Result<Frame, StoreError> {
        if frame.len() as u64 != self.page_size().bytes() {
            return Err(StoreError::Invalid("a verified read takes a frame of one page"));
        }
        let expected = self.checksum(page);
        let frame = self.read(frame, self.page_size().start_of(page)).await?;
        match expected {
            Some(expected) if PageChecksum::of(&frame) != expected => {
                self.report_corrupt(page).await?;
                Err(StoreError::Corrupt { extent: self.id(), page })
            }
            _ => Ok(frame),
        }
    }

    /// The checksum of a page, where one counts: it is resident and nobody wrote to it here.
    pub fn checksum(&self, page: PageIndex) -> Option<PageChecksum> {
        let origin = self.origin();
        (origin.authority == Authority::Origin).then(|| origin.pages.checksum(page)).flatten()
    }

    fn check_resident(&self, offset: u64, end: u64) -> Result<(), StoreError> {
        if self.is_resident(offset..end) {
            return Ok(());
        }
        let page = self.missing(offset..end).first().copied().unwrap_or(self.page_size().page_of(offset));
        Err(StoreError::NotResident { extent: self.id(), page })
    }

    /// Tells the eviction policy that the bytes at `offset` were used. [`Self::read`] does it by itself; a
    /// front door does it at the open and release of a passthrough file.
    pub fn touch(&self, offset: u64) {
        if self.authority() == Authority::Origin {
            self.tier().evictor.touched(self, offset);
        }
    }

    /// Puts bytes of the under file system where they belong: the frame holds whole adjacent pages from `first`
    /// on, the last of which is short at the end of the file. Pages that are here already stay as they are.
    ///
    /// # Errors
    /// All give the frame back, so that its bytes can be served without being kept. [`StoreError::NoSpace`] if
    /// the tier is full of what is in use, [`StoreError::Gone`] and [`StoreError::Busy`] as [`Self::hold`].
    pub async fn fill(
        self: &Arc<Self>,
        first: PageIndex,
        frame: Frame,
    ) -> Result<Frame, (StoreError, Frame)> {
        let _held = match self.hold(Hold::Filling) {
            Ok(held) => held,
            Err(error) => return Err((error, frame)),
        };
        if let Err(error) = self.tier().ensure_room(frame.len() as u64).await {
            return Err((error, frame));
        }
        if self.authority() == Authority::Origin {
            let _others_fill_too = self.change.read().await;
            if self.authority() == Authority::Origin {
                return self.fill_pages(first, frame).await;
            }
        }
        // Somebody writes here: what is written must not be filled over, so the bits are read and set in one go.
        let _alone = self.change.write().await;
        self.fill_pages(first, frame).await
    }

    async fn fill_pages(&self, first: PageIndex, frame: Frame) -> Result<Frame, (StoreError, Frame)> {
        let pages = match self.pages_to_fill(first, frame.len()) {
            Ok(pages) => pages,
            Err(error) => return Err((error, frame)),
        };
        let origin = self.origin();
        if pages.iter().all(|page| origin.pages.is_resident(*page)) {
            return Ok(frame);
        }
        drop(origin);
        let frame = self.write_absent(first, &pages, frame).await?;
        if let Err(error) = self.flush_sidecar().await {
            return Err((error, frame));
        }
        if self.authority() == Authority::Origin {
            self.tier().note_filled(self.id());
            if self.is_complete() {
                self.tier().note_packable(self);
            }
            self.tier().evictor.filled(self, self.page_size().start_of(first));
        }
        // Space is counted by what the file system says; if it says nothing, the old count stands.
        let _ = self.stat();
        Ok(frame)
    }

    /// The pages a frame of `len` bytes from `first` on covers.
    fn pages_to_fill(&self, first: PageIndex, len: usize) -> Result<Vec<PageIndex>, StoreError> {
        let (size, origin) = (self.page_size(), self.origin());
        let start = size.start_of(first);
        let end = start + len as u64;
        let whole = (len as u64).is_multiple_of(size.bytes());
        if len == 0 || !(whole || end >= origin.len) {
            return Err(StoreError::Invalid("a fill takes whole pages, short at the end of the file only"));
        }
        // A truncation may have shortened what comes from the under file system since the fetch began.
        Ok((first.0..size.pages_in(end.min(origin.len))).map(PageIndex).collect())
    }

    /// Writes the absent ones of `pages`, all in one write if they all are, and sets their bits.
    async fn write_absent(
        &self,
        first: PageIndex,
        pages: &[PageIndex],
        mut frame: Frame,
    ) -> Result<Frame, (StoreError, Frame)> {
        let (size, origin) = (self.page_size(), self.origin_full());
        let start = size.start_of(first);
        let none_is_here = pages.iter().all(|page| !origin.pages.is_resident(*page));
        let full_len = frame.len();
        if none_is_here {
            frame.truncate((origin.len - start).min(full_len as u64) as usize);
            frame = self.write_fetched(frame, start).await?;
        }
        for page in pages.iter().filter(|page| !origin.pages.is_resident(**page)) {
            let at = (size.start_of(*page) - start) as usize;
            let len = size.len_of(*page, origin.len) as usize;
            if !none_is_here {
                frame = self.write_part(frame, at..at + len, start + at as u64).await?;
            }
            let _swap_waits = self.bits.read();
            self.origin().pages.set_written(*page, Some(PageChecksum::of(&frame[at..at + len])));
            self.sidecar.note_page(*page);
        }
        frame.set_len(full_len);
        Ok(frame)
    }

    /// Writes to the extent's own file. If its file system is full before the quota is, room is made once.
    pub(crate) async fn write_bytes(&self, frame: Frame, at: u64) -> Result<Frame, (StoreError, Frame)> {
        match self.file() {
            Ok(file) => self.write_to(&file, frame, at).await,
            Err(error) => Err((error, frame)),
        }
    }

    /// Writes to the extent's own file, opened one way or the other.
    pub(crate) async fn write_to(
        &self,
        file: &File,
        frame: Frame,
        at: u64,
    ) -> Result<Frame, (StoreError, Frame)> {
        let (mut written, mut frame) = file.write_at(frame, at).await;
        let full = written.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::StorageFull);
        if full && self.tier().free_on_disk(frame.len() as u64).await {
            (written, frame) = file.write_at(frame, at).await;
        }
        match written {
            Ok(_) => Ok(frame),
            Err(e) => Err((StoreError::io(format!("writing extent {}", self.id()), e), frame)),
        }
    }

    /// Writes a part of a frame by way of another one. Rare: some of a fetched run was here already.
    async fn write_part(
        &self,
        frame: Frame,
        part: std::ops::Range<usize>,
        at: u64,
    ) -> Result<Frame, (StoreError, Frame)> {
        let mut copy = match forebay_shard::arena().frame(part.len()).await {
            Ok(copy) => copy,
            Err(e) => return Err((overloaded("a frame for a page", e), frame)),
        };
        copy.copy_from_slice(&frame[part]);
        match self.write_bytes(copy, at).await {
            Ok(_) => Ok(frame),
            Err((error, _)) => Err((error, frame)),
        }
    }

    /// Writes bytes born here. [`crate::Store::unbind_all`] went before.
    ///
    /// # Errors
    /// All give the frame back. [`StoreError::NotResident`] if a page of the under file system is covered in part and
    /// not here: fill it first. [`StoreError::NoSpace`], [`StoreError::Gone`], [`StoreError::Busy`],
    /// [`StoreError::Io`].
    pub async fn write(self: &Arc<Self>, frame: Frame, offset: u64) -> Result<Frame, (StoreError, Frame)> {
        let _held = match self.hold(Hold::Filling) {
            Ok(held) => held,
            Err(error) => return Err((error, frame)),
        };
        let end = match self.admit_write(offset, frame.len() as u64).await {
            Ok(end) => end,
            Err(error) => return Err((error, frame)),
        };
        if self.may_go_beside_others(frame.len(), offset) {
            let _others_write_too = self.change.read().await;
            if self.is_born_here(offset) {
                return self.write_born_here(frame, offset, end).await;
            }
        }
        let _alone = self.change.write().await;
        if self.is_born_here(offset) {
            return self.write_born_here(frame, offset, end).await;
        }
        self.write_over_origin(frame, offset, end).await
    }

    /// Whether all bytes from `offset` on came into being here.
    fn is_born_here(&self, offset: u64) -> bool {
        self.authority() == Authority::Here && offset >= self.origin().len
    }

    /// Checks what needs no lock; gives the offset of the end.
    async fn admit_write(self: &Arc<Self>, offset: u64, len: u64) -> Result<u64, StoreError> {
        self.check_authored()?;
        let end = offset.checked_add(len).ok_or(StoreError::Invalid("a write past 2^64"))?;
        self.tier().ensure_room(len).await?;
        Ok(end)
    }

    /// Writes where pages of the under file system may be absent; `change` is held exclusively.
    async fn write_over_origin(
        &self,
        frame: Frame,
        offset: u64,
        end: u64,
    ) -> Result<Frame, (StoreError, Frame)> {
        let covered = match self.check_authored().and_then(|()| self.absent_covered(offset, end)) {
            Ok(covered) => covered,
            Err(error) => return Err((error, frame)),
        };
        let frame = self.write_born_here(frame, offset, end).await?;
        self.mark_written(&covered);
        match self.flush_sidecar().await {
            Ok(()) => Ok(frame),
            Err(error) => Err((error, frame)),
        }
    }

    pub(crate) fn check_authored(&self) -> Result<(), StoreError> {
        if self.authority() == Authority::Origin {
            return Err(StoreError::Invalid("writing to an extent that is still bound to a content key"));
        }
        Ok(())
    }

    async fn write_born_here(
        &self,
        frame: Frame,
        offset: u64,
        end: u64,
    ) -> Result<Frame, (StoreError, Frame)> {
        let frame = self.write_ours(frame, offset).await?;
        self.raise_len(end);
        // Space is counted by what the file system says; if it says nothing, the old count stands.
        let _ = self.stat();
        Ok(frame)
    }

    /// The absent pages that a change of `offset..end` replaces as a whole; an error if it replaces one in part.
    pub(crate) fn absent_covered(&self, offset: u64, end: u64) -> Result<Vec<PageIndex>, StoreError> {
        let (size, origin) = (self.page_size(), self.origin());
        if offset >= end {
            return Ok(Vec::new());
        }
        let pages = origin.pages.missing(size.page_of(offset).0..size.pages_in(end));
        let in_part = pages.iter().find(|page| {
            let start = size.start_of(**page);
            let page_end = start + size.len_of(**page, origin.len);
            offset > start || end < page_end
        });
        match in_part {
            Some(page) => Err(StoreError::NotResident { extent: self.id(), page: *page }),
            None => Ok(pages),
        }
    }

    pub(crate) fn mark_written(&self, pages: &[PageIndex]) {
        let _swap_waits = self.bits.read();
        for page in pages {
            self.origin().pages.set_written(*page, None);
            self.sidecar.note_page(*page);
        }
    }

    /// Makes everything written before the call survive a power loss: bytes, then bits, then the directory entry.
    /// Pages the kernel wrote to an open passthrough file are covered too.
    ///
    /// # Errors
    /// [`StoreError::Io`]: nothing is known of what is on disk, and the bits say so. From then on every sync fails, until
    /// the file is cut to nothing.
    pub async fn sync(self: &Arc<Self>) -> Result<(), StoreError> {
        let (extent, (tell, told)) = (Arc::clone(self), oneshot::channel());
        // To its end, also where nobody waits for it any more: the kernel tells of what it could not write once.
        spawn(async move { drop(tell.send(extent.sync_to_the_end().await)) });
        told.await.map_err(|e| overloaded("syncing an extent", e))?
    }

    async fn sync_to_the_end(self: &Arc<Self>) -> Result<(), StoreError> {
        let _held = self.hold(Hold::Filling)?;
        if self.is_packed() {
            return Ok(());
        }
        let covered = self.origin().pages.not_durable();
        self.sync_bytes().await?;
        self.mark_durable(&covered);
        self.sync_sidecar().await?;
        self.sync_entry().await
    }

    /// An `fdatasync` that began after the bits of `pages` were set has covered their bytes.
    pub(crate) fn mark_durable(&self, pages: &[PageIndex]) {
        let _swap_waits = self.bits.read();
        for page in pages {
            self.origin().pages.set_durable(*page);
            self.sidecar.note_page(*page);
        }
    }

    pub(crate) async fn sync_bytes(&self) -> Result<(), StoreError> {
        if self.tier().skip_data_sync {
            return Ok(());
        }
        let (file, _) = self.place()?;
        let failed = |e| StoreError::io(format!("syncing extent {}", self.id()), e);
        let synced = file.sync_data().await;
        self.tier().note_sync(synced.is_ok());
        self.sync_failed.fetch_or(synced.is_err(), Ordering::AcqRel);
        synced.map_err(failed)?;
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(failed(std::io::Error::other("what an earlier sync could not write is lost")));
        }
        self.len_synced.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) async fn sync_entry(&self) -> Result<(), StoreError> {
        if self.entry_synced.load(Ordering::Acquire) {
            return Ok(());
        }
        let (tier, id) = (Arc::clone(self.tier()), self.id());
        let synced = blocking(move || tier.sync_dir_of(id)).await;
        let synced = synced.map_err(|e| overloaded("syncing a directory of extents", e))?;
        synced.map_err(|e| StoreError::io(format!("syncing the directory of extent {id}"), e))?;
        self.entry_synced.store(true, Ordering::Release);
        Ok(())
    }
}
