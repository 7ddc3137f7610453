//! Who uses a mount: what `fuser -m` shows, found in `/proc` without asking the mounted file system anything.

use crate::error::{Holder, Holders};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// So many are named; a message with more helps nobody.
const HOLDERS_MAX: usize = 16;

/// The processes with a file open or mapped below `dir`, or with their directory there.
pub fn of(dir: &Path) -> Holders {
    search(|process| any_use(process, dir))
}

/// The processes with a file below `dir` open for writing, or mapped shared and writable.
pub(crate) fn writers_of(dir: &Path) -> Holders {
    search(|process| {
        opened(process, dir, true)
            .or_else(|| mapped(process, dir, &|flags: &[u8]| flags.starts_with(b"rw-s")))
    })
}

fn any_use(process: &Path, dir: &Path) -> Option<PathBuf> {
    linked(process, dir).or_else(|| opened(process, dir, false)).or_else(|| mapped(process, dir, &|_| true))
}

fn search(use_of: impl Fn(&Path) -> Option<PathBuf>) -> Holders {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Holders::default() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Holders(pids.filter_map(|pid| holder(pid, &use_of)).take(HOLDERS_MAX).collect())
}

fn holder(pid: u32, use_of: impl Fn(&Path) -> Option<PathBuf>) -> Option<Holder> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let path = use_of(&process)?;
    let command = std::fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
    Some(Holder { pid, command, path })
}

fn linked(process: &Path, dir: &Path) -> Option<PathBuf> {
    ["cwd", "root", "exe"].iter().find_map(|link| below(&process.join(link), dir))
}

fn opened(process: &Path, dir: &Path, for_write: bool) -> Option<PathBuf> {
    let descriptors = std::fs::read_dir(process.join("fd")).ok()?;
    descriptors.flatten().find_map(|entry| {
        let path = below(&entry.path(), dir)?;
        let info = process.join("fdinfo").join(entry.file_name());
        (!for_write || is_writable(&info)).then_some(path)
    })
}

/// Whether the descriptor was opened for writing: `flags:` in `/proc/PID/fdinfo/FD`, in octal. One that cannot be
/// looked at counts as such.
fn is_writable(info: &Path) -> bool {
    let text = std::fs::read_to_string(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Where the link leads, if that is below `dir`. Reading the link does not follow it.
fn below(link: &Path, dir: &Path) -> Option<PathBuf> {
    std::fs::read_link(link).ok().filter(|target| target.starts_with(dir))
}

/// A mapping below `dir` whose permissions `counts`; a line is `7f00-7f01 rw-s 00000000 fe:00 77 /path`.
fn mapped(process: &Path, dir: &Path, counts: &dyn Fn(&[u8]) -> bool) -> Option<PathBuf> {
    let maps = std::fs::read(process.join("maps")).ok()?;
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        let permissions = line.split(|byte| *byte == b' ').nth(1)?;
        if !counts(permissions) {
            return None;
        }
        let start = line.iter().position(|byte| *byte == b'/')?;
        let path = Path::new(OsStr::from_bytes(&line[start..]));
        path.starts_with(dir).then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_open_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert_eq!(of(&path), Holders::default());
        std::fs::write(path.join("held"), b"x").unwrap();
        let reader = std::fs::File::open(path.join("held")).unwrap();
        let holders = of(&path);
        assert_eq!(holders.0[0].pid, std::process::id());
        assert!(holders.to_string().contains("held"), "{holders}");
        assert_eq!(writers_of(&path), Holders::default());
        let _writer = std::fs::File::options().append(true).open(path.join("held")).unwrap();
        assert_eq!(writers_of(&path).0.len(), 1);
        drop(reader);
    }
}
