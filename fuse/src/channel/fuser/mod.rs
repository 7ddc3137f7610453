//! The channel by the `fuser` crate: classic `/dev/fuse`, one reading thread with its own clone of the device for
//! each shard.
//!
//! **Owns** what fuser needs of us: the negotiation, the translation of its requests into [`Op`](crate::op::Op)s
//! ([`requests`], [`convert`]) and of our replies into its own ([`respond`]), and its threads ([`readers`]). fuser is named nowhere else.
//!
//! **Never does** serve a request on fuser's thread: the arriving thread copies what it must and hands over, the reply
//! is written by the shard.
//!
//! **What fuser keeps from us** (each costs something, none is worked around at the price of correctness):
//! - It answers INTERRUPT with ENOSYS, after which the kernel never sends one again: a program that waits for a reply
//!   can be killed only when the reply comes. Every wait behind a request has a deadline for this reason.
//! - CREATE and READDIRPLUS replies carry one timeout for the name and the attributes; the shorter one is given. A new
//!   file that is open for write therefore costs one more LOOKUP when it is next named.
//! - SYNCFS, TMPFILE and STATX requests are answered with ENOSYS; the kernel falls back, or says EOPNOTSUPP to
//!   `O_TMPFILE`.
//! - A BATCH_FORGET comes as one FORGET after the other, because the type of its elements is private to fuser.
//! - It reads into a buffer of its own, so the bytes of a WRITE are copied once more into an arena frame.
//! - It panics on a time of -2^63 s, which any owner of a file can set; [`readers`] replaces the thread.

mod convert;
mod readers;
mod requests;
mod respond;

use crate::channel::{BACKGROUND_MAX, Channel, Granted, REQUEST_LEN_MAX, Wish};
use crate::front::Front;
use forebay_types::ByteSize;
use fuser::{InitFlags, KernelConfig, Session};
use readers::{further_session, put_clone_behind, read_on, session_of};
use requests::{Handshake, Requests};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

/// How deep tiers may be stacked on other file systems: not at all. With 1 the kernel refuses a backing file on
/// overlayfs (ELOOP), and this mount itself may still be a layer of one.
const STACK_DEPTH: u32 = 1;

/// A session by fuser, connected.
pub(crate) struct FuserChannel {
    first: Session<Requests>,
    device: Arc<OwnedFd>,
    front: Arc<Front>,
    threads: usize,
    granted: Granted,
}

impl FuserChannel {
    /// Answers the kernel's INIT, which waits on `device` since the mount was made.
    pub(super) fn connect(device: OwnedFd, front: Arc<Front>, wish: Wish) -> io::Result<Self> {
        let granted = Arc::new(OnceLock::new());
        let handshake = Handshake { wish, granted: Arc::clone(&granted) };
        let requests = Requests::first(Arc::clone(&front), handshake);
        let kept = Arc::new(device.try_clone()?);
        let first = session_of(requests, device)?;
        put_clone_behind(&first, &kept)?;
        let granted = granted.get().copied().ok_or_else(|| io::Error::other("the kernel skipped INIT"))?;
        let threads = front.shards().len();
        Ok(Self { first, device: kept, front, threads, granted })
    }
}

impl Channel for FuserChannel {
    fn granted(&self) -> Granted {
        self.granted
    }

    /// fuser has buffers of its own.
    fn buffers(&self) -> ByteSize {
        ByteSize::default()
    }

    /// fuser reads where it serves.
    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn serve(self: Box<Self>) -> io::Result<()> {
        let Self { first, device, front, threads, .. } = *self;
        let mut readers = Vec::new();
        for arrival in 1..threads {
            let (device, front) = (Arc::clone(&device), Arc::clone(&front));
            let requests = move || Requests::further(Arc::clone(&front), arrival);
            let session = further_session(requests(), &device)?;
            let read = move || read_on(session, &device, requests);
            readers.push(std::thread::Builder::new().name(format!("fuse-{arrival}")).spawn(read)?);
        }
        let mut ended = read_on(first, &device, || Requests::further(Arc::clone(&front), 0));
        for reader in readers {
            let other = reader.join().unwrap_or_else(|_| Err(io::Error::other("a reading thread panicked")));
            ended = ended.and(other);
        }
        ended
    }
}

/// Asks the kernel for what we can use, each only if it has it; refuses a kernel that is too old.
///
/// Not asked for: ATOMIC_O_TRUNC (a truncate must reach the extent before the open is answered), WRITEBACK_CACHE
/// (excludes passthrough), POSIX_ACL, FLOCK and POSIX locks
/// (the kernel's own serve one node), SPLICE (the payload goes into an arena frame anyway).
fn negotiate(config: &mut KernelConfig, wish: Wish) -> io::Result<Granted> {
    let mut grant = |flag: InitFlags| config.add_capabilities(flag).is_ok();
    grant(InitFlags::FUSE_PARALLEL_DIROPS);
    grant(InitFlags::FUSE_DO_READDIRPLUS);
    // Every entry has to come with attributes then, which is too dear for who wants names alone.
    grant(InitFlags::FUSE_READDIRPLUS_AUTO);
    grant(InitFlags::FUSE_ASYNC_DIO);
    grant(InitFlags::FUSE_CACHE_SYMLINKS);
    grant(InitFlags::FUSE_HANDLE_KILLPRIV_V2);
    // Tells an aborted connection, under which files may be open, from an unmount, after which none are.
    grant(InitFlags::FUSE_ABORT_ERROR);
    let direct_mmap = grant(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
    let passthrough = wish.passthrough && grant(InitFlags::FUSE_PASSTHROUGH);
    if passthrough {
        config.set_max_stack_depth(STACK_DEPTH).map_err(|_| io::Error::other("fuser knows no stacking"))?;
    }
    config.set_max_write(REQUEST_LEN_MAX).map_err(|max| io::Error::other(format!("max_write is {max}")))?;
    config.set_max_background(BACKGROUND_MAX).map_err(|_| io::Error::other("max_background is above 0"))?;
    Ok(Granted { passthrough, direct_mmap, ..Granted::default() })
}
