//! Open files: open, read, write, allocate, seek, close. The bytes themselves are the client's.

use crate::Vfs;
use crate::handles::FileHandle;
use crate::search::Search;
use crate::table::InodeRef;
use crate::types::{AllocateMode, OpenFlags, Opened, Whence};
use forebay_shard::Frame;
use forebay_types::limits::FILE_LEN_MAX;
use forebay_types::{Caller, ContentLocation, FsErrorKind, FsResult, HandleId, Ino};
use std::sync::Arc;

impl Vfs {
    /// Opens a regular file.
    ///
    /// # Errors
    /// `Stale` if the inode is gone; `IsADirectory`, or `Invalid` for what else has no bytes; for a writer `ReadOnly`,
    /// `QuotaExceeded` and `NoSpace`.
    pub async fn open(&self, _caller: &Caller, ino: Ino, flags: OpenFlags) -> FsResult<Opened> {
        if flags.write {
            self.demand_writable(ino).await?;
            self.demand_quota(ino).await?;
        }
        self.open_inode(self.opens.enter(ino), flags).await
    }

    /// Reads up to `len` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// `Unavailable` or `TimedOut` if the UFS had to be asked and did not answer; `Stale` if its content changed
    /// under the handle and the old bytes are not here.
    pub async fn read(&self, handle: HandleId, offset: u64, len: usize) -> FsResult<Frame> {
        self.read_into(handle, offset, len, None).await
    }

    /// As [`Vfs::read`]; the bytes come in the frame `into` where that can be without a copy, else in another one.
    ///
    /// # Errors
    /// Those of [`Vfs::read`]; the frame is lost.
    pub async fn read_into(
        &self,
        handle: HandleId,
        offset: u64,
        len: usize,
        mut into: Option<Frame>,
    ) -> FsResult<Frame> {
        let file = self.handles.files.get(handle)?;
        let mut location = self.bytes_of(file.inode()).await?;
        let mut search = Search::new(self, file.inode());
        loop {
            match self.client.read_into(&location, offset, len, into.take()).await {
                Err(error) if error.kind() == FsErrorKind::Stale => {
                    location = Box::pin(search.next(&location, error)).await?;
                }
                other => return other,
            }
        }
    }

    /// As [`Vfs::read_into`], if all of it is in the memory of this host: nothing is waited for.
    ///
    /// # Errors
    /// The frame, of any length: the read is to be made by [`Vfs::read_into`].
    pub fn read_now(&self, handle: HandleId, offset: u64, frame: Frame) -> Result<Frame, Frame> {
        let Ok(file) = self.handles.files.get(handle) else { return Err(frame) };
        match &*file.inode().peek_location() {
            Some(location) if !file.inode().has_kernel_writes() => {
                self.client.read_now(location, offset, frame)
            }
            _ => Err(frame),
        }
    }

    /// Where the bytes of an open file are. What the kernel may have written past us is taken note of first: the data
    /// path knows only what went through it.
    async fn bytes_of(&self, inode: &InodeRef) -> FsResult<Arc<ContentLocation>> {
        let location = inode.location()?;
        if let Some(extent) = location.extent.filter(|_| inode.has_kernel_writes()) {
            self.client.adopt(extent).await?;
        }
        Ok(location)
    }

    /// [`Vfs::bytes_of`] a file that is about to be changed. Whose writers count as closed just now has writers again.
    async fn writable_bytes_of(&self, inode: &InodeRef) -> FsResult<Arc<ContentLocation>> {
        if inode.is_published() {
            Box::pin(self.settle(inode.clone())).await?;
        }
        inode.touch();
        self.bytes_of(inode).await
    }

    /// Writes all of `frame`.
    ///
    /// # Errors
    /// `FileTooLarge`, `NoSpace`, `Io`; those of [`Vfs::read`] if the rest of a page is not here.
    pub async fn write(&self, handle: HandleId, offset: u64, frame: Frame) -> FsResult<usize> {
        let file = self.writable(handle)?;
        let end = offset.checked_add(frame.len() as u64).filter(|end| *end <= FILE_LEN_MAX);
        if end.is_none() {
            return Err(FsErrorKind::FileTooLarge.into());
        }
        self.room_from_discards().await;
        let written = self.write_bytes(file.inode(), offset, frame).await?;
        if file.sync {
            Box::pin(self.sync_file(&file)).await?;
        }
        Ok(written)
    }

    async fn write_bytes(&self, inode: &InodeRef, offset: u64, mut frame: Frame) -> FsResult<usize> {
        let mut location = self.writable_bytes_of(inode).await?;
        let mut search = Search::new(self, inode);
        loop {
            match self.client.try_write(&location, offset, frame).await {
                Err((error, Some(unwritten))) if error.kind() == FsErrorKind::Stale => {
                    location = Box::pin(search.next(&location, error)).await?;
                    frame = unwritten;
                }
                written => return written.map_err(|(error, _)| error),
            }
        }
    }

