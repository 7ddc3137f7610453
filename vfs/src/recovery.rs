//! What is put right before the first operation, after a daemon that died.

use crate::Vfs;
use forebay_namespace::Recovery;
use forebay_types::{ContentLocation, ExtentId, FsResult, Ino};

impl Vfs {
    /// Settles what the last daemon left open: every write-open inode takes its size and times from its extent
    /// file and is dirty; the bytes of unlinked inodes that only an open handle kept go.
    ///
    /// # Errors
    /// The first step that failed; nothing is served before all have succeeded, so that no reader sees a size
    /// that is about to change.
    pub async fn recover(&self, found: Recovery) -> FsResult<()> {
        for (ino, extent) in found.orphans {
            self.drop_orphan(ino, extent).await?;
        }
        for location in found.write_open {
            self.settle(&location).await?;
        }
        Ok(())
    }

    async fn drop_orphan(&self, ino: Ino, extent: Option<ExtentId>) -> FsResult<()> {
        if let Some(extent) = extent {
            self.client.discard(extent).await?;
        }
        self.names.release_orphan(ino).await
    }

    async fn settle(&self, location: &ContentLocation) -> FsResult<()> {
        let Some(extent) = location.extent else {
            tracing::warn!(ino = %location.ino, "an inode was open for write without an extent");
            return Ok(());
        };
        let mut now = self.client.adopt(extent).await?;
        let (recorded, _) = self.names.attr(location.ino).await?;
        if now.mtime <= recorded.ctime {
            // The extent file was last written before the record last changed: a time that was set since stays.
            now.mtime = recorded.mtime;
        }
        self.names.update_written(location.ino, now).await?;
        self.names.write_closed(location.ino, now, true).await?;
        self.client.end_write(extent, true);
        Ok(())
    }
}
