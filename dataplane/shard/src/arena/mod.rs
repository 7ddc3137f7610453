//! The arena: all memory that data passes through, allocated and prefaulted once, registered on every ring.
//!
//! **Owns** the mapping ([`memory`]), the book of what is taken ([`blocks`]), the queue of those who wait for
//! a frame ([`waiters`]), and [`Frame`], the only way to touch the memory ([`FixedFrame`] for memory that a driver
//! was told of).
//!
//! **Never does** grow: what an arena holds was decided at start, and who finds it exhausted waits, with a
//! deadline, in order. It never lets a waiting task be overtaken by a later one.
//!
//! **Why this shape:** an arena lives as long as the process, in practice. A frame therefore points at it
//! without counting references: one shared counter would be written by all cores for every request. When the
//! shards stop, the memory is unmapped if no frame is out, and kept if one is.

mod blocks;
mod fixed;
mod frame;
mod memory;
mod waiters;

pub use fixed::FixedFrame;
pub use frame::Frame;
pub use memory::Backing;

use crate::error::ArenaError;
use blocks::{BLOCK_LEN_MAX, BLOCK_LEN_MIN, Block, Blocks, class_for};
use forebay_types::ByteSize;
use memory::{GRANULE_LEN, Memory};
use parking_lot::RwLock;
use std::{fmt, io, time::Duration};
use waiters::Waiters;

/// The smallest frame in bytes: one page.
pub const FRAME_LEN_MIN: usize = BLOCK_LEN_MIN;
/// The largest frame in bytes: one cache page of the largest size.
pub const FRAME_LEN_MAX: usize = BLOCK_LEN_MAX;

/// The most that one registered buffer may span (`SZ_1G` in io_uring/rsrc.c): a larger arena is registered
/// in pieces, and no frame lies across two.
pub(crate) const REGISTERED_LEN_MAX: usize = 1 << 30;

const _: () = assert!(REGISTERED_LEN_MAX.is_multiple_of(FRAME_LEN_MAX));
const _: () = assert!(FRAME_LEN_MAX as u64 == forebay_types::PageSize::MAX.as_u64());

/// A cheap handle to an arena; usable on any thread.
#[derive(Clone, Copy)]
pub struct Arena(&'static Shared);

struct Shared {
    memory: Memory,
    blocks: Blocks,
    waiters: Waiters,
    wait_max: Duration,
}

/// The arenas of the shards that run, oldest first: [`arena`] answers with the newest on a foreign thread.
static LIVE: RwLock<Vec<Arena>> = RwLock::new(Vec::new());

/// The arena of this thread's shards; on a foreign thread that of the shards started last.
///
/// # Panics
/// If no shards run: whoever handles data is started after them.
pub fn arena() -> Arena {
    crate::core::with(|core| core.arena)
        .or_else(|| LIVE.read().last().copied())
        .expect("Shards::start comes before the first frame")
}

impl Arena {
    /// Maps and prefaults an arena. `len` is cut to whole granules of 2 MiB.
    pub(crate) fn new(len: ByteSize, queue_len: usize, wait_max: Duration) -> io::Result<Self> {
        let whole = len.as_usize() / GRANULE_LEN * GRANULE_LEN;
        let memory = Memory::map(whole)?;
        let blocks = Blocks::new(whole);
        // The few hundred bytes of the book are leaked on purpose: frames point here without a count.
        let shared =
            Box::leak(Box::new(Shared { memory, blocks, waiters: Waiters::new(queue_len), wait_max }));
        Ok(Self(shared))
    }

    /// Makes this the arena that [`arena`] answers with on foreign threads.
    pub(crate) fn publish(self) {
        LIVE.write().push(self);
    }

    /// Takes the arena out of use and unmaps it, unless a frame is out: then its memory is kept for good.
    pub(crate) fn retire(self) {
        LIVE.write().retain(|live| !self.is(*live));
        if self.0.blocks.retire() {
            self.0.memory.unmap();
        } else {
            tracing::warn!(in_use = %self.in_use(), "the arena stays mapped: frames are still held after the stop");
        }
    }

    /// A frame of `len` bytes, 1 to [`FRAME_LEN_MAX`]. Its contents are unspecified. Waits its turn when the
    /// arena is exhausted.
    ///
    /// # Errors
    /// [`ArenaError::Exhausted`] after `frame_wait`; [`ArenaError::QueueFull`] at once when too many wait.
    pub async fn frame(&self, len: usize) -> Result<Frame, ArenaError> {
        let class = class_for(len).ok_or(ArenaError::BadLength { len })?;
        if let Some(frame) = self.try_frame(len) {
            return Ok(frame);
        }
        let waited = self.0.wait_max;
        let turn = crate::timeout(waited, waiters::Turn::new(*self, class)).await;
        let block = turn.map_err(|_| ArenaError::Exhausted { len, waited })?.ok_or(ArenaError::QueueFull)?;
        Ok(Frame::new(*self, block, len))
    }

    /// A frame of `len` bytes if there is one now and nobody waits for one. Its contents are unspecified.
    pub fn try_frame(&self, len: usize) -> Option<Frame> {
        let class = class_for(len)?;
        if self.0.waiters.any() {
            return None;
        }
        self.0.blocks.take(class).map(|block| Frame::new(*self, block, len))
    }

    /// The bytes that frames hold now, by their capacity.
    pub fn in_use(&self) -> ByteSize {
        ByteSize::bytes(self.0.blocks.in_use() as u64)
    }

    /// The size of the arena.
    pub fn size(&self) -> ByteSize {
        ByteSize::bytes(self.0.memory.len() as u64)
    }

    /// The kind of pages it is made of.
    pub fn backing(&self) -> Backing {
        self.0.memory.backing()
    }

    /// How many tasks wait for a frame now.
    pub fn waiting(&self) -> usize {
        self.0.waiters.len()
    }

    /// Whether both are the same arena.
    pub(crate) fn is(self, other: Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }

    /// The pieces to register on a ring as fixed buffers: index `i` begins at `i * REGISTERED_LEN_MAX`.
    pub(crate) fn pieces(self) -> Vec<(*mut u8, usize)> {
        let len = self.0.memory.len();
        let piece = |start: usize| (self.address(start), (len - start).min(REGISTERED_LEN_MAX));
        (0..len).step_by(REGISTERED_LEN_MAX).map(piece).collect()
    }

    fn address(self, offset: usize) -> *mut u8 {
        assert!(offset < self.0.memory.len(), "a block lies inside its arena");
        // SAFETY: the offset is within the mapping, by the line above.
        unsafe { self.0.memory.base().as_ptr().add(offset) }
    }

    fn give_back(self, block: Block) {
        self.0.blocks.give_back(block);
        self.0.waiters.wake_front();
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} of {})", self.in_use(), self.size())
    }
}
