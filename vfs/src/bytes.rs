//! Open files: open, read, write, allocate, seek, close. The bytes themselves are the client's.

use crate::Vfs;
use crate::handles::FileHandle;
use crate::open_inode::OpenInode;
use crate::types::{AllocateMode, OpenFlags, Opened, Whence};
use forebay_shard::Frame;
use forebay_types::limits::FILE_LEN_MAX;
use forebay_types::{Caller, ContentLocation, FsErrorKind, FsResult, HandleId, Ino};
use std::sync::Arc;

impl Vfs {
    /// Opens a regular file.
    ///
    /// # Errors
    /// `Stale` if the inode is gone; `NoSpace` above the dirty high mark; `ReadOnly`.
    pub async fn open(&self, _caller: &Caller, ino: Ino, flags: OpenFlags) -> FsResult<Opened> {
        let (inode, mode) = self.open_inode(ino, flags).await?;
        let handle = self.handles.add_file(FileHandle { inode, writer: flags.write, sync: flags.sync });
        Ok(Opened { handle, mode })
    }

    /// Reads up to `len` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// `Unavailable` or `TimedOut` if the UFS had to be asked and did not answer; `Stale` if its content changed
    /// under the handle and the old bytes are not here.
    pub async fn read(&self, handle: HandleId, offset: u64, len: usize) -> FsResult<Frame> {
        let file = self.handles.files.get(handle)?;
        let location = file.inode.location()?;
        match self.client.read(&location, offset, len).await {
            Err(error) if error.kind() == FsErrorKind::Stale => {
                let moved = self.relocate(&file.inode, &location).await?.ok_or(error)?;
                self.client.read(&moved, offset, len).await
            }
            other => other,
        }
    }

    /// Asks the name space again where the bytes are: they may have been persisted and evicted since the
    /// handle was opened. `None` if they are where they were.
    async fn relocate(
        &self,
        inode: &OpenInode,
        known: &ContentLocation,
    ) -> FsResult<Option<Arc<ContentLocation>>> {
        let now = self.names.content(inode.ino).await?;
        Ok((now != *known).then(|| inode.set_location(now)))
    }

    /// Writes all of `frame`.
    ///
    /// # Errors
    /// `FileTooLarge`, `NoSpace`, `Io`.
    pub async fn write(&self, handle: HandleId, offset: u64, frame: Frame) -> FsResult<usize> {
        let file = self.writable(handle)?;
        let end = offset.checked_add(frame.len() as u64).filter(|end| *end <= FILE_LEN_MAX);
        if end.is_none() {
            return Err(FsErrorKind::FileTooLarge.into());
        }
        let written = self.client.write(&*file.inode.location()?, offset, frame).await?;
        if file.sync {
            self.sync_file(&file).await?;
        }
        Ok(written)
    }

    fn writable(&self, handle: HandleId) -> FsResult<Arc<FileHandle>> {
        let file = self.handles.files.get(handle)?;
        if file.writer { Ok(file) } else { Err(FsErrorKind::AccessDenied.into()) }
    }

    /// Reserves, frees or zeroes a range.
    ///
    /// # Errors
    /// `Unsupported` where the tier's file system cannot; `NoSpace`.
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
        self.client.allocate(&*file.inode.location()?, mode.into(), offset, len).await
    }

    /// The next data or hole at or after `offset`.
    ///
    /// # Errors
    /// `OutOfRange` past the end.
    pub async fn lseek(&self, handle: HandleId, offset: u64, whence: Whence) -> FsResult<u64> {
        let file = self.handles.files.get(handle)?;
        self.client.seek(&*file.inode.location()?, offset, whence.into()).await
    }

    /// Copies a range between two open files within the tier.
    ///
    /// # Errors
    /// `Unsupported` if one of them is not wholly here: the caller then copies through memory.
    pub async fn copy_file_range(
        &self,
        from: (HandleId, u64),
        to: (HandleId, u64),
        len: u64,
    ) -> FsResult<u64> {
        let (source, target) = (self.handles.files.get(from.0)?, self.writable(to.0)?);
        let (source, target) = (source.inode.location()?, target.inode.location()?);
        self.client.copy_range((&source, from.1), (&target, to.1), len).await
    }

    /// One descriptor of the handle was closed.
    ///
    /// # Errors
    /// Those of [`Vfs::fsync`] where `sync_on_close` asks for it.
    pub async fn flush(&self, handle: HandleId) -> FsResult<()> {
        let file = self.handles.files.get(handle)?;
        if file.writer && self.config.sync_on_close { self.sync_file(&file).await } else { Ok(()) }
    }

    /// The last descriptor of the handle was closed.
    ///
    /// # Errors
    /// Nobody can act on one; it is for the log.
    pub async fn release(&self, handle: HandleId) -> FsResult<()> {
        let file = self.handles.files.remove(handle)?;
        self.close_inode(Arc::clone(&file.inode), file.writer).await
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
