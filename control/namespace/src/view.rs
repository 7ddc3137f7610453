//! Reading keys: the overlay first, the engine after, merged where a range is asked for.
//!
//! The calls block for as long as the engine does: the home and the reader threads make them, shards never.

use crate::inode::{Inode, OWN_NAMES_READ_MAX};
use crate::keys::{self, Key};
use crate::overlay::Overlay;
use crate::record::{Dentry, InodeRecord};
use forebay_meta::MetaStore;
use forebay_types::{FsErrorKind, FsResult, Ino, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key and its value.
pub(crate) type KeyValue = (Key, Arc<[u8]>);

/// The state of the log's end: what the engine has, and what it does not have yet.
pub(crate) struct View {
    pub(crate) overlay: Overlay,
    pub(crate) engine: Arc<dyn MetaStore>,
}

impl View {
    /// The value of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> FsResult<Option<Arc<[u8]>>> {
        match self.overlay.get(key) {
            Some(changed) => Ok(changed),
            None => Ok(self.engine.get(key)?.map(Arc::from)),
        }
    }

    /// The first `limit` entries with `from <= key < until`. Bounds as [`Overlay::scan`] wants them.
    pub(crate) fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> FsResult<Vec<KeyValue>> {
        let mut found = Vec::new();
        let mut from: Key = from.into();
        while found.len() < limit {
            let wanted = limit - found.len();
            // The overlay is looked at first: a change that the engine gets in between is then in both.
            let changed = self.overlay.scan(&from, until, wanted);
            let stored = self.engine.scan(&from, until, wanted)?;
            if changed.is_empty() {
                // Nothing to be merged, which is usual where little changes.
                found.extend(stored.into_iter().map(|(key, value)| (key, Arc::from(value))));
                break;
            }
            // Beyond the end of a list that was cut off nothing is known.
            let changed_end = (changed.len() == wanted).then(|| changed[wanted - 1].0.clone());
            let stored_end = (stored.len() == wanted).then(|| stored[wanted - 1].0.clone());
            let known_until = changed_end.into_iter().chain(stored_end).min();
            let mut merged: BTreeMap<Key, Option<Arc<[u8]>>> =
                stored.into_iter().map(|(key, value)| (key, Some(Arc::from(value)))).collect();
            merged.extend(changed);
            if let Some(last) = &known_until {
                merged.retain(|key, _| key <= last);
            }
            found.extend(merged.into_iter().filter_map(|(key, value)| Some((key, value?))));
            match known_until {
                Some(last) => from = [&last[..], &[0]].concat().into(),
                None => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// What `read` makes of the first `limit` entries with `from <= key < until`. Where little changes they are copied by
    /// nobody on their way to it.
    pub(crate) fn scan_as<T>(
        &self,
        (from, until): (&[u8], &[u8]),
        limit: usize,
        read: impl Fn(&[u8], &[u8]) -> FsResult<T>,
    ) -> FsResult<Vec<T>> {
        if !self.overlay.scan(from, until, 1).is_empty() {
            let found = self.scan(from, until, limit)?;
            return found.into_iter().map(|(key, value)| read(&key, &value)).collect();
        }
        let (mut entries, mut failed) = (Vec::new(), Ok(()));
        self.engine.visit(from, until, limit, &mut |key, value| match read(key, value) {
            Ok(entry) => entries.push(entry),
            Err(error) => failed = Err(error),
        })?;
        failed.map(|()| entries)
    }

    /// What `read` makes of the values of up to `limit` names of a directory after `after`, in order, whiteouts included.
    pub(crate) fn names_after<T>(
        &self,
        dir: Ino,
        after: Option<&Name>,
        limit: usize,
        read: impl Fn(&[u8]) -> FsResult<T>,
    ) -> FsResult<Vec<(Name, T)>> {
        let (first, until) = keys::of(keys::DENTRY, dir);
        let from = after.map_or(first, |name| [&keys::dentry(dir, name)[..], &[0]].concat().into());
        self.scan_as((&from, &until), limit, |key, value| {
            let (_, name) = keys::slot(key).ok_or(FsErrorKind::Corrupt)?;
            Ok((name, read(value)?))
        })
    }

    pub(crate) fn inode(&self, ino: Ino) -> FsResult<Option<InodeRecord>> {
        self.get(&keys::inode(ino))?.map(|bytes| InodeRecord::decode(&bytes)).transpose()
    }

    pub(crate) fn dentry(&self, dir: Ino, name: &Name) -> FsResult<Option<Dentry>> {
        self.get(&keys::dentry(dir, name))?.map(|bytes| Dentry::decode(&bytes)).transpose()
    }

    /// Reads which names and whiteouts of its own a directory has, if nobody did, so that from then on the engine need
    /// not be asked for a name that is not among them.
    pub(crate) fn learn_own_names(&self, dir: &Inode) -> FsResult<()> {
        if !dir.begin_own_names() {
            return Ok(());
        }
        let (from, until) = keys::of(keys::DENTRY, dir.ino);
        let page = self.scan(&from, &until, OWN_NAMES_READ_MAX);
        let names = page.as_ref().ok().filter(|page| page.len() < OWN_NAMES_READ_MAX);
        let slots: Option<Vec<_>> =
            names.map(|page| page.iter().filter_map(|(key, _)| keys::slot(key)).collect());
        dir.learn_own_names(slots.as_ref().map(|slots| slots.iter().map(|(_, name)| name)));
        page.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_meta::{Batch, LmdbOptions, LmdbStore};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// A scan over both sees what a scan over one store with the same changes would.
        #[test]
        fn a_scan_merges(
            stored in prop::collection::btree_map(0_u8..60, any::<u8>(), 0..40),
            changed in prop::collection::btree_map(0_u8..60, prop::option::of(any::<u8>()), 0..40),
            from in 0_u8..60, limit in 1_usize..20,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let engine = LmdbStore::open(dir.path(), &LmdbOptions::default()).unwrap();
            let name = |n: u8| keys::dentry(Ino(4), &Name::new([b'a', n + 100]).unwrap());
            let mut batch = Batch::new();
            let mut expected = BTreeMap::new();
            for (n, value) in &stored {
                batch.put(name(*n), [*value]);
                expected.insert(name(*n), *value);
            }
            engine.commit(&batch).unwrap();
            let view = View { overlay: Overlay::default(), engine: Arc::new(engine) };
            for (n, value) in &changed {
                view.overlay.set(name(*n), value.map(|value| [value].into()), 1);
                match value {
                    Some(value) => expected.insert(name(*n), *value),
                    None => expected.remove(&name(*n)),
                };
            }
            let (_, until) = keys::of(keys::DENTRY, Ino(4));
            let found = view.scan(&name(from), &until, limit).unwrap();
            let found: Vec<_> = found.into_iter().map(|(key, value)| (key, value[0])).collect();
            let read = |key: &[u8], value: &[u8]| Ok((Key::from(key), value[0]));
            assert_eq!(view.scan_as((&name(from), &until), limit, read).unwrap(), found);
            let wanted: Vec<_> = expected.range(name(from)..).take(limit).map(|(k, v)| (k.clone(), *v)).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
