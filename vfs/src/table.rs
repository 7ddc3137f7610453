//! The table of inodes that are open, or that an operation is busy with.
//!
//! **Owns** which inodes are open at all: one [`OpenInode`] a number, shared by all who have it open, and gone with
//! the last of them. **Never does** decide anything about one: that is [`crate::opens`] and [`crate::closes`].
//!
//! **Why this shape:** mixed I/O modes on one inode give EIO and closed backing ids give EIO, so a choice of mode
//! may depend on nothing but the one entry that this table has for the inode. Who refers to an entry is counted
//! under the lock of its slice, so that an entry is neither forgotten while it is used nor kept when it is not.

use crate::open_inode::OpenInode;
use crate::types::IoMode;
use forebay_types::Ino;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Spreads the table's locks; a power of two well above the number of cores.
const TABLE_SLICES: usize = 64;
const _: () = assert!(TABLE_SLICES.is_power_of_two());

struct Slot {
    inode: Arc<OpenInode>,
    referrers: usize,
}

type Slice = Mutex<HashMap<Ino, Slot>>;

/// The inodes somebody has open or is busy with.
pub(crate) struct OpenTable {
    slices: Box<[Slice]>,
    passthrough: AtomicU64,
    passthrough_bytes: AtomicU64,
    cached: AtomicU64,
    open_now: AtomicU64,
}

impl Default for OpenTable {
    fn default() -> Self {
        let slices = (0..TABLE_SLICES).map(|_| Slice::default()).collect();
        Self {
            slices,
            passthrough: 0.into(),
            passthrough_bytes: 0.into(),
            cached: 0.into(),
            open_now: 0.into(),
        }
    }
}

/// Opens since start by mode, and what is open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenCounts {
    /// Opens answered with passthrough.
    pub passthrough: u64,
    /// Bytes of the files that these opens found wholly here.
    pub passthrough_bytes: u64,
    /// Opens answered with the cached mode.
    pub cached: u64,
    /// Handles open now.
    pub open_now: u64,
    /// Inodes that are open now, or that an operation is busy with.
    pub inodes_now: u64,
}

/// Keeps an inode in the table.
pub(crate) struct InodeRef {
    table: Arc<OpenTable>,
    inode: Arc<OpenInode>,
}

impl OpenTable {
    fn slice(&self, ino: Ino) -> &Slice {
        // The low bits of allocated numbers count up and those of derived ones are a hash: both spread.
        &self.slices[ino.0 as usize & (TABLE_SLICES - 1)]
    }

    /// The entry of `ino`, made if there is none.
    pub(crate) fn enter(self: &Arc<Self>, ino: Ino) -> InodeRef {
        let mut slice = self.slice(ino).lock();
        let slot =
            slice.entry(ino).or_insert_with(|| Slot { inode: Arc::new(OpenInode::new(ino)), referrers: 0 });
        slot.referrers += 1;
        InodeRef { table: Arc::clone(self), inode: Arc::clone(&slot.inode) }
    }

    /// The entry of `ino` if somebody refers to it.
    pub(crate) fn peek(self: &Arc<Self>, ino: Ino) -> Option<InodeRef> {
        let mut slice = self.slice(ino).lock();
        let slot = slice.get_mut(&ino)?;
        slot.referrers += 1;
        Some(InodeRef { table: Arc::clone(self), inode: Arc::clone(&slot.inode) })
    }

    /// The inodes here of which `wanted` holds.
    pub(crate) fn inos(&self, wanted: impl Fn(&OpenInode) -> bool) -> Vec<Ino> {
        let mut found = Vec::new();
        for slice in &self.slices {
            let slice = slice.lock();
            found.extend(slice.iter().filter(|(_, slot)| wanted(&slot.inode)).map(|(ino, _)| *ino));
        }
        found
    }

    fn leave(&self, ino: Ino) {
        let mut slice = self.slice(ino).lock();
        let slot = slice.get_mut(&ino).expect("an entry stays while somebody refers to it");
        slot.referrers -= 1;
        if slot.referrers == 0 {
            slice.remove(&ino);
        }
    }

    /// Takes note of a handle that was opened on a file of so many bytes.
    pub(crate) fn opened(&self, mode: &IoMode, len: u64) {
        match mode {
            IoMode::Passthrough(_) => {
                self.passthrough_bytes.fetch_add(len, Relaxed);
                self.passthrough.fetch_add(1, Relaxed)
            }
            IoMode::Cached { .. } => self.cached.fetch_add(1, Relaxed),
        };
        self.open_now.fetch_add(1, Relaxed);
    }

    /// Takes note of a handle that was closed.
    pub(crate) fn closed(&self) {
        self.open_now.fetch_sub(1, Relaxed);
    }

    pub(crate) fn counts(&self) -> OpenCounts {
        OpenCounts {
            passthrough: self.passthrough.load(Relaxed),
            passthrough_bytes: self.passthrough_bytes.load(Relaxed),
            cached: self.cached.load(Relaxed),
            open_now: self.open_now.load(Relaxed),
            inodes_now: self.slices.iter().map(|slice| slice.lock().len() as u64).sum(),
        }
    }
}

impl Clone for InodeRef {
    fn clone(&self) -> Self {
        self.table.enter(self.inode.ino)
    }
}

impl Deref for InodeRef {
    type Target = OpenInode;
    fn deref(&self) -> &OpenInode {
        &self.inode
    }
}

impl Drop for InodeRef {
    fn drop(&mut self) {
        self.table.leave(self.inode.ino);
    }
}
