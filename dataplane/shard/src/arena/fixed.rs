//! [`FixedFrame`]: a frame whose address somebody outside knows, lent out again and again.
//!
//! A kernel driver that was told where a buffer is writes there each time. What it wrote is handed on as a
//! [`Frame`] like any other; when that one is dropped, on whatever thread, the memory is back here and the driver may
//! write again. So bytes go on without a copy, and nobody can overwrite a frame that is still in use.

use super::{Arena, Block, Frame};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Acquire, Release},
};
use tokio::sync::Notify;

/// What a lent frame reports back to. The block returns to the arena with the last of both.
#[derive(Debug)]
pub(super) struct Home {
    arena: Arena,
    block: Block,
    out: AtomicBool,
    back: Notify,
}

impl Home {
    /// Called by the lent frame when it is dropped.
    pub(super) fn take_back(&self) {
        self.out.store(false, Release);
        self.back.notify_one();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.arena.give_back(self.block);
    }
}

/// A frame at an address that stays, lent to one borrower at a time.
#[derive(Debug)]
pub struct FixedFrame(Arc<Home>);

impl FixedFrame {
    /// Keeps `frame` where it is.
    pub fn new(frame: Frame) -> Self {
        let (arena, block) = frame.into_parts();
        Self(Arc::new(Home { arena, block, out: AtomicBool::new(false), back: Notify::new() }))
    }

    /// The first byte, for a driver to write to.
    pub fn address(&self) -> *mut u8 {
        self.0.arena.address(self.0.block.offset)
    }

    /// The bytes that it has.
    pub fn capacity(&self) -> usize {
        self.0.block.len()
    }

    /// The first `len` bytes as a frame; `None` while it is lent already.
    ///
    /// # Panics
    /// If `len` is above the capacity.
    pub fn lend(&self, len: usize) -> Option<Frame> {
        let taken = self.0.out.swap(true, AcqRel);
        (!taken).then(|| Frame::lent(self.0.arena, self.0.block, len, Arc::clone(&self.0)))
    }

    /// Whether `frame` is this one, lent.
    pub fn is_lent_as(&self, frame: &Frame) -> bool {
        frame.home().is_some_and(|home| Arc::ptr_eq(home, &self.0))
    }

    /// Whether it is lent now.
    pub fn is_out(&self) -> bool {
        self.0.out.load(Acquire)
    }

    /// Ready when what was lent is back.
    pub async fn back(&self) {
        while self.is_out() {
            // A note that was left before this wait makes it end at once: none is missed.
            self.0.back.notified().await;
        }
    }
}
