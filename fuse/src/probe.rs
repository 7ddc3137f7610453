//! Whether passthrough works here: tried, not guessed.
//!
//! A session is begun that is mounted nowhere, and a file of each tier is registered with it. What fails says why in
//! words, once, at start; the file system then serves such files in cached mode.

use crate::channel::trial;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Why the kernel will not read and write the files of a tier by itself.
#[derive(Debug, thiserror::Error)]
pub enum NoPassthrough {
    /// The process lacks CAP_SYS_ADMIN.
    #[error(
        "passthrough needs CAP_SYS_ADMIN, which this process lacks; reads and writes go through the daemon"
    )]
    NotPermitted,
    /// The kernel does not know it.
    #[error(
        "passthrough needs Linux 6.9 with CONFIG_FUSE_PASSTHROUGH; this is {0}: reads and writes go through the daemon"
    )]
    Kernel(String),
    /// The tier's file system is stacked on another one.
    #[error(
        "tier {0} is on a stacked file system (overlayfs), where the kernel refuses passthrough; move it to ext4 or XFS"
    )]
    Stacked(PathBuf),
    /// The tier cannot be used for it, or not at all.
    #[error("passthrough cannot be tried in tier {dir}: {source}")]
    Tier {
        /// The tier's directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No session could be begun.
    #[error("passthrough cannot be tried: {0}")]
    Session(io::Error),
}

/// Whether files in `tier_dir` can be opened with passthrough by this process on this kernel.
///
/// Blocks for a few milliseconds; leaves nothing behind.
///
/// # Errors
/// [`NoPassthrough`] says why not.
pub fn probe_passthrough(tier_dir: &Path) -> Result<(), NoPassthrough> {
    let session = trial().map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => NoPassthrough::NotPermitted,
        _ => NoPassthrough::Session(error),
    })?;
    if !session.granted.passthrough {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        return Err(NoPassthrough::Kernel(release));
    }
    let tier = |source: io::Error| NoPassthrough::Tier { dir: tier_dir.to_owned(), source };
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(tier_dir, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| tier(errno.into()))?;
    match session.device.open_backing(file.as_fd()) {
        Ok(id) => session.device.close_backing(id).map_err(tier),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            Err(NoPassthrough::Stacked(tier_dir.to_owned()))
        }
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(NoPassthrough::NotPermitted),
        Err(error) => Err(tier(error)),
    }
}
