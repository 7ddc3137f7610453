//! Walks the tree by name, for requests that concern everything below a path. Runs on a shard.
//!
//! Memory does not grow with the number of files: directories still to be listed are kept, files are handed on at
//! once, and at most [`FILES_AT_ONCE`] of them are worked on at a time.

use forebay_types::{FileKind, FsResult, HandleId, Ino, Name};
use forebay_vfs::{DirEntryOut, Vfs};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::future::Future;

/// Files worked on at a time.
const FILES_AT_ONCE: usize = 16;
/// Entries asked for at a time.
const LISTING_LEN: usize = 256;

/// An inode that was looked up and is given back when this is dropped.
pub(super) struct Looked<'a> {
    vfs: &'a Vfs,
    /// The inode.
    pub(super) ino: Ino,
    /// What it is.
    pub(super) kind: FileKind,
}

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        if self.ino != Ino::ROOT {
            self.vfs.forget(self.ino, 1);
        }
    }
}

/// Finds what is at `path`, bytes below the root with single slashes.
pub(super) async fn find<'a>(vfs: &'a Vfs, path: &[u8]) -> FsResult<Looked<'a>> {
    let mut at = Looked { vfs, ino: Ino::ROOT, kind: FileKind::Directory };
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let entry = vfs.lookup(at.ino, &Name::new(part)?).await;
        let entry = entry.map_err(|error| error.during(path.escape_ascii()))?;
        at = Looked { vfs, ino: entry.attr.ino, kind: entry.attr.kind };
    }
    Ok(at)
}

/// Does `work` for every regular file at or below `path`. The first failure is reported after what is under way has
/// ended; the rest is not begun.
pub(super) async fn each_file<'a, W>(
    vfs: &'a Vfs,
    path: &[u8],
    work: impl Fn(Looked<'a>) -> W,
) -> FsResult<()>
where
    W: Future<Output = FsResult<()>>,
{
    let top = find(vfs, path).await?;
    match top.kind {
        FileKind::Regular => return work(top).await,
        FileKind::Directory => {}
        _ => return Ok(()),
    }
    let mut dirs = vec![top];
    let mut under_way = FuturesUnordered::new();
    while let Some(dir) = dirs.pop() {
        let mut listing = Listing::open(vfs, &dir).await?;
        while let Some(found) = listing.next().await? {
            match found.kind {
                FileKind::Directory => dirs.push(found),
                FileKind::Regular => under_way.push(work(found)),
                _ => {}
            }
            if under_way.len() >= FILES_AT_ONCE {
                under_way.next().await.unwrap_or(Ok(()))?;
            }
        }
    }
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}

/// A directory being listed.
struct Listing<'a> {
    vfs: &'a Vfs,
    handle: HandleId,
    offset: u64,
    fetched: VecDeque<DirEntryOut>,
}

impl<'a> Listing<'a> {
    async fn open(vfs: &'a Vfs, dir: &Looked<'_>) -> FsResult<Self> {
        let handle = vfs.opendir(dir.ino).await?;
        Ok(Self { vfs, handle, offset: 0, fetched: VecDeque::new() })
    }

    /// The next entry that is neither `.` nor `..`.
    async fn next(&mut self) -> FsResult<Option<Looked<'a>>> {
        loop {
            let Some(entry) = self.fetched.pop_front() else {
                let page = self.vfs.readdir(self.handle, self.offset, LISTING_LEN, true).await?;
                if page.is_empty() {
                    return Ok(None);
                }
                self.fetched = page.into();
                continue;
            };
            self.offset = entry.next_offset;
            if let Some(found) = entry.entry {
                let ino = found.attr.ino;
                self.vfs.take_entry(ino);
                return Ok(Some(Looked { vfs: self.vfs, ino, kind: entry.kind }));
            }
        }
    }
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.vfs.releasedir(self.handle) {
            tracing::debug!(%error, "a directory that was listed was gone");
        }
    }
}
