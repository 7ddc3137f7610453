//! The mutations: what each does to the records. They run on the home's thread, inside a transaction.

pub(crate) mod attrs;
pub(crate) mod create;
pub(crate) mod link;
pub(crate) mod rename;
pub(crate) mod unlink;
pub(crate) mod upkeep;
pub(crate) mod writing;

use crate::record::{InodeRecord, UfsAt};
use crate::txn::Txn;
use forebay_types::{ContentLocation, FsError, FsErrorKind, FsResult, Ino, InodeState, Name};

/// Where the bytes of an inode are.
pub(crate) fn content(txn: &Txn<'_>, ino: Ino, record: &InodeRecord) -> FsResult<ContentLocation> {
    let key = if record.version.is_some() { txn.ufs_key(record)? } else { None };
    Ok(location(ino, record, key))
}

/// The same, for who has resolved the key already.
pub(crate) fn location(
    ino: Ino,
    record: &InodeRecord,
    key: Option<forebay_types::UfsKey>,
) -> ContentLocation {
    ContentLocation {
        ino,
        mount: record.mount,
        ufs: key.zip(record.version.clone()),
        extent: record.extent,
        size: record.size,
        generation: record.generation,
    }
}

/// Pins down where the UFS has an inode before its first name changes, because after that the name no longer
/// tells.
pub(crate) fn pin_ufs_key(txn: &Txn<'_>, record: &mut InodeRecord) -> FsResult<()> {
    if record.ufs_at == UfsAt::Inherit {
        record.ufs_at = txn.ufs_key(record)?.map_or(UfsAt::Nowhere, UfsAt::At);
        record.left = record.at.clone();
    }
    Ok(())
}

/// Refuses a name that would take an inode out of, or into, a part of the mount where everything stays here for good:
/// such parts are like mounts of their own, and a directory around one stays where it is.
pub(crate) fn refuse_parting(txn: &Txn<'_>, record: &InodeRecord, to: (Ino, &Name)) -> FsResult<()> {
    let mount = txn.shared.mount(record.mount)?;
    if !mount.spec.prefixes.values().any(|change| change.write_mode.is_some()) {
        return Ok(());
    }
    if record.is_dir() && mount.is_parted_at(&mount.path_of(record, |ino| txn.inode(ino))?) {
        return Err(FsError::new(FsErrorKind::Busy, "a policy tells some of this directory from the rest"));
    }
    let there = InodeRecord { at: Some((to.0, to.1.clone())), ..record.clone() };
    let get = |ino| txn.inode(ino);
    if mount.is_transient_at(record, get)? != mount.is_transient_at(&there, get)? {
        return Err(FsErrorKind::CrossesMounts.into());
    }
    Ok(())
}

/// A file whose content was the UFS's has become ours.
pub(crate) fn turn_dirty(txn: &Txn<'_>, record: &mut InodeRecord) -> FsResult<()> {
    if record.state == InodeState::Clean {
        record.state = if txn.is_transient(record)? { InodeState::Native } else { InodeState::Dirty };
        record.attrs_ours = false;
        record.turned_at = txn.seq;
    }
    Ok(())
}
