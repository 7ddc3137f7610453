//! Ways to the kernel.
//!
//! **Owns** what differs between them: how requests are read and replies written ([`Channel`], one module each),
//! and what is the same for all because it goes through the `/dev/fuse` descriptor whoever reads the requests
//! ([`Device`]: backing files and notifications).
//!
//! **Never does** decide anything about a request: a channel turns it into an [`Op`](crate::op::Op), hands it to
//! the [`Front`] and writes what comes back. Only this folder may hold unsafe code, and only `fuser/` names fuser.
//!
//! **In and out:** [`Channel::connect`] answers the kernel's INIT on a device that is not yet part of the tree;
//! [`Channel::serve`] then blocks until the session ends.
//!
//! **Why this shape:** FUSE over io_uring and a raw `/dev/fuse` reader differ in exactly these two calls.

pub(crate) mod device;
pub(crate) mod fuser;

pub use device::BackingId;
pub(crate) use device::Device;

use crate::front::Front;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The largest write request, and the largest read: 256 pages, the kernel's default limit for a request
/// (`fuse_max_pages_limit`), and one transfer between the parts.
pub(crate) const REQUEST_LEN_MAX: u32 = 1 << 20;
const _: () = assert!(REQUEST_LEN_MAX as u64 == forebay_types::limits::IO_LEN_MAX.as_u64());

/// Requests the kernel may have in flight that nobody waits for: read-ahead, releases, asynchronous direct I/O.
/// The kernel's default of 12 holds read-ahead back.
pub(crate) const BACKGROUND_MAX: u16 = 64;

/// What to ask of the kernel when the session begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Threads that read requests, each with its own clone of the device.
    pub(crate) threads: usize,
    /// Passthrough, if the kernel has it.
    pub(crate) passthrough: bool,
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    /// Files may be opened with a backing file.
    pub(crate) passthrough: bool,
    /// Files in direct mode may be mapped (Linux 6.6).
    pub(crate) direct_mmap: bool,
}

/// Reads requests from the kernel and writes replies.
pub(crate) trait Channel: Send + Sized + 'static {
    /// Answers the kernel's INIT, which waits on `device` since the mount was made.
    fn connect(device: OwnedFd, front: Arc<Front>, wish: Wish) -> io::Result<Self>;

    /// What the kernel granted.
    fn granted(&self) -> Granted;

    /// Hands requests to the front until the file system is unmounted or the connection aborted; blocks.
    fn serve(self) -> io::Result<()>;
}
