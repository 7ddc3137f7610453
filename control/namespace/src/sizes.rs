//! How large the tables in memory are, and about how much memory an entry of each takes.
//!
//! **Owns** the weights by which a number of entries is turned into bytes and back. A weight is made from the sizes that
//! the compiler knows and from what an entry usually keeps on the heap (a name, a version, a key), so that it stays right
//! when a structure grows. It is no measurement: names of 255 bytes weigh more than it says.

use crate::images;
use crate::inode::Inode;
use crate::names;
use crate::persist::queue;
use crate::record::InodeRecord;
use crate::{Namespace, shared::Shared};
use forebay_types::{ByteSize, Ino};

/// What the allocator adds to a piece of memory.
const PIECE: usize = 16;
/// The counts in front of what is shared.
const COUNTS: usize = 16;
/// A name of usual length, as its own piece.
const NAME: usize = 24 + PIECE;
/// What the under file system calls a version, as its own piece.
const VERSION: usize = 40 + PIECE;

/// What a place in a hash table costs where it is three quarters full on the way from half to seven eighths.
const fn in_hash_table(entry: usize) -> usize {
    (entry + 1) * 4 / 3
}

/// An inode in the table, its record, its places among all inodes and among those that may be forgotten, and its share of
/// the images of directories.
pub const INODE_WEIGHT: ByteSize = ByteSize::bytes(
    (size_of::<Inode>()
        + COUNTS
        + PIECE
        + size_of::<InodeRecord>()
        + COUNTS
        + PIECE
        + NAME
        + VERSION
        + in_hash_table(2 * size_of::<u64>())
        + 2 * size_of::<u64>()
        + images::ENTRY_LEN / images::INODES_SHARE) as u64,
);
/// A name in the cache of names.
pub const NAME_WEIGHT: ByteSize = ByteSize::bytes((in_hash_table(names::ENTRY_LEN) + NAME) as u64);
/// A name that waits to be carried: its place in the queue, and two in the orders of what is due.
pub const QUEUED_WEIGHT: ByteSize = ByteSize::bytes(3 * (queue::ENTRY_LEN + NAME) as u64);
/// How often a changed key and its value are in memory while they wait for the engine: in the queue before it, in the
/// overlay that reads consult, and in the pages of the engine's transaction.
pub const CHANGE_COPIES: u64 = 3;

/// Sizes of the tables in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Inodes.
    pub inodes: usize,
    /// Names.
    pub names: usize,
    /// Changed keys that the engine does not have yet.
    pub overlay: usize,
    /// Their bytes, values included.
    pub changed: ByteSize,
    /// Names that wait to be carried.
    pub queued: usize,
}

impl Namespace {
    /// How many inodes are above what is to be in memory, with some to spare; 0 if there are no more than that.
    pub fn inode_surplus(&self) -> usize {
        self.shared.table.surplus()
    }

    /// Up to `count` inodes that only the kernel's lookups keep in memory.
    pub fn only_looked_up(&self, count: usize) -> Vec<Ino> {
        self.shared.table.only_looked_up(count)
    }

    /// How many of these inodes the kernel has looked up and not given back.
    pub fn still_looked_up(&self, inodes: &[Ino]) -> usize {
        let table = &self.shared.table;
        inodes.iter().filter(|ino| table.get(**ino).is_some_and(|inode| inode.is_only_looked_up())).count()
    }

    /// How large the tables in memory are.
    pub fn table_sizes(&self) -> TableSizes {
        let Shared { table, names, view, queue, .. } = &*self.shared;
        TableSizes {
            inodes: table.len(),
            names: names.len(),
            overlay: view.overlay.len(),
            changed: ByteSize::bytes(self.committer.waiting_bytes() as u64),
            queued: queue.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `docs/CLI.md` tells of them; a structure that grows much is to be noticed.
    #[test]
    fn the_weights_are_what_the_documents_say() {
        assert!((500..900).contains(&INODE_WEIGHT.as_u64()), "{INODE_WEIGHT}");
        assert!((80..200).contains(&NAME_WEIGHT.as_u64()), "{NAME_WEIGHT}");
        assert!((200..800).contains(&QUEUED_WEIGHT.as_u64()), "{QUEUED_WEIGHT}");
    }
}