    fn writable(&self, handle: HandleId) -> FsResult<Arc<FileHandle>> {
        let file = self.handles.files.get(handle)?;
        if !file.writer {
            return Err(FsErrorKind::AccessDenied.into());
        }
        file.set_flushed(false);
        Ok(file)
    }

    /// Reserves, frees or zeroes a range.
    ///
    /// # Errors
    /// `Unsupported` where the tier's file system cannot; `NoSpace`, `QuotaExceeded`.
    pub async fn fallocate(
        &self,
        handle: HandleId,
        mode: AllocateMode,
        offset: u64,
        len: u64,
    ) -> FsResult<()> {
        let file = self.writable(handle)?;
        if offset.checked_add(len).is_none_or(|end| end > FILE_LEN_MAX) {
            return Err(FsErrorKind::FileTooLarge.into());
        }
        if mode != AllocateMode::PunchHole {
            self.demand_quota(file.inode().ino).await?;
        }
        self.room_from_discards().await;
        let mut location = self.writable_bytes_of(file.inode()).await?;
        let mut search = Search::new(self, file.inode());
        loop {
            match self.client.allocate(&location, mode.into(), offset, len).await {
                Err(error) if error.kind() == FsErrorKind::Stale => {
                    location = Box::pin(search.next(&location, error)).await?;
                }
                other => return other,
            }
        }
    }

    /// The next data or hole at or after `offset`.
    ///
    /// # Errors
    /// `OutOfRange` past the end.
    pub async fn lseek(&self, handle: HandleId, offset: u64, whence: Whence) -> FsResult<u64> {
        let file = self.handles.files.get(handle)?;
        let location = self.bytes_of(file.inode()).await?;
        self.client.seek(&location, offset, whence.into()).await
    }

    /// Copies a range between two open files within the tier.
    ///
    /// # Errors
    /// `Unsupported` if one of them is not wholly here: the caller then copies through memory. `Invalid` if the
    /// ranges overlap in one file.
    pub async fn copy_file_range(
        &self,
        from: (HandleId, u64),
        to: (HandleId, u64),
        len: u64,
    ) -> FsResult<u64> {
        let (source, target) = (self.handles.files.get(from.0)?, self.writable(to.0)?);
        if to.1.checked_add(len).is_none_or(|end| end > FILE_LEN_MAX) {
            return Err(FsErrorKind::FileTooLarge.into());
        }
        if source.inode().ino == target.inode().ino && from.1.abs_diff(to.1) < len {
            return Err(FsErrorKind::Invalid.into());
        }
        let (here, there) =
            (self.bytes_of(source.inode()).await?, self.writable_bytes_of(target.inode()).await?);
        let copied = self.client.copy_range((&here, from.1), (&there, to.1), len).await?;
        if target.sync {
            self.sync_file(&target).await?;
        }
        Ok(copied)
    }

    /// One descriptor of the handle was closed.
    ///
    /// # Errors
    /// Those of [`Vfs::fsync`] where `sync_on_close` or the write mode asks for it.
    pub async fn flush(&self, handle: HandleId) -> FsResult<()> {
        let file = self.handles.files.get(handle)?;
        if !file.writer {
            return Ok(());
        }
        file.set_flushed(true);
        if self.syncs_on_close(file.inode().ino).await {
            Box::pin(self.sync_file(&file)).await?;
        }
        self.carry_through(file.inode()).await
    }

    /// Whether a close promises what `fsync` does.
    pub(crate) async fn syncs_on_close(&self, ino: Ino) -> bool {
        // A file without a name or a mount is nobody's to find again.
        self.config.sync_on_close || self.names.policy(ino).await.is_ok_and(|policy| policy.sync_on_close)
    }

    /// The last descriptor of the handle was closed.
    ///
    /// # Errors
    /// `Stale` if there is no such handle. Any other is for the log: the handle is closed all the same, and what could
    /// not be settled is tried again behind the scenes.
    pub async fn release(&self, handle: HandleId) -> FsResult<()> {
        match Arc::into_inner(self.handles.files.remove(handle)?) {
            Some(file) => {
                let writer = file.writer;
                let inode = file.leave(self);
                self.settle(inode.clone()).await?;
                if writer { self.let_go(inode).await } else { Ok(()) }
            }
            // An operation on it is still under way, and closes it when it ends.
            None => Ok(()),
        }
    }
}

impl From<AllocateMode> for forebay_client::AllocateMode {
    fn from(mode: AllocateMode) -> Self {
        match mode {
            AllocateMode::Grow => Self::Grow,
            AllocateMode::KeepSize => Self::KeepSize,
            AllocateMode::PunchHole => Self::PunchHole,
            AllocateMode::ZeroRange => Self::ZeroRange,
            AllocateMode::ZeroRangeKeepSize => Self::ZeroRangeKeepSize,
        }
    }
}

impl From<Whence> for forebay_client::SeekTo {
    fn from(whence: Whence) -> Self {
        match whence {
            Whence::Data => Self::Data,
            Whence::Hole => Self::Hole,
        }
    }
}
