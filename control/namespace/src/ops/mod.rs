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
use forebay_types::{ContentLocation, FsResult, Ino, InodeState};

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

/// A file whose content was the UFS's has become ours.
pub(crate) fn turn_dirty(txn: &Txn<'_>, record: &mut InodeRecord) -> FsResult<()> {
    if record.state == InodeState::Clean {
        record.state = if txn.is_transient(record)? { InodeState::Native } else { InodeState::Dirty };
        record.attrs_ours = false;
        record.turned_at = txn.seq;
    }
    Ok(())
}
