//! What `fsync` promises, step by step.
//!
//! The order is the promise: the extent's data first, then the record that says how long the file is, then the
//! home's log, and only then the reply. A crash between two steps leaves the state before the call, never a name
//! that points at bytes which are not there.

use crate::Vfs;
use crate::handles::FileHandle;
use forebay_types::{FsResult, HandleId};

impl Vfs {
    /// Makes the file and its names durable.
    ///
    /// # Errors
    /// `Io` if the tier or the log failed: then nothing is promised. The kernel tells once of bytes that a tier could not
    /// write, so the same call fails until the file is cut to nothing. Where the write mode promises the under file
    /// system: `Unavailable` or `Unsupported` with what it said.
    pub async fn fsync(&self, handle: HandleId) -> FsResult<()> {
        let file = self.handles.files.get(handle)?;
        self.sync_file(&file).await?;
        self.carry_through(file.inode()).await
    }

    pub(crate) async fn sync_file(&self, file: &FileHandle) -> FsResult<()> {
        let inode = file.inode();
        let location = inode.location()?;
        if location.extent.is_some() {
            self.client.sync(&location).await?;
        }
        let mut state = self.turn(inode).await?;
        self.fold(inode, &mut state).await?;
        drop(state);
        self.names.sync().await
    }

    /// Makes every name that was acknowledged durable (`fsync` of a directory, `syncfs`).
    ///
    /// # Errors
    /// `Io` if the log failed.
    pub async fn sync_names(&self) -> FsResult<()> {
        self.names.sync().await
    }
}
