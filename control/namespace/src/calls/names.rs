//! Calls that find, make and take away names, and count who refers to what they lead to.

use crate::namespace::{Entry, Namespace};
use crate::ops;
use crate::ops::create::NewInode;
use crate::ops::rename::RenameMode;
use crate::ops::unlink::Unlinked;
use forebay_types::{Caller, FsErrorKind, FsResult, Ino, Name};

impl Namespace {
    async fn counted(&self, ino: Ino) -> FsResult<Entry> {
        let inode = self.inode(ino).await?;
        self.shared.table.count_lookups(&inode, 1);
        self.entry(&inode)
    }

    /// Finds `name` in a directory. The entry counts as one lookup, which [`Namespace::forget`] gives back.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `Stale`; `Unavailable` if the UFS had to be asked and did not answer.
    pub async fn lookup(&self, parent: Ino, name: &Name) -> FsResult<Entry> {
        let dir = self.inode(parent).await?;
        let found = self.resolve(&dir, name).await?.ok_or(FsErrorKind::NotFound)?;
        self.shared.table.count_lookups(&found, 1);
        self.entry(&found)
    }

    /// As [`Namespace::lookup`], if the answer is known: nobody is asked and nothing waited for.
    pub fn lookup_now(&self, parent: Ino, name: &Name) -> Option<FsResult<Entry>> {
        let dir = self.shared.table.get(parent)?;
        let Some(found) = self.resolve_cached(&dir, name).ok()?? else {
            return Some(Err(FsErrorKind::NotFound.into()));
        };
        let entry = self.entry(&found).ok()?;
        self.shared.table.count_lookups(&found, 1);
        Some(Ok(entry))
    }

    /// Gives back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.shared.table.forget(ino, count);
    }

    /// Counts `count` lookups of an inode that a listing has shown.
    pub fn remember(&self, ino: Ino, count: u64) {
        if let Some(inode) = self.shared.table.get(ino) {
            self.shared.table.count_lookups(&inode, count);
        }
    }

    /// Keeps an inode in the table while it is open, until [`Namespace::unhold`].
    ///
    /// # Errors
    /// `Stale` if the inode is gone: it is not held then.
    pub async fn hold(&self, ino: Ino) -> FsResult<()> {
        // Whoever has the inode in hand keeps it from being forgotten before it is counted as held.
        self.shared.table.hold(&*self.inode(ino).await?);
        Ok(())
    }

    /// Ends one [`Namespace::hold`].
    pub fn unhold(&self, ino: Ino) {
        self.shared.table.unhold(ino);
    }

    /// Makes an inode with its first name. The entry counts as one lookup.
    ///
    /// # Errors
    /// `Exists`, `NotADirectory`, `ReadOnly`, `NameTooLong` for a link target; `NotFound` if the directory was
    /// removed.
    pub async fn create(&self, caller: &Caller, parent: Ino, name: &Name, new: NewInode) -> FsResult<Entry> {
        let (caller, called, cleared) = (*caller, name.clone(), self.alone.cleared());
        let made =
            self.mutate(move |txn| ops::create::create(txn, caller, parent, &called, new.clone())).await?;
        self.learn_made((parent, name), &made, cleared);
        self.counted(made.ino).await
    }

    /// Gives an inode a further name. The entry counts as one lookup.
    ///
    /// # Errors
    /// `Exists`, `TooManyLinks`, `CrossesMounts`; `NotPermitted` for a directory.
    pub async fn link(&self, _caller: &Caller, ino: Ino, parent: Ino, name: &Name) -> FsResult<Entry> {
        let name = name.clone();
        self.mutate(move |txn| ops::link::link(txn, ino, parent, &name)).await?;
        self.counted(ino).await
    }

    /// Takes a name away. When it was the last one of a regular file, its record stays until
    /// [`Namespace::release_orphan`].
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `ReadOnly`.
    pub async fn unlink(&self, _caller: &Caller, parent: Ino, name: &Name) -> FsResult<Unlinked> {
        let name = name.clone();
        self.mutate(move |txn| ops::unlink::unlink(txn, parent, &name)).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotADirectory`, `Busy` for a mount point.
    pub async fn rmdir(&self, _caller: &Caller, parent: Ino, name: &Name) -> FsResult<()> {
        let name = name.clone();
        self.mutate(move |txn| ops::unlink::rmdir(txn, parent, &name)).await
    }

    /// Renames; yields what was replaced.
    ///
    /// # Errors
    /// `Exists` with [`RenameMode::NoReplace`], `NotEmpty`, `IsADirectory`, `NotADirectory`, `CrossesMounts`;
    /// `Invalid` for a directory moved into itself; `Busy` for a mount point.
    pub async fn rename(
        &self,
        _caller: &Caller,
        from: (Ino, &Name),
        to: (Ino, &Name),
        mode: RenameMode,
    ) -> FsResult<Option<Unlinked>> {
        let from = (from.0, from.1.clone());
        let to = (to.0, to.1.clone());
        self.mutate(move |txn| ops::rename::rename(txn, from.clone(), to.clone(), mode)).await
    }
}
