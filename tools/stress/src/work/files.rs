//! Steps that workloads on files have in common: a file written in buffers and made durable, one read and compared.

use crate::data::{Buffer, Pattern};
use crate::engine::Lane;
use rustix::fs::{Advice, OFlags, fadvise};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

/// How files are opened, read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Bytes of one read or write.
    pub(crate) buffer: usize,
    /// Past the page cache.
    pub(crate) direct: bool,
    /// Made durable before it is closed.
    pub(crate) fsync: bool,
    /// The kernel is asked to forget the file's pages before it is read.
    pub(crate) cold: bool,
}

impl Style {
    fn flags(self) -> i32 {
        if self.direct { OFlags::DIRECT.bits() as i32 } else { 0 }
    }

    /// Opens a file to be written from its beginning.
    pub(crate) fn create(self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(self.flags()).open(path)
    }

    /// Opens a file that is there to be written over.
    pub(crate) fn reopen(self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).custom_flags(self.flags()).open(path)
    }

    /// Opens a file to be read.
    pub(crate) fn open(self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(self.flags()).open(path)
    }
}

/// Writes `len` bytes of file `tag` to `path`: opens, writes, makes durable, closes. `file` is all of it together.
/// `false`: something failed, and is counted.
pub(crate) fn write_file(
    lane: &mut Lane,
    style: Style,
    pattern: &mut Pattern,
    path: &Path,
    tag: u64,
    len: u64,
) -> bool {
    let whole = lane.begin();
    let Some(mut file) = lane.time("open", 0, || style.create(path)) else { return false };
    let mut offset = 0;
    while offset < len {
        let part = (len - offset).min(style.buffer as u64);
        let bytes = pattern.at(tag, offset, part as usize);
        if lane.time("write", part, || file.write_all(bytes)).is_none() || lane.stopped() {
            return false;
        }
        offset += part;
    }
    ended(lane, style, file, whole)
}

/// Writes over buffers of file `tag` at `path`, each at its offset with its length, with the bytes that belong there; makes
/// durable, closes. `false`: something failed, and is counted.
pub(crate) fn rewrite_file(
    lane: &mut Lane,
    style: Style,
    pattern: &mut Pattern,
    (path, tag): (&Path, u64),
    buffers: impl Iterator<Item = (u64, usize)>,
) -> bool {
    let whole = lane.begin();
    let Some(file) = lane.time("open", 0, || style.reopen(path)) else { return false };
    for (offset, len) in buffers {
        let bytes = pattern.at(tag, offset, len);
        if lane.time("write", len as u64, || file.write_all_at(bytes, offset)).is_none() || lane.stopped() {
            return false;
        }
    }
    ended(lane, style, file, whole)
}

/// Makes durable and closes what was written; `file` is all of it since `whole`.
fn ended(lane: &mut Lane, style: Style, file: File, whole: Instant) -> bool {
    if style.fsync && lane.time("fsync", 0, || file.sync_all()).is_none() {
        return false;
    }
    lane.time("close", 0, || closed(file));
    lane.end("file", whole, 0, Ok::<_, io::Error>(())).is_some()
}

/// Reads all `len` bytes of file `tag` at `path` in order; compares each buffer if there is a pattern.
/// `false`: something failed, and is counted.
pub(crate) fn read_file(
    lane: &mut Lane,
    style: Style,
    buffer: &mut Buffer,
    mut pattern: Option<&mut Pattern>,
    path: &Path,
    (tag, len): (u64, u64),
) -> bool {
    let Some(mut file) = open_to_read(lane, style, path) else { return false };
    let mut offset = 0;
    while offset < len {
        let part = (len - offset).min(style.buffer as u64) as usize;
        let into = buffer.head_mut(part);
        if lane.time("read", part as u64, || file.read_exact(into)).is_none() {
            return false;
        }
        let checked =
            pattern.as_mut().map_or(Ok(()), |pattern| pattern.check(tag, offset, part, buffer.head(part)));
        if let Err(why) = checked {
            lane.fail("verify", format!("{}: {why}", path.display()));
            return false;
        }
        offset += part as u64;
        if offset < len && !lane.go_on() {
            return false;
        }
    }
    lane.time("close", 0, || closed(file));
    true
}

/// Opens a file that is to be read; without its pages in memory, if that is asked for.
pub(crate) fn open_to_read(lane: &mut Lane, style: Style, path: &Path) -> Option<File> {
    let file = lane.time("open", 0, || style.open(path))?;
    if style.cold {
        // A file system that cannot forget them is measured as it is.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
    Some(file)
}

/// Reads a buffer at `offset`.
pub(crate) fn read_at(lane: &mut Lane, file: &File, into: &mut [u8], offset: u64) -> bool {
    lane.time("read", into.len() as u64, || file.read_exact_at(into, offset)).is_some()
}

/// Closes a file. What the system says to it is lost in Rust's own `close`; what matters of it `fsync` says before.
fn closed(file: File) -> io::Result<()> {
    drop(file);
    Ok(())
}

/// Lists a directory that has `expected` entries.
pub(crate) fn listed(dir: &Path, expected: usize) -> io::Result<()> {
    let mut found = 0;
    for entry in std::fs::read_dir(dir)? {
        entry?;
        found += 1;
    }
    if found == expected {
        return Ok(());
    }
    Err(io::Error::other(format!("{} lists {found} entries and has {expected}", dir.display())))
}
