//! What this host can do for Forebay: kernel, io_uring, FUSE and the limits that matter.
//!
//! The floor is Linux 6.1 with io_uring permitted. FUSE passthrough came with 6.9 and needs CAP_SYS_ADMIN.

use crate::failure::{Failure, Outcome};
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;
use serde::Serialize;
use std::path::Path;

/// The oldest kernel that Forebay runs on.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// The kernel that brought FUSE passthrough.
const PASSTHROUGH_KERNEL: (u32, u32) = (6, 9);
/// Whether io_uring is refused: 0 to nobody, 1 to those without privilege, 2 to everybody (sysctl
/// documentation of the kernel).
const IO_URING_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// The abilities of a host.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Whether the kernel is new enough at all.
    pub(crate) kernel_suffices: bool,
    /// Whether io_uring may be used by this process.
    pub(crate) io_uring: bool,
    /// Whether `/dev/fuse` is there.
    pub(crate) fuse: bool,
    /// Whether the kernel may read cache files itself (kernel and CAP_SYS_ADMIN).
    pub(crate) passthrough: bool,
    /// Cores this process may use.
    pub(crate) cores: usize,
    /// Open files permitted, as they stand and at most.
    pub(crate) open_files: (Option<u64>, Option<u64>),
}

impl Host {
    /// Looks.
    pub(crate) fn look() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let version = kernel_version(&kernel).unwrap_or_default();
        let privileged = has_sys_admin();
        let limit = getrlimit(Resource::Nofile);
        Self {
            kernel_suffices: version >= KERNEL_MIN,
            io_uring: io_uring_permitted(privileged),
            fuse: Path::new("/dev/fuse").exists(),
            passthrough: version >= PASSTHROUGH_KERNEL && privileged,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            open_files: (limit.current, limit.maximum),
            kernel,
        }
    }

    /// Refuses a host on which nothing would work, before anything is made on it.
    ///
    /// # Errors
    /// The first thing that is missing, with its remedy.
    pub(crate) fn require(&self) -> Outcome<()> {
        if !self.kernel_suffices {
            let cause = format!("the kernel is {}; Forebay needs Linux 6.1 or newer", self.kernel);
            return Err(Failure::new(cause).remedy("boot a newer kernel"));
        }
        if !self.io_uring {
            return Err(Failure::new("io_uring is forbidden on this host (kernel.io_uring_disabled)")
                .remedy("permit it: sysctl -w kernel.io_uring_disabled=0"));
        }
        if !self.fuse {
            return Err(Failure::new("/dev/fuse is not there")
                .remedy("load the module (modprobe fuse), or give the container --device /dev/fuse"));
        }
        Ok(())
    }
}

fn has_sys_admin() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// A kernel without the sysctl (before 6.6) permits io_uring to everybody.
fn io_uring_permitted(privileged: bool) -> bool {
    match std::fs::read_to_string(IO_URING_SYSCTL).as_deref().map(str::trim) {
        Ok("2") => false,
        Ok("1") => privileged,
        _ => true,
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(kernel_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(kernel_version("6.1.0-13-amd64"), Some((6, 1)));
        assert!(kernel_version("6.18").unwrap() > PASSTHROUGH_KERNEL);
        assert_eq!(kernel_version("linux"), None);
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let good = Host { kernel_suffices: true, io_uring: true, fuse: true, ..Host::look() };
        assert!(good.require().is_ok());
        let refusal = |host: Host| host.require().unwrap_err().to_string();
        assert!(refusal(Host { io_uring: false, ..good }).contains("sysctl -w kernel.io_uring_disabled=0"));
        let old = Host { kernel_suffices: false, kernel: "5.15.0".into(), ..Host::look() };
        assert!(refusal(old).contains("5.15.0"));
    }
}
