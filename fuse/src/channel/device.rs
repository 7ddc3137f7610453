//! What goes through the `/dev/fuse` descriptor besides requests and replies: backing files and notifications.
//!
//! **Owns** the two ioctls of FUSE passthrough (protocol 7.40), the one that clones a device, and the sending of
//! notifications. **Never does** decide which file backs what, or when to notify. A notification may wait for
//! locks that a request in flight holds, so it must not be sent from a thread that answers requests; the
//! [`Notifier`](crate::notify::Notifier) sees to that.

use super::abi::{self, notify};
use forebay_types::{Ino, Name};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};
use std::ffi::c_void;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use zerocopy::{Immutable, IntoBytes};

/// The group of the ioctls of `/dev/fuse` (`FUSE_DEV_IOC_MAGIC`).
const IOC_GROUP: u8 = 229;
/// `FUSE_DEV_IOC_CLONE`
const IOC_CLONE: Opcode = opcode::read::<u32>(IOC_GROUP, 0);
/// `FUSE_DEV_IOC_BACKING_OPEN`
const IOC_BACKING_OPEN: Opcode = opcode::write::<BackingMap>(IOC_GROUP, 1);
/// `FUSE_DEV_IOC_BACKING_CLOSE`
const IOC_BACKING_CLOSE: Opcode = opcode::write::<u32>(IOC_GROUP, 2);

/// A file registered with the kernel to do I/O on by itself. Opening a file with a second id for the same inode
/// while it is open fails with EIO, so one inode has one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackingId(pub(crate) u32);

/// `struct fuse_backing_map`
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

const _: () = assert!(size_of::<BackingMap>() == 16);

// SAFETY: the opcode is that of an ioctl which reads one `struct fuse_backing_map` from the pointer, which points to
// such a structure, and which returns the new id.
unsafe impl Ioctl for BackingMap {
    type Output = BackingId;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        IOC_BACKING_OPEN
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<BackingId> {
        u32::try_from(out).map(BackingId).map_err(|_| rustix::io::Errno::IO)
    }
}

/// A second descriptor of the session, with a queue of its own for the requests that are read from it.
pub(crate) fn clone_device(device: &OwnedFd) -> io::Result<OwnedFd> {
    let clone = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/fuse")?);
    let source = u32::try_from(device.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: this ioctl reads one u32, the number of a descriptor of ours, and touches no other memory.
    let setter = unsafe { Setter::<IOC_CLONE, u32>::new(source) };
    // SAFETY: as above.
    unsafe { ioctl(&clone, setter) }?;
    Ok(clone)
}

/// The kernel's end of a session, for everything but requests.
#[derive(Debug)]
pub(crate) struct Device(OwnedFd);

impl Device {
    /// Takes a descriptor of the session; it keeps the connection alive as long as it is there.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Registers a backing file; the kernel takes its own reference to it.
    pub(crate) fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<BackingId> {
        let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
        // SAFETY: the argument is described by its Ioctl impl above; the kernel refuses a descriptor of another
        // device with ENOTTY, and the id it makes is closed by `close_backing`.
        Ok(unsafe { ioctl(&self.0, map) }?)
    }

    /// Lets go of a backing file. Files that are open on it keep their own reference.
    pub(crate) fn close_backing(&self, id: BackingId) -> io::Result<()> {
        // SAFETY: this ioctl reads one u32 and touches no other memory of ours; an id that is not registered is
        // refused with ENOENT.
        let close = unsafe { Setter::<IOC_BACKING_CLOSE, u32>::new(id.0) };
        // SAFETY: as above.
        Ok(unsafe { ioctl(&self.0, close) }?)
    }

    /// Drops what the kernel cached of an inode: its attributes, and its bytes from `offset` on. A `len` of 0 means
    /// to the end; a negative offset means attributes only.
    pub(crate) fn inval_inode(&self, ino: Ino, offset: i64, len: i64) -> io::Result<()> {
        self.notify(notify::INVAL_INODE, &abi::NotifyInvalInode { ino: ino.0, off: offset, len }, &[])
    }

    /// Makes the kernel look a name up again.
    pub(crate) fn inval_entry(&self, parent: Ino, name: &Name) -> io::Result<()> {
        self.notify(notify::INVAL_ENTRY, &entry_of(parent, name, 0), &ended(name))
    }

    /// Makes the kernel ask about a name before it is used again, without taking it from those who use it now.
    pub(crate) fn expire_entry(&self, parent: Ino, name: &Name) -> io::Result<()> {
        self.notify(notify::INVAL_ENTRY, &entry_of(parent, name, abi::EXPIRE_ONLY), &ended(name))
    }

    /// Says that a name is gone, to those who watch it by inotify too.
    pub(crate) fn delete(&self, parent: Ino, child: Ino, name: &Name) -> io::Result<()> {
        let namelen = name.as_bytes().len() as u32;
        let gone = abi::NotifyDelete { parent: parent.0, child: child.0, namelen, padding: 0 };
        self.notify(notify::DELETE, &gone, &ended(name))
    }

    /// Makes the kernel let go of inodes that nobody uses, and tell so by FORGET. Those in use stay.
    pub(crate) fn prune(&self, inodes: &[Ino]) -> io::Result<()> {
        let prune = abi::NotifyPrune { count: inodes.len() as u32, ..abi::NotifyPrune::default() };
        let numbers: Vec<u8> = inodes.iter().flat_map(|ino| ino.0.to_ne_bytes()).collect();
        self.notify(notify::PRUNE, &prune, &numbers)
    }

    /// Has the kernel send all requests again that were read by anybody and not answered.
    pub(crate) fn resend(&self) -> io::Result<()> {
        let len = size_of::<abi::OutHeader>() as u32;
        let header = abi::OutHeader { len, error: notify::RESEND, unique: 0 };
        rustix::io::write(&self.0, header.as_bytes())?;
        Ok(())
    }

    /// Writes one message; an inode or name that the kernel does not know is no error, it has nothing to drop.
    fn notify(&self, code: i32, body: &(impl IntoBytes + Immutable), tail: &[u8]) -> io::Result<()> {
        let len = size_of::<abi::OutHeader>() + size_of_val(body) + tail.len();
        let header = abi::OutHeader { len: len as u32, error: code, unique: 0 };
        let parts = [header.as_bytes(), body.as_bytes(), tail].map(IoSlice::new);
        match rustix::io::writev(&self.0, &parts) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A name as the kernel wants it behind a message.
fn ended(name: &Name) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn entry_of(parent: Ino, name: &Name, flags: u32) -> abi::NotifyInvalEntry {
    abi::NotifyInvalEntry { parent: parent.0, namelen: name.as_bytes().len() as u32, flags }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctls_have_the_numbers_of_the_header_file() {
        assert_eq!(IOC_CLONE, 0x8004_e500);
        assert_eq!(IOC_BACKING_OPEN, 0x4010_e501);
        assert_eq!(IOC_BACKING_CLOSE, 0x4004_e502);
    }
}
