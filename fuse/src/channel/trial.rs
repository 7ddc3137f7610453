//! A session that is nowhere mounted, to try what the kernel grants.

use super::handshake::shake_hands;
use super::{Device, Granted, Wish};
use crate::mounting::detached_session;
use std::io;
use std::os::fd::OwnedFd;

/// The grants of a session, with its device while it lives.
pub(crate) struct TrialSession {
    /// What the kernel granted.
    pub(crate) granted: Granted,
    /// For trying an ioctl on.
    pub(crate) device: Device,
    _keeps_alive: OwnedFd,
}

/// Begins a session that is not mounted; it is asked nothing, because it is in no tree. Needs the right to mount.
pub(crate) fn trial() -> io::Result<TrialSession> {
    let (fd, keeps_alive) = detached_session()?;
    let granted = shake_hands(&fd, &Wish { passthrough: true, ring: None })?;
    Ok(TrialSession { granted, device: Device::new(fd), _keeps_alive: keeps_alive })
}
