//! Where a daemon's socket is, and which daemon a path belongs to.

use crate::failure::{Failure, Outcome};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The type of our mounts.
const FS_TYPE: &str = "fuse.forebay";
/// Longer mount points are told apart by the hash all the same.
const NAME_LEN_MAX: usize = 24;

/// A daemon, and a path in its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// The path below its root, without a slash at either end.
    pub(crate) path: Vec<u8>,
}

/// The directory of all sockets of this user's daemons.
pub(super) fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !rustix::process::geteuid().is_root() => PathBuf::from(dir).join("forebay"),
        None if !rustix::process::geteuid().is_root() => {
            PathBuf::from(format!("/tmp/forebay-{}", rustix::process::geteuid().as_raw()))
        }
        _ => PathBuf::from("/run/forebay"),
    }
}

/// The socket of the daemon that serves the mount on `dir`.
pub(super) fn socket_of(dir: &Path) -> PathBuf {
    let last = dir.file_name().unwrap_or_default().to_string_lossy();
    let plain: String = last.chars().filter(char::is_ascii_alphanumeric).take(NAME_LEN_MAX).collect();
    let hash = xxhash_rust::xxh3::xxh3_64(dir.as_os_str().as_bytes());
    directory().join(format!("{plain}-{hash:016x}.sock"))
}

/// Finds the daemon that serves `path`, which must lie on a Forebay mount.
///
/// # Errors
/// The path is on another file system, or cannot be resolved.
pub(crate) fn locate(path: &Path) -> Outcome<Target> {
    let real =
        resolve(path).map_err(|error| Failure::new(format!("cannot resolve {}: {error}", path.display())))?;
    match forebay_fuse::mount_of(&real) {
        Some(mount) if mount.fs_type == FS_TYPE => {
            let below = real.strip_prefix(&mount.dir).expect("a mount stands above the paths on it");
            Ok(Target { socket: socket_of(&mount.dir), path: below.as_os_str().as_bytes().to_vec() })
        }
        _ => Err(Failure::new(format!("{} is not on a Forebay mount", path.display()))
            .remedy("give a path below a directory that `forebay up` or `forebay node` has mounted")),
    }
}

/// The socket of the daemon that is meant: the one whose mount `on` lies on, else the one whose mount we are in, else
/// the only one that runs.
///
/// # Errors
/// None or several run; the mounts of the several are named.
pub(crate) fn daemon_of(on: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(path) = on {
        return locate(path).map(|target| target.socket);
    }
    if let Ok(here) = locate(Path::new(".")) {
        return Ok(here.socket);
    }
    let dirs = forebay_fuse::mounts_of_type(FS_TYPE).into_iter();
    let running: Vec<_> = dirs.filter(|dir| socket_of(dir).exists()).collect();
    match running.as_slice() {
        [only] => Ok(socket_of(only)),
        [] => Err(Failure::new("no daemon of yours runs here")
            .remedy("start one with `forebay up` or `forebay node`, or ask as the user who runs it")),
        several => {
            let named: Vec<_> = several.iter().map(|dir| dir.display().to_string()).collect();
            Err(Failure::new(format!("several daemons run here: {}", named.join(", ")))
                .remedy("say which one with --on DIR"))
        }
    }
}

/// Absolute, and free of links but for the last component: `fs stat` of a symbolic link means the link.
fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(std::fs::canonicalize(parent)?.join(name))
        }
        _ => std::fs::canonicalize(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_elsewhere_is_refused_with_a_remedy() {
        let said = locate(Path::new("/proc/self")).unwrap_err().to_string();
        assert!(said.contains("not on a Forebay mount") && said.contains("remedy"), "{said}");
        assert!(locate(Path::new("/no/such/dir/at/all")).is_err());
    }

    #[test]
    fn two_mount_points_have_two_sockets() {
        assert_ne!(socket_of(Path::new("/a/data")), socket_of(Path::new("/b/data")));
        let long = socket_of(Path::new("/mnt").join("x".repeat(250)).as_path());
        assert!(long.as_os_str().len() < 100, "a Unix socket's path has at most 107 bytes: {long:?}");
    }
}
