//! [`Frame`]: one block of the arena, owned.

use super::fixed::Home;
use super::{Arena, Block, REGISTERED_LEN_MAX};
use std::{
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// A piece of registered memory, aligned to 4 KiB. It goes back to its arena when dropped, on any thread.
///
/// Fresh frames hold what the last owner left in them: write before you read.
pub struct Frame {
    arena: Arena,
    block: Block,
    len: usize,
    /// Whom the block goes back to, if not to the arena.
    home: Option<Arc<Home>>,
}

impl Frame {
    pub(super) fn new(arena: Arena, block: Block, len: usize) -> Self {
        assert!(len <= block.len(), "a frame is no longer than its block");
        Self { arena, block, len, home: None }
    }

    /// A frame on a block that belongs to `home`, which lends it to nobody else meanwhile.
    pub(super) fn lent(arena: Arena, block: Block, len: usize, home: Arc<Home>) -> Self {
        assert!(len <= block.len(), "a frame is no longer than its block");
        Self { arena, block, len, home: Some(home) }
    }

    /// Gives the block up without giving it back.
    ///
    /// # Panics
    /// If the frame is lent: its block belongs to somebody.
    pub(super) fn into_parts(self) -> (Arena, Block) {
        assert!(self.home.is_none(), "a lent frame cannot be kept");
        let this = ManuallyDrop::new(self);
        (this.arena, this.block)
    }

    /// The bytes in use: what was asked for, or less after [`Self::truncate`].
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes that the block has: a power of two, at least [`Self::len`].
    pub fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Keeps the first `len` bytes in use. Longer than the present length: no effect.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Sets the number of bytes in use, up to the capacity. Bytes that come into use are unspecified.
    ///
    /// # Panics
    /// If `len` is above the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "a frame of {} bytes cannot hold {len}", self.capacity());
        self.len = len;
    }

    /// Whom it is lent by, if it is.
    pub(super) fn home(&self) -> Option<&Arc<Home>> {
        self.home.as_ref()
    }

    /// The arena it belongs to.
    pub(crate) fn arena(&self) -> Arena {
        self.arena
    }

    /// The first byte, for the kernel.
    pub(crate) fn address(&self) -> *mut u8 {
        self.arena.address(self.block.offset)
    }

    /// The index of the registered buffer that it lies in.
    pub(crate) fn registered_index(&self) -> u16 {
        (self.block.offset / REGISTERED_LEN_MAX) as u16
    }
}

impl Deref for Frame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the block belongs to this frame alone until it is dropped, its memory is mapped and was
        // written by the prefault, and `len` is within it.
        unsafe { std::slice::from_raw_parts(self.address(), self.len) }
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow of the frame is one of its memory.
        unsafe { std::slice::from_raw_parts_mut(self.address(), self.len) }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        match self.home.take() {
            Some(home) => home.take_back(),
            None => self.arena.give_back(self.block),
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} of {} bytes)", self.len, self.capacity())
    }
}
