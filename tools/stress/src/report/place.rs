//! Where a run took place: the file system below a path, and the machine.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// The path or URL that was given.
    pub(crate) target: String,
    /// The kind of file system, like `ext4` or `fuse.forebay`; empty if unknown.
    pub(crate) kind: String,
    /// What is mounted there, like a device; empty if unknown.
    pub(crate) source: String,
}

impl Place {
    /// The file system that holds `dir`, as the kernel lists it.
    pub(crate) fn of(dir: &Path) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let held = mounts.lines().filter_map(mount).filter(|mount| real.starts_with(&mount.0));
        // Of those mounted at one place the last one shows.
        let (kind, source) =
            held.max_by_key(|mount| mount.0.len()).map(|mount| (mount.1, mount.2)).unwrap_or_default();
        Self { target: dir.display().to_string(), kind, source }
    }
}

impl Place {
    /// An under file system; what stands before the host of its URL may be a secret.
    pub(crate) fn ufs(url: &str) -> Self {
        let shown = match url.split_once("://") {
            Some((scheme, rest)) => {
                format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, rest)| rest))
            }
            None => url.to_owned(),
        };
        Self { target: shown, kind: "under file system".to_owned(), source: String::new() }
    }
}

/// Mount point, kind and source of a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<(String, String, String)> {
    let (of_mount, of_fs) = line.split_once(" - ")?;
    let mut of_fs = of_fs.split(' ');
    let at = of_mount.split(' ').nth(4)?;
    Some((unescape(at), of_fs.next()?.to_owned(), unescape(of_fs.next()?)))
}

/// Blanks and the like stand there as `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => plain.push_str(part),
        }
    }
    plain
}

/// The machine of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct System {
    /// Its name.
    pub(crate) host: String,
    /// The release of its kernel.
    pub(crate) kernel: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// What else ran: the load averages when the run began.
    pub(crate) load: String,
}

impl System {
    /// This one.
    pub(crate) fn this() -> Self {
        let uname = rustix::system::uname();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            host: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read() {
        let line = "29 1 254:0 / /mnt/a\\040b rw,relatime shared:1 - fuse.forebay /data\\134x rw";
        let (at, kind, source) = mount(line).unwrap();
        assert_eq!((at.as_str(), kind.as_str(), source.as_str()), ("/mnt/a b", "fuse.forebay", "/data\\x"));
        assert!(mount("nonsense").is_none());
    }

    #[test]
    fn proc_is_proc() {
        assert_eq!(Place::of(Path::new("/proc/self")).kind, "proc");
    }
}
