//! What the log has and the engine does not have yet.
//!
//! **Owns** the newest value of every key that was changed since the engine's last commit, readable from any
//! core. Reads consult it first and the engine after: an entry leaves only once the engine has it, so the two
//! in that order never miss a change.
//!
//! **Why this shape:** split by what stands at the front of a key (a directory, an inode), so that the names
//! of one directory are in one slice and can be scanned in order, and different directories do not share a
//! lock.

use crate::keys::Key;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A new value; `None`: the key is taken away.
pub(crate) type Value = Option<Arc<[u8]>>;

/// Spreads the locks; well above the number of cores that read at one time.
const SLICES: usize = 64;
/// Tag and number: what decides the slice.
const FRONT_LEN: usize = 9;

#[derive(Clone)]
struct Entry {
    seq: u64,
    value: Value,
}

/// Changed keys and their newest values.
pub(crate) struct Overlay {
    slices: Box<[RwLock<BTreeMap<Key, Entry>>]>,
}

impl Default for Overlay {
    fn default() -> Self {
        Self { slices: (0..SLICES).map(|_| RwLock::default()).collect() }
    }
}

impl Overlay {
    fn slice(&self, key: &[u8]) -> &RwLock<BTreeMap<Key, Entry>> {
        let front = &key[..key.len().min(FRONT_LEN)];
        &self.slices[xxhash_rust::xxh3::xxh3_64(front) as usize % SLICES]
    }

    /// Records a change; `seq` is the number of its log record.
    pub(crate) fn set(&self, key: Key, value: Value, seq: u64) {
        self.slice(&key).write().insert(key, Entry { seq, value });
    }

    /// What was changed at `key`: `None` if nothing was, `Some(None)` if it was taken away.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Value> {
        self.slice(key).read().get(key).map(|entry| entry.value.clone())
    }

    /// The first `limit` changes with `from <= key < until`. Both must share tag and number, or `until` be
    /// the end of that range.
    pub(crate) fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Vec<(Key, Value)> {
        let slice = self.slice(from).read();
        let range = slice.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until)));
        range.take(limit).map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
    }

    /// Lets go of changes that the engine has, unless they were changed again.
    pub(crate) fn committed<'a>(&self, keys: impl Iterator<Item = &'a [u8]>, seq: u64) {
        for key in keys {
            let mut slice = self.slice(key).write();
            if slice.get(key).is_some_and(|entry| entry.seq <= seq) {
                slice.remove(key);
            }
        }
    }

    /// The number of changes held.
    pub(crate) fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.read().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use forebay_types::{Ino, Name};

    fn value(byte: u8) -> Value {
        Some([byte].into())
    }

    #[test]
    fn a_key_changed_again_stays() {
        let overlay = Overlay::default();
        let key = keys::inode(Ino(5));
        overlay.set(key.clone(), value(1), 10);
        overlay.set(key.clone(), value(2), 12);
        overlay.committed([&*key].into_iter(), 11);
        assert_eq!(overlay.get(&key), Some(value(2)));
        overlay.committed([&*key].into_iter(), 12);
        assert_eq!(overlay.get(&key), None);
        assert_eq!(overlay.len(), 0);
    }

    #[test]
    fn a_directory_scans_in_order() {
        let overlay = Overlay::default();
        let name = |n: u8| Name::new([n]).unwrap();
        for n in [9, 3, 7, 5] {
            overlay.set(keys::dentry(Ino(1), &name(n)), value(n), 1);
            overlay.set(keys::dentry(Ino(2), &name(n)), None, 1);
        }
        let (_, until) = keys::of(keys::DENTRY, Ino(1));
        let found = overlay.scan(&keys::dentry(Ino(1), &name(4)), &until, 2);
        assert_eq!(
            found,
            [(keys::dentry(Ino(1), &name(5)), value(5)), (keys::dentry(Ino(1), &name(7)), value(7))]
        );
    }
}
