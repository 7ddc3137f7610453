//! What is there: every name below some directories, with bytes, mode and inode. Reads only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What was found under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A directory.
    Dir,
    /// A file with its bytes, the lowest twelve bits of its mode, its inode number, and its time of last change in
    /// nanoseconds since 1970.
    File { data: Vec<u8>, mode: u32, inode: u64, mtime: i64 },
    /// A symbolic link's target.
    Link(String),
    /// Something of another kind, or whose reading failed; the finding says how.
    Unreadable(String),
}

/// All names below `root` that `wanted` takes, directories it refuses with all that is below them.
pub(crate) fn scan(root: &Path, wanted: &dyn Fn(&str) -> bool) -> io::Result<BTreeMap<String, Seen>> {
    let mut seen = BTreeMap::new();
    descend(root, "", wanted, &mut seen)?;
    Ok(seen)
}

fn descend(
    root: &Path,
    dir: &str,
    wanted: &dyn Fn(&str) -> bool,
    seen: &mut BTreeMap<String, Seen>,
) -> io::Result<()> {
    for entry in fs::read_dir(root.join(dir))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        if !wanted(&path) {
            continue;
        }
        let found = look(&root.join(&path)).unwrap_or_else(|error| Seen::Unreadable(error.to_string()));
        if found == Seen::Dir {
            descend(root, &path, wanted, seen)?;
        }
        seen.insert(path, found);
    }
    Ok(())
}

/// What one name stands for; a listed name that cannot be looked at is an error.
pub(crate) fn look(path: &Path) -> io::Result<Seen> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        return Ok(Seen::Dir);
    }
    if meta.is_symlink() {
        return Ok(Seen::Link(fs::read_link(path)?.to_string_lossy().into_owned()));
    }
    if !meta.is_file() {
        return Ok(Seen::Unreadable(format!("mode {:o}", meta.mode())));
    }
    let data = fs::read(path)?;
    if data.len() as u64 != meta.len() {
        return Ok(Seen::Unreadable(format!("stat says {} bytes, {} were read", meta.len(), data.len())));
    }
    let mtime = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
    Ok(Seen::File { data, mode: meta.mode() & 0o7777, inode: meta.ino(), mtime })
}
