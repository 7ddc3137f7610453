//! Requests on open files.

use super::backing::Opening;
use super::{Asker, Dispatch, done};
use crate::op::{CopyEnd, Place};
use crate::reply::{OpenMode, OpenReply, Reply};
use forebay_shard::Frame;
use forebay_types::{FsError, FsErrorKind, FsResult, HandleId, Ino};
use forebay_vfs::{IoMode, OpenFlags, Opened, Whence};

/// The most bytes one `copy_file_range` is asked to copy: the count goes back in 32 bits, and whoever asked can only
/// be interrupted between two requests.
const COPY_LEN_MAX: u64 = 64 << 20;
const _: () = assert!(COPY_LEN_MAX <= u32::MAX as u64);

impl Dispatch {
    pub(super) async fn open(&self, asker: Asker<'_>, ino: Ino, flags: OpenFlags) -> FsResult<Reply> {
        self.clear_at_open(asker.caller, ino, flags).await?;
        let opened = self.vfs.open(asker.caller, ino, flags).await?;
        Ok(Reply::Opened(self.open_reply(asker, ino, opened, flags).await?))
    }

    pub(super) async fn create(
        &self,
        asker: Asker<'_>,
        at: &Place,
        mode: u16,
        flags: OpenFlags,
    ) -> FsResult<Reply> {
        let (entry, opened) = self.vfs.create(asker.caller, at.parent, &at.name, mode, flags).await?;
        self.privileges.note(Some(mode));
        match self.open_reply(asker, entry.attr.ino, opened, flags).await {
            Ok(opened) => Ok(Reply::Created(self.entry_reply(&entry), opened)),
            Err(error) => {
                // The kernel is not told of the inode, so it will never forget it.
                self.vfs.forget(entry.attr.ino, 1);
                Err(error)
            }
        }
    }

    async fn open_reply(
        &self,
        asker: Asker<'_>,
        ino: Ino,
        opened: Opened,
        flags: OpenFlags,
    ) -> FsResult<OpenReply> {
        let Opened { handle, mode } = opened;
        let opening = Opening { ino, handle, flags, asked: asker.id, epoch: self.privileges.now() };
        let mode = match mode {
            IoMode::Passthrough(file) => match self.open_files.add_passthrough(opening, file) {
                Ok(id) => OpenMode::Passthrough(id),
                Err(error) => return Err(Box::pin(self.close_unusable(handle, error)).await),
            },
            IoMode::Cached { keep_cache } => {
                self.open_files.add(opening);
                OpenMode::Cached { keep_cache }
            }
        };
        Ok(OpenReply { handle, mode, flush: flags.write })
    }

    /// The kernel refused the backing file. Another mode would break the handles that are open already, so the open
    /// fails; the start-up trial makes sure that this is no everyday event.
    async fn close_unusable(&self, handle: HandleId, error: std::io::Error) -> FsError {
        tracing::error!(%handle, %error, "the kernel refused a backing file");
        if let Err(error) = self.vfs.release(handle).await {
            tracing::warn!(%handle, %error, "an open that failed could not be closed");
        }
        FsError::new(FsErrorKind::Io, format!("the kernel refused a backing file: {error}"))
    }

    /// A read of what is in memory into the frame that is wanted, which stays where it is otherwise.
    pub(super) fn read_now(&self, handle: HandleId, offset: u64, into: &mut Option<Frame>) -> Option<Reply> {
        match self.vfs.read_now(handle, offset, into.take()?) {
            Ok(frame) => Some(Reply::Data(frame)),
            Err(frame) => {
                *into = Some(frame);
                None
            }
        }
    }

    pub(super) async fn write(&self, handle: HandleId, offset: u64, data: Frame) -> FsResult<Reply> {
        let written = self.vfs.write(handle, offset, data).await?;
        Ok(Reply::Written(u32::try_from(written).expect("a write is bounded by the request's size")))
    }

    /// The kernel has let go of the backing file before it sends RELEASE, and the file system must not choose a new
    /// mode while its id is still registered here: so the id goes first.
    pub(super) async fn release(&self, handle: HandleId) -> FsResult<Reply> {
        self.open_files.remove(handle);
        done(self.vfs.release(handle).await)
    }

    pub(super) async fn lseek(&self, handle: HandleId, offset: u64, whence: Whence) -> FsResult<Reply> {
        Ok(Reply::Offset(self.vfs.lseek(handle, offset, whence).await?))
    }

    pub(super) async fn copy_file_range(&self, from: CopyEnd, to: CopyEnd, len: u64) -> FsResult<Reply> {
        let (from, to) = ((from.handle, from.offset), (to.handle, to.offset));
        let copied = self.vfs.copy_file_range(from, to, len.min(COPY_LEN_MAX)).await?;
        Ok(Reply::Written(u32::try_from(copied).expect("no more is copied than was asked for")))
    }
}
