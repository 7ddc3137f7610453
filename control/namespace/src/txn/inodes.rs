//! Inodes as a mutation sees and changes them.

use super::{Fate, OpResult, Txn};
use crate::names::Answer;
use crate::record::{Dentry, InodeRecord, Shadow, UfsAt};
use forebay_types::{FsErrorKind, FsResult, Ino, InodeState, UfsKey};
use std::sync::Arc;

impl Txn<'_> {
    /// The record of an inode, stored or only in memory.
    pub(crate) fn inode(&self, ino: Ino) -> FsResult<Arc<InodeRecord>> {
        let changed = self.own.inodes.get(&ino).or_else(|| self.staged.changes.inodes.get(&ino));
        if let Some((record, _)) = changed {
            return Ok(Arc::clone(record));
        }
        if let Some(inode) = self.shared.table.get(ino) {
            return Ok(inode.record());
        }
        let stored = self.stored_inode(ino)?;
        stored.map(Arc::new).ok_or_else(|| FsErrorKind::Stale.into())
    }

    pub(crate) fn is_stored(&self, ino: Ino) -> FsResult<bool> {
        let changed = self.own.inodes.get(&ino).or_else(|| self.staged.changes.inodes.get(&ino));
        if let Some((_, fate)) = changed {
            return Ok(*fate == Fate::Stored);
        }
        match self.shared.table.get(ino) {
            Some(inode) => Ok(inode.is_stored()),
            None => Ok(self.stored_inode(ino)?.is_some()),
        }
    }

    /// The record of a directory that still has a name, on a mount that may be changed.
    pub(crate) fn dir(&self, ino: Ino) -> FsResult<Arc<InodeRecord>> {
        let record = self.inode(ino)?;
        if !record.is_dir() {
            return Err(FsErrorKind::NotADirectory.into());
        }
        if record.nlink == 0 {
            return Err(FsErrorKind::NotFound.into());
        }
        self.writable(&record)?;
        Ok(record)
    }

    /// Refuses what lies on a read-only mount.
    pub(crate) fn writable(&self, record: &InodeRecord) -> FsResult<()> {
        let mount = self.shared.mount(record.mount)?;
        if mount.spec.policy.read_only { Err(FsErrorKind::ReadOnly.into()) } else { Ok(()) }
    }

    pub(crate) fn is_transient(&self, record: &InodeRecord) -> FsResult<bool> {
        self.shared.mount(record.mount)?.is_transient_at(record, |ino| self.inode(ino))
    }

    /// Stores a record.
    pub(crate) fn put(&mut self, ino: Ino, record: InodeRecord) {
        self.own.inodes.insert(ino, (Arc::new(record), Fate::Stored));
    }

    /// Stores a record that was changed, unless it has lost its last name and the engine has let it go: then
    /// only those who still refer to the inode see the change.
    pub(crate) fn update(&mut self, ino: Ino, record: InodeRecord) -> FsResult<()> {
        let fate = if record.nlink == 0 && !self.is_stored(ino)? { Fate::Gone } else { Fate::Stored };
        self.own.inodes.insert(ino, (Arc::new(record), fate));
        Ok(())
    }

    /// Lets a record go.
    pub(crate) fn drop_inode(&mut self, ino: Ino, record: InodeRecord) {
        self.own.inodes.insert(ino, (Arc::new(record), Fate::Gone));
    }

    /// Where the UFS has an inode; `None` if it does not.
    pub(crate) fn ufs_key(&self, record: &InodeRecord) -> FsResult<Option<UfsKey>> {
        let mut names = Vec::new();
        let mut record = record.clone();
        loop {
            match (&record.ufs_at, &record.at) {
                (UfsAt::At(key), _) => {
                    return Ok(Some(names.iter().rev().fold(key.clone(), |key, name| key.child(name))));
                }
                (UfsAt::Inherit, Some((parent, name))) => {
                    names.push(name.clone());
                    record = InodeRecord::clone(&*self.inode(*parent)?);
                }
                (UfsAt::Nowhere, _) | (UfsAt::Inherit, None) => return Ok(None),
            }
        }
    }

    /// Whether the UFS has, or may have, anything in this directory.
    pub(crate) fn is_in_ufs(&self, record: &InodeRecord) -> FsResult<bool> {
        Ok(self.ufs_key(record)?.is_some())
    }

    /// Sees to it that an inode that is only in memory is stored, with its name and all directories above: a
    /// record must be found again by its path, whatever becomes of the UFS. Yields the record.
    pub(crate) fn keep(&mut self, ino: Ino) -> OpResult<Arc<InodeRecord>> {
        let record = self.inode(ino)?;
        if self.is_stored(ino)? {
            return Ok(record);
        }
        let Some((dir, name)) = record.at.clone() else { return Err(FsErrorKind::Stale.into()) };
        if record.nlink == 0 || self.dentry(dir, &name)?.is_some() {
            // The name has gone to another inode.
            return Err(FsErrorKind::Stale.into());
        }
        if let Some(cached) = self.shared.names.get(dir, &name)
            && cached.answer != Answer::Present(ino)
        {
            return Err(FsErrorKind::Stale.into());
        }
        self.keep(dir)?;
        let shadow = Shadow::of(ino, &record);
        self.own.inodes.insert(ino, (Arc::clone(&record), Fate::Stored));
        self.own.dentries.insert((dir, name), Some(Dentry::present(ino, record.kind, Some(shadow))));
        Ok(record)
    }

    /// A name in this directory has changed: its times say so. `subdirs` is how many directories came or went.
    pub(crate) fn touch_dir(&mut self, dir: Ino, subdirs: i32) -> OpResult<()> {
        let mut record = InodeRecord::clone(&*self.keep(dir)?);
        record.mtime = self.now;
        record.ctime = self.now;
        // Where the UFS has directories that were never counted, the count cannot go below an empty one's.
        record.nlink = record.nlink.saturating_add_signed(subdirs).max(2);
        self.own_mtime(dir, &mut record)?;
        self.put(dir, record);
        Ok(())
    }

    /// The time of last change of a directory is ours from now on, until the UFS has it too. Nothing, where there is
    /// none to set: of a mount's root, of what stays here, and where the UFS has no such times.
    pub(crate) fn own_mtime(&mut self, dir: Ino, record: &mut InodeRecord) -> FsResult<()> {
        let is_root = matches!(&record.ufs_at, UfsAt::At(key) if key.is_root());
        let kept = record.is_dir() && record.nlink > 0 && !is_root && record.state != InodeState::Native;
        if kept && !record.mtime_due && self.shared.ufs.keeps_dir_times(record.mount) {
            record.mtime_due = true;
            self.requeue_names(dir, record)?;
        }
        Ok(())
    }
}
