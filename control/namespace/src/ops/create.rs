//! Making an inode and its first name.

use crate::record::{Dentry, InodeRecord, UfsAt};
use crate::txn::{Found, OpResult, Txn, Vacant};
use forebay_types::limits::SYMLINK_LEN_MAX;
use forebay_types::{
    Caller, ExtentId, FileKind, FsErrorKind, Generation, Ino, InodeState, Name, TimeSpec, UfsKey,
};

/// The set-group-id bit: on a directory, what is made in it belongs to its group.
const SETGID: u16 = 0o2000;
const MODE_MASK: u16 = 0o7777;

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInode {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, the umask applied.
    pub mode: u16,
    /// Device number of a device node.
    pub rdev: u32,
    /// The target of a symbolic link, 1 to 4095 bytes.
    pub link_target: Option<Box<[u8]>>,
    /// The extent that holds the bytes of a regular file.
    pub extent: Option<ExtentId>,
    /// The time of last change of that extent's file.
    pub extent_mtime: Option<TimeSpec>,
    /// It is open for write from now on, as [`crate::Namespace::write_opened`] says.
    pub write_open: bool,
}

impl NewInode {
    /// An inode with nothing special.
    pub fn of(kind: FileKind, mode: u16) -> Self {
        Self { kind, mode, rdev: 0, link_target: None, extent: None, extent_mtime: None, write_open: false }
    }
}

/// What was made.
pub(crate) struct Made {
    pub(crate) ino: Ino,
    pub(crate) vacancy: Vacancy,
}

/// What is known of the UFS where a new directory will come to be.
pub(crate) enum Vacancy {
    Unknown,
    /// It had nothing at this key when it was asked, at this time in milliseconds of the clock.
    Asked(UfsKey, u64),
    /// It does not have the directory around it either.
    NoDirectory,
}

pub(crate) fn create(
    txn: &mut Txn<'_>,
    caller: Caller,
    parent: Ino,
    name: &Name,
    new: NewInode,
) -> OpResult<Made> {
    let dir = txn.dir(parent)?;
    check(&new)?;
    let found = txn.resolve(parent, &dir, name)?;
    if found.target.is_some() {
        return Err(FsErrorKind::Exists.into());
    }
    let ino = txn.new_ino();
    let is_dir = new.kind == FileKind::Directory;
    let vacancy = if is_dir { vacancy(txn, &dir, name, &found)? } else { Vacancy::Unknown };
    let mut record = InodeRecord {
        kind: new.kind,
        mode: inherited_mode(&dir, &new),
        nlink: if is_dir { 2 } else { 1 },
        uid: caller.uid,
        gid: if dir.mode & SETGID != 0 { dir.gid } else { caller.gid },
        rdev: new.rdev,
        size: new.link_target.as_ref().map_or(0, |target| target.len() as u64),
        blocks_512: 0,
        atime: txn.now,
        mtime: txn.now,
        ctime: txn.now,
        extent_mtime: new.extent_mtime.unwrap_or(txn.now),
        state: InodeState::Dirty,
        mount: dir.mount,
        at: Some((parent, name.clone())),
        ufs_at: UfsAt::Nowhere,
        left: None,
        version: None,
        extent: new.extent,
        link_target: new.link_target,
        generation: Generation(1),
        write_open: new.write_open,
        attrs_ours: false,
        mtime_due: false,
        xattrs: Vec::new(),
        turned_at: txn.seq,
        unpersistable: None,
    };
    // Its own name may be the one from which on everything stays here.
    let native = is_native_kind(new.kind) || txn.is_transient(&record)?;
    if native {
        record.state = InodeState::Native;
    }
    txn.touch_dir(parent, i32::from(is_dir))?;
    txn.set_name(parent, name, Dentry::present(ino, new.kind, found.shadow), !native);
    if new.write_open {
        txn.put_key(crate::keys::write_open(ino), Some([].into()));
    }
    txn.put(ino, record);
    Ok(Made { ino, vacancy })
}

fn vacancy(txn: &Txn<'_>, dir: &InodeRecord, name: &Name, found: &Found) -> OpResult<Vacancy> {
    Ok(match found.vacant {
        Vacant::Unknown => Vacancy::Unknown,
        Vacant::NoDirectory => Vacancy::NoDirectory,
        Vacant::Asked(asked_ms) => match txn.ufs_key(dir)? {
            Some(dir) => Vacancy::Asked(dir.child(name), asked_ms),
            None => Vacancy::Unknown,
        },
    })
}

fn check(new: &NewInode) -> OpResult<()> {
    match (new.kind, &new.link_target) {
        (FileKind::Symlink, Some(target)) if target.len() > SYMLINK_LEN_MAX => {
            Err(FsErrorKind::NameTooLong.into())
        }
        (FileKind::Symlink, Some(target)) if target.is_empty() => Err(FsErrorKind::NotFound.into()),
        (FileKind::Symlink, Some(_)) => Ok(()),
        (FileKind::Symlink, None) | (_, Some(_)) => Err(FsErrorKind::Invalid.into()),
        (FileKind::Regular, None) => Ok(()),
        (_, None) if new.extent.is_some() || new.write_open => Err(FsErrorKind::Invalid.into()),
        (_, None) => Ok(()),
    }
}

/// Kinds that no under file system takes.
fn is_native_kind(kind: FileKind) -> bool {
    matches!(kind, FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice)
}

fn inherited_mode(dir: &InodeRecord, new: &NewInode) -> u16 {
    let inherited = if new.kind == FileKind::Directory { dir.mode & SETGID } else { 0 };
    (new.mode & MODE_MASK) | inherited
}
