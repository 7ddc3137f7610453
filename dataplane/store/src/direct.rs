//! Long writes and reads past the page cache.
//!
//! **Owns** the choice between the two ways into an extent file that is written by the daemon: runs of
//! [`RUN_MIN`] and more on the device's grid go to it straight from the frame, which the ring has registered, without a
//! copy and without pushing anything else out of memory; all other bytes go through the page cache. **Never does** so
//! while the kernel works on the file itself (`OpenPassthrough`): its pages and ours would be two views of one file.
//!
//! **Why this shape:** short writes are not gathered in frames of our own. They are acknowledged one by one, and what is
//! acknowledged outlives the daemon: in the page cache it does, in its memory it would not. The page cache gathers them
//! as well as we could.
//!
//! What is fetched takes the same way, and is read back the same way while it is handed to a reader through the daemon:
//! the reader's side keeps pages of its own, so pages of ours would be a second copy of each, made for one reading, at the
//! cost of what others have in memory.

use crate::error::StoreError;
use crate::extent::{Authority, Extent};
use crate::guard::Hold;
use crate::sidecar::overloaded;
use forebay_shard::{File, Frame};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::Ordering;

/// The shortest run that is worth a disk's turn of its own.
const RUN_MIN: usize = 64 << 10;
/// What offset and length of a direct write are multiples of: no device asks for more. Frames begin on such a boundary.
const GRID: usize = 4096;
const _: () = assert!(RUN_MIN.is_multiple_of(GRID));
/// The shortest content for which what is fetched is worth a second open file.
const FETCHED_LEN_MIN: u64 = 1 << 20;

/// Whether a write goes past the page cache whole: nothing of it is before the grid, behind it, or too short.
fn is_run(len: usize, at: u64) -> bool {
    len >= RUN_MIN && len.is_multiple_of(GRID) && at.is_multiple_of(GRID as u64)
}

impl Extent {
    /// Whether a write may go on beside others: a run does, for others that touch the same pages do not. Where the page cache
    /// takes some bytes of a page and the disk gets the whole page past it at the same time, ext4 fails the next sync, and Linux
    /// warns that bytes may be lost (`dio_warn_stale_pagecache`).
    pub(crate) fn may_go_beside_others(&self, len: usize, at: u64) -> bool {
        is_run(len, at) || !self.may_be_direct()
    }

    /// Keeps all writes away until it is dropped, for who changes the bytes of the file by other means.
    pub async fn keep_writes_away(&self) -> impl Drop + use<'_> {
        self.change.write().await
    }

    fn may_be_direct(&self) -> bool {
        self.tier().permits_direct() && !self.is_packed() && self.held(Hold::OpenPassthrough) == 0
    }

    /// Writes a run past the page cache where that is worth it. All errors give the frame back.
    pub(crate) async fn write_ours(&self, frame: Frame, at: u64) -> Result<Frame, (StoreError, Frame)> {
        let run = frame.len() / GRID * GRID;
        if run < RUN_MIN || !at.is_multiple_of(GRID as u64) {
            return self.write_bytes(frame, at).await;
        }
        let Some(file) = self.direct_file() else { return self.write_bytes(frame, at).await };
        let (mut frame, tail) = self.split_tail(frame, run).await?;
        let whole = frame.len();
        frame.truncate(run);
        let (outcome, mut frame) = match self.write_to(&file, frame, at).await {
            Ok(frame) => (Ok(()), frame),
            Err((error, frame)) => (Err(error), frame),
        };
        frame.set_len(whole);
        match outcome {
            Ok(()) => {}
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::InvalidInput => {
                self.tier().refuse_direct();
                return self.write_bytes(frame, at).await;
            }
            Err(error) => return Err((error, frame)),
        }
        let Some(tail) = tail else { return Ok(frame) };
        match self.write_bytes(tail, at + run as u64).await {
            Ok(_) => Ok(frame),
            Err((error, _)) => Err((error, frame)),
        }
    }

    /// Writes bytes that were fetched. All errors give the frame back.
    pub(crate) async fn write_fetched(&self, frame: Frame, at: u64) -> Result<Frame, (StoreError, Frame)> {
        if self.len() < FETCHED_LEN_MIN {
            return self.write_bytes(frame, at).await;
        }
        self.write_ours(frame, at).await
    }

    /// The file for a long read of what was fetched, where that went past the page cache. It is handed on to whoever
    /// asked, who keeps it himself: pages of ours would be a second copy, made for one reading.
    pub(crate) fn direct_for_read(&self, frame: &Frame, at: u64) -> Option<File> {
        let on_grid = at.is_multiple_of(GRID as u64) && frame.len().is_multiple_of(GRID);
        let long = frame.len() >= RUN_MIN && self.len() >= FETCHED_LEN_MIN;
        let fits = on_grid && long && self.authority() == Authority::Origin;
        if fits { self.direct_file() } else { None }
    }

    /// What is left of a frame after `run` bytes, in one of its own: it does not end on the grid.
    async fn split_tail(
        &self,
        frame: Frame,
        run: usize,
    ) -> Result<(Frame, Option<Frame>), (StoreError, Frame)> {
        if frame.len() == run {
            return Ok((frame, None));
        }
        match forebay_shard::arena().frame(frame.len() - run).await {
            Ok(mut tail) => {
                tail.copy_from_slice(&frame[run..]);
                Ok((frame, Some(tail)))
            }
            Err(error) => Err((overloaded("a frame for the end of a write", error), frame)),
        }
    }

    /// The file for writes past the page cache, opened on first use; `None` where they are not to be made.
    fn direct_file(&self) -> Option<File> {
        if !self.may_be_direct() {
            return None;
        }
        let mut slot = self.direct.lock();
        if let Some(file) = slot.as_ref() {
            return Some(file.clone());
        }
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let path = self.tier().path_of(self.id());
        match std::fs::File::options().read(true).write(true).custom_flags(flags).open(path) {
            Ok(file) => {
                self.tier().opened.opened(self);
                Some(slot.insert(File::new(file)).clone())
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                self.tier().refuse_direct();
                None
            }
            // Removed, or too many files are open: the page cache takes everything.
            Err(_) => None,
        }
    }

    /// Closes the file past the page cache; says whether it was open.
    pub(crate) fn forget_direct(&self) -> bool {
        let was_open = self.direct.lock().take().is_some();
        if was_open {
            self.tier().opened.closed();
        }
        was_open
    }
}

impl crate::tier::Tier {
    fn permits_direct(&self) -> bool {
        self.direct_writes.load(Ordering::Relaxed)
    }

    /// The file system cannot write past its page cache.
    fn refuse_direct(&self) {
        if self.direct_writes.swap(false, Ordering::Relaxed) {
            tracing::info!(
                tier = self.name,
                "long writes go through the page cache: the file system knows no direct ones"
            );
        }
    }
}
