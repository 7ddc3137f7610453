//! What can go wrong with a mount, each with its remedy.

use crate::options::OptionError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A process that uses the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its command.
    pub command: String,
    /// One path below the mount that it has open, mapped, or is in.
    pub path: PathBuf,
}

/// Processes that use the mount; shown as `bash (pid 17), in /mnt/data/x`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holders(pub Vec<Holder>);

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("a process that is not visible here, or another mount below it");
        }
        for (i, Holder { pid, command, path }) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{command} (pid {pid}) with {}", path.display())?;
        }
        Ok(())
    }
}

/// A mount could not be made, changed or ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point is not there.
    #[error("mount point {0} does not exist; create it with: mkdir -p {0}")]
    Missing(PathBuf),
    /// The mount point is a file.
    #[error("mount point {0} is not a directory; give an empty directory")]
    NotADirectory(PathBuf),
    /// A FUSE mount whose daemon is gone is still there.
    #[error("mount point {0} holds the dead mount of a daemon that is gone; clear it with: umount {0}")]
    DeadMount(PathBuf),
    /// Something else is mounted there.
    #[error(
        "mount point {dir} is in use: {source_name} is mounted there (type {fs_type}); unmount it or choose another"
    )]
    InUse {
        /// The mount point.
        dir: PathBuf,
        /// What is mounted.
        source_name: String,
        /// Its type.
        fs_type: String,
    },
    /// There is nothing to change.
    #[error("nothing is mounted at {0}; mount it first, or give the mount point as `findmnt` shows it")]
    NotMounted(PathBuf),
    /// The mount point cannot be looked at.
    #[error("cannot use mount point {dir}: {source}")]
    Unreachable {
        /// The mount point.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no FUSE here.
    #[error(
        "cannot open /dev/fuse: {0}; load the module with `modprobe fuse`, or give the container the device"
    )]
    NoDevice(io::Error),
    /// The kernel refused a step.
    #[error("the kernel refused to mount {dir} ({step}): {source}{detail}")]
    Refused {
        /// The mount point.
        dir: PathBuf,
        /// Which step.
        step: &'static str,
        /// What the system says.
        source: io::Error,
        /// What the kernel added in words, with a leading semicolon; else empty.
        detail: String,
    },
    /// A plain user mounts by fusermount3, and that failed.
    #[error("fusermount3 could not mount {dir}: {message}; {remedy}")]
    Fusermount {
        /// The mount point.
        dir: PathBuf,
        /// What it says.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The kernel and we did not agree on a protocol.
    #[error("the FUSE session with the kernel could not begin: {0}")]
    Handshake(io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread for the mount: {0}; raise the limit on processes")]
    Thread(io::Error),
    /// There are no shards to serve requests.
    #[error("a mount needs a running shard")]
    NoShards,
    /// The mount is in use and stayed so.
    #[error("{dir} is still in use after {waited:?}: {holders}; end these and try again")]
    Busy {
        /// The mount point.
        dir: PathBuf,
        /// How long it was tried.
        waited: Duration,
        /// Who uses it.
        holders: Holders,
    },
    /// Files are open for writing, so it cannot become read-only.
    #[error(
        "{dir} cannot become read-only while files are open for writing by {holders}; close these and try again"
    )]
    Written {
        /// The mount point.
        dir: PathBuf,
        /// By whom.
        holders: Holders,
    },
    /// The mount could not be taken away.
    #[error("cannot unmount {dir}: {source}")]
    Unmount {
        /// The mount point.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The session did not end though the mount is gone.
    #[error(
        "the session of {dir} did not end within {waited:?} after the unmount; a process still has files open, or another \
         tree of mounts (unshare --mount, a container) still has this one"
    )]
    Lingers {
        /// The mount point.
        dir: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A mount option is wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
}
