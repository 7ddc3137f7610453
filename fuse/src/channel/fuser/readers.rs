//! Reading threads that outlive a panic in fuser.
//!
//! **Why:** fuser 0.18 panics while it decodes a SETATTR with a time of -2^63 s, which any owner of a file can send by
//! `utimensat`, and then ends the whole session. A mount must not hang on that.
//!
//! **How:** instead of one fuser session with many threads there is one session for each thread, and each thread that
//! panics is replaced by a new one. fuser begins a session only by a handshake, and the kernel makes one handshake a
//! mount; so a further session gets its handshake from us over a socket, after which the descriptor that it reads is
//! made one of the real device, a clone of it (FUSE_DEV_IOC_CLONE). The request on which a thread died is answered
//! with ECONNABORTED by the kernel, when the last reply that was in flight on the same clone has been written.
//!
//! **What ends with fuser:** all of this file. A channel that decodes requests itself needs none of it.

use super::requests::Requests;
use crate::channel::device::clone_device;
use fuser::{Config, Session, SessionACL};
use rustix::io::DupFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The handshake we play: `struct fuse_in_header` and `struct fuse_init_in` of protocol 7.31, with no abilities.
const INIT_LEN: usize = 104;
const FUSE_INIT: u32 = 26;
const PROTOCOL: [u32; 2] = [7, 31];

/// The pause before a thread is replaced: whoever provokes panics in a row shall not keep a core busy with it.
const REPLACE_PAUSE: Duration = Duration::from_millis(1);

/// A session that reads requests on one thread.
pub(super) fn session_of(requests: Requests, device: OwnedFd) -> io::Result<Session<Requests>> {
    let mut config = Config::default();
    config.n_threads = Some(1);
    // The kernel itself keeps other users out unless allow_other is set.
    Session::from_fd(requests, device, SessionACL::All, config)
}

/// Reads on `session`, and after a panic on one that takes its place, until the connection ends; blocks.
pub(super) fn read_on(
    mut session: Session<Requests>,
    device: &OwnedFd,
    requests: impl Fn() -> Requests,
) -> io::Result<()> {
    loop {
        match session.run() {
            Err(error) if is_panic(&error) => {
                tracing::error!("a request made fuser panic; its thread is replaced");
                std::thread::sleep(REPLACE_PAUSE);
                session = further_session(requests(), device)?;
            }
            ended => return ended,
        }
    }
}

/// What fuser says when its thread panicked; it has no kind of error for it.
fn is_panic(error: &io::Error) -> bool {
    error.to_string().contains("event loop thread panicked")
}

/// A session on a clone of `device`, whose handshake is long over.
pub(super) fn further_session(requests: Requests, device: &OwnedFd) -> io::Result<Session<Requests>> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::write(&ours, &init_message())?;
    let session = session_of(requests, theirs)?;
    put_clone_behind(&session, device)?;
    Ok(session)
}

/// Makes the descriptor that `session` reads a clone of `device`. Only a clone that nobody else holds is released when
/// its thread dies, and only its release answers the request on which the thread died.
pub(super) fn put_clone_behind(session: &Session<Requests>, device: &OwnedFd) -> io::Result<()> {
    let clone = clone_device(device)?;
    // SAFETY: the descriptor is open and the session's, which does not use it before it runs; it is not closed here
    // but stays the session's, with another file behind it.
    let mut descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(session.as_fd().as_raw_fd()) });
    Ok(rustix::io::dup3(&clone, &mut descriptor, DupFlags::CLOEXEC)?)
}

fn init_message() -> [u8; INIT_LEN] {
    let mut message = [0; INIT_LEN];
    message[..4].copy_from_slice(&(INIT_LEN as u32).to_ne_bytes());
    message[4..8].copy_from_slice(&FUSE_INIT.to_ne_bytes());
    message[40..44].copy_from_slice(&PROTOCOL[0].to_ne_bytes());
    message[44..48].copy_from_slice(&PROTOCOL[1].to_ne_bytes());
    message
}
