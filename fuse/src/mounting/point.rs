//! Checks and changes of a mount point.

use super::{Attached, FS_TYPE, fusermount, holders, mountinfo};
use crate::error::MountError;
use crate::options::MountOptions;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often an unmount that met a user of the mount is tried again.
const UNMOUNT_RETRY: Duration = Duration::from_millis(100);

/// How long a session may take to end after its daemon, and how often it is asked for meanwhile.
const DEATH_WAIT: Duration = Duration::from_secs(10);
const DEATH_LOOK: Duration = Duration::from_millis(5);

/// Whether a file system can be mounted at `dir`; gives the path without links, as the kernel will name it.
///
/// # Errors
/// What is in the way, and what to do about it.
pub fn check_mount_point(dir: &Path) -> Result<PathBuf, MountError> {
    let path = std::fs::canonicalize(dir).map_err(|error| unusable(dir, error))?;
    if let Some(entry) = mountinfo::at(&path) {
        if entry.fs_type == FS_TYPE && is_dead(&path) {
            return Err(MountError::DeadMount(path));
        }
        return Err(MountError::InUse { dir: path, source_name: entry.source, fs_type: entry.fs_type });
    }
    let found = std::fs::metadata(&path).map_err(|error| unusable(dir, error))?;
    if found.is_dir() { Ok(path) } else { Err(MountError::NotADirectory(path)) }
}

/// Takes away the mount of a daemon that is gone, if there is one at `dir` and it is of the same source; says whether
/// it did. So a restarted service comes up by itself.
///
/// A process that still writes through a passthrough file of the dead mount is not cut off from its name: then the
/// mount stays. One that only stands in a directory of it gets an error for its next call, as it did before.
///
/// # Errors
/// [`MountError::Busy`] names the writers.
pub fn clear_dead(dir: &Path, source: &str) -> Result<bool, MountError> {
    let Some(dir) = absolute(dir) else { return Ok(false) };
    let is_ours = |entry: &mountinfo::MountEntry| entry.fs_type == FS_TYPE && entry.source == source;
    if !mountinfo::at(&dir).is_some_and(|entry| is_ours(&entry)) || !is_dead(&dir) {
        return Ok(false);
    }
    let writers = holders::writers_of(&dir);
    if !writers.0.is_empty() {
        return Err(MountError::Busy { dir, waited: Duration::ZERO, holders: writers });
    }
    match unmount(&dir, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH) {
        Ok(()) => Ok(true),
        Err(errno) => Err(MountError::Unmount { dir, source: errno.into() }),
    }
}

/// Where the mount at `dir` is, by the table of mounts, and its device number. Asks the mount nothing.
pub(crate) fn place_of(dir: &Path) -> Option<(PathBuf, mountinfo::DeviceNumber)> {
    let dir = absolute(dir)?;
    let entry = mountinfo::at(&dir).filter(|entry| entry.fs_type == FS_TYPE)?;
    Some((dir, entry.device))
}

/// The mount point without links, if a mount of ours of this source is there. Asks the mount nothing, so it answers also
/// while nobody serves it.
pub fn mounted_from(dir: &Path, source: &str) -> Option<PathBuf> {
    let dir = absolute(dir)?;
    let entry = mountinfo::at(&dir)?;
    (entry.fs_type == FS_TYPE && entry.source == source).then_some(dir)
}

/// The path as the table of mounts has it; its last part may be dead and is not looked at.
fn absolute(dir: &Path) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    let parent = std::fs::canonicalize(dir.parent()?).ok()?;
    Some(parent.join(dir.file_name()?))
}

/// Asks for the space, which the kernel has no cached answer to, as it has for attributes.
///
/// The session of a daemon that was killed is over only when the kernel has taken its rings apart, a little after the
/// process is gone. Who asks in between is told that the request was given up, and asks again.
fn is_dead(dir: &Path) -> bool {
    let give_up = Instant::now() + DEATH_WAIT;
    loop {
        match rustix::fs::statfs(dir).err() {
            Some(Errno::NOTCONN) => return true,
            Some(Errno::CONNABORTED | Errno::CANCELED) if Instant::now() < give_up => {
                std::thread::sleep(DEATH_LOOK);
            }
            _ => return false,
        }
    }
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
        assert_eq!(check_mount_point(dir.path()).unwrap(), std::fs::canonicalize(dir.path()).unwrap());
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(check_mount_point(&file), Err(MountError::NotADirectory(_))));
        let below = check_mount_point(&file.join("x")).unwrap_err().to_string();
        assert!(below.contains("not a directory"), "{below}");
        let missing = check_mount_point(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("mkdir -p"), "{missing}");
    }

    #[test]
    fn a_place_where_something_is_mounted_is_in_use() {
        let error = check_mount_point(Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains("is in use: proc") && error.contains("unmount"), "{error}");
    }

    #[test]
    fn flags_are_those_of_the_options() {
        let flags = flags_of(&MountOptions::parse("ro,noexec,dev").unwrap());
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NOSUID);
    }
}
