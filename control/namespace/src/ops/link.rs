//! Giving an inode a further name.

use crate::keys;
use crate::record::{Dentry, InodeRecord, Shadow, UfsAt};
use crate::txn::{OpResult, Txn};
use forebay_types::limits::LINKS_MAX;
use forebay_types::{FsErrorKind, Ino, InodeState, Name};

pub(crate) fn link(txn: &mut Txn<'_>, ino: Ino, parent: Ino, name: &Name) -> OpResult<Ino> {
    let dir = txn.dir(parent)?;
    let mut record = InodeRecord::clone(&*txn.inode(ino)?);
    if record.is_dir() {
        return Err(FsErrorKind::NotPermitted.into());
    }
    if record.mount != dir.mount {
        return Err(FsErrorKind::CrossesMounts.into());
    }
    super::refuse_parting(txn, &record, (parent, name))?;
    if record.nlink == 0 {
        return Err(FsErrorKind::NotFound.into());
    }
    if record.nlink >= LINKS_MAX {
        return Err(FsErrorKind::TooManyLinks.into());
    }
    let found = txn.resolve(parent, &dir, name)?;
    if found.target.is_some() {
        return Err(FsErrorKind::Exists.into());
    }
    txn.keep(ino)?;
    record.nlink += 1;
    record.ctime = txn.now;
    let queue = record.state != InodeState::Native;
    txn.put_key(keys::link(ino, parent, name), Some([].into()));
    txn.touch_dir(parent, 0)?;
    txn.set_name(parent, name, Dentry::present(ino, record.kind, found.shadow), queue);
    txn.put(ino, record);
    Ok(ino)
}

/// The value of the key of a name that is lost and that the UFS still has.
const LOST: [u8; 1] = [1];

/// Takes one name off an inode's list of names. The caller changes the dentry and the count.
pub(crate) fn forget_name(
    txn: &mut Txn<'_>,
    ino: Ino,
    record: &mut InodeRecord,
    dir: Ino,
    name: &Name,
) -> OpResult<()> {
    let was_first = record.at.as_ref().is_some_and(|(of, known)| *of == dir && known == name);
    if was_first {
        // The key of the first name says where the UFS has the content, so it is pinned down before it goes.
        super::pin_ufs_key(txn, record)?;
        record.at = if record.nlink > 1 { txn.further_names(ino)?.pop() } else { None };
        if let Some((next_dir, next_name)) = record.at.clone() {
            txn.put_key(keys::link(ino, next_dir, &next_name), None);
            take_carried_name(txn, ino, record, next_dir, &next_name)?;
        }
    }
    let lost = is_shared_in_ufs(txn, ino, record, dir, name)?;
    if lost || !was_first {
        txn.put_key(keys::link(ino, dir, name), lost.then(|| LOST.into()));
    }
    Ok(())
}

/// Whether the UFS has the inode under this name and perhaps, as the same file, under another one: then the
/// name is remembered until it is gone there too, because what happens to one changes the version of all.
fn is_shared_in_ufs(txn: &Txn<'_>, ino: Ino, record: &InodeRecord, dir: Ino, name: &Name) -> OpResult<bool> {
    let shadow = txn.dentry(dir, name)?.and_then(|dentry| dentry.shadow);
    if shadow.is_none_or(|shadow| shadow.owner != ino) {
        return Ok(false);
    }
    Ok(record.nlink > 1 || txn.names_in_ufs(ino)?.iter().any(|(of, known)| (*of, known) != (dir, name)))
}

/// If the UFS has the very content under the name that is the first one now, it need not be moved there.
fn take_carried_name(
    txn: &Txn<'_>,
    ino: Ino,
    record: &mut InodeRecord,
    dir: Ino,
    name: &Name,
) -> OpResult<()> {
    let shadow = txn.dentry(dir, name)?.and_then(|dentry| dentry.shadow);
    let same = |shadow: &Shadow| shadow.owner == ino && shadow.generation == record.generation;
    if let Some(shadow) = shadow.filter(|shadow| record.state == InodeState::Clean && same(shadow)) {
        record.ufs_at = UfsAt::Inherit;
        record.left = None;
        record.version = shadow.version;
    }
    Ok(())
}

/// Puts one name on an inode's list of names.
pub(crate) fn add_name(txn: &mut Txn<'_>, ino: Ino, record: &mut InodeRecord, dir: Ino, name: &Name) {
    if record.at.is_none() {
        record.at = Some((dir, name.clone()));
    } else {
        txn.put_key(keys::link(ino, dir, name), Some([].into()));
    }
}
