//! Names: lookup, creation, links, renames, removal.
//!
//! **Owns** the steps that join a change of names with the bytes behind them: an extent for a new file, the end of the
//! bytes of one that lost its last name. **Never does** decide about names: that is the name space's home. Steps that
//! must not be left halfway go on by themselves ([`crate::to_the_end`]), and what they hand to the front door
//! undoes itself if nobody takes it.

use crate::Vfs;
use crate::to_the_end::{Looked, NewExtent, NewHandle};
use crate::types::{Entry, NewNode, OpenFlags, Opened, RenameFlags};
use forebay_namespace::{NewInode, RenameMode, Unlinked};
use forebay_types::{Caller, FileKind, FsError, FsErrorKind, FsResult, Ino, Name};
use std::sync::Arc;
use std::time::Duration;

/// How long the kernel may keep the attributes of a file that was just made: it looks at its mode before open(2) returns, and
/// would ask for it. What is written to the file ends it, but for a store to a mapping, whose time may be as much older.
const BORN_TTL: Duration = Duration::from_millis(10);

/// How often a create turns from making a file to opening the one that is there, and back, when others make and
/// remove it all the time.
const CREATE_TRIES: usize = 16;

impl Vfs {
    /// Finds `name` in a directory. The entry counts as one lookup, which [`Vfs::forget`] gives back.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`; `Unavailable` if the UFS had to be asked and cannot be reached.
    pub async fn lookup(&self, parent: Ino, name: &Name) -> FsResult<Entry> {
        let looked = Looked::new(self, self.names.lookup(parent, name).await?);
        let fresh = self.fresh(looked.entry()).await?;
        Ok(looked.give(fresh))
    }

    /// As [`Vfs::lookup`], if the answer is known: nothing is waited for.
    pub fn lookup_now(&self, parent: Ino, name: &Name) -> Option<FsResult<Entry>> {
        let entry = match self.names.lookup_now(parent, name)? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let fresh = self.fresh_now(entry);
        if fresh.is_none() {
            self.forget(entry.attr.ino, 1);
        }
        fresh.map(Ok)
    }

