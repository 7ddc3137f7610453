//! Directories: open, list, close.

use crate::Vfs;
use crate::types::{DirEntryOut, Listed, Taken};
use forebay_namespace::{Attributes, DirEntry};
use forebay_types::{FsResult, HandleId, Ino};

impl Vfs {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// `NotADirectory`.
    pub async fn opendir(&self, ino: Ino) -> FsResult<HandleId> {
        let stream = self.names.open_dir(ino).await?;
        Ok(self.handles.add_dir(stream))
    }

    /// Up to `limit` entries from `offset` on (0, or the `next_offset` of an entry seen before), with what `tells` says of
    /// each but `.` and `..`. One that brings its attributes counts as a lookup once the front door takes it
    /// ([`Vfs::take_entry`]).
    ///
    /// # Errors
    /// `Unavailable` if the UFS could not be listed: never a short listing.
    pub async fn readdir(
        &self,
        handle: HandleId,
        offset: u64,
        limit: usize,
        tells: Attributes,
    ) -> FsResult<Vec<DirEntryOut>> {
        let dir = self.handles.dirs.get(handle)?;
        let listed = dir.stream.lock().await.read_with(offset, limit, tells).await?;
        let mut entries = Vec::with_capacity(listed.len());
        for DirEntry { name, ino, kind, next_offset, entry } in listed {
            let entry = match entry {
                Some(entry) if tells == Attributes::AtHand => self.fresh_now(entry),
                Some(entry) => Some(self.fresh(entry).await?),
                None => None,
            };
            entries.push(DirEntryOut { name, ino, kind, next_offset, entry });
        }
        Ok(entries)
    }

    /// Shows `take` the entries from `offset` on until it takes no more, with the attributes that are known just now if `tells`
    /// asks for them, and counts the lookups. Says whether they could be shown like that; if not, none was, and
    /// [`Vfs::readdir`] has them.
    ///
    /// # Errors
    /// As [`Vfs::readdir`], also after entries were taken.
    pub async fn show_dir(
        &self,
        handle: HandleId,
        offset: u64,
        tells: Attributes,
        take: impl FnMut(&Listed<'_>) -> Taken,
    ) -> FsResult<bool> {
        let dir = self.handles.dirs.get(handle)?;
        dir.stream.lock().await.show(offset, tells, take).await
    }

    /// The front door took an entry with attributes: it counts as a lookup.
    pub fn take_entry(&self, ino: Ino) {
        self.names.remember(ino, 1);
    }

    /// Closes a directory.
    ///
    /// # Errors
    /// `Stale` if it was not open.
    pub fn releasedir(&self, handle: HandleId) -> FsResult<()> {
        self.handles.dirs.remove(handle).map(drop)
    }
}
