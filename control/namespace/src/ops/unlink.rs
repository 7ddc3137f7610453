//! Taking names away.

use crate::inode::Inode;
use crate::keys;
use crate::record::{Dentry, InodeRecord, UfsAt};
use crate::txn::{Found, OpResult, RESOLVED_MS, Refusal, Txn};
use forebay_types::{ContentLocation, FileKind, FsErrorKind, Ino, Name};

/// An inode that has lost a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// The inode.
    pub ino: Ino,
    /// How many names it has left. At 0 a regular file is an orphan: its record stays until
    /// [`crate::Namespace::release_orphan`].
    pub nlink: u32,
    /// Where its bytes are.
    pub content: ContentLocation,
}

pub(crate) fn unlink(txn: &mut Txn<'_>, parent: Ino, name: &Name) -> OpResult<Unlinked> {
    let dir = txn.dir(parent)?;
    let found = txn.resolve(parent, &dir, name)?;
    let (ino, record) = found.present()?;
    if record.is_dir() {
        return Err(FsErrorKind::IsADirectory.into());
    }
    clear_name(txn, parent, name, &found)?;
    txn.touch_dir(parent, 0)?;
    lose_name(txn, ino, &record, parent, name)
}

pub(crate) fn rmdir(txn: &mut Txn<'_>, parent: Ino, name: &Name) -> OpResult<()> {
    let dir = txn.dir(parent)?;
    let found = txn.resolve(parent, &dir, name)?;
    let (ino, record) = found.present()?;
    if !record.is_dir() {
        return Err(FsErrorKind::NotADirectory.into());
    }
    if found.mount_point {
        return Err(FsErrorKind::Busy.into());
    }
    demand_empty(txn, ino, &record)?;
    clear_name(txn, parent, name, &found)?;
    txn.touch_dir(parent, -1)?;
    lose_dir(txn, ino, &record)
}

/// Leaves nothing at a name, or a whiteout where the UFS has something.
fn clear_name(txn: &mut Txn<'_>, dir: Ino, name: &Name, found: &Found) -> OpResult<()> {
    let nothing = Dentry { target: None, shadow: found.shadow.clone(), mount_point: false };
    txn.set_name(dir, name, nothing, true);
    Ok(())
}

/// A file has lost the name `name`; its dentry is seen to.
pub(crate) fn lose_name(
    txn: &mut Txn<'_>,
    ino: Ino,
    record: &InodeRecord,
    dir: Ino,
    name: &Name,
) -> OpResult<Unlinked> {
    let mut record = record.clone();
    super::link::forget_name(txn, ino, &mut record, dir, name)?;
    record.nlink -= 1;
    record.ctime = txn.now;
    let content = super::content(txn, ino, &record)?;
    let unlinked = Unlinked { ino, nlink: record.nlink, content };
    if record.nlink > 0 {
        txn.put(ino, record);
    } else if record.kind == FileKind::Regular {
        txn.put_key(keys::orphan(ino), Some([].into()));
        txn.put(ino, record);
    } else {
        txn.drop_inode(ino, record);
    }
    Ok(unlinked)
}

/// A directory has lost its name. What the UFS has is taken away by way of the names in it, which need its
/// record to tell their keys: it goes when the UFS's directory is gone.
pub(crate) fn lose_dir(txn: &mut Txn<'_>, ino: Ino, record: &InodeRecord) -> OpResult<()> {
    let mut record = record.clone();
    super::pin_ufs_key(txn, &mut record)?;
    record.at = None;
    record.nlink = 0;
    record.ctime = txn.now;
    if matches!(record.ufs_at, UfsAt::At(_)) {
        txn.put(ino, record);
    } else {
        txn.drop_inode(ino, record);
    }
    Ok(())
}

/// Refuses a directory that has names, here or in the UFS.
pub(crate) fn demand_empty(txn: &Txn<'_>, ino: Ino, record: &InodeRecord) -> OpResult<()> {
    if txn.has_own_names(ino)? {
        return Err(FsErrorKind::NotEmpty.into());
    }
    if !txn.is_in_ufs(record)? {
        return Ok(());
    }
    let proven = |inode: &Inode| inode.is_proven_empty(crate::shared::millis(txn.now), RESOLVED_MS);
    match txn.shared.table.get(ino) {
        Some(inode) if proven(&inode) && !txn.has_given_back(ino) => Ok(()),
        _ => Err(Refusal::EmptinessUnknown(ino)),
    }
}
