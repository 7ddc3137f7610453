//! The simulated disk: it knows live bytes from durable ones.
//!
//! The live bytes of a file are a memory file of the kernel, so that code which stats or truncates through
//! [`crate::File::std`] works here too. What the ring wrote since the last sync is kept as a list. A sync
//! moves the list into the durable bytes; a power loss keeps of it what chance decides, sector by sector, and
//! makes the result the live bytes.
//!
//! Names are durable at once, and bytes written through `std()` are not tracked: they are lost with the power.

use super::world::Chance;
use crate::driver::Span;
use crate::file::File;
use rustix::fs::{MemfdFlags, memfd_create};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

const SECTOR: usize = 512;

/// A disk that outlives the processes on it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Rc<RefCell<BTreeMap<String, Inode>>>);

#[derive(Debug)]
struct Inode {
    live: std::fs::File,
    /// Tells which file a descriptor belongs to, whichever duplicate of it is used.
    number: u64,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

/// A change that the ring made and no sync covered yet.
#[derive(Debug)]
enum Change {
    Bytes { offset: usize, bytes: Vec<u8> },
    Zeros { offset: usize, len: usize },
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a file, or empties the one of that name.
    ///
    /// # Errors
    /// The memory file could not be made.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let live = std::fs::File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
        let number = live.metadata()?.ino();
        let file = File::new(live.try_clone()?);
        let inode = Inode { live, number, durable: Vec::new(), unsynced: Vec::new() };
        self.0.borrow_mut().insert(name.to_owned(), inode);
        Ok(file)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn open(&self, name: &str) -> io::Result<File> {
        let inodes = self.0.borrow();
        let inode = inodes.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(File::new(inode.live.try_clone()?))
    }

    /// The bytes that would survive a power loss now whatever chance does; `None` if there is no such file.
    pub fn durable(&self, name: &str) -> Option<Vec<u8>> {
        self.0.borrow().get(name).map(|inode| inode.durable.clone())
    }

    pub(super) fn read(&self, fd: RawFd, span: Span, offset: u64) -> i32 {
        self.with(fd, |inode| {
            // SAFETY: the operation owns the span until its completion is fetched, which comes after this.
            let buffer = unsafe { std::slice::from_raw_parts_mut(span.address, span.len as usize) };
            inode.live.read_at(buffer, offset)
        })
    }

    pub(super) fn write(&self, fd: RawFd, span: Span, offset: u64) -> i32 {
        self.with(fd, |inode| {
            // SAFETY: as in `read`.
            let bytes = unsafe { std::slice::from_raw_parts(span.address, span.len as usize) };
            inode.live.write_all_at(bytes, offset)?;
            inode.unsynced.push(Change::Bytes { offset: offset as usize, bytes: bytes.to_vec() });
            Ok(bytes.len())
        })
    }

    /// `fails`: the kernel drops its dirty pages, so no later sync makes these bytes durable.
    pub(super) fn sync(&self, fd: RawFd, fails: bool) -> i32 {
        self.with(fd, |inode| {
            let changes = std::mem::take(&mut inode.unsynced);
            if fails {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            changes.iter().for_each(|change| change.apply(&mut inode.durable));
            inode.durable.resize(inode.live.metadata()?.len() as usize, 0);
            Ok(0)
        })
    }

    pub(super) fn allocate(&self, fd: RawFd, mode: i32, offset: u64, len: u64) -> i32 {
        self.with(fd, |inode| {
            let flags = rustix::fs::FallocateFlags::from_bits_retain(mode as u32);
            rustix::fs::fallocate(&inode.live, flags, offset, len)?;
            if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
                let end = inode.live.metadata()?.len().min(offset + len);
                let len = end.saturating_sub(offset) as usize;
                inode.unsynced.push(Change::Zeros { offset: offset as usize, len });
            }
            Ok(0)
        })
    }

    /// Makes of every file what a power loss would leave of it.
    pub(super) fn lose_power(&self, seed: u64) {
        let mut chance = Chance::new(seed);
        for inode in self.0.borrow_mut().values_mut() {
            for change in std::mem::take(&mut inode.unsynced) {
                change.apply_in_part(&mut inode.durable, &mut chance);
            }
            let restored = inode.live.set_len(0).and_then(|()| inode.live.write_all_at(&inode.durable, 0));
            restored.expect("a memory file takes what it held before");
        }
    }

    /// Runs `f` on the file behind a descriptor; the result is the kernel's: a count, or `-errno`.
    fn with(&self, fd: RawFd, f: impl FnOnce(&mut Inode) -> io::Result<usize>) -> i32 {
        // SAFETY: the operation keeps its file open until its completion is fetched.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let Ok(stat) = rustix::fs::fstat(fd) else { return -libc::EBADF };
        let mut inodes = self.0.borrow_mut();
        let Some(inode) = inodes.values_mut().find(|inode| inode.number == stat.st_ino) else {
            return -libc::EBADF;
        };
        match f(inode) {
            Ok(count) => count as i32,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl Change {
    fn apply(&self, durable: &mut Vec<u8>) {
        match self {
            Self::Bytes { offset, bytes } => place(durable, *offset, bytes),
            Self::Zeros { offset, len } => place(durable, *offset, &vec![0; *len]),
        }
    }

    /// All, nothing, or some of its sectors.
    fn apply_in_part(&self, durable: &mut Vec<u8>, chance: &mut Chance) {
        let Self::Bytes { offset, bytes } = self else {
            if chance.once_in(2) {
                self.apply(durable);
            }
            return;
        };
        match chance.below(3) {
            0 => {}
            1 => self.apply(durable),
            _ => {
                let kept = bytes.chunks(SECTOR).enumerate().filter(|_| chance.once_in(2));
                kept.for_each(|(n, sector)| place(durable, offset + n * SECTOR, sector));
            }
        }
    }
}

fn place(durable: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if durable.len() < end {
        durable.resize(end, 0);
    }
    durable[offset..end].copy_from_slice(bytes);
}
