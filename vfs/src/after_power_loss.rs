//! What is put right when not the daemon but the machine went down.
//!
//! The home's log reaches the disk with anybody's `fsync`, a file's bytes only with its own. So a record can be
//! newer than the extent file it speaks of, also of a file that was closed. Whoever read it then would be told of
//! bytes that are not there; the extent file has the last word.

use crate::Vfs;
use forebay_types::{ContentLocation, FsError, FsErrorKind, FsResult};
use std::sync::Arc;

impl Vfs {
    /// Brings the record of every file with bytes of ours to what its extent file has; gives how many differed.
    /// To be called after [`Vfs::recover`] when the store says that the machine went down.
    ///
    /// # Errors
    /// As [`Vfs::recover`].
    pub async fn recover_after_power_loss(&self) -> FsResult<u64> {
        let names = Arc::clone(&self.names);
        let asked = forebay_shard::blocking(move || names.authored()).await;
        let authored = asked.map_err(|error| FsError::new(FsErrorKind::Io, error))??;
        let mut differed = 0;
        for location in authored {
            if self.record_is_wrong(&location).await? {
                // Through the same steps as a file whose writer died: from here on it is one.
                self.names.write_opened(location.ino, location.extent, None).await?;
                self.settle_found(location).await?;
                differed += 1;
            }
        }
        Ok(differed)
    }

    async fn record_is_wrong(&self, location: &ContentLocation) -> FsResult<bool> {
        match self.adopt_found(location).await? {
            Some((_, now)) => Ok(now.len != location.size),
            None => Ok(true),
        }
    }
}
