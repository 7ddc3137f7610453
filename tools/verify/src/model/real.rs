//! The directory under test: carries operations out by system calls and says what came back.
//!
//! A slot keeps its file open, and its mapping once it has one, until it is closed: what is under test must keep
//! handles, mappings and paths coherent. Pipes and directories are never opened for data (a pipe would wait).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, RenameFlags, SeekFrom, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use super::op::{OpenHow, Replace, Space};
use super::reference::LEN_MAX;
use crate::kernel::{Mapping, Share};

type Answer<T> = Result<T, Errno>;

/// What stat said, as far as file systems agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    /// `d`, `f`, `l`, `p`, or `?`.
    pub(crate) kind: char,
    /// Lowest twelve bits.
    pub(crate) mode: u32,
    /// Owner and group.
    pub(crate) owner: (u32, u32),
    /// Names.
    pub(crate) links: u64,
    /// Bytes; of files and links.
    pub(crate) len: u64,
    /// Modification time, seconds.
    pub(crate) mtime: i64,
}

impl From<fs::Metadata> for Looks {
    fn from(meta: fs::Metadata) -> Self {
        let kind = match meta.file_type() {
            kind if kind.is_dir() => 'd',
            kind if kind.is_file() => 'f',
            kind if kind.is_symlink() => 'l',
            kind if kind.is_fifo() => 'p',
            _ => '?',
        };
        let owner = (meta.uid(), meta.gid());
        let (mode, links, len, mtime) = (meta.mode() & 0o7777, meta.nlink(), meta.len(), meta.mtime());
        Self { kind, mode, owner, links, len, mtime }
    }
}

#[derive(Debug)]
struct Open {
    file: File,
    how: OpenHow,
    map: Option<Mapping>,
}

/// A directory under test.
#[derive(Debug)]
pub(crate) struct Real {
    root: PathBuf,
    slots: BTreeMap<usize, Open>,
}

/// The errno of an I/O error; EIO when it has none.
fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn answer<T>(result: io::Result<T>) -> Answer<T> {
    result.map_err(|error| errno(&error))
}