    /// Gives back `count` lookups of an inode.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.names.forget(ino, count);
    }

    /// Creates a regular file and opens it, or opens the one that is there.
    ///
    /// # Errors
    /// `Exists` with `exclusive`; `IsADirectory` or `Invalid` if something else has the name; `ReadOnly`; `NoSpace` if
    /// the tier is full and nothing can drain.
    pub async fn create(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        flags: OpenFlags,
    ) -> FsResult<(Entry, Opened)> {
        for _ in 0..CREATE_TRIES {
            match self.create_new(caller, parent, name, mode, flags).await {
                Err(error) if error.kind() == FsErrorKind::Exists && !flags.exclusive => {}
                other => return other,
            }
            match Box::pin(self.open_named(caller, parent, name, flags)).await {
                // Whoever had the name has lost it in between.
                Err(error) if matches!(error.kind(), FsErrorKind::NotFound | FsErrorKind::Stale) => {}
                other => return other,
            }
        }
        Err(FsError::new(FsErrorKind::Overloaded, format!("{name:?} was made and removed again and again")))
    }

    async fn open_named(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &Name,
        flags: OpenFlags,
    ) -> FsResult<(Entry, Opened)> {
        let looked = Looked::new(self, self.names.lookup(parent, name).await?);
        let opened = self.open(caller, looked.entry().attr.ino, flags).await?;
        let opened = NewHandle::new(self, opened);
        let fresh = self.fresh(looked.entry()).await?;
        Ok((looked.give(fresh), opened.give()))
    }

    async fn create_new(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        flags: OpenFlags,
    ) -> FsResult<(Entry, Opened)> {
        self.demand_writable(parent).await?;
        self.demand_quota(parent).await?;
        let (caller, name) = (*caller, name.clone());
        let work = |vfs: Arc<Self>| async move { vfs.create_steps(caller, parent, name, mode, flags).await };
        let (looked, fresh, opened) = self.to_the_end(work).await?;
        Ok((looked.give(fresh), opened.give()))
    }

    /// The extent comes from the pool of blanks, so that a create waits for no file system; the name and the
    /// fact that it is open for write are one record in the home's log.
    async fn create_steps(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: Name,
        mode: u16,
        flags: OpenFlags,
    ) -> FsResult<(Looked, Entry, NewHandle)> {
        let extent = self.with_room(async || NewExtent::take(self).await).await?;
        let (id, kind) = (extent.id(), FileKind::Regular);
        let new = NewInode {
            extent: Some(id),
            extent_mtime: Some(extent.times.mtime),
            write_open: true,
            ..NewInode::of(kind, mode)
        };
        let looked = Looked::new(self, self.names.create(&caller, parent, &name, new).await?);
        let baseline = extent.named();
        let inode = self.opens.enter(looked.entry().attr.ino);
        inode.set_born(id);
        let opened = NewHandle::new(self, self.open_born(inode, baseline, flags).await?);
        let entry = looked.entry();
        let fresh = Entry { attr_ttl: BORN_TTL.min(entry.entry_ttl), ..entry };
        Ok((looked, fresh, opened))
    }

    /// Creates a directory, a pipe, a socket, a device node or an empty regular file.
    ///
    /// # Errors
    /// `Exists`; `ReadOnly` on a read-only mount.
    pub async fn mknod(&self, caller: &Caller, parent: Ino, name: &Name, node: NewNode) -> FsResult<Entry> {
        let NewNode { kind, mode, rdev } = node;
        if kind != FileKind::Regular {
            return self.make(caller, parent, name, NewInode { rdev, ..NewInode::of(kind, mode) }).await;
        }
        let (entry, opened) = self.create_new(caller, parent, name, mode, OpenFlags::default()).await?;
        if let Err(error) = self.release(opened.handle).await {
            // The file is there, and is settled behind the scenes.
            tracing::warn!(ino = %entry.attr.ino, %error, "a new file could not be closed yet");
        }
        Ok(entry)
    }

    async fn make(&self, caller: &Caller, parent: Ino, name: &Name, new: NewInode) -> FsResult<Entry> {
        self.demand_writable(parent).await?;
        self.names.create(caller, parent, name, new).await
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// As [`Vfs::mknod`].
    pub async fn mkdir(&self, caller: &Caller, parent: Ino, name: &Name, mode: u16) -> FsResult<Entry> {
        self.make(caller, parent, name, NewInode::of(FileKind::Directory, mode)).await
    }

    /// Creates a symbolic link.
    ///
    /// # Errors
    /// As [`Vfs::mknod`]; `NameTooLong` for a target over 4,095 bytes.
    pub async fn symlink(&self, caller: &Caller, parent: Ino, name: &Name, target: &[u8]) -> FsResult<Entry> {
        // A link's own mode is never looked at; Linux shows 0777.
        let new = NewInode { link_target: Some(target.into()), ..NewInode::of(FileKind::Symlink, 0o777) };
        self.make(caller, parent, name, new).await
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `Invalid` if it is none.
    pub async fn readlink(&self, ino: Ino) -> FsResult<Box<[u8]>> {
        self.names.readlink(ino).await
    }

    /// Gives an inode a further name.
    ///
    /// # Errors
    /// `Exists`, `TooManyLinks`, `CrossesMounts`; `NotPermitted` for a directory.
    pub async fn link(&self, caller: &Caller, ino: Ino, parent: Ino, name: &Name) -> FsResult<Entry> {
        self.demand_writable(parent).await?;
        self.demand_writable(ino).await?;
        let looked = Looked::new(self, self.names.link(caller, ino, parent, name).await?);
        let fresh = self.fresh(looked.entry()).await?;
        Ok(looked.give(fresh))
    }

    /// Takes a name away; the bytes stay while the inode has another name or an open handle.
    ///
    /// # Errors
    /// `NotFound`; `IsADirectory`; `ReadOnly`.
    pub async fn unlink(&self, caller: &Caller, parent: Ino, name: &Name) -> FsResult<()> {
        self.demand_removable(parent, name).await?;
        let (caller, name) = (*caller, name.clone());
        let work = |vfs: Arc<Self>| async move {
            let unlinked = vfs.names.unlink(&caller, parent, &name).await?;
            vfs.after_unlink(unlinked).await;
            Ok(())
        };
        self.to_the_end(work).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotADirectory`; `Busy` for a mount point.
    pub async fn rmdir(&self, caller: &Caller, parent: Ino, name: &Name) -> FsResult<()> {
        self.demand_removable(parent, name).await?;
        self.names.rmdir(caller, parent, name).await
    }

    /// Renames, in one step that readers see whole or not at all.
    ///
    /// # Errors
    /// `Exists` with `NoReplace`; `Invalid` for a directory moved into itself; `CrossesMounts`.
    pub async fn rename(
        &self,
        caller: &Caller,
        from: (Ino, &Name),
        to: (Ino, &Name),
        flags: RenameFlags,
    ) -> FsResult<()> {
        self.demand_removable(from.0, from.1).await?;
        self.demand_removable(to.0, to.1).await?;
        let mode = match flags {
            RenameFlags::Replace => RenameMode::Replace,
            RenameFlags::NoReplace => RenameMode::NoReplace,
            RenameFlags::Exchange => RenameMode::Exchange,
        };
        let (caller, from, to) = (*caller, (from.0, from.1.clone()), (to.0, to.1.clone()));
        let work = |vfs: Arc<Self>| async move {
            let (from, to) = ((from.0, &from.1), (to.0, &to.1));
            if let Some(replaced) = vfs.names.rename(&caller, from, to, mode).await? {
                vfs.after_unlink(replaced).await;
            }
            Ok(())
        };
        self.to_the_end(work).await
    }

    /// The name is gone, whatever becomes of the bytes: a caller who was told of a failure could only ask again for
    /// what is not there any more.
    async fn after_unlink(&self, unlinked: Unlinked) {
        if unlinked.nlink == 0 {
            self.reap(unlinked.ino).await;
        }
    }
}
