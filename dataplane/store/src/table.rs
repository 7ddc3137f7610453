//! The index of extents: by id and by content key, in parts with a lock each.

use crate::extent::{Extent, Origin};
use crate::residency::Pages;
use forebay_types::{ByteSize, ContentKey, ExtentId};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;

/// The counts in front of what is shared, and what the allocator adds to a piece of memory.
const PIECE: usize = 32;
/// An entry of a hash table of so many bytes where the table is three quarters full.
const fn in_hash_table(entry: usize) -> usize {
    (entry + 1) * 4 / 3
}

/// About the memory that an extent takes: itself with what it has of its content, its places in the index by id and by
/// one key, and its place in the order of eviction. The bits and checksums of long files come on top: some 5 bytes a page.
pub const EXTENT_WEIGHT: ByteSize = ByteSize::bytes(
    (size_of::<Extent>()
        + size_of::<Origin>()
        + size_of::<Pages>()
        + size_of::<ContentKey>()
        + 4 * PIECE
        + in_hash_table(size_of::<(ExtentId, Arc<Extent>)>())
        + in_hash_table(size_of::<(ContentKey, ExtentId)>())
        + EVICTION_UNIT) as u64,
);
/// A unit in the order of eviction: an entry of its table, and its node in the queue.
const EVICTION_UNIT: usize = in_hash_table(40) + 16;

type Parts<K, V> = Box<[RwLock<HashMap<K, V>>]>;

#[derive(Debug)]
pub(crate) struct Table {
    ids: Parts<ExtentId, Arc<Extent>>,
    keys: Parts<ContentKey, ExtentId>,
}

fn parts<K, V>() -> Parts<K, V> {
    (0..Table::PARTS).map(|_| RwLock::new(HashMap::new())).collect()
}

impl Table {
    /// More parts than cores, so that two cores seldom meet.
    pub(crate) const PARTS: usize = 64;

    pub(crate) fn new() -> Self {
        Self { ids: parts(), keys: parts() }
    }

    fn id_part(&self, id: ExtentId) -> &RwLock<HashMap<ExtentId, Arc<Extent>>> {
        &self.ids[id.0 as usize % Self::PARTS]
    }

    fn key_part(&self, key: ContentKey) -> &RwLock<HashMap<ContentKey, ExtentId>> {
        &self.keys[key.0 as usize % Self::PARTS]
    }

    pub(crate) fn get(&self, id: ExtentId) -> Option<Arc<Extent>> {
        self.id_part(id).read().get(&id).cloned()
    }

    pub(crate) fn find(&self, key: ContentKey) -> Option<Arc<Extent>> {
        let id = *self.key_part(key).read().get(&key)?;
        self.get(id)
    }

    pub(crate) fn insert(&self, extent: &Arc<Extent>) {
        self.id_part(extent.id()).write().insert(extent.id(), Arc::clone(extent));
        extent.tier().opened.enter(extent);
    }

    /// Takes an extent out, with its keys.
    pub(crate) fn remove(&self, extent: &Extent) {
        for key in extent.keys() {
            self.unbind(key, extent.id());
        }
        self.id_part(extent.id()).write().remove(&extent.id());
    }

    /// Points `key` at `id`; gives back what it pointed at.
    pub(crate) fn bind(&self, key: ContentKey, id: ExtentId) -> Option<ExtentId> {
        self.key_part(key).write().insert(key, id)
    }

    /// Points `key` at `id` unless it points somewhere already, and says where it points now.
    pub(crate) fn bind_new(&self, key: ContentKey, id: ExtentId) -> ExtentId {
        *self.key_part(key).write().entry(key).or_insert(id)
    }

    /// Takes `key` away if it points at `id`.
    pub(crate) fn unbind(&self, key: ContentKey, id: ExtentId) {
        let mut part = self.key_part(key).write();
        if part.get(&key) == Some(&id) {
            part.remove(&key);
        }
    }

    /// All extents at some moment of the call.
    pub(crate) fn all(&self) -> Vec<Arc<Extent>> {
        self.ids.iter().flat_map(|part| part.read().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// The extents of one of the [`Table::PARTS`] parts.
    pub(crate) fn ids_of_part(&self, part: usize) -> Vec<ExtentId> {
        self.ids[part].read().keys().copied().collect()
    }

    /// How many extents there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.iter().map(|part| part.read().len()).sum()
    }
}
