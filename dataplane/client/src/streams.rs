//! The streams of all inodes that are being read: a bounded table.

use crate::readahead::{Ahead, ReadAheadConfig, ReadAheadCounters, Streams};
use forebay_types::Ino;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Spreads the locks; a power of two above the number of cores.
const SLICES: usize = 64;
/// Inodes in one slice. A reader that was forgotten begins again with a small window, so too few costs a little
/// speed and nothing else.
const SLICE_LEN: usize = 64;
const _: () = assert!(SLICES.is_power_of_two());

#[derive(Default)]
struct Slice {
    inodes: HashMap<Ino, (Streams, u64)>,
    clock: u64,
}

pub(crate) struct StreamTable {
    config: ReadAheadConfig,
    slices: Box<[Mutex<Slice>]>,
    asked: AtomicU64,
    started_bytes: AtomicU64,
    shrunk: AtomicU64,
}

impl StreamTable {
    pub(crate) fn new(config: ReadAheadConfig) -> Self {
        let slices = (0..SLICES).map(|_| Mutex::default()).collect();
        Self { config, slices, asked: 0.into(), started_bytes: 0.into(), shrunk: 0.into() }
    }

    fn slice(&self, ino: Ino) -> &Mutex<Slice> {
        &self.slices[ino.0 as usize & (SLICES - 1)]
    }

    /// Takes note of a read; says what to fetch ahead of it.
    pub(crate) fn on_read(&self, ino: Ino, read: Range<u64>, file_len: u64) -> Option<Ahead> {
        if read.start == 0 && read.end >= file_len {
            return None;
        }
        let mut slice = self.slice(ino).lock();
        slice.clock += 1;
        let now = slice.clock;
        if slice.inodes.len() >= SLICE_LEN && !slice.inodes.contains_key(&ino) {
            slice.forget_oldest();
        }
        let (streams, used_at) = slice.inodes.entry(ino).or_default();
        *used_at = now;
        let ask = streams.on_read(read, file_len, &self.config)?;
        self.asked.fetch_add(1, Relaxed);
        Some(ask)
    }

    /// Takes note of how a request to fetch ahead went.
    pub(crate) fn on_answer(&self, ino: Ino, range: &Range<u64>, started: u64, covered_to: u64) {
        self.started_bytes.fetch_add(started, Relaxed);
        if covered_to >= range.end {
            return;
        }
        self.shrunk.fetch_add(1, Relaxed);
        if let Some((streams, _)) = self.slice(ino).lock().inodes.get_mut(&ino) {
            streams.on_pressure(range, covered_to, &self.config);
        }
    }

    pub(crate) fn counters(&self) -> ReadAheadCounters {
        ReadAheadCounters {
            asked: self.asked.load(Relaxed),
            started_bytes: self.started_bytes.load(Relaxed),
            shrunk: self.shrunk.load(Relaxed),
        }
    }
}

impl Slice {
    fn forget_oldest(&mut self) {
        let oldest = self.inodes.iter().min_by_key(|(_, (_, used_at))| *used_at).map(|(ino, _)| *ino);
        if let Some(oldest) = oldest {
            self.inodes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_keeps_who_reads() {
        let table = StreamTable::new(ReadAheadConfig::default());
        let busy = Ino(0);
        for ino in 0..100_000u64 {
            table.on_read(Ino(ino), 0..4096, 1 << 30);
            table.on_read(busy, ino * 4096..(ino + 1) * 4096, 1 << 40);
        }
        let held: usize = table.slices.iter().map(|slice| slice.lock().inodes.len()).sum();
        assert_eq!(held, SLICES * SLICE_LEN);
        assert!(table.slice(busy).lock().inodes.contains_key(&busy));
    }

    #[test]
    fn a_file_read_in_one_piece_takes_no_place() {
        let table = StreamTable::new(ReadAheadConfig::default());
        assert_eq!(table.on_read(Ino(1), 0..4096, 4096), None);
        assert!(table.slice(Ino(1)).lock().inodes.is_empty());
    }
}
