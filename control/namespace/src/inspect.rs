//! What is believed and what waits, name by name, for people who ask. Nothing here changes anything or asks the UFS.

use crate::keys;
use crate::names::Answer;
use crate::namespace::Namespace;
use crate::record::Dentry;
use forebay_types::{FileKind, FsErrorKind, FsResult, Ino, MountId, Name, UfsKey, UfsVersion};
use std::sync::Arc;

/// A name that waits to be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedName {
    /// Its path from the root of the name space, with a slash before each name.
    pub path: Vec<u8>,
    /// The mount it belongs to.
    pub mount: MountId,
    /// Why it could not be carried the last time it was tried.
    pub failure: Option<String>,
    /// It keeps failing, and nothing waits for it any more.
    pub set_aside: bool,
    /// It is open for write, and waits for its close.
    pub open_for_write: bool,
}

impl Namespace {
    /// All names that wait to be carried, at or below a path, in the order of their paths. The empty path is the root.
    ///
    /// # Errors
    /// `Io` or `Corrupt` if the engine cannot be read.
    pub async fn queued_below(&self, top: &[u8]) -> FsResult<Vec<QueuedName>> {
        let mut found = Vec::new();
        for ((dir, name), seen) in self.shared.queue.up_to(u64::MAX) {
            // A directory that went meanwhile takes its names along.
            let Ok(inode) = self.inode(dir).await else { continue };
            let Ok(Some(mut path)) = self.path(dir).await else { continue };
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            let rest = path.strip_prefix(top);
            if rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/') {
                found.push(QueuedName {
                    path,
                    mount: inode.record().mount,
                    failure: seen.failure,
                    set_aside: seen.set_aside,
                    open_for_write: seen.open_for_write,
                });
            }
        }
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Where the UFS has an inode; `None` if it has none.
    ///
    /// # Errors
    /// `Stale` if the inode is gone.
    pub async fn ufs_of(&self, ino: Ino) -> FsResult<Option<(MountId, UfsKey)>> {
        let record = self.inode(ino).await?.record();
        Ok(self.ufs_key(&record).await?.map(|key| (record.mount, key)))
    }

    /// What would be said of a name without asking the UFS: `None` if it would be asked, or the name is ours;
    /// `Some(None)` if there would be no such name; else the version the file is taken for.
    pub fn believed(&self, dir: Ino, name: &Name) -> Option<Option<UfsVersion>> {
        let record = self.shared.record_in_memory(dir).ok()?;
        let ttl = self.shared.metadata_ttl_ms(&record).ok()?;
        let cached = self.shared.names.get(dir, name)?;
        if cached.asked_ms.is_none() || !cached.is_fresh(self.shared.now_ms(), ttl) {
            return None;
        }
        match cached.answer {
            Answer::Absent | Answer::NoDirectory => Some(None),
            Answer::Present(ino) => {
                let record = self.shared.record_in_memory(ino).ok()?;
                let version = record.version.clone().filter(|_| record.is_settled())?;
                Some(Some(version))
            }
        }
    }

    /// The files of a directory that were written here and carried, with the versions the UFS then had.
    ///
    /// # Errors
    /// `Io` or `Corrupt` if the engine cannot be read.
    pub async fn carried_files(&self, dir: Ino) -> FsResult<Vec<(Name, UfsVersion)>> {
        let shared = Arc::clone(&self.shared);
        let read = move || {
            let (from, until) = keys::of(keys::DENTRY, dir);
            let mut found = Vec::new();
            for (key, value) in shared.view.scan(&from, &until, usize::MAX)? {
                let dentry = Dentry::decode(&value)?;
                let Some((ino, FileKind::Regular)) = dentry.target.filter(|_| dentry.is_carried()) else {
                    continue;
                };
                let (_, name) = keys::slot(&key).ok_or(FsErrorKind::Corrupt)?;
                let record = shared.record(ino)?;
                if let Some(version) = record.version.clone().filter(|_| record.is_settled()) {
                    found.push((name, version));
                }
            }
            Ok(found)
        };
        self.readers.read(read).await
    }
}
