//! The kernel's table of mounts: `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
//!
//! Looking a mount up here asks no file system anything, so it works beside a dead or busy mount, where `stat` on
//! the mount point would wait.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Major and minor number of a mounted file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceNumber {
    major: u32,
    minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A mounted file system, as the kernel's table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    pub(crate) device: DeviceNumber,
    /// The mount point.
    pub dir: PathBuf,
    /// Its type, such as `ext4` or `fuse.forebay`.
    pub fs_type: String,
    /// What is mounted, as whoever mounted it named it.
    pub source: String,
    /// The flags of the mount and then those of the file system, `nosuid` and `user_id=0` among them.
    options: Vec<String>,
}

impl MountEntry {
    /// Whether the table shows this word among the options.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.options.iter().any(|option| option == word)
    }
}

/// The topmost mount at exactly this place, if there is one.
pub(crate) fn at(dir: &Path) -> Option<MountEntry> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    topmost(&table, dir)
}

/// The mount that an absolute path without links lies on. Asks no file system anything, so it answers for a dead
/// mount too.
pub fn mount_of(path: &Path) -> Option<MountEntry> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    path.ancestors().find_map(|dir| topmost(&table, dir))
}

/// Where file systems of a type are mounted, in the order in which they were.
pub fn mounts_of_type(fs_type: &str) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let entries = table.split(|byte| *byte == b'\n').filter_map(parse);
    entries.filter(|entry| entry.fs_type == fs_type).map(|entry| entry.dir).collect()
}

fn topmost(table: &[u8], dir: &Path) -> Option<MountEntry> {
    // Later mounts on the same place cover earlier ones and come later in the table.
    table.split(|byte| *byte == b'\n').rev().filter_map(parse).find(|entry| entry.dir == dir)
}

/// Reads `36 35 98:0 /root /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
pub(super) fn parse(line: &[u8]) -> Option<MountEntry> {
    let mut words = line.split(|byte| *byte == b' ');
    let (device, dir, flags) = (words.nth(2)?, words.nth(1)?, words.next()?);
    // Optional fields end at a lone hyphen.
    words.find(|word| *word == b"-")?;
    let (fs_type, source) = (words.next()?, words.next()?);
    let options = [flags, words.next().unwrap_or_default()];
    let options = options.iter().flat_map(|text| text.split(|byte| *byte == b','));
    let (major, minor) = str::from_utf8(device).ok()?.split_once(':')?;
    Some(MountEntry {
        device: DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? },
        dir: PathBuf::from(OsString::from_vec(unescape(dir))),
        fs_type: String::from_utf8_lossy(&unescape(fs_type)).into_owned(),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
        options: options.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
    })
}

/// Turns the `\040` that the kernel writes for a space (and `\011`, `\012`, `\134`) back into bytes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        match octal(rest) {
            Some(byte) => (bytes.push(byte), rest = &rest[4..]).1,
            None => (bytes.push(first), rest = tail).1,
        }
    }
    bytes
}

/// The byte of a `\ooo` at the start of `text`.
fn octal(text: &[u8]) -> Option<u8> {
    let [b'\\', digits @ ..] = text.get(..4)? else { return None };
    u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_read_as_the_manual_says() {
        let line = br"36 35 0:98 / /mnt/my\040data rw,noatime shared:1 master:2 - fuse.forebay s3://b/p\134x rw,fd=3";
        let entry = parse(line).unwrap();
        assert_eq!(entry.device.to_string(), "0:98");
        assert_eq!(entry.dir, Path::new("/mnt/my data"));
        assert_eq!((entry.fs_type.as_str(), entry.source.as_str()), ("fuse.forebay", r"s3://b/p\x"));
        assert!(entry.has("noatime") && entry.has("fd=3") && !entry.has("ro"));
    }

    #[test]
    fn the_root_is_a_mount_and_a_fresh_directory_is_not() {
        assert!(at(Path::new("/")).is_some());
        let fresh = tempfile::tempdir().unwrap();
        assert!(at(fresh.path()).is_none());
        let below = mount_of(&std::fs::canonicalize(fresh.path()).unwrap()).unwrap();
        assert!(fresh.path().starts_with(&below.dir), "{below:?}");
        assert_eq!(mount_of(Path::new("/proc/self/status")).unwrap().fs_type, "proc");
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
        }

        #[test]
        fn a_path_survives_the_kernels_escapes(path in "[a-z\\\\ \t]{1,20}") {
            let escaped: String = path.chars().map(|c| match c {
                ' ' | '\t' | '\\' => format!("\\{:03o}", c as u8),
                c => c.to_string(),
            }).collect();
            prop_assert_eq!(unescape(escaped.as_bytes()), path.as_bytes());
        }
    }
}
