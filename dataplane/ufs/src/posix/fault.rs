//! What a failed system call means to a caller.

use crate::error::UfsError;
use forebay_types::UfsKey;
use rustix::io::Errno;

const DENIED_REMEDY: &str =
    "check the owner and mode of the file and of its directory, and who forebay runs as";

/// Turns the outcome of a system call into ours, given what was attempted on which key.
pub(super) trait OrFault<T> {
    fn or_fault(self, attempt: &'static str, key: &UfsKey) -> Result<T, UfsError>;
}

impl<T> OrFault<T> for Result<T, Errno> {
    fn or_fault(self, attempt: &'static str, key: &UfsKey) -> Result<T, UfsError> {
        self.map_err(|errno| fault(errno, attempt, key))
    }
}

pub(super) fn fault(errno: Errno, attempt: &'static str, key: &UfsKey) -> UfsError {
    let key = key.clone();
    let what = format!("{attempt} {key}");
    match errno {
        Errno::NOENT => UfsError::NotFound(key),
        Errno::EXIST => UfsError::Exists(key),
        Errno::NOTEMPTY => UfsError::NotEmpty(key),
        // A symbolic link where a directory was needed: it is not followed.
        Errno::NOTDIR | Errno::LOOP => UfsError::NotADirectory(key),
        Errno::ISDIR => UfsError::IsADirectory(key),
        Errno::ACCESS | Errno::PERM => UfsError::Denied { what, remedy: DENIED_REMEDY.into() },
        Errno::ROFS => UfsError::ReadOnly(what),
        Errno::NOSPC | Errno::DQUOT => UfsError::NoSpace(what),
        Errno::FBIG => UfsError::TooLarge(what),
        Errno::NAMETOOLONG => UfsError::Unpersistable(format!("{what}: the name or path is too long")),
        Errno::ILSEQ => UfsError::Unpersistable(format!("{what}: the file system does not take this name")),
        Errno::XDEV => UfsError::Unsupported("a rename or link across file systems"),
        Errno::OPNOTSUPP | Errno::NOSYS => UfsError::Unsupported(attempt),
        Errno::TIMEDOUT => UfsError::Timeout(what),
        e if may_pass(e) => UfsError::Unavailable(format!("{what}: {errno}")),
        _ => UfsError::Io(format!("{what}: {errno}")),
    }
}

/// Failures of a network file system, and shortages of the machine, that may pass by themselves.
fn may_pass(errno: Errno) -> bool {
    const PASSING: [Errno; 12] = [
        Errno::STALE,
        Errno::AGAIN,
        Errno::INTR,
        Errno::BUSY,
        Errno::NFILE,
        Errno::MFILE,
        Errno::NOMEM,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::CONNREFUSED,
        Errno::CONNRESET,
    ];
    PASSING.contains(&errno)
}
