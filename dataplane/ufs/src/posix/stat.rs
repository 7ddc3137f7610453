//! What is at a key, and the bytes of one version of it.

use super::fault::{OrFault, fault};
use super::root::{Root, is_reserved};
use crate::error::{UfsError, UfsResult};
use forebay_types::{FileKind, TimeSpec, UfsAttr, UfsKey, UfsVersion};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

/// Permission bits, setuid, setgid and sticky.
pub(super) const MODE_BITS: u32 = 0o7777;

impl Root {
    /// What is at `key`.
    pub(super) fn attr(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        let found = match key.is_root() {
            true => rustix::fs::fstat(self.open_dir(key)?).map(Some).or_fault("stat", key),
            false => self.attr_below(key),
        };
        let stat = match found {
            Ok(Some(stat)) => stat,
            // A file or a link in the way means that there is nothing at the key.
            Ok(None) | Err(UfsError::NotFound(_) | UfsError::NotADirectory(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let target = match kind_of(&stat) {
            FileKind::Symlink => Some(self.link_target(key)?),
            _ => None,
        };
        Ok(Some(attr_of(&stat, target)))
    }

    fn attr_below(&self, key: &UfsKey) -> UfsResult<Option<Stat>> {
        let place = self.place(key)?;
        if is_reserved(place.name.as_bytes()) {
            return Ok(None);
        }
        place.stat(key)
    }

    fn link_target(&self, key: &UfsKey) -> UfsResult<Box<[u8]>> {
        let place = self.place(key)?;
        read_link(&place.dir, place.name.as_bytes()).or_fault("read link", key)
    }

    /// Reads `version` of the file at `key` from `offset` into `buf`, short only at the file's end.
    pub(super) fn read(
        &self,
        key: &UfsKey,
        version: &UfsVersion,
        offset: u64,
        buf: &mut [u8],
    ) -> UfsResult<usize> {
        let file = self.open_version(key, version)?;
        let len = read_full(&file, offset, buf).or_fault("read", key)?;
        // Whoever wrote while we read has moved the time of last change by now.
        check_version(&file, key, version)?;
        Ok(len)
    }

    /// Opens the regular file at `key` if it is of this version.
    pub(super) fn open_version(&self, key: &UfsKey, version: &UfsVersion) -> UfsResult<OwnedFd> {
        // A named pipe would block the open until somebody writes.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let file = match self.open_at(key, flags) {
            Ok(file) => file,
            // The file was replaced by a link or a socket, neither of which has a content.
            Err(Errno::LOOP | Errno::NXIO) => return Err(UfsError::Changed(key.clone())),
            Err(errno) => return Err(fault(errno, "open", key)),
        };
        check_version(&file, key, version)?;
        Ok(file)
    }
}

fn check_version(file: impl AsFd, key: &UfsKey, version: &UfsVersion) -> UfsResult<()> {
    let stat = rustix::fs::fstat(file).or_fault("stat", key)?;
    match kind_of(&stat) {
        FileKind::Regular if version_of(&stat) == *version => Ok(()),
        FileKind::Directory => Err(UfsError::IsADirectory(key.clone())),
        _ => Err(UfsError::Changed(key.clone())),
    }
}

fn read_full(file: impl AsFd, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buf.len() {
        match rustix::io::pread(&file, &mut buf[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// The target of the symbolic link `name` in `dir`.
pub(super) fn read_link(dir: impl AsFd, name: &[u8]) -> Result<Box<[u8]>, Errno> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
    Ok(target.into_bytes().into_boxed_slice())
}

/// The version of a file: inode, size and mtime. The ctime is left out: a chmod, a further name or a rename moves
/// it and no byte. A directory has no version: its names come and go without it becoming another directory.
pub(super) fn version_of(stat: &Stat) -> UfsVersion {
    if kind_of(stat) == FileKind::Directory {
        return UfsVersion::new([]);
    }
    let mtime = mtime_of(stat);
    let mut bytes = Vec::with_capacity(28);
    bytes.extend_from_slice(&stat.st_ino.to_le_bytes());
    bytes.extend_from_slice(&stat.st_size.to_le_bytes());
    bytes.extend_from_slice(&mtime.secs.to_le_bytes());
    bytes.extend_from_slice(&mtime.nanos.to_le_bytes());
    UfsVersion::new(bytes)
}

fn mtime_of(stat: &Stat) -> TimeSpec {
    TimeSpec { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }
}

pub(super) fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        // The kernel knows no other kinds.
        FileType::RegularFile | FileType::Unknown => FileKind::Regular,
    }
}

pub(super) fn attr_of(stat: &Stat, link_target: Option<Box<[u8]>>) -> UfsAttr {
    let kind = kind_of(stat);
    let size = if kind == FileKind::Directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
    UfsAttr {
        kind,
        size,
        mtime: mtime_of(stat),
        version: version_of(stat),
        mode: Some((stat.st_mode & MODE_BITS) as u16),
        owner: Some((stat.st_uid, stat.st_gid)),
        link_target,
        links: u32::try_from(stat.st_nlink).ok(),
    }
}
