//! Ways to the kernel.
//!
//! **Owns** what differs between them: how requests are read and replies written ([`Channel`], one module each),
//! and what is the same for all because it goes through the `/dev/fuse` descriptor whoever reads the requests
//! ([`Device`]: backing files and notifications).
//!
//! **Never does** decide anything about a request: a channel turns it into an [`Op`](crate::op::Op), hands it to
//! the [`Front`](crate::front::Front) and writes what comes back. Only this folder may hold unsafe code, and only `fuser/` names fuser.
//!
//! **In and out:** [`connect`] answers the kernel's INIT on a device that is not yet part of the tree, and says which
//! channel it is to be ([`pick`]); [`Channel::serve`] then blocks until the session ends.
//!
//! **Our own channels** share everything but the way of the bytes: `abi` (layouts), `handshake` (INIT), `decode` and
//! `encode` (pure), `serving` (from an `Op` to the bytes of its answer), `interrupts` and `dying`.
//!
//! **Why this shape:** FUSE over io_uring, a raw `/dev/fuse` reader and fuser differ in exactly these calls.

mod abi;
mod decode;
mod dev_fuse;
pub(crate) mod device;
mod dying;
mod encode;
mod ends;
mod flags;
pub(crate) mod fuser;
mod gate;
mod handshake;
mod interrupts;
mod listing;
mod pick;
mod serving;
mod trial;
mod uring;

pub use device::BackingId;
pub(crate) use device::Device;
pub(crate) use gate::Gate;
pub use pick::{BadChannel, ChannelChoice, ChannelKind, Picked, probe_channel};
pub(crate) use pick::{connect, granted_before, reconnect};
pub(crate) use trial::trial;

use forebay_types::ByteSize;
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
    /// Passthrough, if the kernel has it.
    pub(crate) passthrough: bool,
    /// FUSE over io_uring with queues of this size, if the kernel offers it.
    pub(crate) ring: Option<uring::Fit>,
}

/// What the kernel granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    /// Files may be opened with a backing file.
    pub(crate) passthrough: bool,
    /// Files in direct mode may be mapped (Linux 6.6).
    pub(crate) direct_mmap: bool,
    /// Inodes are let go of when the kernel is asked to (Linux 6.18).
    pub(crate) prune: bool,
    /// Requests come over io_uring, in queues of this size.
    pub(crate) ring: Option<uring::Fit>,
    /// They could have.
    pub(crate) ring_offered: bool,
    /// Requests that were not answered are sent again when the kernel is asked to (Linux 6.9).
    pub(crate) resend: bool,
    /// What was said in INIT.
    pub(crate) agreed: Agreed,
}

/// What both sides said in INIT, as far as the grants follow from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The kernel's protocol.
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) max_readahead: u32,
    /// What it offered, and what of it was taken.
    pub(crate) offered: u64,
    pub(crate) taken: u64,
}

/// What of a channel outlives a process.
pub(crate) struct Kept {
    /// Every further descriptor of the session: one that is closed fails the requests that were read from it.
    pub(crate) clones: Vec<OwnedFd>,
    /// They hold requests back.
    pub(crate) gates: Vec<Arc<Gate>>,
}

/// Reads requests from the kernel and writes replies. Made by [`connect`].
pub(crate) trait Channel: Send + 'static {
    /// What the kernel granted.
    fn granted(&self) -> Granted;

    /// The part of the arena that it holds on to as long as it serves, so that requests have somewhere to come to.
    fn buffers(&self) -> ByteSize;

    /// What another process needs besides the device to go on with the session; `None` if none can.
    fn kept(&self) -> io::Result<Option<Kept>> {
        Ok(None)
    }

    /// Begins to take requests. Called once, before the mount can be seen.
    fn start(&mut self) -> io::Result<()>;

    /// Hands requests to the front until the file system is unmounted or the connection aborted; blocks.
    fn serve(self: Box<Self>) -> io::Result<()>;
}
