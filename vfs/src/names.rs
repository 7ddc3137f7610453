//! Names: lookup, creation, links, renames, removal.

use crate::Vfs;
use crate::handles::FileHandle;
use crate::types::{Entry, NewNode, OpenFlags, Opened, RenameFlags};
use forebay_namespace::{NewInode, RenameMode, Unlinked};
use forebay_types::{Caller, FileKind, FsErrorKind, FsResult, Ino, Name};

impl Vfs {
    /// Finds `name` in a directory. The entry counts as one lookup, which [`Vfs::forget`] gives back.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`; `Unavailable` if the UFS had to be asked and cannot be reached.
    pub async fn lookup(&self, parent: Ino, name: &Name) -> FsResult<Entry> {
        let entry = self.names.lookup(parent, name).await?;
        self.fresh(entry).await
    }

    /// Gives back `count` lookups of an inode.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.names.forget(ino, count);
    }

    /// Creates a regular file and opens it, or opens the one that is there.
    ///
    /// # Errors
    /// `Exists` with `exclusive`; `NoSpace` if the tier is full and nothing can drain.
    pub async fn create(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        flags: OpenFlags,
    ) -> FsResult<(Entry, Opened)> {
        match self.create_new(caller, parent, name, mode, flags).await {
            Err(error) if error.kind() == FsErrorKind::Exists && !flags.exclusive => {
                let entry = self.lookup(parent, name).await?;
                let opened = self.open(caller, entry.attr.ino, flags).await?;
                Ok((entry, opened))
            }
            other => other,
        }
    }

    /// The extent comes from the pool of blanks, so that a create waits for no file system; the name and the
    /// fact that it is open for write are one record in the home's log.
    async fn create_new(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &Name,
        mode: u16,
        flags: OpenFlags,
    ) -> FsResult<(Entry, Opened)> {
        let extent = self.client.create(0).await?;
        let new =
            NewInode { extent: Some(extent), write_open: true, ..NewInode::of(FileKind::Regular, mode) };
        let entry = match self.names.create(caller, parent, name, new).await {
            Ok(entry) => entry,
            Err(error) => {
                self.client.discard(extent).await?;
                return Err(error);
            }
        };
        let opened = self.open_created(entry.attr.ino, flags).await?;
        Ok((self.fresh(entry).await?, opened))
    }

    /// Opens what was just created: it is write-open in the log already, whatever the caller asked for, so
    /// that the bytes are found again if the daemon dies before the first close.
    async fn open_created(&self, ino: Ino, flags: OpenFlags) -> FsResult<Opened> {
        let inode = self.opens.enter(ino);
        let mut state = inode.lock(self.config.inode_wait_max).await?;
        if state.writing.is_none() {
            let location = self.names.content(ino).await?;
            self.start_writing(&inode, &mut state, location).await?;
        }
        let mode = self.choose_mode(&inode, &mut state)?;
        state.handles += 1;
        state.writers += 1;
        self.opens.count(&mode);
        drop(state);
        self.names.hold(ino);
        let handle =
            self.handles.add_file(FileHandle { inode: inode.keep(), writer: true, sync: flags.sync });
        Ok(Opened { handle, mode })
    }

    /// Creates a directory, a pipe, a socket, a device node or an empty regular file.
    ///
    /// # Errors
    /// `Exists`; `ReadOnly` on a read-only mount.
    pub async fn mknod(&self, caller: &Caller, parent: Ino, name: &Name, node: NewNode) -> FsResult<Entry> {
        let NewNode { kind, mode, rdev } = node;
        if kind == FileKind::Regular {
            let (entry, opened) = self.create_new(caller, parent, name, mode, OpenFlags::default()).await?;
            self.release(opened.handle).await?;
            return Ok(entry);
        }
        self.names.create(caller, parent, name, NewInode { rdev, ..NewInode::of(kind, mode) }).await
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// As [`Vfs::mknod`].
    pub async fn mkdir(&self, caller: &Caller, parent: Ino, name: &Name, mode: u16) -> FsResult<Entry> {
        self.names.create(caller, parent, name, NewInode::of(FileKind::Directory, mode)).await
    }

    /// Creates a symbolic link.
    ///
    /// # Errors
    /// As [`Vfs::mknod`]; `NameTooLong` for a target over 4,095 bytes.
    pub async fn symlink(&self, caller: &Caller, parent: Ino, name: &Name, target: &[u8]) -> FsResult<Entry> {
        // A link's own mode is never looked at; Linux shows 0777.
        let new = NewInode { link_target: Some(target.into()), ..NewInode::of(FileKind::Symlink, 0o777) };
        self.names.create(caller, parent, name, new).await
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
        let entry = self.names.link(caller, ino, parent, name).await?;
        self.fresh(entry).await
    }

    /// Takes a name away; the bytes stay while the inode has another name or an open handle.
    ///
    /// # Errors
    /// `NotFound`; `IsADirectory`.
    pub async fn unlink(&self, caller: &Caller, parent: Ino, name: &Name) -> FsResult<()> {
        let unlinked = self.names.unlink(caller, parent, name).await?;
        self.after_unlink(unlinked).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotADirectory`; `Busy` for a mount point.
    pub async fn rmdir(&self, caller: &Caller, parent: Ino, name: &Name) -> FsResult<()> {
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
        let mode = match flags {
            RenameFlags::Replace => RenameMode::Replace,
            RenameFlags::NoReplace => RenameMode::NoReplace,
            RenameFlags::Exchange => RenameMode::Exchange,
        };
        match self.names.rename(caller, from, to, mode).await? {
            Some(replaced) => self.after_unlink(replaced).await,
            None => Ok(()),
        }
    }

    async fn after_unlink(&self, unlinked: Unlinked) -> FsResult<()> {
        if unlinked.nlink > 0 { Ok(()) } else { self.reap(unlinked.ino).await }
    }
}
