//! When to read ahead and how far: the arithmetic, without any I/O.
//!
//! **Owns** the streams of one inode: places where somebody reads on from where he stopped. A read that goes
//! on where a stream stopped makes its window grow; a read elsewhere begins a stream, which asks for nothing
//! until it proves to be one.
//!
//! **Why this shape:** streams are found by offset, not by handle (the front doors' handles are not known here,
//! and one handle is often read by many threads, each from its own place). The kernel sends the pieces of its
//! own read-ahead in parallel, so a piece that arrives a little early or late still belongs to its stream.

use forebay_types::ByteSize;
use std::ops::Range;

/// How far to read ahead.
#[derive(Clone, Copy, Debug)]
pub struct ReadAheadConfig {
    /// The window of a stream that has just proved to be one.
    pub window_min: ByteSize,
    /// The largest window: at least the bandwidth-delay product of the way to the under file system, twice.
    /// 0 turns read-ahead off.
    pub window_max: ByteSize,
}

impl Default for ReadAheadConfig {
    fn default() -> Self {
        Self { window_min: ByteSize::mib(4), window_max: ByteSize::mib(64) }
    }
}

/// What read-ahead did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAheadCounters {
    /// Times a stream asked for more.
    pub asked: u64,
    /// Bytes that were brought for it.
    pub started_bytes: u64,
    /// Times a window shrank because memory was short.
    pub shrunk: u64,
}

/// The most streams one inode has; the one unused for longest gives way.
const STREAMS_MAX: usize = 8;
/// How far from its expected place a read may begin and still belong to a stream: the kernel's own read-ahead,
/// whose pieces arrive in any order.
const SLACK: u64 = 2 << 20;

/// The largest window is asked for in this many pieces, one after the other. Requests that are sent together share the
/// line, so they end together; were there two pieces only, the second would end with the first, and the line would be idle
/// for a round trip each time.
const SHARE: u64 = 8;

#[derive(Debug, Clone, Copy)]
struct Stream {
    /// The end of the farthest read so far.
    next: u64,
    /// The end of what was asked for.
    asked_to: u64,
    window: u64,
    /// The window met a bound once: it grows by steps from then on, no longer by doubling.
    grown: bool,
    used_at: u64,
}

/// What to fetch ahead of a reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    pub(crate) range: Range<u64>,
    /// How far is read ahead in all: the range is what it lacked.
    pub(crate) window: ByteSize,
}

/// The streams of one inode.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: Vec<Stream>,
    clock: u64,
}

impl Streams {
    /// Takes note of a read of `len` bytes at `offset`; says what to ask for now, if anything.
    pub(crate) fn on_read(
        &mut self,
        read: Range<u64>,
        file_len: u64,
        config: &ReadAheadConfig,
    ) -> Option<Ahead> {
        if config.window_max.as_u64() == 0 {
            return None;
        }
        self.clock += 1;
        let Some(at) = self.streams.iter().position(|stream| stream.takes(read.start)) else {
            self.begin(&read);
            // Reading at the front is how reading a whole file begins.
            return if read.start == 0 { self.ask(self.streams.len() - 1, file_len, config) } else { None };
        };
        let stream = &mut self.streams[at];
        stream.used_at = self.clock;
        stream.next = stream.next.max(read.end);
        self.ask(at, file_len, config)
    }

    /// Memory for bodies in flight is short: of `range` only what lies before `covered_to` comes. The window
    /// shrinks to what there is memory for, and grows slowly from there.
    pub(crate) fn on_pressure(&mut self, range: &Range<u64>, covered_to: u64, config: &ReadAheadConfig) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.asked_to == range.end) {
            stream.asked_to = covered_to.max(range.start);
            let has = stream.asked_to.saturating_sub(stream.next);
            stream.window = has.clamp(config.window_min.as_u64().min(stream.window), stream.window);
            stream.grown = true;
        }
    }

    fn begin(&mut self, read: &Range<u64>) {
        if self.streams.len() == STREAMS_MAX {
            let oldest = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.used_at);
            let oldest = oldest.map(|(at, _)| at).expect("a full table has an oldest entry");
            self.streams.swap_remove(oldest);
        }
        self.streams.push(Stream {
            next: read.end,
            asked_to: read.end,
            window: 0,
            grown: false,
            used_at: self.clock,
        });
    }

    /// Asks for what the window lacks, once that is half of it or a [`SHARE`] of the largest one, but
    /// no less than the smallest.
    fn ask(&mut self, at: usize, file_len: u64, config: &ReadAheadConfig) -> Option<Ahead> {
        let stream = &mut self.streams[at];
        let left = stream.asked_to.saturating_sub(stream.next);
        let (min, max) = (config.window_min.as_u64(), config.window_max.as_u64());
        if stream.window.saturating_sub(left) < (stream.window / 2).min((max / SHARE).max(min)) {
            return None;
        }
        let more = if stream.grown { min } else { stream.window };
        stream.window = (stream.window + more).clamp(min.min(max), max);
        let range = stream.asked_to.max(stream.next)..(stream.next + stream.window).min(file_len);
        if range.is_empty() {
            return None;
        }
        stream.asked_to = range.end;
        Some(Ahead { range, window: ByteSize::bytes(stream.window) })
    }
}