impl Real {
    /// The directory `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), slots: BTreeMap::new() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn slot(&self, slot: usize) -> Answer<&Open> {
        self.slots.get(&slot).ok_or(Errno::BADF)
    }

    /// `open` into a slot.
    pub(crate) fn open(&mut self, slot: usize, path: &str, how: OpenHow, mode: u32) -> Answer<()> {
        let at = self.at(path);
        if !(how.create && how.exclusive) && fs::metadata(&at).is_ok_and(|meta| !meta.is_file()) {
            return Err(Errno::ISDIR);
        }
        let mut options = OpenOptions::new();
        options.read(how.read).write(how.write).append(how.append).truncate(how.truncate).mode(mode);
        let flags = rustix::fs::OFlags::from_bits_retain(0);
        let create = if how.create { rustix::fs::OFlags::CREATE } else { flags };
        let exclusive = if how.exclusive { rustix::fs::OFlags::EXCL } else { flags };
        let truncate = if how.truncate { rustix::fs::OFlags::TRUNC } else { flags };
        options.truncate(false).custom_flags((create | exclusive | truncate).bits() as i32);
        let file = answer(options.open(at))?;
        self.slots.insert(slot, Open { file, how, map: None });
        Ok(())
    }

    /// Closes a slot and its mapping.
    pub(crate) fn close(&mut self, slot: usize) {
        self.slots.remove(&slot);
    }

    /// Closes every slot.
    pub(crate) fn close_all(&mut self) {
        self.slots.clear();
    }

    /// `pread` until the end or `len` bytes.
    pub(crate) fn read(&self, slot: usize, offset: u64, len: u64) -> Answer<Vec<u8>> {
        let file = &self.slot(slot)?.file;
        let mut data = vec![0; len as usize];
        let mut done = 0;
        loop {
            match answer(file.read_at(&mut data[done..], offset + done as u64))? {
                0 => break,
                n => done += n,
            }
        }
        data.truncate(done);
        Ok(data)
    }

    /// `pwrite`, or `write` at an `O_APPEND` slot's end, of all bytes.
    pub(crate) fn write(&self, slot: usize, offset: u64, bytes: &[u8]) -> Answer<()> {
        answer(self.slot(slot)?.file.write_all_at(bytes, offset))
    }

    /// `ftruncate`.
    pub(crate) fn set_len(&self, slot: usize, len: u64) -> Answer<()> {
        answer(self.slot(slot)?.file.set_len(len))
    }

    /// `fallocate`.
    pub(crate) fn allocate(&self, slot: usize, space: Space, offset: u64, len: u64) -> Answer<()> {
        let flags = match space {
            Space::Grow => FallocateFlags::empty(),
            Space::Keep => FallocateFlags::KEEP_SIZE,
            Space::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Space::Zero => FallocateFlags::ZERO_RANGE,
            Space::ZeroKeep => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        rustix::fs::fallocate(&self.slot(slot)?.file, flags, offset, len)
    }

    fn mapping(&mut self, slot: usize) -> Answer<&Mapping> {
        let open = self.slots.get_mut(&slot).ok_or(Errno::BADF)?;
        if open.map.is_none() {
            let share = if open.how.write { Share::SharedWrite } else { Share::Shared };
            open.map = Some(answer(Mapping::new(&open.file, LEN_MAX as usize, share))?);
        }
        open.map.as_ref().ok_or(Errno::BADF)
    }

    /// Loads bytes within the file through the slot's shared mapping.
    pub(crate) fn map_read(&mut self, slot: usize, offset: u64, len: u64) -> Answer<Vec<u8>> {
        self.slot(slot)?;
        let mut data = vec![0; len as usize];
        if len > 0 {
            self.mapping(slot)?.read(offset as usize, &mut data);
        }
        Ok(data)
    }

    /// Stores bytes within the file through the slot's shared mapping, and waits for `msync`.
    pub(crate) fn map_write(&mut self, slot: usize, offset: u64, bytes: &[u8]) -> Answer<()> {
        let how = self.slot(slot)?.how;
        if bytes.is_empty() {
            return Ok(());
        }
        if !how.write {
            return Err(Errno::ACCESS);
        }
        let map = self.mapping(slot)?;
        map.write(offset as usize, bytes);
        answer(map.sync())
    }

    /// `copy_file_range` until `due` bytes are copied: a copy within one file would otherwise meet its own growth.
    pub(crate) fn copy_range(&self, from: (usize, u64), to: (usize, u64), len: u64, due: u64) -> Answer<u64> {
        let (source, target) = (&self.slot(from.0)?.file, &self.slot(to.0)?.file);
        let (mut from_at, mut to_at, mut done) = (from.1, to.1, 0);
        loop {
            let rest = (len - done) as usize;
            match rustix::fs::copy_file_range(source, Some(&mut from_at), target, Some(&mut to_at), rest)? {
                0 => return Ok(done),
                n => done += n as u64,
            }
            if done >= due {
                return Ok(done);
            }
        }
    }

    /// The ranges that `SEEK_HOLE` and `SEEK_DATA` call holes.
    pub(crate) fn holes(&self, slot: usize) -> Answer<Vec<(u64, u64)>> {
        let file = &self.slot(slot)?.file;
        let end = answer(file.metadata())?.len();
        let (mut holes, mut at) = (Vec::new(), 0);
        while at < end {
            let hole = rustix::fs::seek(file, SeekFrom::Hole(at))?;
            let data = match rustix::fs::seek(file, SeekFrom::Data(hole)) {
                Ok(data) => data,
                Err(Errno::NXIO) => end,
                Err(other) => return Err(other),
            };
            if hole < at || data < hole || (data == hole && hole < end) {
                return Err(Errno::RANGE);
            }
            if hole < end {
                holes.push((hole, data.min(end)));
            }
            at = data;
            if hole >= end {
                break;
            }
        }
        Ok(holes)
    }

    /// `fsync` or `fdatasync`.
    pub(crate) fn sync(&self, slot: usize, data_only: bool) -> Answer<()> {
        let file = &self.slot(slot)?.file;
        answer(if data_only { file.sync_data() } else { file.sync_all() })
    }

    /// `fstat`.
    pub(crate) fn handle_stat(&self, slot: usize) -> Answer<Looks> {
        answer(self.slot(slot)?.file.metadata()).map(Into::into)
    }

    /// `truncate`.
    pub(crate) fn truncate(&self, path: &str, len: u64) -> Answer<()> {
        let at = self.at(path);
        // Opening a pipe would wait, and the standard library has no truncate(2): the error it gives is known.
        let meta = answer(fs::metadata(&at))?;
        if !meta.is_file() {
            return Err(if meta.is_dir() { Errno::ISDIR } else { Errno::INVAL });
        }
        answer(OpenOptions::new().write(true).open(at).and_then(|file| file.set_len(len)))
    }

    /// `mkdir`.
    pub(crate) fn mkdir(&self, path: &str, mode: u32) -> Answer<()> {
        rustix::fs::mkdir(self.at(path), Mode::from_raw_mode(mode))
    }

    /// `rmdir`.
    pub(crate) fn rmdir(&self, path: &str) -> Answer<()> {
        rustix::fs::rmdir(self.at(path))
    }

    /// `unlink`.
    pub(crate) fn unlink(&self, path: &str) -> Answer<()> {
        rustix::fs::unlink(self.at(path))
    }

    /// `renameat2`.
    pub(crate) fn rename(&self, from: &str, to: &str, replace: Replace) -> Answer<()> {
        let flags = match replace {
            Replace::Plain => RenameFlags::empty(),
            Replace::Refuse => RenameFlags::NOREPLACE,
            Replace::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags)
    }

    /// `link`.
    pub(crate) fn link(&self, from: &str, to: &str) -> Answer<()> {
        rustix::fs::linkat(CWD, self.at(from), CWD, self.at(to), AtFlags::empty())
    }

    /// `symlink`.
    pub(crate) fn symlink(&self, path: &str, target: &str) -> Answer<()> {
        rustix::fs::symlink(target, self.at(path))
    }

    /// `mkfifo`.
    pub(crate) fn fifo(&self, path: &str, mode: u32) -> Answer<()> {
        rustix::fs::mknodat(CWD, self.at(path), rustix::fs::FileType::Fifo, Mode::from_raw_mode(mode), 0)
    }

    /// `readlink`.
    pub(crate) fn read_link(&self, path: &str) -> Answer<String> {
        answer(fs::read_link(self.at(path))).map(|target| target.to_string_lossy().into_owned())
    }

    /// All names of a directory, sorted.
    pub(crate) fn list(&self, path: &str) -> Answer<Vec<String>> {
        let mut names = Vec::new();
        for entry in answer(fs::read_dir(self.at(path)))? {
            names.push(answer(entry)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// `fsync` of a directory.
    pub(crate) fn sync_dir(&self, path: &str) -> Answer<()> {
        let at = self.at(path);
        if !answer(fs::metadata(&at))?.is_dir() {
            return Err(Errno::NOTDIR);
        }
        answer(File::open(at).and_then(|dir| dir.sync_all()))
    }

    /// `stat` or `lstat`.
    pub(crate) fn stat(&self, path: &str, follow: bool) -> Answer<Looks> {
        let at = self.at(path);
        answer(if follow { fs::metadata(at) } else { fs::symlink_metadata(at) }).map(Into::into)
    }

    /// `chmod`.
    pub(crate) fn chmod(&self, path: &str, mode: u32) -> Answer<()> {
        rustix::fs::chmod(self.at(path), Mode::from_raw_mode(mode))
    }

    /// `lchown`.
    pub(crate) fn chown(&self, path: &str, uid: u32, gid: u32) -> Answer<()> {
        answer(std::os::unix::fs::lchown(self.at(path), Some(uid), Some(gid)))
    }

    /// `utimensat`.
    pub(crate) fn set_times(&self, path: &str, atime: i64, mtime: i64) -> Answer<()> {
        let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
        let times = Timestamps { last_access: at(atime), last_modification: at(mtime) };
        rustix::fs::utimensat(CWD, self.at(path), &times, AtFlags::empty())
    }

    /// `setxattr`.
    pub(crate) fn set_xattr(&self, path: &str, name: &str, value: &[u8], only: (bool, bool)) -> Answer<()> {
        let flags = match only {
            (true, _) => XattrFlags::CREATE,
            (_, true) => XattrFlags::REPLACE,
            _ => XattrFlags::empty(),
        };
        rustix::fs::setxattr(self.at(path), name, value, flags)
    }

    /// `getxattr`.
    pub(crate) fn get_xattr(&self, path: &str, name: &str) -> Answer<Vec<u8>> {
        let mut value = vec![0; 4096];
        let len = rustix::fs::getxattr(self.at(path), name, &mut value[..])?;
        value.truncate(len);
        Ok(value)
    }

    /// `listxattr`: the names of the model's own kind, sorted.
    pub(crate) fn list_xattr(&self, path: &str) -> Answer<Vec<String>> {
        let mut list = vec![0; 16 << 10];
        let len = rustix::fs::listxattr(self.at(path), &mut list[..])?;
        let names =
            list[..len].split(|byte| *byte == 0).map(|name| String::from_utf8_lossy(name).into_owned());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(super::XATTR_PREFIX)).collect();
        names.sort();
        Ok(names)
    }

    /// `removexattr`.
    pub(crate) fn remove_xattr(&self, path: &str, name: &str) -> Answer<()> {
        rustix::fs::removexattr(self.at(path), name)
    }

    /// All bytes of a file.
    pub(crate) fn content(&self, path: &str) -> Answer<Vec<u8>> {
        answer(fs::read(self.at(path)))
    }
}
