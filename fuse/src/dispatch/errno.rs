//! The one place where an error kind becomes an errno.

use forebay_types::FsErrorKind;
use rustix::io::Errno;

/// The errno that programs expect for a kind of failure.
///
/// Where several would do, the choice is the one that existing programs handle: a storage that cannot be reached is
/// `EIO`, not a network errno that no reader of a file looks for; only an operation that may simply be repeated is
/// `EAGAIN`. `ESTALE` makes the kernel look the path up once more by itself before a program sees it.
pub(crate) const fn errno_of(kind: FsErrorKind) -> Errno {
    use FsErrorKind as K;
    match kind {
        K::NotFound => Errno::NOENT,
        K::Exists => Errno::EXIST,
        K::NotADirectory => Errno::NOTDIR,
        K::IsADirectory => Errno::ISDIR,
        K::NotEmpty => Errno::NOTEMPTY,
        K::NotPermitted => Errno::PERM,
        K::AccessDenied => Errno::ACCESS,
        K::ReadOnly => Errno::ROFS,
        K::Invalid => Errno::INVAL,
        K::NameTooLong => Errno::NAMETOOLONG,
        K::FileTooLarge => Errno::FBIG,
        K::TooManyLinks => Errno::MLINK,
        K::CrossesMounts => Errno::XDEV,
        K::NoAttribute => Errno::NODATA,
        K::OutOfRange => Errno::RANGE,
        K::Busy => Errno::BUSY,
        K::NoSpace => Errno::NOSPC,
        K::QuotaExceeded => Errno::DQUOT,
        K::Stale => Errno::STALE,
        K::Unsupported => Errno::OPNOTSUPP,
        K::TimedOut => Errno::TIMEDOUT,
        K::Interrupted => Errno::INTR,
        K::ShuttingDown => Errno::SHUTDOWN,
        K::Overloaded => Errno::AGAIN,
        K::Unavailable | K::Corrupt | K::Io => Errno::IO,
        // The enum may grow; until the new kind is given its errno here, it is a plain failure.
        _ => Errno::IO,
    }
}

/// Whether an operator should hear of it: the storage failed, not the caller.
pub(crate) const fn is_alarming(kind: FsErrorKind) -> bool {
    use FsErrorKind as K;
    matches!(kind, K::Unavailable | K::TimedOut | K::Corrupt | K::Io | K::Overloaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, written from the manual pages rather than from the code above.
    const EXPECTED: [(FsErrorKind, i32); 27] = [
        (FsErrorKind::NotFound, libc::ENOENT),
        (FsErrorKind::Exists, libc::EEXIST),
        (FsErrorKind::NotADirectory, libc::ENOTDIR),
        (FsErrorKind::IsADirectory, libc::EISDIR),
        (FsErrorKind::NotEmpty, libc::ENOTEMPTY),
        (FsErrorKind::NotPermitted, libc::EPERM),
        (FsErrorKind::AccessDenied, libc::EACCES),
        (FsErrorKind::ReadOnly, libc::EROFS),
        (FsErrorKind::Invalid, libc::EINVAL),
        (FsErrorKind::NameTooLong, libc::ENAMETOOLONG),
        (FsErrorKind::FileTooLarge, libc::EFBIG),
        (FsErrorKind::TooManyLinks, libc::EMLINK),
        (FsErrorKind::CrossesMounts, libc::EXDEV),
        (FsErrorKind::NoAttribute, libc::ENODATA),
        (FsErrorKind::OutOfRange, libc::ERANGE),
        (FsErrorKind::Busy, libc::EBUSY),
        (FsErrorKind::NoSpace, libc::ENOSPC),
        (FsErrorKind::QuotaExceeded, libc::EDQUOT),
        (FsErrorKind::Stale, libc::ESTALE),
        (FsErrorKind::Unsupported, libc::EOPNOTSUPP),
        (FsErrorKind::Unavailable, libc::EIO),
        (FsErrorKind::TimedOut, libc::ETIMEDOUT),
        (FsErrorKind::Corrupt, libc::EIO),
        (FsErrorKind::Io, libc::EIO),
        (FsErrorKind::Interrupted, libc::EINTR),
        (FsErrorKind::ShuttingDown, libc::ESHUTDOWN),
        (FsErrorKind::Overloaded, libc::EAGAIN),
    ];

    #[test]
    fn every_kind_has_the_errno_of_the_manual() {
        for (kind, expected) in EXPECTED {
            assert_eq!(errno_of(kind).raw_os_error(), expected, "{kind:?}");
        }
    }

    #[test]
    fn what_the_local_file_system_says_comes_out_as_it_went_in() {
        for errno in [libc::ENOSPC, libc::EROFS, libc::ENOENT, libc::EDQUOT, libc::EIO, libc::EFBIG] {
            let kind = forebay_types::FsError::from(std::io::Error::from_raw_os_error(errno)).kind();
            assert_eq!(errno_of(kind).raw_os_error(), errno);
        }
    }
}
