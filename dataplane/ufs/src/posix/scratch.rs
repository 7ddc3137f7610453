//! The buffers between `pread` and the callers' memory, which a blocking thread cannot borrow.
//!
//! **Owns** the buffers that are kept for the next read, and the count of the bytes of all there are. One stock serves all
//! directories of the process: the reads under way at one time are bounded over all of them, so what is kept does not grow
//! with their number.

use forebay_types::ByteSize;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buffers longer than this are not kept for the next read.
const LEN_MAX: usize = 4 << 20;
/// The most buffers that are kept: as many as there are ranged reads at one time, by default.
const KEPT_MAX: usize = 32;

static STOCK: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static BYTES: AtomicU64 = AtomicU64::new(0);

/// A buffer; it goes back to the stock when it is dropped, on whichever thread.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    /// One of `len` bytes, of unspecified content.
    pub(super) fn of(len: usize) -> Self {
        let mut buffer = STOCK.lock().pop().unwrap_or_default();
        let before = buffer.capacity();
        buffer.resize(len, 0);
        BYTES.fetch_add((buffer.capacity() - before) as u64, Relaxed);
        Self(buffer)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut stock = STOCK.lock();
        if self.0.capacity() <= LEN_MAX && stock.len() < KEPT_MAX {
            stock.push(std::mem::take(&mut self.0));
        } else {
            BYTES.fetch_sub(self.0.capacity() as u64, Relaxed);
        }
    }
}

/// The memory of all buffers, in use and kept.
pub fn scratch_memory() -> ByteSize {
    ByteSize::bytes(BYTES.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of the process use the same stock, so only what must hold for all of them is looked at.
    #[test]
    fn buffers_are_as_long_as_asked_and_what_is_too_long_is_not_kept() {
        let short = Scratch::of(4096);
        assert_eq!(short.bytes().len(), 4096);
        drop(short);
        let mut long = Scratch::of(2 * LEN_MAX);
        assert_eq!(long.bytes_mut().len(), 2 * LEN_MAX);
        assert!(scratch_memory().as_u64() >= 2 * LEN_MAX as u64);
        drop(long);
        assert!(STOCK.lock().iter().all(|kept| kept.capacity() <= LEN_MAX));
        assert!(STOCK.lock().len() <= KEPT_MAX);
    }
}
