//! The two things for which the standard library has no call: a mapping of a file, and the ext4 request that
//! stands for pulling the plug. The only file of this crate with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

/// How a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// `MAP_SHARED`, for reading.
    Shared,
    /// `MAP_SHARED`, for reading and writing.
    SharedWrite,
    /// `MAP_PRIVATE`, for reading and (private) writing.
    Private,
}

/// A mapping of the first bytes of a file. Accesses are copies by raw pointer, so that nobody holds a Rust
/// reference to bytes that another process may change.
#[derive(Debug)]
pub(crate) struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`; `len` is not zero. An access beyond the file's end, or to a page that
    /// cannot be brought in, ends the process with SIGBUS.
    pub(crate) fn new(file: &File, len: usize, share: Share) -> io::Result<Self> {
        let (prot, flags) = match share {
            Share::Shared => (ProtFlags::READ, MapFlags::SHARED),
            Share::SharedWrite => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
            Share::Private => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE),
        };
        // SAFETY: a null address lets the kernel choose a free range, so no memory in use is replaced.
        let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, file, 0)? };
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mmap answered null"))?;
        Ok(Self { at, len })
    }

    /// Copies bytes out of the mapping.
    pub(crate) fn read(&self, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= self.len, "read beyond the mapping");
        // SAFETY: the range lies within the mapping (asserted) and `out` is memory of our own, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(self.at.as_ptr().add(offset), out.as_mut_ptr(), out.len()) }
    }

    /// Stores bytes through the mapping, which must be writable.
    pub(crate) fn write(&self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= self.len, "write beyond the mapping");
        // SAFETY: the range lies within the mapping (asserted) and `data` is memory of our own, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.at.as_ptr().add(offset), data.len()) }
    }

    /// Waits until the file system has taken all that was stored (`MS_SYNC`).
    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: exactly the range that was mapped, still mapped.
        unsafe { rustix::mm::msync(self.at.as_ptr().cast(), self.len, MsyncFlags::SYNC) }.map_err(Into::into)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that was mapped; no reference into it was ever given out.
        let unmapped = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.len) };
        assert!(unmapped.is_ok(), "munmap of a whole mapping cannot fail");
    }
}

/// `EXT4_IOC_SHUTDOWN` of the kernel's `fs/ext4/ext4.h`: `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: not even the journal's buffered records reach the disk.
const NO_LOG_FLUSH: u32 = 2;

/// Shuts the ext4 down that holds `dir`, as a loss of power would: what was not written by now never will be.
pub(crate) fn lose_power(dir: &OwnedFd) -> io::Result<()> {
    let mut flags = NO_LOG_FLUSH;
    // SAFETY: the request reads one u32 from the pointer, which `Updater` makes of a live `&mut u32`.
    let request = unsafe { rustix::ioctl::Updater::<EXT4_IOC_SHUTDOWN, u32>::new(&mut flags) };
    // SAFETY: the descriptor is open for as long as it is borrowed, and the request matches its argument.
    unsafe { rustix::ioctl::ioctl(dir.as_fd(), request) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_shared_mapping_and_the_file_show_the_same_bytes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let map = Mapping::new(&file, 8192, Share::SharedWrite).unwrap();
        map.write(4000, b"through the mapping");
        map.sync().unwrap();
        let mut back = [0; 19];
        file.read_exact_at(&mut back, 4000).unwrap();
        assert_eq!(&back, b"through the mapping");
        file.write_all_at(b"through the file", 100).unwrap();
        map.read(100, &mut back[..16]);
        assert_eq!(&back[..16], b"through the file");
    }

    #[test]
    fn a_file_system_without_the_request_refuses_it() {
        let proc = OwnedFd::from(File::open("/proc/self").unwrap());
        assert!(lose_power(&proc).is_err());
    }
}
