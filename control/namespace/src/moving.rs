//! The time between a move in the under file system and its record.
//!
//! A directory or file that was renamed here is brought to its new key by a task; from the moment the UFS has moved
//! it to the one at which the outcome is recorded, the key that the records tell has nothing, or, where a store
//! copies entry by entry, not everything. While such a task is out or in doubt, what is missed at the old key is
//! therefore looked for at the new one.

use crate::inode::Inode;
use crate::namespace::Namespace;
use forebay_types::{
    ContentLocation, DirPageEntry, FsErrorKind, FsResult, Ino, MountId, Name, UfsAttr, UfsKey,
};
use std::collections::BTreeMap;

/// What the names begin with under which inodes wait.
const ASIDE: &str = ".forebay-move-";

/// Entries asked for at a time when both ends of a move are listed.
const LIST_LEN: usize = 1000;

/// What an absent answer is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absence {
    /// There is nothing.
    Real,
    /// The records have moved on: ask again.
    Overtaken,
}

impl Namespace {
    /// Whether the UFS may have another version of an inode's bytes than [`Namespace::content`] tells, or have it
    /// elsewhere, by what we ourselves do: a task is out that changes it, and its outcome is not recorded yet. Who asks
    /// for the content after a "no" is told what came of every task that has ended.
    ///
    /// # Errors
    /// `Stale` if the inode is gone.
    pub async fn is_being_carried(&self, ino: Ino) -> FsResult<bool> {
        let record = self.inode(ino).await?.record();
        let key = self.ufs_key(&record).await?;
        Ok(self.shared.queue.holds(record.mount, ino, key.as_ref()))
    }

    /// What the UFS has at `key`, or where that is being moved to, and the key at which it was found.
    pub(crate) async fn find(&self, mount: MountId, key: &UfsKey) -> FsResult<Option<(UfsKey, UfsAttr)>> {
        if let Some(attr) = self.flights.stat(mount, key.clone()).await? {
            return Ok(Some((key.clone(), attr)));
        }
        self.find_moved(mount, key).await
    }

    /// The same by questions of one's own: no answer is older than the call.
    pub(crate) async fn find_anew(
        &self,
        mount: MountId,
        key: &UfsKey,
    ) -> FsResult<Option<(UfsKey, UfsAttr)>> {
        if let Some(attr) = self.flights.stat_anew(mount, key).await? {
            return Ok(Some((key.clone(), attr)));
        }
        let Some(moved) = self.shared.queue.moved(mount, key) else { return Ok(None) };
        let there = self.flights.stat_anew(mount, &moved).await?;
        Ok(there.map(|attr| (moved, attr)))
    }

    /// What the UFS has where `key` is being moved to.
    pub(crate) async fn find_moved(
        &self,
        mount: MountId,
        key: &UfsKey,
    ) -> FsResult<Option<(UfsKey, UfsAttr)>> {
        let Some(moved) = self.shared.queue.moved(mount, key) else { return Ok(None) };
        let there = self.flights.stat(mount, moved.clone()).await?;
        Ok(there.map(|attr| (moved, attr)))
    }

    /// What the UFS has under a name that is not ours, where the directory around it is being moved to. A name that was
    /// itself moved away is nothing: the task may still be out when its outcome is recorded and the name given back.
    pub(crate) async fn find_in_moved(
        &self,
        mount: MountId,
        dir: &UfsKey,
        name: &Name,
    ) -> FsResult<Option<UfsAttr>> {
        let Some(dir) = self.shared.queue.moved(mount, dir) else { return Ok(None) };
        self.flights.stat(mount, dir.child(name)).await
    }

    /// What it is worth that the UFS has nothing in, or at, the directory `dir`, which was to be at `key`.
    pub(crate) async fn absence(&self, dir: &Inode, key: &UfsKey) -> FsResult<Absence> {
        let moved_on = self.ufs_key(&dir.record()).await?.as_ref() != Some(key);
        Ok(if moved_on { Absence::Overtaken } else { Absence::Real })
    }

    /// All that is at either end of a directory that is being moved; `None` if there is neither.
    ///
    /// What is copied entry by entry is taken away at the old key only once all of it is at the new one, which is
    /// listed last: together they are whole at any time.
    pub(crate) async fn list_both(
        &self,
        mount: MountId,
        from: &UfsKey,
        to: &UfsKey,
    ) -> FsResult<Option<Vec<DirPageEntry>>> {
        let (mut entries, mut any) = (BTreeMap::new(), false);
        for dir in [from, to] {
            if let Some(found) = self.list_whole(mount, dir).await? {
                any = true;
                entries.extend(found.into_iter().map(|entry| (entry.name.clone(), entry)));
            }
        }
        Ok(any.then(|| entries.into_values().collect()))
    }

    async fn list_whole(&self, mount: MountId, dir: &UfsKey) -> FsResult<Option<Vec<DirPageEntry>>> {
        let (mut entries, mut from) = (Vec::new(), None);
        loop {
            match self.flights.list(mount, dir, from, LIST_LEN).await {
                Ok(page) => {
                    entries.extend(page.entries);
                    match page.next {
                        Some(next) => from = Some(next),
                        None => return Ok(Some(entries)),
                    }
                }
                Err(error) if error.kind() == FsErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where bytes are that the UFS has, if a move that is under way has brought them elsewhere already.
    pub(crate) async fn follow_move(&self, content: ContentLocation) -> FsResult<ContentLocation> {
        let Some((key, version)) = &content.ufs else { return Ok(content) };
        if self.shared.queue.moved(content.mount, key).is_none() {
            return Ok(content);
        }
        let found =
            Box::pin(self.find(content.mount, key)).await?.filter(|(_, attr)| attr.size == content.size);
        let ufs = found.map_or((key.clone(), version.clone()), |(key, attr)| (key, attr.version));
        Ok(ContentLocation { ufs: Some(ufs), ..content })
    }
}

/// The name under which an inode waits in the UFS while others take its place. Each attempt has one of its own: at that of
/// an earlier one there may be a copy whose source could not be taken away.
pub(crate) fn name_aside(ino: Ino, attempt: u64) -> Name {
    let name = format!("{ASIDE}{:016x}-{attempt:x}", ino.0);
    Name::new(name.into_bytes()).expect("a short name of letters, digits, '-' and '.' is a name")
}

/// Whether a name is such a one.
pub(crate) fn is_aside(name: &Name) -> bool {
    name.as_bytes().starts_with(ASIDE.as_bytes())
}
