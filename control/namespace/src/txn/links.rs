//! The names an inode has, and those in a directory.

use super::Txn;
use crate::inode::OwnNames;
use crate::keys::{self, Key};
use crate::record::{Dentry, InodeRecord, Slot};
use forebay_types::{FileKind, FsResult, Ino};
use std::collections::BTreeMap;

impl Txn<'_> {
    /// All names of an inode, the first one first.
    pub(crate) fn names_of(&self, ino: Ino, record: &InodeRecord) -> FsResult<Vec<Slot>> {
        let mut names: Vec<Slot> = record.at.iter().cloned().collect();
        if record.nlink > 1 && record.kind != FileKind::Directory {
            names.extend(self.further_names(ino)?);
        }
        Ok(names)
    }

    /// The further names of an inode.
    pub(crate) fn further_names(&self, ino: Ino) -> FsResult<Vec<Slot>> {
        let links = self.links(ino)?;
        Ok(links.into_iter().filter(|(_, lost)| !lost).map(|(slot, _)| slot).collect())
    }

    /// All names under which the UFS may have an inode's content: those it has, and those it has lost and that
    /// are still to be taken away there. The record may be gone.
    pub(crate) fn names_in_ufs(&self, ino: Ino) -> FsResult<Vec<Slot>> {
        let record = if self.is_stored(ino)? { Some(self.inode(ino)?) } else { None };
        let own = record.iter().flat_map(|record| record.at.iter().chain(&record.left).cloned());
        let links = self.links(ino)?.into_iter().map(|(slot, _)| slot);
        let mut names: Vec<Slot> = own.chain(links).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The names in the keys of an inode's links, and whether each is lost.
    pub(super) fn links(&self, ino: Ino) -> FsResult<Vec<(Slot, bool)>> {
        let (from, until) = keys::of(keys::LINK, ino);
        let stored = self.engine()?.scan(&from, &until, usize::MAX)?;
        let mut merged: BTreeMap<Key, Option<bool>> =
            stored.into_iter().map(|(key, value)| (key, Some(!value.is_empty()))).collect();
        for layer in [&self.staged.changes.keys, &self.own.keys] {
            let changed = layer.range(from.clone()..until.clone());
            merged.extend(changed.map(|(key, value)| (key.clone(), value.as_ref().map(|v| !v.is_empty()))));
        }
        let present = merged.into_iter().filter_map(|(key, lost)| Some((keys::link_slot(&key)?, lost?)));
        Ok(present.collect())
    }

    /// Whether a directory has any name of its own, whiteouts aside.
    pub(crate) fn has_own_names(&self, dir: Ino) -> FsResult<bool> {
        Ok(self.find_name(dir, |dentry| dentry.target.is_some())?.is_some())
    }

    /// A name in a directory, whiteouts included, of which `wanted` holds.
    pub(crate) fn find_name(&self, dir: Ino, wanted: impl Fn(&Dentry) -> bool) -> FsResult<Option<Slot>> {
        let mut found = None;
        self.each_name(dir, |slot, dentry| {
            let hit = wanted(dentry);
            if hit {
                found = Some(slot.clone());
            }
            Ok(!hit)
        })?;
        Ok(found)
    }

    /// Shows `visit` the names of a directory, whiteouts included, until it says that it has seen enough.
    pub(crate) fn each_name(
        &self,
        dir: Ino,
        mut visit: impl FnMut(&Slot, &Dentry) -> FsResult<bool>,
    ) -> FsResult<()> {
        let mut changed: BTreeMap<Slot, Option<Dentry>> = BTreeMap::new();
        for layer in [&self.staged.changes.dentries, &self.own.dentries] {
            let of_dir = layer.iter().filter(|((of, _), _)| *of == dir);
            changed.extend(of_dir.map(|(slot, dentry)| (slot.clone(), dentry.clone())));
        }
        for (slot, dentry) in &changed {
            if let Some(dentry) = dentry
                && !visit(slot, dentry)?
            {
                return Ok(());
            }
        }
        if self.shared.table.get(dir).is_some_and(|dir| dir.own_names() == OwnNames::None) {
            return Ok(());
        }
        let (mut from, until) = keys::of(keys::DENTRY, dir);
        loop {
            let page = self.engine()?.scan(&from, &until, 256)?;
            for (key, value) in &page {
                let slot = keys::slot(key).filter(|slot| !changed.contains_key(slot));
                if let Some(slot) = slot
                    && !visit(&slot, &Dentry::decode(value)?)?
                {
                    return Ok(());
                }
            }
            match page.last() {
                Some((last, _)) => from = [&last[..], &[0]].concat().into(),
                None => return Ok(()),
            }
        }
    }
}
