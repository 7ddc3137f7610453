//! Names as a mutation sees and changes them.

use super::queued::AGAIN;
use super::{OpResult, Refusal, Txn};
use crate::keys::{self};
use crate::names::Answer;
use crate::record::{Dentry, InodeRecord, Shadow};
use crate::shared::millis;
use forebay_types::{FsErrorKind, FsResult, Ino, Name};
use std::sync::Arc;

/// How long after it was asked for an answer of the UFS serves a mutation, whatever the mount's
/// `metadata_ttl`: the caller has just resolved the name.
pub(crate) const RESOLVED_MS: u64 = 2000;

/// What a name is, to a mutation.
pub(crate) struct Found {
    pub(crate) target: Option<(Ino, Arc<InodeRecord>)>,
    /// What the UFS has at the name's key.
    pub(crate) shadow: Option<Shadow>,
    pub(crate) mount_point: bool,
    pub(crate) vacant: Vacant,
}

/// How it is known that the UFS has nothing at a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Vacant {
    /// It is not, or not by the UFS's word.
    Unknown,
    /// It was asked at this time, in milliseconds of the clock.
    Asked(u64),
    /// It does not have the directory either.
    NoDirectory,
}

impl Found {
    /// A name that is nothing.
    fn nothing(vacant: Vacant) -> Self {
        Self { target: None, shadow: None, mount_point: false, vacant }
    }

    /// The inode of a name that must be there.
    pub(crate) fn present(&self) -> FsResult<(Ino, Arc<InodeRecord>)> {
        self.target.clone().ok_or_else(|| FsErrorKind::NotFound.into())
    }
}

impl Txn<'_> {
    /// The dentry of a name, as the log has it.
    pub(crate) fn dentry(&self, dir: Ino, name: &Name) -> FsResult<Option<Dentry>> {
        let slot = (dir, name.clone());
        let changed = self.own.dentries.get(&slot).or_else(|| self.staged.changes.dentries.get(&slot));
        if let Some(dentry) = changed {
            return Ok(dentry.clone());
        }
        if self.shared.table.get(dir).is_some_and(|dir| dir.lacks_own(name)) {
            return Ok(None);
        }
        self.stored(&keys::dentry(dir, name))?.map(|bytes| Dentry::decode(&bytes)).transpose()
    }

    /// Writes a name: what it is to be and what the UFS has there. If neither is anything, and nothing was begun
    /// at the name that may make something of it, nothing is kept. On mounts that are carried to the UFS the name
    /// is queued.
    pub(crate) fn set_name(&mut self, dir: Ino, name: &Name, dentry: Dentry, queue: bool) {
        let begun = self.has_begun(dir, name);
        let nothing = dentry.target.is_none() && dentry.shadow.is_none() && !begun;
        let queued = (queue || begun) && !nothing;
        self.own.dentries.insert((dir, name.clone()), (!nothing).then_some(dentry));
        self.put_key(keys::queue(dir, name), queued.then(|| [].into()));
    }

    /// Takes a name out of the engine: the UFS answers for it again.
    pub(crate) fn drop_name(&mut self, dir: Ino, name: &Name) {
        self.own.dentries.insert((dir, name.clone()), None);
        self.own.given_back.insert(dir);
        self.put_key(keys::queue(dir, name), None);
    }

    /// The UFS has something at a name of this directory that we have no name for.
    pub(crate) fn note_given_back(&mut self, dir: Ino) {
        self.own.given_back.insert(dir);
    }

    /// What `name` in the directory `dir` is.
    pub(crate) fn resolve(&self, dir: Ino, record: &InodeRecord, name: &Name) -> OpResult<Found> {
        if let Some(dentry) = self.dentry(dir, name)? {
            let target =
                dentry.target.map(|(ino, _)| self.inode(ino).map(|record| (ino, record))).transpose()?;
            let (shadow, mount_point) = (dentry.shadow, dentry.mount_point);
            return Ok(Found { target, shadow, mount_point, vacant: Vacant::Unknown });
        }
        if self.ufs_key(record)?.is_none() {
            return Ok(Found::nothing(Vacant::NoDirectory));
        }
        if self.has_changed(dir, name) {
            // The cache of names does not know yet what this batch has taken away.
            return Err(Refusal::Unresolved(dir, name.clone()));
        }
        self.resolve_cached(dir, record, name)?.ok_or_else(|| Refusal::Unresolved(dir, name.clone()))
    }

    /// Whether a name was changed by this mutation, or by one before it in the same batch.
    pub(super) fn has_changed(&self, dir: Ino, name: &Name) -> bool {
        let slot = (dir, name.clone());
        self.own.dentries.contains_key(&slot) || self.staged.changes.dentries.contains_key(&slot)
    }

    /// Whether a name in this directory was given back to the UFS by this mutation, or by one before it in the same
    /// batch.
    pub(crate) fn has_given_back(&self, dir: Ino) -> bool {
        self.own.given_back.contains(&dir) || self.staged.changes.given_back.contains(&dir)
    }

    /// What the cache of names knows, if it is fresh enough.
    pub(super) fn resolve_cached(
        &self,
        dir: Ino,
        record: &InodeRecord,
        name: &Name,
    ) -> FsResult<Option<Found>> {
        let ttl = self.shared.metadata_ttl_ms(record)?.max(RESOLVED_MS);
        let cached = self.shared.names.get(dir, name).filter(|cached| cached.is_fresh(millis(self.now), ttl));
        let Some(cached) = cached else { return Ok(None) };
        let ino = match (cached.answer, cached.asked_ms) {
            (Answer::Present(ino), _) => ino,
            (Answer::Absent, Some(asked_ms)) => return Ok(Some(Found::nothing(Vacant::Asked(asked_ms)))),
            (Answer::Absent | Answer::NoDirectory, _) => return Ok(Some(Found::nothing(Vacant::Unknown))),
        };
        let Some(inode) = self.shared.table.get(ino) else { return Ok(None) };
        let record = inode.record();
        let shadow = Shadow::of(ino, &record);
        let (target, shadow) = (Some((ino, record)), Some(shadow));
        Ok(Some(Found { target, shadow, mount_point: false, vacant: Vacant::Unknown }))
    }

    /// Writes a name without touching its place in the queue.
    pub(crate) fn put_name(&mut self, dir: Ino, name: &Name, dentry: Dentry) {
        self.own.dentries.insert((dir, name.clone()), Some(dentry));
    }

    /// Takes a name out of the queue: there is nothing to carry.
    pub(crate) fn unqueue(&mut self, dir: Ino, name: &Name) {
        self.put_key(keys::queue(dir, name), None);
    }

    /// Sees to it that a name is in the queue, in the place it has.
    pub(crate) fn requeue(&mut self, dir: Ino, name: &Name) {
        self.put_key(keys::queue(dir, name), Some(AGAIN.into()));
    }

    /// Writes a name as [`Txn::set_name`] does; it keeps its place in the queue.
    pub(crate) fn reset_name(&mut self, dir: Ino, name: &Name, dentry: Dentry) {
        self.set_name(dir, name, dentry, true);
        let queued = self.own.keys.get(&keys::queue(dir, name)).is_some_and(|value| value.is_some());
        if queued {
            self.requeue(dir, name);
        }
    }
}
