//! Mounting as a plain user, by the setuid program `fusermount3`.
//!
//! It mounts, and hands the device back over a socket whose number it finds in `_FUSE_COMMFD` (libfuse's protocol;
//! the descriptor comes as SCM_RIGHTS with one byte). It knows the options of `mount.fuse(8)` and adds nosuid and
//! nodev by itself.

use super::{MountError, SUBTYPE};
use crate::options::MountOptions;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PROGRAM: &str = "fusermount3";
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";
/// How long it may take before we stop waiting for the descriptor.
const MOUNT_WAIT: Duration = Duration::from_secs(30);

/// The device of the mount, which is in the tree now.
pub(super) fn mount(source: &str, dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let failed = |message: String| {
        let remedy = remedy_for(&message);
        MountError::Fusermount { dir: dir.to_owned(), message, remedy }
    };
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed(error.to_string()))?;
    let child = start(&theirs, source, dir, options).map_err(|error| failed(error.to_string()))?;
    drop(theirs);
    let received = receive_device(&ours);
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    received.map_err(|error| failed(what_it_said(&output).unwrap_or_else(|| error.to_string())))
}

/// Unmounts as a plain user.
pub(super) fn unmount(dir: &Path) -> io::Result<()> {
    let output = Command::new(PROGRAM).arg("-u").arg("--").arg(dir).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let message = what_it_said(&output).unwrap_or_default();
    // It has one exit status for everything; that the mount is in use is what matters to the caller.
    let busy = message.contains("busy");
    Err(if busy { io::Error::from_raw_os_error(libc::EBUSY) } else { io::Error::other(message) })
}

fn start(socket: &UnixStream, source: &str, dir: &Path, options: &MountOptions) -> io::Result<Child> {
    // The child inherits this end; every other descriptor of ours closes on exec.
    fcntl_setfd(socket, FdFlags::empty())?;
    Command::new(PROGRAM)
        .arg("-o")
        .arg(words(source, options))
        .arg("--")
        .arg(dir)
        .env(SOCKET_VARIABLE, socket.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// The options as fusermount3 reads them; it splits at commas that no backslash precedes.
fn words(source: &str, options: &MountOptions) -> String {
    let source = source.replace('\\', "\\\\").replace(',', "\\,");
    let mut words = format!("fsname={source},subtype={SUBTYPE},default_permissions");
    let flags = [
        (options.allow_other, "allow_other"),
        (options.read_only, "ro"),
        (options.noatime, "noatime"),
        (options.dev, "dev"),
        (options.suid, "suid"),
        (!options.exec, "noexec"),
    ];
    for (_, word) in flags.iter().filter(|(on, _)| *on) {
        words.push(',');
        words.push_str(word);
    }
    words
}

fn receive_device(socket: &UnixStream) -> io::Result<OwnedFd> {
    socket.set_read_timeout(Some(MOUNT_WAIT))?;
    let mut byte = [0_u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("it handed over no device"))
}

fn what_it_said(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim().trim_start_matches("fusermount3:").trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn remedy_for(message: &str) -> &'static str {
    if message.contains("user_allow_other") {
        "leave allow_other out, or set user_allow_other in /etc/fuse.conf"
    } else if message.contains("No such file") {
        "install the package fuse3, or mount as root"
    } else if message.contains("permission") || message.contains("write access") {
        "choose a directory you own, or mount as root"
    } else {
        "mount as root to see what the kernel says"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_as_fusermount_reads_them() {
        let options = MountOptions { allow_other: false, ..MountOptions::parse("ro,noexec").unwrap() };
        let text = words("s3://b/a,b", &options);
        assert_eq!(text, "fsname=s3://b/a\\,b,subtype=forebay,default_permissions,ro,noexec");
    }
}
