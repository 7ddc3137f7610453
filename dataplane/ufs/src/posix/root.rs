//! The root directory: how paths are resolved below it, and the locks that order changes of one name.

use super::fault::OrFault;
use super::stat::version_of;
use crate::error::{OpenError, UfsError, UfsResult};
use crate::ufs::{Expect, Space};
use forebay_types::limits::PATH_LEN_MAX;
use forebay_types::{Name, UfsKey, UfsVersion};
use parking_lot::{Mutex, MutexGuard};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::path::Path;
use std::time::Duration;

/// Temporary files of uploads begin so; no other file may.
pub(super) const RESERVED_PREFIX: &[u8] = b".forebay-put.";

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Changes of names are ordered by these, across all roots of the process: two mounts may show one directory.
const NAME_LOCKS: usize = 64;
static LOCKS: [Mutex<()>; NAME_LOCKS] = [const { Mutex::new(()) }; NAME_LOCKS];

/// The directory that was opened.
pub(super) struct Root {
    fd: OwnedFd,
    umask: u16,
    may_chown: bool,
    pub(super) stale_after: Duration,
}

/// A directory that holds a key's name, and the name.
pub(super) struct Place {
    pub(super) dir: OwnedFd,
    pub(super) name: Name,
    lock: usize,
}

impl Root {
    pub(super) fn open(path: &Path, stale_after: Duration) -> Result<Self, OpenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| open_error(path, e))?;
        let may_chown = rustix::process::geteuid().is_root();
        let root = Self { fd, umask: umask(), may_chown, stale_after };
        match root.open_dir(&UfsKey::root()) {
            Ok(_) => Ok(root),
            Err(error) => Err(OpenError::Unreachable {
                url: path.display().to_string(),
                reason: error.to_string(),
                remedy: "forebay needs openat2(2): Linux 5.6 or later, not forbidden by a seccomp filter"
                    .into(),
            }),
        }
    }

    /// Whether files can be given to other owners.
    pub(super) fn may_chown(&self) -> bool {
        self.may_chown
    }

    /// The mode of a new file or directory (`all` is 0o666 or 0o777) for which nobody asked for one.
    pub(super) fn default_mode(&self, all: u16) -> u16 {
        all & !self.umask
    }

    /// Opens what is at `key`, without following a symbolic link anywhere.
    pub(super) fn open_at(&self, key: &UfsKey, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if key.is_root() { b"." } else { key.as_bytes() };
        rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), RESOLVE)
    }

    pub(super) fn open_dir(&self, key: &UfsKey) -> UfsResult<OwnedFd> {
        self.open_at(key, OFlags::RDONLY | OFlags::DIRECTORY).or_fault("open directory", key)
    }

    /// Where `key` has its name; the name may or may not be taken.
    pub(super) fn place(&self, key: &UfsKey) -> UfsResult<Place> {
        let Some((parent, name)) = key.split() else {
            return Err(UfsError::Invalid("the root itself cannot be changed".into()));
        };
        let dir = self.open_dir(&parent)?;
        let at = rustix::fs::fstat(&dir).or_fault("stat the directory of", key)?;
        let lock = lock_index(&at, &name);
        Ok(Place { dir, name, lock })
    }

    /// Where `key` can have its name: as [`Self::place`], for names that a file may have.
    pub(super) fn place_for_new(&self, key: &UfsKey) -> UfsResult<Place> {
        if key.as_bytes().len() > PATH_LEN_MAX {
            return Err(UfsError::Unpersistable(format!(
                "a path of {} bytes is too long",
                key.as_bytes().len()
            )));
        }
        let place = self.place(key)?;
        if is_reserved(place.name.as_bytes()) {
            return Err(UfsError::Unpersistable(format!("{key}: names that begin so are reserved")));
        }
        Ok(place)
    }

    pub(super) fn space(&self) -> UfsResult<Space> {
        let stat = rustix::fs::fstatvfs(&self.fd).or_fault("statfs", &UfsKey::root())?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

impl Place {
    /// Keeps other changes of this name out until the guard is dropped.
    pub(super) fn lock(&self) -> MutexGuard<'static, ()> {
        LOCKS[self.lock].lock()
    }

    /// Keeps other changes of both names out. Taken in a fixed order, so that two renames never wait for each
    /// other.
    pub(super) fn lock_both(
        &self,
        other: &Self,
    ) -> (MutexGuard<'static, ()>, Option<MutexGuard<'static, ()>>) {
        let (low, high) = (self.lock.min(other.lock), self.lock.max(other.lock));
        let first = LOCKS[low].lock();
        let second = (high != low).then(|| LOCKS[high].lock());
        (first, second)
    }

    /// What has the name; `None` if nothing.
    pub(super) fn stat(&self, key: &UfsKey) -> UfsResult<Option<Stat>> {
        match rustix::fs::statat(&self.dir, self.name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).or_fault("stat", key),
        }
    }

    /// What has the name, if that is as expected.
    pub(super) fn check(&self, key: &UfsKey, expect: &Expect) -> UfsResult<Option<Stat>> {
        let found = self.stat(key)?;
        expect.check(key, found.as_ref().map(version_of).as_ref())?;
        Ok(found)
    }

    /// The version of what has the name now.
    pub(super) fn version(&self, key: &UfsKey) -> UfsResult<UfsVersion> {
        let stat = self.stat(key)?.ok_or_else(|| UfsError::NotFound(key.clone()))?;
        Ok(version_of(&stat))
    }

    /// Makes the names in this directory durable.
    pub(super) fn sync(&self, key: &UfsKey) -> UfsResult<()> {
        sync_dir(&self.dir, key)
    }
}

/// Makes the names in `dir`, which holds `key`, durable.
pub(super) fn sync_dir(dir: impl AsFd, key: &UfsKey) -> UfsResult<()> {
    match rustix::fs::fsync(dir) {
        // Some network file systems cannot sync a directory and need not: their names are durable at once.
        Err(Errno::INVAL) => Ok(()),
        synced => synced.or_fault("sync the directory of", key),
    }
}

/// Whether a name belongs to an upload in progress.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

fn lock_index(dir: &Stat, name: &Name) -> usize {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hash = DefaultHasher::new();
    (dir.st_dev, dir.st_ino, name).hash(&mut hash);
    (hash.finish() % NAME_LOCKS as u64) as usize
}

/// The process's umask, read where the kernel shows it: `umask(2)` can only be read by setting it, which
/// other threads would notice.
fn umask() -> u16 {
    const UMASK_USUAL: u16 = 0o022;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let shown = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    shown.and_then(|octal| u16::from_str_radix(octal.trim(), 8).ok()).unwrap_or(UMASK_USUAL)
}

fn open_error(path: &Path, errno: Errno) -> OpenError {
    let url = path.display().to_string();
    match errno {
        Errno::NOENT => OpenError::NotFound {
            url,
            what: "the directory",
            remedy: "create it, or mount the file system that holds it".into(),
        },
        Errno::NOTDIR => OpenError::NotFound {
            url,
            what: "a directory of this name",
            remedy: "give the path of a directory".into(),
        },
        Errno::ACCESS | Errno::PERM => OpenError::Denied {
            url,
            reason: errno.to_string(),
            remedy: "let the user forebay runs as read and enter it".into(),
        },
        _ => OpenError::Unreachable {
            url,
            reason: errno.to_string(),
            remedy: "check that it is mounted and that its server is up".into(),
        },
    }
}
