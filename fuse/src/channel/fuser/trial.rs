//! A session that is nowhere mounted, to try what the kernel grants.

use super::negotiate;
use crate::channel::{Device, Granted, Wish};
use crate::mounting::detached_session;
use fuser::{Config, Filesystem, KernelConfig, Request, Session, SessionACL};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

/// Answers INIT, and is asked nothing else because it is in no tree.
struct Trial(Arc<OnceLock<Granted>>);

impl Filesystem for Trial {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let granted = negotiate(config, Wish { threads: 1, passthrough: true })?;
        let _ = self.0.set(granted);
        Ok(())
    }
}

/// The grants of a session, with its device while it lives.
pub(crate) struct TrialSession {
    /// What the kernel granted.
    pub(crate) granted: Granted,
    /// For trying an ioctl on.
    pub(crate) device: Device,
    _session: Session<Trial>,
    _keeps_alive: OwnedFd,
}

/// Begins a session that is not mounted. Needs the right to mount.
pub(crate) fn trial() -> io::Result<TrialSession> {
    let (fd, keeps_alive) = detached_session()?;
    let device = Device::new(fd.try_clone()?);
    let granted = Arc::new(OnceLock::new());
    let session = Session::from_fd(Trial(Arc::clone(&granted)), fd, SessionACL::All, Config::default())?;
    let granted = granted.get().copied().ok_or_else(|| io::Error::other("the kernel skipped INIT"))?;
    Ok(TrialSession { granted, device, _session: session, _keeps_alive: keeps_alive })
}
