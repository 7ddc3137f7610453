//! Directories: open, list, close.

use crate::Vfs;
use crate::types::DirEntryOut;
use forebay_namespace::DirEntry;
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

    /// Up to `limit` entries from `offset` on (0, or the `next_offset` of an entry seen before). With
    /// `with_attrs` each entry but `.` and `..` brings its attributes and counts as a lookup once the front
    /// door takes it ([`Vfs::take_entry`]).
    ///
    /// # Errors
    /// `Unavailable` if the UFS could not be listed: never a short listing.
    pub async fn readdir(
        &self,
        handle: HandleId,
        offset: u64,
        limit: usize,
        with_attrs: bool,
    ) -> FsResult<Vec<DirEntryOut>> {
        let dir = self.handles.dirs.get(handle)?;
        let listed = dir.stream.lock().await.read(offset, limit).await?;
        let mut entries = Vec::with_capacity(listed.len());
        for entry in listed {
            entries.push(self.dir_entry_out(entry, with_attrs).await?);
        }
        Ok(entries)
    }

    async fn dir_entry_out(&self, listed: DirEntry, with_attrs: bool) -> FsResult<DirEntryOut> {
        let is_dot = matches!(&*listed.name, b"." | b"..");
        let entry = match listed.entry {
            Some(entry) if with_attrs && !is_dot => Some(self.fresh(entry).await?),
            _ => None,
        };
        Ok(DirEntryOut {
            name: listed.name,
            ino: listed.ino,
            kind: listed.kind,
            next_offset: listed.next_offset,
            entry,
        })
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