impl Stream {
    fn takes(&self, offset: u64) -> bool {
        (self.next.saturating_sub(SLACK)..=self.next.saturating_add(SLACK)).contains(&offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const FAR: u64 = 1 << 40;

    fn config() -> ReadAheadConfig {
        ReadAheadConfig { window_min: ByteSize::mib(2), window_max: ByteSize::mib(16) }
    }

    /// Reads from `from` on in pieces of `piece`; returns what was asked for.
    fn run(streams: &mut Streams, from: u64, to: u64, piece: u64) -> Vec<Range<u64>> {
        let starts = (from..to).step_by(piece as usize);
        starts
            .filter_map(|start| streams.on_read(start..start + piece, FAR, &config()))
            .map(|ahead| ahead.range)
            .collect()
    }

    #[test]
    fn a_sequential_reader_gets_doubling_windows_without_gap_or_overlap() {
        let asked = run(&mut Streams::default(), 0, 64 * MIB, MIB / 8);
        assert_eq!(asked[0], MIB / 8..MIB / 8 + 2 * MIB);
        assert!(asked.windows(2).all(|pair| pair[0].end == pair[1].start), "{asked:?}");
        let last = asked.last().unwrap();
        assert!(last.end >= 64 * MIB + 8 * MIB, "the reader is never close to the end: {last:?}");
        let len = |range: &Range<u64>| range.end - range.start;
        assert!(
            asked.iter().all(|asked| len(asked) >= 2 * MIB),
            "few large requests, not many small ones: {asked:?}"
        );
    }

    #[test]
    fn a_random_reader_asks_for_nothing() {
        let mut streams = Streams::default();
        let mut at = 7u64;
        for _ in 0..1000 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) % FAR;
            let start = (at / 4096 + 1) * 4096 + 16 * MIB;
            assert_eq!(streams.on_read(start..start + 4096, FAR, &config()), None);
        }
        assert!(streams.streams.len() <= STREAMS_MAX);
    }

    #[test]
    fn two_readers_of_one_file_both_stream() {
        let mut streams = Streams::default();
        let mut asked = [0u64; 2];
        for step in 0..64 {
            for (reader, base) in [0, 1 << 30].into_iter().enumerate() {
                let start = base + step * MIB;
                let ahead = streams.on_read(start..start + MIB, FAR, &config());
                asked[reader] += ahead.map_or(0, |ahead| ahead.range.end - ahead.range.start);
            }
        }
        assert!(asked.iter().all(|asked| *asked >= 64 * MIB), "{asked:?}");
    }

    #[test]
    fn pieces_out_of_order_stay_in_their_stream() {
        let mut streams = Streams::default();
        for start in [0u64, 3, 1, 2, 5, 4, 7, 6] {
            let start = start * MIB / 8;
            streams.on_read(start..start + MIB / 8, FAR, &config());
        }
        assert_eq!(streams.streams.len(), 1);
    }

    #[test]
    fn pressure_shrinks_the_window_and_the_range_is_asked_for_again() {
        let mut streams = Streams::default();
        run(&mut streams, 0, 32 * MIB, MIB);
        let grown = streams.streams[0].window;
        let range = run(&mut streams, 32 * MIB, 64 * MIB, MIB).pop().unwrap();
        let covered_to = range.end - MIB;
        streams.on_pressure(&range, covered_to, &config());
        let shrunk = streams.streams[0].window;
        assert!(shrunk < grown && shrunk >= covered_to - 64 * MIB, "{shrunk}");
        let again = run(&mut streams, 64 * MIB, 80 * MIB, MIB);
        assert_eq!(again[0].start, covered_to);
        assert!(streams.streams[0].window > shrunk && streams.streams[0].window <= grown);
    }

    proptest! {
        #[test]
        fn never_past_the_end_nor_wider_than_the_window(
            reads in prop::collection::vec((0u64..64 * MIB, 1u64..2 * MIB), 1..200),
            file_len in 1u64..64 * MIB,
        ) {
            let mut streams = Streams::default();
            for (start, len) in reads {
                let read = start.min(file_len)..(start + len).min(file_len);
                if let Some(Ahead { range: asked, window }) = streams.on_read(read, file_len, &config()) {
                    prop_assert!(!asked.is_empty() && asked.end <= file_len);
                    prop_assert!(asked.end - asked.start <= window.as_u64() && window <= config().window_max);
                }
            }
        }
    }
}
