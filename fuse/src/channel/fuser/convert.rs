//! Between fuser's types and ours.

use forebay_types::{Attr, Caller, FileKind, HandleId, Ino, Name, SetTime, TimeSpec};
use forebay_vfs::{AllocateMode, OpenFlags, RenameFlags, Whence, XattrSetMode};
use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo, Request, TimeOrNow};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The block size that `stat` shows; programs take it for the size of their buffers, so it is the usual one.
const STAT_BLOCK_LEN: u32 = 4096;
/// The permission bits of a mode, without the kind.
const PERMISSIONS: u32 = 0o7777;

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

pub(super) fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

pub(super) fn handle(handle: FileHandle) -> HandleId {
    HandleId(handle.0)
}

/// A checked name; the kernel itself lets names of up to 1,024 bytes through.
pub(super) fn name(bytes: &OsStr) -> Result<Name, Errno> {
    Name::new(bytes.as_bytes()).map_err(|invalid| match invalid {
        forebay_types::InvalidName::TooLong => Errno::ENAMETOOLONG,
        forebay_types::InvalidName::Malformed => Errno::EINVAL,
    })
}

pub(super) fn permissions(mode: u32) -> u16 {
    (mode & PERMISSIONS) as u16
}

/// The kind in a mode of mknod(2); no kind at all is a regular file.
pub(super) fn kind_of_mode(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(FileKind::Regular),
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

pub(super) fn open_flags(flags: i32) -> OpenFlags {
    let access = flags & libc::O_ACCMODE;
    OpenFlags {
        read: access != libc::O_WRONLY,
        write: access == libc::O_WRONLY || access == libc::O_RDWR,
        append: flags & libc::O_APPEND != 0,
        // The kernel truncates by SETATTR, because ATOMIC_O_TRUNC is not negotiated.
        truncate: false,
        exclusive: flags & libc::O_EXCL != 0,
        sync: flags & (libc::O_SYNC | libc::O_DSYNC) != 0,
    }
}

pub(super) fn rename_flags(flags: fuser::RenameFlags) -> Option<RenameFlags> {
    if flags.is_empty() {
        Some(RenameFlags::Replace)
    } else if flags == fuser::RenameFlags::RENAME_NOREPLACE {
        Some(RenameFlags::NoReplace)
    } else if flags == fuser::RenameFlags::RENAME_EXCHANGE {
        Some(RenameFlags::Exchange)
    } else {
        None
    }
}

/// The modes of fallocate(2) that there are here; collapsing, inserting and unsharing are not.
pub(super) fn allocate_mode(mode: i32) -> Option<AllocateMode> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(AllocateMode::Grow),
        KEEP => Some(AllocateMode::KeepSize),
        PUNCH => Some(AllocateMode::PunchHole),
        ZERO => Some(AllocateMode::ZeroRange),
        ZERO_KEEP => Some(AllocateMode::ZeroRangeKeepSize),
        _ => None,
    }
}

pub(super) fn whence(whence: i32) -> Option<Whence> {
    match whence {
        libc::SEEK_DATA => Some(Whence::Data),
        libc::SEEK_HOLE => Some(Whence::Hole),
        _ => None,
    }
}

pub(super) fn xattr_mode(flags: i32) -> Option<XattrSetMode> {
    match flags {
        0 => Some(XattrSetMode::Any),
        libc::XATTR_CREATE => Some(XattrSetMode::Create),
        libc::XATTR_REPLACE => Some(XattrSetMode::Replace),
        _ => None,
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(time_asked(time)),
    }
}

/// A time that fuser decoded. Before 1970 fuser takes the nanoseconds away where the kernel means them added; taken
/// apart the same way, the kernel's two numbers come out again.
fn time_asked(time: SystemTime) -> TimeSpec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => TimeSpec { secs: since.as_secs() as i64, nanos: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            TimeSpec { secs: (before.as_secs() as i64).wrapping_neg(), nanos: before.subsec_nanos() }
        }
    }
}

/// A time for fuser to encode, which it does as the kernel means it. What no `SystemTime` can hold is 1970.
pub(super) fn time_shown(time: TimeSpec) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let at_second =
        if time.secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    at_second
        .and_then(|second| second.checked_add(Duration::from_nanos(u64::from(time.nanos))))
        .unwrap_or(UNIX_EPOCH)
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks_512,
        atime: time_shown(attr.atime),
        mtime: time_shown(attr.mtime),
        ctime: time_shown(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: STAT_BLOCK_LEN,
        flags: 0,
    }
}

