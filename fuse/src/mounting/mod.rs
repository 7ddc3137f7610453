//! Putting the file system into the tree and taking it out again.
//!
//! **Owns** the checks of the mount point, the two ways to mount (the kernel's own calls where we may, `fusermount3`
//! where not), the unmount, and the search for who is in the way. **Never does** read a request, and never unmounts
//! lazily: a passthrough writer would write on, unseen, into a file nobody waits for.
//!
//! **In and out:** [`prepare`] gives a device on which the kernel's INIT waits; [`Prepared::attach`] makes the mount
//! visible once the session is up. In between nothing of it is in the tree, so a failure leaves nothing behind. By
//! `fusermount3` the mount is in the tree from the start, and is taken out again when the session fails.
//!
//! **Why not fuser's own mounting:** it names the type `fuse` where users look for `fuse.forebay`, it mounts before
//! the session stands, and it unmounts with MNT_DETACH.

mod fusermount;
mod holders;
mod kernel;
mod mountinfo;
mod point;
mod remounting;

pub use holders::of as users_of;
pub(crate) use kernel::detached_session;
pub(crate) use mountinfo::DeviceNumber;
pub use mountinfo::{MountEntry, mount_of, mounts_of_type};
pub(crate) use point::place_of;
pub use point::{check_mount_point, clear_dead, mounted_from};
pub use remounting::remount;

use crate::error::MountError;
use crate::options::MountOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The type that `mount` and `findmnt` show: `fuse.` and this.
const SUBTYPE: &str = "forebay";
const FS_TYPE: &str = "fuse.forebay";

/// What to mount where.
#[derive(Debug, Clone)]
pub struct MountSpec {
    /// What `mount` and `df` show as the source: the under file system as the user named it.
    pub source: String,
    /// The mount point.
    pub dir: PathBuf,
    /// How.
    pub options: MountOptions,
}

/// A session's device, and the mount that is not visible yet.
pub(crate) struct Prepared {
    /// Where the kernel's INIT waits.
    pub(crate) device: OwnedFd,
    dir: PathBuf,
    mount: Unattached,
}

enum Unattached {
    Kernel(OwnedFd),
    /// fusermount3 attached it already.
    Fusermount,
}

/// A mount that is in the tree.
#[derive(Debug)]
pub(crate) struct Attached {
    dir: PathBuf,
    /// Tells this mount from another one at the same place: a FUSE session has a device number of its own.
    device_number: mountinfo::DeviceNumber,
    by_fusermount: bool,
}

/// Makes a session for `spec`, not yet visible where the kernel lets us.
pub(crate) fn prepare(spec: &MountSpec) -> Result<Prepared, MountError> {
    let dir = point::check_mount_point(&spec.dir)?;
    match kernel::mount(&spec.source, &dir, &spec.options)? {
        Some((device, mount)) => Ok(Prepared { device, dir, mount: Unattached::Kernel(mount) }),
        None => {
            let device = fusermount::mount(&spec.source, &dir, &spec.options)?;
            Ok(Prepared { device, dir, mount: Unattached::Fusermount })
        }
    }
}

impl Prepared {
    /// Makes the mount visible.
    pub(crate) fn attach(self) -> Result<Attached, MountError> {
        let by_fusermount = match &self.mount {
            Unattached::Kernel(mount) => kernel::attach(mount, &self.dir).map(|()| false)?,
            Unattached::Fusermount => true,
        };
        let device_number = mountinfo::at(&self.dir)
            .map(|entry| entry.device)
            .ok_or_else(|| MountError::Unreachable { dir: self.dir.clone(), source: not_in_table() })?;
        Ok(Attached { dir: self.dir, device_number, by_fusermount })
    }

    /// Takes a mount that fusermount3 attached out again, after the session failed to begin.
    pub(crate) fn abandon(self) {
        if matches!(self.mount, Unattached::Fusermount)
            && let Err(error) = fusermount::unmount(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "the failed mount could not be taken away");
        }
    }
}

fn not_in_table() -> std::io::Error {
    std::io::Error::other("the new mount is not in /proc/self/mountinfo")
}

impl Attached {
    /// A mount that another process made.
    pub(crate) fn found(dir: PathBuf, device_number: DeviceNumber, by_fusermount: bool) -> Self {
        Self { dir, device_number, by_fusermount }
    }

    /// Whether it was made by fusermount3.
    pub(crate) fn by_fusermount(&self) -> bool {
        self.by_fusermount
    }

    /// The mount point.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The session's device number, as the kernel names its read-ahead settings.
    pub(crate) fn device_number(&self) -> mountinfo::DeviceNumber {
        self.device_number
    }
}
