//! Mounting by the kernel's own calls: fsopen, fsconfig, fsmount, move_mount (Linux 5.2).
//!
//! The four steps make a mount that is complete and connected before it is anywhere in the tree.

use super::{MountError, SUBTYPE};
use crate::options::MountOptions;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// The mode of the root until the first GETATTR: a directory, as the option wants it, in octal.
const ROOT_MODE: &str = "40000";
/// The longest message of the kernel that is read.
const LOG_LEN_MAX: usize = 512;

/// The device and the mount; `None` if this process may not mount by itself.
pub(super) fn mount(
    source: &str,
    dir: &Path,
    options: &MountOptions,
) -> Result<Option<(OwnedFd, OwnedFd)>, MountError> {
    let device = open_device().map_err(MountError::NoDevice)?;
    let context = match fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(context) => context,
        Err(Errno::PERM) => return Ok(None),
        Err(errno) => return Err(refused(dir, "fsopen", errno, None)),
    };
    configure(&context, &device, Some(source), options)
        .map_err(|(step, errno)| refused(dir, step, errno, Some(&context)))?;
    match fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr_flags(options)) {
        Ok(mount) => Ok(Some((device, mount))),
        Err(errno) => Err(refused(dir, "fsmount", errno, Some(&context))),
    }
}

/// A session that is never attached anywhere: what the kernel grants can be tried on its device. It lives as long as
/// the second descriptor.
pub(crate) fn detached_session() -> io::Result<(OwnedFd, OwnedFd)> {
    let device = open_device()?;
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    configure(&context, &device, None, &MountOptions::default()).map_err(|(_, errno)| errno)?;
    Ok((device, context))
}

/// Makes the mount visible at `dir`.
pub(super) fn attach(mount: &OwnedFd, dir: &Path) -> Result<(), MountError> {
    move_mount(mount, "", CWD, dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| refused(dir, "move_mount", errno, None))
}

fn open_device() -> io::Result<OwnedFd> {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").map(OwnedFd::from)
}

/// Sets the options of fs/fuse/inode.c and makes the superblock, upon which the kernel sends its INIT.
fn configure(
    context: &OwnedFd,
    device: &OwnedFd,
    source: Option<&str>,
    options: &MountOptions,
) -> Result<(), (&'static str, Errno)> {
    let set = |key: &'static str, value: &str| {
        fsconfig_set_string(context.as_fd(), key, value).map_err(|errno| (key, errno))
    };
    let flag = |key: &'static str| fsconfig_set_flag(context.as_fd(), key).map_err(|errno| (key, errno));
    set("source", source.unwrap_or(SUBTYPE))?;
    set("subtype", SUBTYPE)?;
    // As a string: fsconfig_set_fd is refused by kernels that take the number as a plain integer.
    set("fd", &device.as_raw_fd().to_string())?;
    set("rootmode", ROOT_MODE)?;
    set("user_id", &rustix::process::getuid().as_raw().to_string())?;
    set("group_id", &rustix::process::getgid().as_raw().to_string())?;
    flag("default_permissions")?;
    if options.allow_other {
        flag("allow_other")?;
    }
    if options.read_only {
        flag("ro")?;
    }
    fsconfig_create(context.as_fd()).map_err(|errno| ("create", errno))
}

fn attr_flags(options: &MountOptions) -> MountAttrFlags {
    let mut flags = MountAttrFlags::empty();
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.read_only);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOATIME, options.noatime);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !options.dev);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, !options.suid);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !options.exec);
    flags
}

fn refused(dir: &Path, step: &'static str, errno: Errno, context: Option<&OwnedFd>) -> MountError {
    let detail = context.and_then(message_of).map(|text| format!("; {text}")).unwrap_or_default();
    MountError::Refused { dir: dir.to_owned(), step, source: errno.into(), detail }
}

/// What the kernel says in words about the last failed step; read from the context as the manual of fsopen has it.
fn message_of(context: &OwnedFd) -> Option<String> {
    let mut buffer = [0; LOG_LEN_MAX];
    let len = rustix::io::read(context, &mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..len]);
    // The message begins with its level and a space: "e fuse: ...".
    let text = text.trim();
    Some(text.split_once(' ').map_or(text, |(_, rest)| rest).to_owned())
}
