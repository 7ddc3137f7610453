//! The short forms that tests are made of.

use crate::support::{ALICE, BOTH, READ};
use forebay_shard::{Frame, arena};
use forebay_types::{Attr, FsErrorKind, FsResult, HandleId, Ino, Name, SetAttr, SetTime, TimeSpec};
use forebay_vfs::{IoMode, OpenFlags, Opened, Vfs};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub fn set_mtime(mtime: TimeSpec) -> SetAttr {
    SetAttr { mtime: Some(SetTime::To(mtime)), ..SetAttr::default() }
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// A file system with the short forms that tests are made of.
pub trait Short {
    async fn make(&self, text: &str) -> (Ino, Opened);
    async fn find(&self, text: &str) -> FsResult<Attr>;
    async fn ino(&self, text: &str) -> Ino;
    async fn put(&self, handle: HandleId, offset: u64, bytes: &[u8]) -> FsResult<usize>;
    async fn get(&self, handle: HandleId) -> FsResult<Vec<u8>>;
    async fn content(&self, ino: Ino) -> FsResult<Vec<u8>>;
    async fn mode_of_open(&self, ino: Ino, flags: OpenFlags) -> IoMode;
}

impl Short for Vfs {
    async fn make(&self, text: &str) -> (Ino, Opened) {
        let exclusive = OpenFlags { exclusive: true, ..BOTH };
        let (entry, opened) = self.create(&ALICE, Ino::ROOT, &name(text), 0o644, exclusive).await.unwrap();
        (entry.attr.ino, opened)
    }

    async fn find(&self, text: &str) -> FsResult<Attr> {
        let entry = self.lookup(Ino::ROOT, &name(text)).await?;
        self.forget(entry.attr.ino, 1);
        Ok(entry.attr)
    }

    /// A lookup that stays counted, as while the kernel knows a file.
    async fn ino(&self, text: &str) -> Ino {
        self.lookup(Ino::ROOT, &name(text)).await.unwrap().attr.ino
    }

    async fn put(&self, handle: HandleId, offset: u64, bytes: &[u8]) -> FsResult<usize> {
        self.write(handle, offset, frame(bytes).await).await
    }

    async fn get(&self, handle: HandleId) -> FsResult<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let piece = self.read(handle, all.len() as u64, 128 << 10).await?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    async fn content(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let opened = self.open(&ALICE, ino, READ).await?;
        let bytes = self.get(opened.handle).await;
        self.release(opened.handle).await?;
        bytes
    }

    async fn mode_of_open(&self, ino: Ino, flags: OpenFlags) -> IoMode {
        let opened = self.open(&ALICE, ino, flags).await.unwrap();
        self.release(opened.handle).await.unwrap();
        opened.mode
    }
}

pub async fn frame(bytes: &[u8]) -> Frame {
    let mut frame = arena().frame(bytes.len()).await.unwrap();
    frame.copy_from_slice(bytes);
    frame
}

/// The file that the kernel would work on itself.
pub fn kernel_file(opened: &Opened) -> Arc<File> {
    match &opened.mode {
        IoMode::Passthrough(file) => Arc::clone(file),
        other => panic!("not passed through: {other:?}"),
    }
}

pub fn is_passthrough(mode: &IoMode) -> bool {
    matches!(mode, IoMode::Passthrough(_))
}

pub fn is_cached(mode: &IoMode, keep: bool) -> bool {
    matches!(mode, IoMode::Cached { keep_cache } if *keep_cache == keep)
}

/// Bytes that differ from place to place.
pub fn pattern(len: u64, seed: u64) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(seed)) as u8).collect()
}

/// A number that no other call in this process gets.
pub fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, SeqCst)
}

pub fn kind<T: std::fmt::Debug>(result: FsResult<T>) -> FsErrorKind {
    result.unwrap_err().kind()
}
