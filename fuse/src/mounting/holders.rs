//! Who uses a mount: what `fuser -m` shows, found in `/proc` without asking the mounted file system anything.

use crate::error::{Holder, Holders};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// So many are named; a message with more helps nobody.
const HOLDERS_MAX: usize = 16;

/// The processes with a file open or mapped below `dir`, or with their directory there.
pub(crate) fn of(dir: &Path) -> Holders {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Holders::default() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Holders(pids.filter_map(|pid| holder(pid, dir)).take(HOLDERS_MAX).collect())
}

fn holder(pid: u32, dir: &Path) -> Option<Holder> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let path = linked(&process, dir).or_else(|| opened(&process, dir)).or_else(|| mapped(&process, dir))?;
    let command = std::fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
    Some(Holder { pid, command, path })
}

fn linked(process: &Path, dir: &Path) -> Option<PathBuf> {
    ["cwd", "root", "exe"].iter().find_map(|link| below(&process.join(link), dir))
}

fn opened(process: &Path, dir: &Path) -> Option<PathBuf> {
    let descriptors = std::fs::read_dir(process.join("fd")).ok()?;
    descriptors.flatten().find_map(|entry| below(&entry.path(), dir))
}

/// Where the link leads, if that is below `dir`. Reading the link does not follow it.
fn below(link: &Path, dir: &Path) -> Option<PathBuf> {
    std::fs::read_link(link).ok().filter(|target| target.starts_with(dir))
}

fn mapped(process: &Path, dir: &Path) -> Option<PathBuf> {
    let maps = std::fs::read(process.join("maps")).ok()?;
    maps.split(|byte| *byte == b'\n').find_map(|line| {
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
        let _file = std::fs::File::create(path.join("held")).unwrap();
        let holders = of(&path);
        assert_eq!(holders.0[0].pid, std::process::id());
        assert!(holders.to_string().contains("held"), "{holders}");
    }
}