/// Attributes of an entry that the kernel is not to look at: `.` and `..`, and a name that is not there (inode 0).
pub(super) fn bare_attr(ino: Ino, kind: FileKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino.0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: STAT_BLOCK_LEN,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_beyond_the_limit_say_so() {
        assert_eq!(name(OsStr::from_bytes(&[b'x'; 256])), Err(Errno::ENAMETOOLONG));
        assert_eq!(name(OsStr::new("..")), Err(Errno::EINVAL));
        assert_eq!(name(OsStr::from_bytes(b"\xff")).unwrap().as_bytes(), b"\xff");
    }

    #[test]
    fn open_flags_are_those_of_the_program() {
        let flags = open_flags(libc::O_RDWR | libc::O_APPEND | libc::O_DSYNC);
        assert!(flags.read && flags.write && flags.append && flags.sync && !flags.exclusive);
        let flags = open_flags(libc::O_WRONLY | libc::O_EXCL);
        assert!(!flags.read && flags.write && flags.exclusive && !flags.sync);
        assert_eq!(open_flags(libc::O_RDONLY), OpenFlags { read: true, ..OpenFlags::default() });
    }

    #[test]
    fn fallocate_knows_five_modes() {
        assert_eq!(allocate_mode(0), Some(AllocateMode::Grow));
        assert_eq!(allocate_mode(3), Some(AllocateMode::PunchHole));
        assert_eq!(allocate_mode(0x11), Some(AllocateMode::ZeroRangeKeepSize));
        for refused in
            [libc::FALLOC_FL_COLLAPSE_RANGE, libc::FALLOC_FL_INSERT_RANGE, libc::FALLOC_FL_PUNCH_HOLE]
        {
            assert_eq!(allocate_mode(refused), None);
        }
    }

    #[test]
    fn renames_and_searches_and_attributes_know_their_flags() {
        use fuser::RenameFlags as R;
        assert_eq!(rename_flags(R::empty()), Some(RenameFlags::Replace));
        assert_eq!(rename_flags(R::RENAME_NOREPLACE), Some(RenameFlags::NoReplace));
        assert_eq!(rename_flags(R::RENAME_EXCHANGE), Some(RenameFlags::Exchange));
        assert_eq!(rename_flags(R::RENAME_WHITEOUT), None);
        assert_eq!(rename_flags(R::RENAME_EXCHANGE | R::RENAME_NOREPLACE), None);
        assert_eq!(whence(libc::SEEK_HOLE), Some(Whence::Hole));
        assert_eq!(whence(libc::SEEK_END), None);
        assert_eq!(xattr_mode(libc::XATTR_REPLACE), Some(XattrSetMode::Replace));
        assert_eq!(xattr_mode(libc::XATTR_CREATE | libc::XATTR_REPLACE), None);
    }

    #[test]
    fn kinds_go_both_ways() {
        assert_eq!(kind_of_mode(0o644), Some(FileKind::Regular));
        assert_eq!(kind_of_mode(libc::S_IFIFO | 0o600), Some(FileKind::Fifo));
        assert_eq!(kind_of_mode(libc::S_IFDIR), None);
        assert_eq!(permissions(libc::S_IFCHR | 0o6755), 0o6755);
    }

    /// What fuser makes of the two numbers of a request, in `time.rs` of its version 0.18.
    fn as_fuser_decodes(secs: i64, nanos: u32) -> SystemTime {
        let length = Duration::new(secs.unsigned_abs(), nanos);
        if secs >= 0 { UNIX_EPOCH + length } else { UNIX_EPOCH - length }
    }

    proptest! {
        #[test]
        fn a_time_that_was_set_is_the_time_that_was_meant(secs in -1_i64 << 40..1 << 40, nanos in 0_u32..1_000_000_000) {
            let meant = TimeSpec { secs, nanos };
            prop_assert_eq!(time_asked(as_fuser_decodes(secs, nanos)), meant);
        }

        #[test]
        fn no_time_is_a_panic(secs: i64, nanos: u32) {
            let _ = time_shown(TimeSpec { secs, nanos });
        }
    }
}
