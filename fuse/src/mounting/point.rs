//! Checks and changes of a mount point.

use super::{Attached, fusermount, holders, mountinfo};
use crate::error::MountError;
use crate::options::MountOptions;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often an unmount that met a user of the mount is tried again.
const UNMOUNT_RETRY: Duration = Duration::from_millis(100);

/// Whether a file system can be mounted at `dir`; gives the path without links, as the kernel will name it.
pub(super) fn check(dir: &Path) -> Result<PathBuf, MountError> {
    let path = std::fs::canonicalize(dir).map_err(|error| unusable(dir, error))?;
    if let Some(entry) = mountinfo::at(&path) {
        return Err(MountError::InUse { dir: path, source_name: entry.source, fs_type: entry.fs_type });
    }
    let found = std::fs::metadata(&path).map_err(|error| unusable(dir, error))?;
    if found.is_dir() { Ok(path) } else { Err(MountError::NotADirectory(path)) }
}

fn unusable(dir: &Path, error: io::Error) -> MountError {
    let dir = dir.to_owned();
    match error.raw_os_error() {
        Some(libc::ENOENT) => MountError::Missing(dir),
        Some(libc::ENOTDIR) => MountError::NotADirectory(dir),
        Some(libc::ENOTCONN) => MountError::DeadMount(dir),
        _ => MountError::Unreachable { dir, source: error },
    }
}

/// The flags of mount(2) for `options`; what is on without a flag has none.
pub(super) fn flags_of(options: &MountOptions) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NOATIME, options.noatime);
    flags.set(MountFlags::NODEV, !options.dev);
    flags.set(MountFlags::NOSUID, !options.suid);
    flags.set(MountFlags::NOEXEC, !options.exec);
    flags
}

/// Changes `ro`, `noatime`, `dev`, `suid` and `exec` of a mount that is there, as `mount -o remount` does. Timeouts
/// and `allow_other` are fixed when a session begins.
///
/// # Errors
/// [`MountError::Refused`] with what the kernel says: EBUSY when files are open for write and it is to become
/// read-only, EINVAL when nothing is mounted there, EPERM without CAP_SYS_ADMIN.
pub fn remount(dir: &Path, options: &MountOptions) -> Result<(), MountError> {
    mount_remount(dir, flags_of(options), c"").map_err(|errno| MountError::Refused {
        dir: dir.to_owned(),
        step: "remount",
        source: errno.into(),
        detail: String::new(),
    })
}

impl Attached {
    /// Whether this very mount is still in the tree.
    pub(crate) fn is_there(&self) -> bool {
        mountinfo::at(&self.dir).is_some_and(|entry| entry.device == self.device_number)
    }

    /// Takes the mount out of the tree; while someone uses it, tries again until `deadline` has passed.
    ///
    /// Blocks, and the kernel may write dirty mapped pages back through the session meanwhile: not for a thread that
    /// answers requests.
    pub(crate) fn unmount(&self, deadline: Duration) -> Result<(), MountError> {
        let begun = Instant::now();
        while self.is_there() {
            match self.try_unmount() {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && begun.elapsed() < deadline => {
                    std::thread::sleep(UNMOUNT_RETRY.min(deadline));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    let holders = holders::of(&self.dir);
                    return Err(MountError::Busy { dir: self.dir.clone(), waited: begun.elapsed(), holders });
                }
                Err(source) => return Err(MountError::Unmount { dir: self.dir.clone(), source }),
            }
        }
        Ok(())
    }

    fn try_unmount(&self) -> io::Result<()> {
        match unmount(&self.dir, UnmountFlags::NOFOLLOW) {
            Err(Errno::PERM) if self.by_fusermount => fusermount::unmount(&self.dir),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_will_do_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path()).unwrap(), std::fs::canonicalize(dir.path()).unwrap());
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(check(&file), Err(MountError::NotADirectory(_))));
        let below = check(&file.join("x")).unwrap_err().to_string();
        assert!(below.contains("not a directory"), "{below}");
        let missing = check(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("mkdir -p"), "{missing}");
    }

    #[test]
    fn a_place_where_something_is_mounted_is_in_use() {
        let error = check(Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains("is in use: proc") && error.contains("unmount"), "{error}");
    }

    #[test]
    fn flags_are_those_of_the_options() {
        let flags = flags_of(&MountOptions::parse("ro,noexec,dev").unwrap());
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NOSUID);
    }
}
