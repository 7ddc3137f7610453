//! Between fuser's types and ours.

use forebay_types::{Attr, Caller, FileKind, HandleId, Ino, Name, SetTime, TimeSpec};
use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo, Request, TimeOrNow};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The block size that `stat` shows; programs take it for the size of their buffers, so it is the usual one.
const STAT_BLOCK_LEN: u32 = 4096;
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
