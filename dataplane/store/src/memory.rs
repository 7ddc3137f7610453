//! Reads of what is in memory, which wait for nothing.
//!
//! **Owns** the plain call that serves such a read where it arrives, and the mark that tells whether it is worth trying.
//! **Never does** wait: what is not all in the page cache is read by [`Extent::read`].
//!
//! **Why this shape:** a read of 4 KiB that is in memory takes less time than the future that could wait for one.

use crate::extent::Extent;
use forebay_shard::Frame;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Extent {
    /// As [`Extent::read`], if every byte of the frame's length is here and in memory. Else the frame comes back, of any
    /// length. Tried in vain once, it is not tried again until a read has found its bytes in memory.
    ///
    /// # Errors
    /// The frame, for all that takes waiting or may fail.
    pub fn read_now(self: &Arc<Self>, mut frame: Frame, offset: u64) -> Result<Frame, Frame> {
        let len = frame.len();
        let end = offset.saturating_add(len as u64);
        let punches = self.punches.load(Ordering::Acquire);
        let tried_in_vain = self.beyond_memory.load(Ordering::Relaxed);
        if tried_in_vain || !self.is_resident(offset..end) || self.direct_for_read(&frame, offset).is_some() {
            return Err(frame);
        }
        let Some(done) = self.read_open(&mut frame, offset) else { return Err(frame) };
        self.note_memory(done == len);
        if done < len || self.punches.load(Ordering::Acquire) != punches {
            return Err(frame);
        }
        self.touch(offset);
        self.mark_used();
        Ok(frame)
    }

    /// Reads what the page cache has, if the file is open: its own one, or the segment it is packed in. No count that others
    /// change too is touched: many read one file at once.
    fn read_open(&self, frame: &mut Frame, offset: u64) -> Option<usize> {
        let packed = self.packed.load();
        let Some(packed) = packed.as_ref() else {
            return Some(self.file.peek().as_ref()?.read_now_at(frame, offset));
        };
        // What follows in the segment is another file.
        let fits = offset.saturating_add(frame.len() as u64) <= self.len();
        let is_ours = fits && !self.needs_verify();
        is_ours.then(|| packed.segment.file.read_now_at(frame, packed.data_at + offset))
    }

    /// Whether the last read found all its bytes in memory.
    pub(crate) fn note_memory(&self, all: bool) {
        if self.beyond_memory.load(Ordering::Relaxed) == all {
            self.beyond_memory.store(!all, Ordering::Relaxed);
        }
    }
}
