//! What is put right before the first operation, after a daemon that died.

use crate::Vfs;
use forebay_namespace::Recovery;
use forebay_types::{ContentLocation, ExtentId, FileTimes, FsErrorKind, FsResult, Ino};

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
            self.settle_found(location).await?;
        }
        Ok(())
    }

    async fn drop_orphan(&self, ino: Ino, extent: Option<ExtentId>) -> FsResult<()> {
        if let Some(extent) = extent {
            self.client.discard(extent).await?;
        }
        self.names.release_orphan(ino).await
    }

    pub(crate) async fn settle_found(&self, location: ContentLocation) -> FsResult<()> {
        let ino = location.ino;
        let (extent, now) = match self.adopt_found(&location).await? {
            Some(found) => found,
            None if location.ufs.is_some() => {
                tracing::error!(%ino, "what was written last to a file did not survive: it is what it was before");
                return self.names.write_closed(ino, FileTimes::default(), false).await;
            }
            None => {
                tracing::error!(%ino, "what was written to a new file did not survive: it is empty");
                self.begin_anew(location).await?
            }
        };
        self.names.write_recovered(ino, now).await?;
        self.client.end_write(extent, true);
        Ok(())
    }

    /// The extent of a file, and what it says; `None` if it is gone: after a power loss that is so where nobody had
    /// asked for the file to be durable.
    pub(crate) async fn adopt_found(
        &self,
        location: &ContentLocation,
    ) -> FsResult<Option<(ExtentId, FileTimes)>> {
        let Some(extent) = location.extent else { return Ok(None) };
        match self.client.adopt(extent).await {
            Err(error) if error.kind() == FsErrorKind::Stale => Ok(None),
            times => Ok(Some((extent, times?))),
        }
    }

    async fn begin_anew(&self, location: ContentLocation) -> FsResult<(ExtentId, FileTimes)> {
        let nothing = ContentLocation { extent: None, ufs: None, size: 0, ..location };
        let extent = self.client.begin_write(&nothing).await?;
        self.names.write_opened(nothing.ino, Some(extent), None).await?;
        Ok((extent, self.client.adopt(extent).await?))
    }
}
