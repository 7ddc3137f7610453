//! Going on with what a process before this one had open, under the handles that it gave out.
//!
//! **Owns** the steps from a former handle to one of ours. They are those of an open ([`crate::opens`]) with two
//! differences: the mode is the one that the kernel has the inode in, and a file without a name is none the less open.
//! **Never does** choose which handles there were: the front door, which gave them out, says so.
//!
//! Runs after [`Vfs::recover`], which settled every file as if nobody had it open, and before the first operation.

use crate::Vfs;
use crate::handles::{FileHandle, HeldInode};
use crate::open_inode::{Mode, OpenInode, OpenState};
use crate::opens::Unsettled;
use crate::types::{IoMode, OpenFlags};
use forebay_namespace::DirPlace;
use forebay_types::{FsError, FsErrorKind, FsResult, HandleId, Ino};

/// A file that a process before this one had open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerFile {
    /// Its handle.
    pub handle: HandleId,
    /// The inode.
    pub ino: Ino,
    /// What it was opened for.
    pub flags: OpenFlags,
    /// Whether the kernel works on the extent file itself.
    pub passthrough: bool,
}

impl Vfs {
    /// Goes on with a file. What the kernel writes to it past us counts from here on, as from an open.
    ///
    /// # Errors
    /// `Stale` if the inode or its bytes are gone; those of an open for write. There is no such handle then.
    pub async fn adopt_file(&self, former: &FormerFile) -> FsResult<IoMode> {
        // Whatever becomes of it: the kernel uses the number until it is released.
        self.handles.skip(former.handle);
        let inode = self.opens.enter(former.ino);
        let unsettled = former.flags.write.then(|| Unsettled::new(self, &inode));
        let mut state = self.turn(&inode).await?;
        if inode.users().handles == 0 {
            self.adopt_idle(&inode, &mut state, former.passthrough).await?;
        }
        if former.flags.write {
            if former.passthrough {
                inode.set_kernel_writes(true);
            }
            self.begin_writing(&inode, &mut state).await?;
        }
        let held = HeldInode::take(self, inode.ino).await?;
        let mode = state.io_mode().ok_or(FsErrorKind::Stale)?;
        self.opens.opened(&mode, inode.location().map_or(0, |location| location.size));
        let file = FileHandle::new(self, inode.clone(), former.flags, held);
        self.handles.readd_file(former.handle, file);
        if let Some(unsettled) = unsettled {
            unsettled.settled();
        }
        Ok(mode)
    }

    /// The first handle of an inode: where its bytes are, and the mode that the kernel has it in.
    async fn adopt_idle(&self, inode: &OpenInode, state: &mut OpenState, passthrough: bool) -> FsResult<()> {
        let (attr, _) = self.names.attr(inode.ino).await?;
        inode.set_unlinked(attr.nlink == 0);
        if state.writing.is_none() {
            inode.set_location(self.names.content(inode.ino).await?);
        }
        state.mode = match passthrough {
            false => Mode::Cached { keep_cache: false },
            true => match self.client.backing(&*inode.location()?) {
                Some(backing) => Mode::Passthrough(backing),
                None => {
                    let what = format!("the extent file of inode {}, which the kernel has open", inode.ino);
                    return Err(FsError::new(FsErrorKind::Stale, format!("{what}, is not here")));
                }
            },
        };
        Ok(())
    }

    /// Goes on with the listing of a directory.
    ///
    /// # Errors
    /// `Stale` if the directory is gone. There is no such handle then.
    pub async fn adopt_dir(&self, handle: HandleId, ino: Ino, place: DirPlace) -> FsResult<()> {
        self.handles.skip(handle);
        let mut stream = self.names.open_dir(ino).await?;
        stream.resume(place).await?;
        self.handles.readd_dir(handle, stream);
        Ok(())
    }

    /// The log's number when a listing began.
    ///
    /// # Errors
    /// `Stale` if there is no such handle.
    pub async fn dir_began(&self, handle: HandleId) -> FsResult<u64> {
        let dir = self.handles.dirs.get(handle)?;
        let began = dir.stream.lock().await.began();
        Ok(began)
    }
}
