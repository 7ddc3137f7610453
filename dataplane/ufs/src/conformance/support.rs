//! What the cases share: a directory each, contents that cannot be confused, and short words for calls.

use crate::error::{UfsErrorKind, UfsResult};
use crate::ufs::{Capabilities, Expect, ListPage, PutAttrs, PutSpec, Ufs, Upload};
use bytes::Bytes;
use forebay_types::{DirPageEntry, FileKind, Name, Told, UfsAttr, UfsKey, UfsVersion};
use std::sync::Arc;
use std::time::Duration;

/// What a put that believes takes for true.
const BELIEVED: Duration = Duration::from_secs(60);

/// A directory of the store that one case may fill.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) ufs: Arc<dyn Ufs>,
    dir: UfsKey,
}

/// A content that differs from any other seed's at every multiple of 8 bytes.
pub(super) fn content(seed: u64, len: usize) -> Bytes {
    let words = (0..len.div_ceil(8) as u64).flat_map(|n| {
        let word = (n ^ (seed << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ seed;
        word.to_le_bytes()
    });
    words.take(len).collect::<Vec<u8>>().into()
}

impl Stage {
    pub(super) fn new(ufs: Arc<dyn Ufs>) -> Self {
        Self { ufs, dir: UfsKey::root() }
    }

    /// A fresh directory for a case.
    pub(super) async fn case(&self, name: &str) -> Self {
        let dir = self.key(&format!("conformance-{name}"));
        self.ufs.mkdir(&dir, &PutAttrs::default()).await.unwrap_or_else(|e| panic!("{name}: mkdir: {e}"));
        Self { ufs: Arc::clone(&self.ufs), dir }
    }

    pub(super) fn dir(&self) -> &UfsKey {
        &self.dir
    }

    pub(super) fn can(&self) -> &Capabilities {
        self.ufs.capabilities()
    }

    /// The key of a path below this directory.
    pub(super) fn key(&self, path: &str) -> UfsKey {
        self.key_bytes(path.as_bytes())
    }

    pub(super) fn key_bytes(&self, path: &[u8]) -> UfsKey {
        let names = path.split(|byte| *byte == b'/').map(|name| Name::new(name).unwrap());
        names.fold(self.dir.clone(), |dir, name| dir.child(&name))
    }

    pub(super) async fn begin(&self, key: &UfsKey, len: usize, expect: Expect) -> UfsResult<Box<dyn Upload>> {
        let spec = PutSpec { len: len as u64, expect, ..PutSpec::default() };
        self.ufs.begin_put(key, &spec).await
    }

    pub(super) async fn try_put(&self, key: &UfsKey, bytes: &Bytes, expect: Expect) -> UfsResult<UfsVersion> {
        let mut upload = self.begin(key, bytes.len(), expect).await?;
        send_parts(&*upload, bytes).await?;
        upload.finish().await
    }

    /// Puts a file, believing what was seen within the last minute.
    pub(super) async fn put_believing(
        &self,
        key: &UfsKey,
        bytes: &Bytes,
        expect: Expect,
    ) -> UfsResult<UfsVersion> {
        let spec = PutSpec { len: bytes.len() as u64, expect, believed: BELIEVED, ..PutSpec::default() };
        let mut upload = self.ufs.begin_put(key, &spec).await?;
        send_parts(&*upload, bytes).await?;
        upload.finish().await
    }

    /// Puts a file, whatever is there.
    pub(super) async fn put(&self, key: &UfsKey, bytes: &Bytes) -> UfsVersion {
        self.try_put(key, bytes, Expect::Any).await.unwrap_or_else(|e| panic!("put {key}: {e}"))
    }

    pub(super) async fn mkdir(&self, key: &UfsKey) {
        self.ufs.mkdir(key, &PutAttrs::default()).await.unwrap_or_else(|e| panic!("mkdir {key}: {e}"));
    }

    pub(super) async fn stat(&self, key: &UfsKey) -> Option<UfsAttr> {
        self.ufs.stat(key).await.unwrap_or_else(|e| panic!("stat {key}: {e}"))
    }

    pub(super) async fn version(&self, key: &UfsKey) -> UfsVersion {
        self.stat(key).await.unwrap_or_else(|| panic!("{key} is not there")).version
    }

    /// Asserts that the file at `key` has just this content, read whole and by its own version.
    pub(super) async fn assert_content(&self, key: &UfsKey, expected: &Bytes) {
        let attr = self.stat(key).await.unwrap_or_else(|| panic!("{key} is not there"));
        assert_eq!((attr.kind, attr.size), (FileKind::Regular, expected.len() as u64), "{key}");
        let mut found = vec![0; expected.len() + 1];
        let len = self.ufs.read(key, &attr.version, 0, &mut found).await.unwrap();
        found.truncate(len);
        assert!(found == *expected, "{key} has another content");
    }

    /// The pages of a whole listing.
    pub(super) async fn pages(&self, dir: &UfsKey, limit: usize) -> Vec<ListPage> {
        let mut pages = Vec::new();
        let mut from = None;
        loop {
            let page =
                self.ufs.list(dir, from.as_ref(), limit).await.unwrap_or_else(|e| panic!("list {dir}: {e}"));
            from = page.next.clone();
            pages.push(page);
            if from.is_none() {
                return pages;
            }
        }
    }

    /// The entry of a directory that has one.
    pub(super) async fn only_entry(&self) -> DirPageEntry {
        self.pages(&self.dir, 10).await.remove(0).entries.remove(0)
    }

    /// What a listing told of an entry of this directory, and what it left open.
    pub(super) async fn listed(&self, entry: &DirPageEntry) -> UfsAttr {
        let key = self.dir.child(&entry.name);
        match &entry.told {
            Told::All(attr) | Told::Content(attr) => attr.clone(),
            Told::FileOrLink(_) => self
                .ufs
                .stat_listed(&key)
                .await
                .unwrap_or_else(|e| panic!("stat_listed {key}: {e}"))
                .unwrap_or_else(|| panic!("{key} is not there")),
        }
    }

    /// The names of a whole listing, sorted.
    pub(super) async fn names(&self, dir: &UfsKey) -> Vec<Vec<u8>> {
        let pages = self.pages(dir, 1000).await;
        let entries = pages.iter().flat_map(|page| &page.entries);
        let mut names: Vec<_> = entries.map(|entry| entry.name.as_bytes().to_vec()).collect();
        names.sort();
        names
    }
}

/// Sends all parts of `bytes` in order.
pub(super) async fn send_parts(upload: &dyn Upload, bytes: &Bytes) -> UfsResult<()> {
    for index in 0..part_count(upload, bytes) {
        upload.part(index, part_of(upload, bytes, index)).await?;
    }
    Ok(())
}

pub(super) fn part_count(upload: &dyn Upload, bytes: &Bytes) -> u64 {
    (bytes.len() as u64).div_ceil(upload.part_len())
}

pub(super) fn part_of(upload: &dyn Upload, bytes: &Bytes, index: u64) -> Bytes {
    let part_len = upload.part_len() as usize;
    let start = index as usize * part_len;
    bytes.slice(start..(start + part_len).min(bytes.len()))
}

/// The kind of the error that a call must have ended with.
pub(super) fn kind<T>(result: UfsResult<T>) -> UfsErrorKind {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error.kind(),
    }
}
