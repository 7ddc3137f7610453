//! Opening a file for write, what is learnt of it meanwhile, and its last close.

use crate::keys;
use crate::record::InodeRecord;
use crate::txn::{OpResult, Txn};
use forebay_types::{ContentLocation, ExtentId, FileKind, FileTimes, FsErrorKind, Ino, InodeState, TimeSpec};

pub(crate) fn write_opened(
    txn: &mut Txn<'_>,
    ino: Ino,
    extent: Option<ExtentId>,
    extent_mtime: Option<TimeSpec>,
) -> OpResult<ContentLocation> {
    let mut record = regular(txn, ino)?;
    txn.writable(&record)?;
    if record.nlink > 0 {
        txn.keep(ino)?;
    }
    record.write_open = true;
    record.extent = extent.or(record.extent);
    record.extent_mtime = extent_mtime.unwrap_or(record.extent_mtime);
    if record.nlink > 0 || txn.is_stored(ino)? {
        txn.put_key(keys::write_open(ino), Some([].into()));
    }
    let content = super::content(txn, ino, &record)?;
    txn.update(ino, record)?;
    Ok(content)
}

pub(crate) fn update_written(txn: &mut Txn<'_>, ino: Ino, times: FileTimes) -> OpResult<()> {
    let mut record = regular(txn, ino)?;
    take_times(&mut record, times);
    txn.update(ino, record)?;
    Ok(())
}

/// What was written so far is to be carried, while the inode stays open for write.
pub(crate) fn write_published(txn: &mut Txn<'_>, ino: Ino, changed: bool) -> OpResult<()> {
    let mut record = regular(txn, ino)?;
    if changed {
        next_content(txn, &mut record)?;
    }
    if record.nlink > 0 && record.state == InodeState::Dirty {
        txn.queue_names(ino, &record)?;
    }
    txn.update(ino, record)?;
    Ok(())
}

pub(crate) fn write_closed(txn: &mut Txn<'_>, ino: Ino, times: FileTimes, changed: bool) -> OpResult<()> {
    let mut record = regular(txn, ino)?;
    record.write_open = false;
    txn.put_key(keys::write_open(ino), None);
    if changed {
        take_times(&mut record, times);
        next_content(txn, &mut record)?;
    } else if record.state == InodeState::Clean {
        // What the UFS has is still what we have, and is found by its key.
        record.extent = None;
    }
    // A name that waited for the close only because the file was open is looked at again.
    let settled = record.is_settled() && !record.attrs_ours && record.nlink == 1;
    if record.nlink > 0 && !settled {
        txn.queue_names(ino, &record)?;
    }
    txn.update(ino, record)?;
    Ok(())
}

/// What the extent file of an inode says whose writers went with their daemon.
pub(crate) fn write_recovered(txn: &mut Txn<'_>, ino: Ino, times: FileTimes) -> OpResult<()> {
    let known = regular(txn, ino)?.extent_mtime;
    // An earlier time is no write: a power loss may cost a file its last time, and not the bytes.
    write_closed(txn, ino, FileTimes { mtime: times.mtime.max(known), ..times }, true)
}

fn next_content(txn: &Txn<'_>, record: &mut InodeRecord) -> OpResult<()> {
    record.generation = record.generation.next();
    record.unpersistable = None;
    Ok(super::turn_dirty(txn, record)?)
}

fn regular(txn: &Txn<'_>, ino: Ino) -> OpResult<InodeRecord> {
    let record = InodeRecord::clone(&*txn.inode(ino)?);
    match record.kind {
        FileKind::Regular => Ok(record),
        FileKind::Directory => Err(FsErrorKind::IsADirectory.into()),
        _ => Err(FsErrorKind::Invalid.into()),
    }
}

fn take_times(record: &mut InodeRecord, times: FileTimes) {
    // If nobody has written since they were last looked at, a time that was set meanwhile stays. The length tells of
    // a write within one tick of the file system's clock.
    if times.mtime != record.extent_mtime || times.len != record.size {
        record.mtime = times.mtime;
        // A rename or chmod while it was open may be newer than the last write.
        record.ctime = TimeSpec::max(record.ctime, times.ctime);
    }
    record.extent_mtime = times.mtime;
    record.size = times.len;
    record.blocks_512 = times.blocks_512;
}
