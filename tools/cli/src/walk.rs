//! Walks the tree by name, for requests that concern everything below a path. Runs on a shard.
//!
//! Memory does not grow with the number of files: directories still to be listed are kept, files are handed on at
//! once, and at most [`FILES_AT_ONCE`] of them are worked on at a time.

use forebay_types::{FileKind, FsErrorKind, FsResult, HandleId, Ino, Name};
use forebay_vfs::{Attributes, DirEntryOut, Vfs};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::future::Future;

/// Files worked on at a time.
const FILES_AT_ONCE: usize = 16;
/// Entries asked for at a time.
const LISTING_LEN: usize = 256;

/// An inode that was looked up and is given back when this is dropped.
pub(crate) struct Looked<'a> {
    vfs: &'a Vfs,
    /// The inode.
    pub(crate) ino: Ino,
    /// What it is.
    pub(crate) kind: FileKind,
    /// The directory in which it was found, and its name there; `None` for the root.
    pub(crate) at: Option<(Ino, Name)>,
    /// Where it was found, below the root, with single slashes between the names.
    pub(crate) path: Vec<u8>,
}

impl<'a> Looked<'a> {
    fn root(vfs: &'a Vfs) -> Self {
        Self { vfs, ino: Ino::ROOT, kind: FileKind::Directory, at: None, path: Vec::new() }
    }

    /// What was found under `name` in a directory at `dir_path`; its lookup is counted already.
    fn below(vfs: &'a Vfs, (dir, dir_path): (Ino, &[u8]), name: Name, ino: Ino, kind: FileKind) -> Self {
        let mut path = dir_path.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        Self { vfs, ino, kind, at: Some((dir, name)), path }
    }
}

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        if self.ino != Ino::ROOT {
            self.vfs.forget(self.ino, 1);
        }
    }
}

/// Finds what is at `path`, bytes below the root with single slashes.
///
/// # Errors
/// `NotFound`, `NotADirectory`; `Unavailable` if the under file system had to be asked and does not answer.
pub(crate) async fn find<'a>(vfs: &'a Vfs, path: &[u8]) -> FsResult<Looked<'a>> {
    let mut at = Looked::root(vfs);
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let name = Name::new(part)?;
        let entry = vfs.lookup(at.ino, &name).await;
        let attr = entry.map_err(|error| error.during(path.escape_ascii()))?.attr;
        at = Looked::below(vfs, (at.ino, &at.path), name, attr.ino, attr.kind);
    }
    Ok(at)
}

/// Does `work` for every regular file at or below `path`.
///
/// # Errors
/// Those of [`each`].
pub(crate) async fn each_file<'a, W>(
    vfs: &'a Vfs,
    path: &[u8],
    work: impl Fn(Looked<'a>) -> W,
) -> FsResult<()>
where
    W: Future<Output = FsResult<()>>,
{
    each(vfs, path, async |_| Ok(()), work).await
}

/// Does `work` for every regular file at or below `path`, and `before` for each directory before it is listed. The
/// first failure is reported after what is under way has
/// ended; the rest is not begun.
pub(crate) async fn each<'a, W>(
    vfs: &'a Vfs,
    path: &[u8],
    before: impl AsyncFn(&Looked<'a>) -> FsResult<()>,
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
        before(&dir).await?;
        let mut listing = match Listing::open(vfs, &dir).await {
            // It went since it was listed, and all that was in it.
            Err(error) if matches!(error.kind(), FsErrorKind::NotFound | FsErrorKind::Stale) => continue,
            listing => listing?,
        };
        while let Some(found) = listing.next(&dir).await? {
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
    async fn next(&mut self, dir: &Looked<'_>) -> FsResult<Option<Looked<'a>>> {
        loop {
            let Some(entry) = self.fetched.pop_front() else {
                let page = self.vfs.readdir(self.handle, self.offset, LISTING_LEN, Attributes::All).await?;
                if page.is_empty() {
                    return Ok(None);
                }
                self.fetched = page.into();
                continue;
            };
            self.offset = entry.next_offset;
            if let Some(found) = entry.entry {
                let (ino, name) = (found.attr.ino, Name::new(entry.name)?);
                self.vfs.take_entry(ino);
                return Ok(Some(Looked::below(self.vfs, (dir.ino, &dir.path), name, ino, entry.kind)));
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
