//! Changing attributes and extended attributes.

use crate::record::InodeRecord;
use crate::txn::{OpResult, Txn};
use forebay_types::limits::{FILE_LEN_MAX, XATTR_NAME_LEN_MAX, XATTR_VALUE_LEN_MAX};
use forebay_types::{FileKind, FsErrorKind, Ino, InodeState, SetAttr, SetTime, TimeSpec};

/// Names that begin so are Forebay's own.
pub(crate) const RESERVED_PREFIX: &[u8] = b"user.forebay.";
/// All extended attributes of one inode together, in bytes: each change writes them all to the log.
const XATTRS_LEN_MAX: usize = 256 << 10;
const _: () = assert!(XATTRS_LEN_MAX >= XATTR_NAME_LEN_MAX + XATTR_VALUE_LEN_MAX);

/// What setting an extended attribute expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrMode {
    /// Nothing.
    #[default]
    Any,
    /// That it is new.
    Create,
    /// That it is there.
    Replace,
}

pub(crate) fn set_attr(txn: &mut Txn<'_>, ino: Ino, change: SetAttr) -> OpResult<()> {
    let mut record = changeable(txn, ino)?;
    if let Some(size) = change.size {
        set_size(txn, &mut record, size)?;
    }
    let SetAttr { mode, uid, gid, atime, mtime, .. } = change;
    record.mode = mode.map_or(record.mode, |mode| mode & 0o7777);
    record.uid = uid.unwrap_or(record.uid);
    record.gid = gid.unwrap_or(record.gid);
    let at = |set: SetTime| match set {
        SetTime::Now => txn.now,
        SetTime::To(time) => time,
    };
    record.atime = atime.map_or(record.atime, at);
    record.mtime = mtime.map_or(record.mtime, at);
    if change != (SetAttr { size: change.size, ..SetAttr::default() }) {
        own_attrs(&mut record);
    }
    if mtime.is_some() {
        txn.own_mtime(ino, &mut record)?;
    }
    finish(txn, ino, record)
}

fn set_size(txn: &Txn<'_>, record: &mut InodeRecord, size: u64) -> OpResult<()> {
    match record.kind {
        FileKind::Regular => {}
        FileKind::Directory => return Err(FsErrorKind::IsADirectory.into()),
        _ => return Err(FsErrorKind::Invalid.into()),
    }
    if size > FILE_LEN_MAX {
        return Err(FsErrorKind::FileTooLarge.into());
    }
    record.size = size;
    record.mtime = txn.now;
    record.generation = record.generation.next();
    super::turn_dirty(txn, record)?;
    Ok(())
}

pub(crate) fn set_xattr(
    txn: &mut Txn<'_>,
    ino: Ino,
    name: &[u8],
    value: &[u8],
    mode: XattrMode,
) -> OpResult<()> {
    if name.is_empty() || name.len() > XATTR_NAME_LEN_MAX {
        return Err(FsErrorKind::OutOfRange.into());
    }
    if value.len() > XATTR_VALUE_LEN_MAX {
        return Err(FsErrorKind::FileTooLarge.into());
    }
    let mut record = unreserved(txn, ino, name)?;
    let at = record.xattrs.binary_search_by(|(known, _)| (**known).cmp(name));
    match (at, mode) {
        (Ok(_), XattrMode::Create) => return Err(FsErrorKind::Exists.into()),
        (Err(_), XattrMode::Replace) => return Err(FsErrorKind::NoAttribute.into()),
        (Ok(at), _) => record.xattrs[at].1 = value.into(),
        (Err(at), _) => record.xattrs.insert(at, (name.into(), value.into())),
    }
    if record.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > XATTRS_LEN_MAX {
        return Err(FsErrorKind::NoSpace.into());
    }
    own_attrs(&mut record);
    finish(txn, ino, record)
}

pub(crate) fn remove_xattr(txn: &mut Txn<'_>, ino: Ino, name: &[u8]) -> OpResult<()> {
    let mut record = unreserved(txn, ino, name)?;
    let at = record.xattrs.binary_search_by(|(known, _)| (**known).cmp(name));
    record.xattrs.remove(at.map_err(|_| FsErrorKind::NoAttribute)?);
    own_attrs(&mut record);
    finish(txn, ino, record)
}

fn unreserved(txn: &Txn<'_>, ino: Ino, name: &[u8]) -> OpResult<InodeRecord> {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(FsErrorKind::NotPermitted.into());
    }
    changeable(txn, ino)
}

fn changeable(txn: &Txn<'_>, ino: Ino) -> OpResult<InodeRecord> {
    let record = InodeRecord::clone(&*txn.inode(ino)?);
    txn.writable(&record)?;
    Ok(record)
}

/// What is dirty brings its attributes with its content; what is clean has them carried alone.
fn own_attrs(record: &mut InodeRecord) {
    record.attrs_ours = record.state == InodeState::Clean;
}

fn finish(txn: &mut Txn<'_>, ino: Ino, mut record: InodeRecord) -> OpResult<()> {
    if record.nlink > 0 {
        txn.keep(ino)?;
        txn.queue_names(ino, &record)?;
    }
    record.ctime = after(record.ctime, txn.now);
    txn.update(ino, record)?;
    Ok(())
}

/// The change time never stands still nor runs backwards for a file, even if the clock does.
fn after(known: TimeSpec, now: TimeSpec) -> TimeSpec {
    known.max(now)
}
