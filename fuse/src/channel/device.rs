//! What goes through the `/dev/fuse` descriptor besides requests and replies: backing files and notifications.
//!
//! **Owns** the two ioctls of FUSE passthrough and the bytes of the notifications, both from linux/fuse.h (protocol
//! 7.40 and 7.18). **Never does** decide which file backs what, or when to notify. A notification may wait for
//! locks that a request in flight holds, so it must not be sent from a thread that answers requests; the
//! [`Notifier`](crate::notify::Notifier) sees to that.

use forebay_types::{Ino, Name};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};
use std::ffi::c_void;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The group of the ioctls of `/dev/fuse` (`FUSE_DEV_IOC_MAGIC`).
const IOC_GROUP: u8 = 229;
/// `FUSE_DEV_IOC_CLONE`
const IOC_CLONE: Opcode = opcode::read::<u32>(IOC_GROUP, 0);
/// `FUSE_DEV_IOC_BACKING_OPEN`
const IOC_BACKING_OPEN: Opcode = opcode::write::<BackingMap>(IOC_GROUP, 1);
/// `FUSE_DEV_IOC_BACKING_CLOSE`
const IOC_BACKING_CLOSE: Opcode = opcode::write::<u32>(IOC_GROUP, 2);

/// `FUSE_NOTIFY_INVAL_INODE`, `FUSE_NOTIFY_INVAL_ENTRY`, `FUSE_NOTIFY_DELETE`
const NOTIFY_INVAL_INODE: i32 = 2;
const NOTIFY_INVAL_ENTRY: i32 = 3;
const NOTIFY_DELETE: i32 = 6;
/// `struct fuse_out_header`
const OUT_HEADER_LEN: usize = 16;

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
        let body = [ino.0.to_ne_bytes(), offset.to_ne_bytes(), len.to_ne_bytes()].concat();
        self.notify(NOTIFY_INVAL_INODE, &body, None)
    }

    /// Makes the kernel look a name up again.
    pub(crate) fn inval_entry(&self, parent: Ino, name: &Name) -> io::Result<()> {
        let mut body = parent.0.to_ne_bytes().to_vec();
        body.extend(name_len(name));
        self.notify(NOTIFY_INVAL_ENTRY, &body, Some(name))
    }

    /// Says that a name is gone, to those who watch it by inotify too.
    pub(crate) fn delete(&self, parent: Ino, child: Ino, name: &Name) -> io::Result<()> {
        let mut body = [parent.0.to_ne_bytes(), child.0.to_ne_bytes()].concat();
        body.extend(name_len(name));
        self.notify(NOTIFY_DELETE, &body, Some(name))
    }

    /// Writes one message; an inode or name that the kernel does not know is no error, it has nothing to drop.
    fn notify(&self, code: i32, body: &[u8], name: Option<&Name>) -> io::Result<()> {
        let tail = name.map(|name| [name.as_bytes(), b"\0"].concat()).unwrap_or_default();
        let header = out_header(code, body.len() + tail.len());
        let parts = [IoSlice::new(&header), IoSlice::new(body), IoSlice::new(&tail)];
        match rustix::io::writev(&self.0, &parts) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The `namelen` of a notification and the 32 bits of flags or padding after it.
fn name_len(name: &Name) -> [u8; 8] {
    let len = name.as_bytes().len() as u64;
    // Two u32, the second 0: the same bytes as one u64 on a little-endian machine, which is all that is supported.
    len.to_le_bytes()
}

const _: () =
    assert!(cfg!(target_endian = "little"), "the FUSE structures are written for little-endian machines");

/// `struct fuse_out_header` of a notification: its length, its code in the place of the error, unique 0.
fn out_header(code: i32, body_len: usize) -> [u8; OUT_HEADER_LEN] {
    let len =
        u32::try_from(OUT_HEADER_LEN + body_len).expect("a notification holds one name of 255 bytes at most");
    let mut header = [0; OUT_HEADER_LEN];
    header[..4].copy_from_slice(&len.to_ne_bytes());
    header[4..8].copy_from_slice(&code.to_ne_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_notification_counts_everything() {
        let header = out_header(NOTIFY_INVAL_ENTRY, 20);
        assert_eq!(header, [36, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_ioctls_have_the_numbers_of_the_header_file() {
        assert_eq!(IOC_CLONE, 0x8004_e500);
        assert_eq!(IOC_BACKING_OPEN, 0x4010_e501);
        assert_eq!(IOC_BACKING_CLOSE, 0x4004_e502);
    }
}
