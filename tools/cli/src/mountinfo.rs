//! What is mounted where, as `/proc/self/mountinfo` says (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPoint {
    /// Where it is mounted.
    pub(crate) dir: PathBuf,
    /// The type of file system, like `ext4` or `fuse.forebay`.
    pub(crate) kind: String,
    /// What is mounted, as whoever mounted it named it.
    pub(crate) source: String,
}

/// The mount that stands on exactly `dir`: the topmost, if several are stacked.
pub(crate) fn mounted_on(dir: &Path) -> std::io::Result<Option<MountPoint>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_line).rfind(|mount| mount.dir == dir))
}

/// Fields: id, parent, device, root, mount point, options, optional fields, `-`, type, source, options.
fn parse_line(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|b| *b == b' ');
    let dir = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    let mut after_dash = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(after_dash.next()?).into_owned();
    let source = String::from_utf8_lossy(&unescape(after_dash.next()?)).into_owned();
    Some(MountPoint { dir, kind, source })
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits.get(..3)?).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_with_and_without_optional_fields_are_read() {
        let line = br"36 35 98:0 / /mnt/a\040b rw,noatime master:1 shared:2 - fuse.forebay /data\134x rw";
        let mount = parse_line(line).unwrap();
        assert_eq!(mount.dir, Path::new("/mnt/a b"));
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("fuse.forebay", "/data\\x"));
        assert_eq!(parse_line(b"1 2 3:4 / /proc rw - proc none rw").unwrap().kind, "proc");
        assert_eq!(parse_line(b"1 2 3"), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounted_on(Path::new("/")).unwrap().is_some());
        assert!(mounted_on(Path::new("/no/such/mount")).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(line in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse_line(&line);
        }
    }
}
