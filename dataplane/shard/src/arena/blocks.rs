//! Which bytes of the arena are taken: a lock-free allocator of powers of two from 4 KiB to 16 MiB.
//!
//! **Owns** the book-keeping only; it knows offsets, never addresses. A *region* is 16 MiB: one byte whose
//! bits say which of its eight 2 MiB *granules* are taken. Blocks of 2 MiB and more are aligned runs of these
//! bits. Smaller blocks share a granule of one size class, which is opened on demand and closed when its last
//! block comes back; a bitmap says which blocks are free.
//!
//! **Never does** wait, lock or call the system: any thread takes and gives back at any time.
//!
//! **Why this shape:** frames come back on whatever thread drops them last. With one word of state a granule
//! (class and blocks in use, changed by compare-and-swap) a taker first reserves a place, then finds its bit,
//! which must exist; so no list has to be kept consistent. A lane per thread starts its search at its own
//! granule, so cores seldom share a cache line. A list of free frames per class was refused: it never gives
//! memory back to another class.

use super::memory::GRANULE_LEN;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The smallest block: one page, so that every frame suits direct I/O.
pub(crate) const BLOCK_LEN_MIN: usize = 4096;
/// The largest block.
pub(crate) const BLOCK_LEN_MAX: usize = 16 << 20;

/// Size classes below a granule: 4 KiB to 1 MiB.
const SMALL_CLASSES: usize = 9;
const GRANULES_PER_REGION: usize = BLOCK_LEN_MAX / GRANULE_LEN;
const BITMAP_WORDS: usize = GRANULE_LEN / BLOCK_LEN_MIN / 64;
const LANES: usize = 16;

const _: () = assert!(BLOCK_LEN_MIN << SMALL_CLASSES == GRANULE_LEN);
const _: () = assert!(GRANULES_PER_REGION == u8::BITS as usize);

/// A block: where it begins and its size class (0 is 4 KiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: usize,
    pub(crate) class: u8,
}

impl Block {
    /// The bytes it has.
    pub(crate) fn len(self) -> usize {
        BLOCK_LEN_MIN << self.class
    }
}

/// The class of the smallest block that holds `len` bytes.
pub(crate) fn class_for(len: usize) -> Option<u8> {
    let fits = (1..=BLOCK_LEN_MAX).contains(&len);
    fits.then(|| (len.div_ceil(BLOCK_LEN_MIN).next_power_of_two().trailing_zeros()) as u8)
}

/// A granule is closed (as one large block or free), being opened or closed, or open for a class.
const CLOSED: u32 = 0;
const CHANGING: u32 = 1;

/// The state of a granule open for `class` with `used` blocks taken.
const fn open_state(class: usize, used: u32) -> u32 {
    ((class as u32 + 1) << 16) | used
}

const fn blocks_in_granule(class: usize) -> u32 {
    (GRANULE_LEN / (BLOCK_LEN_MIN << class)) as u32
}

/// Aligned so that two cores that work on neighbouring granules do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Granule {
    state: AtomicU32,
    free: [AtomicU64; BITMAP_WORDS],
}

/// The allocator's state for an arena.
#[derive(Debug)]
pub(crate) struct Blocks {
    regions: Box<[AtomicU8]>,
    granules: Box<[Granule]>,
    /// Where each lane found its last block of a class.
    hints: [[AtomicUsize; LANES]; SMALL_CLASSES],
    /// False when a search found no open granule of the class with room; set again by a return.
    may_have_room: [AtomicBool; SMALL_CLASSES],
}

impl Blocks {
    /// For an arena of `len` bytes, a multiple of the granule.
    pub(crate) fn new(len: usize) -> Self {
        let granules = len / GRANULE_LEN;
        let regions = (0..granules.div_ceil(GRANULES_PER_REGION)).map(|r| AtomicU8::new(absent(granules, r)));
        Self {
            regions: regions.collect(),
            granules: (0..granules).map(|_| Granule::default()).collect(),
            hints: Default::default(),
            may_have_room: Default::default(),
        }
    }

    /// Takes a block of `class`, or `None` when there is none.
    pub(crate) fn take(&self, class: u8) -> Option<Block> {
        let small = usize::from(class) < SMALL_CLASSES;
        let offset = if small {
            self.take_small(usize::from(class))?
        } else {
            self.take_run(1 << (usize::from(class) - SMALL_CLASSES))? * GRANULE_LEN
        };
        Some(Block { offset, class })
    }

    /// Gives a block back. It must have come from [`Self::take`] and is not used afterwards.
    pub(crate) fn give_back(&self, block: Block) {
        let granule = block.offset / GRANULE_LEN;
        let class = usize::from(block.class);
        if class < SMALL_CLASSES {
            self.give_back_small(granule, class, block.offset % GRANULE_LEN);
        } else {
            self.give_back_run(granule, 1 << (class - SMALL_CLASSES));
        }
    }

    /// Bytes taken. Walks all granules: for metrics, not for a hot path.
    pub(crate) fn in_use(&self) -> usize {
        let taken: u32 = self.regions.iter().map(|r| r.load(Relaxed).count_ones()).sum();
        let absent: u32 = absent(self.granules.len(), self.regions.len() - 1).count_ones();
        let open_but_free: usize = self.granules.iter().map(free_in_open_granule).sum();
        ((taken - absent) as usize * GRANULE_LEN).saturating_sub(open_but_free)
    }

    /// Takes everything for good, if nothing is taken. True: no block is out and none will be given.
    pub(crate) fn retire(&self) -> bool {
        let last = self.regions.len() - 1;
        let idle = |r: usize| if r == last { absent(self.granules.len(), r) } else { 0 };
        let took = |r: usize| self.regions[r].compare_exchange(idle(r), u8::MAX, AcqRel, Relaxed).is_ok();
        let whole = (0..self.regions.len()).take_while(|&r| took(r)).count();
        if whole == self.regions.len() {
            return true;
        }
        (0..whole).for_each(|r| self.regions[r].store(idle(r), Release));
        false
    }

    /// Takes `count` (1, 2, 4 or 8) neighbouring granules, aligned to their number.
    fn take_run(&self, count: usize) -> Option<usize> {
        let taken =
            self.regions.iter().enumerate().find_map(|(r, region)| Some((r, take_bits(region, count)?)));
        taken.map(|(r, bit)| r * GRANULES_PER_REGION + bit)
    }

    fn give_back_run(&self, first: usize, count: usize) {
        let mask = run_mask(count) << (first % GRANULES_PER_REGION);
        let before = self.regions[first / GRANULES_PER_REGION].fetch_and(!mask, AcqRel);
        assert!(before & mask == mask, "a block was given back twice");
    }

    fn take_small(&self, class: usize) -> Option<usize> {
        let hint = &self.hints[class][lane()];
        let start = hint.load(Relaxed);
        let found = self
            .take_in(start, class)
            .or_else(|| self.search(start, class))
            .or_else(|| self.open_granule(class))
            .or_else(|| self.search_all(start, class));
        let (granule, offset) = found?;
        if granule != start {
            hint.store(granule, Relaxed);
        }
        Some(granule * GRANULE_LEN + offset)
    }

    /// Looks for an open granule with room, if there may be one.
    fn search(&self, start: usize, class: usize) -> Option<(usize, usize)> {
        let may = &self.may_have_room[class];
        if !may.load(Relaxed) || !may.swap(false, AcqRel) {
            return None;
        }
        let found = self.search_all(start, class);
        if found.is_some() {
            may.store(true, Release);
        }
        found
    }

    fn search_all(&self, start: usize, class: usize) -> Option<(usize, usize)> {
        let count = self.granules.len();
        (0..count).find_map(|step| self.take_in((start + step) % count, class))
    }

    /// Takes a block in this granule if it is open for `class` and has room.
    fn take_in(&self, index: usize, class: usize) -> Option<(usize, usize)> {
        let granule = &self.granules[index];
        let room = |state: u32| {
            let open = state >> 16 == class as u32 + 1 && (state & 0xffff) < blocks_in_granule(class);
            open.then(|| state + 1)
        };
        granule.state.fetch_update(AcqRel, Acquire, room).ok()?;
        Some((index, take_reserved_bit(granule) * (BLOCK_LEN_MIN << class)))
    }

    /// Opens a fresh granule for `class` and takes its first block.
    fn open_granule(&self, class: usize) -> Option<(usize, usize)> {
        let index = self.take_run(1)?;
        let granule = &self.granules[index];
        granule.state.store(CHANGING, Relaxed);
        let blocks = blocks_in_granule(class) as usize;
        for (w, word) in granule.free.iter().enumerate() {
            let bits = blocks.saturating_sub(w * 64).min(64);
            word.store(if bits == 64 { u64::MAX } else { (1 << bits) - 1 }, Relaxed);
        }
        granule.free[0].fetch_and(!1, Relaxed);
        granule.state.store(open_state(class, 1), Release);
        self.may_have_room[class].store(true, Release);
        Some((index, 0))
    }

    fn give_back_small(&self, index: usize, class: usize, within: usize) {
        let granule = &self.granules[index];
        let bit = within / (BLOCK_LEN_MIN << class);
        let before = granule.free[bit / 64].fetch_or(1 << (bit % 64), AcqRel);
        assert!(before & (1 << (bit % 64)) == 0, "a block was given back twice");
        let less = |state: u32| Some(if state & 0xffff == 1 { CHANGING } else { state - 1 });
        let before = granule.state.fetch_update(AcqRel, Acquire, less).unwrap_or(CLOSED);
        assert!(before >> 16 == class as u32 + 1, "a block was given back with another size");
        if before & 0xffff == 1 {
            granule.state.store(CLOSED, Release);
            self.give_back_run(index, 1);
        } else if !self.may_have_room[class].load(Relaxed) {
            self.may_have_room[class].store(true, Release);
        }
    }
}

/// The bits of region `r` that stand for granules past the end of an arena of `granules`.
fn absent(granules: usize, r: usize) -> u8 {
    let present = (granules - r * GRANULES_PER_REGION).min(GRANULES_PER_REGION);
    u8::MAX.checked_shl(present as u32).unwrap_or(0)
}

fn run_mask(count: usize) -> u8 {
    u8::MAX >> (GRANULES_PER_REGION - count)
}

fn take_bits(region: &AtomicU8, count: usize) -> Option<usize> {
    let mask = run_mask(count);
    let place = |taken: u8| (0..GRANULES_PER_REGION).step_by(count).find(|bit| taken & (mask << bit) == 0);
    let mut at = None;
    let claim = |taken: u8| {
        at = place(taken);
        at.map(|bit| taken | (mask << bit))
    };
    region.fetch_update(AcqRel, Relaxed, claim).ok()?;
    at
}

/// Finds the bit that a successful reservation in `state` guarantees.
fn take_reserved_bit(granule: &Granule) -> usize {
    loop {
        for (w, word) in granule.free.iter().enumerate() {
            let mut seen = word.load(Acquire);
            while seen != 0 {
                let bit = seen & seen.wrapping_neg();
                seen = word.fetch_and(!bit, AcqRel);
                if seen & bit != 0 {
                    return w * 64 + bit.trailing_zeros() as usize;
                }
            }
        }
    }
}

fn free_in_open_granule(granule: &Granule) -> usize {
    let state = granule.state.load(Relaxed);
    let Some(class) = (state >> 16).checked_sub(1).map(|c| c as usize) else { return 0 };
    let free = blocks_in_granule(class).saturating_sub(state & 0xffff);
    free as usize * (BLOCK_LEN_MIN << class)
}

/// A number for the calling thread, spread over the lanes.
fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static LANE: usize = NEXT.fetch_add(1, Relaxed) % LANES);
    LANE.with(|lane| *lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_are_powers_of_two() {
        assert_eq!(class_for(0), None);
        assert_eq!(class_for(1), Some(0));
        assert_eq!(class_for(4096), Some(0));
        assert_eq!(class_for(4097), Some(1));
        assert_eq!(class_for(1 << 20), Some(8));
        assert_eq!(class_for(16 << 20), Some(12));
        assert_eq!(class_for((16 << 20) + 1), None);
    }

    #[test]
    fn the_whole_arena_can_be_taken_in_any_class() {
        let len = 40 << 20;
        let blocks = Blocks::new(len);
        for class in 0..=12u8 {
            let taken: Vec<Block> = std::iter::from_fn(|| blocks.take(class)).collect();
            let whole = len / (BLOCK_LEN_MIN << class);
            assert_eq!(taken.len(), whole, "class {class}");
            assert_eq!(blocks.in_use(), whole * (BLOCK_LEN_MIN << class));
            taken.into_iter().for_each(|b| blocks.give_back(b));
            assert_eq!(blocks.in_use(), 0);
        }
        assert!(blocks.retire());
        assert_eq!(blocks.take(0), None);
    }

    #[test]
    fn an_arena_with_a_block_out_is_not_retired() {
        let blocks = Blocks::new(40 << 20);
        let block = blocks.take(3).unwrap();
        assert!(!blocks.retire());
        blocks.give_back(block);
        assert!(blocks.take(12).is_some(), "a failed retirement leaves the arena usable");
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_double_return_is_caught() {
        let blocks = Blocks::new(16 << 20);
        let _stays_open = blocks.take(0).unwrap();
        let block = blocks.take(0).unwrap();
        blocks.give_back(block);
        blocks.give_back(block);
    }

    #[test]
    fn threads_never_get_the_same_block() {
        let len = 32 << 20;
        let blocks = Blocks::new(len);
        let owners: Vec<AtomicU8> = (0..len / BLOCK_LEN_MIN).map(|_| AtomicU8::new(0)).collect();
        let mark = |b: Block, from: u8, to: u8| {
            for page in &owners[b.offset / BLOCK_LEN_MIN..][..b.len() / BLOCK_LEN_MIN] {
                assert_eq!(page.swap(to, AcqRel), from, "two owners of one page");
            }
        };
        std::thread::scope(|scope| {
            for t in 1..=4u8 {
                let (blocks, mark) = (&blocks, &mark);
                scope.spawn(move || {
                    let mut held = std::collections::VecDeque::new();
                    for i in 0..20_000u32 {
                        let class = (i.wrapping_mul(2_654_435_761).rotate_left(u32::from(t) * 5) % 11) as u8;
                        if let Some(block) = blocks.take(class) {
                            mark(block, 0, t);
                            held.push_back(block);
                        }
                        while held.len() > 24 || (!held.is_empty() && i % 64 == 0) {
                            let block = held.pop_front().unwrap();
                            mark(block, t, 0);
                            blocks.give_back(block);
                        }
                    }
                    held.into_iter().for_each(|b| {
                        mark(b, t, 0);
                        blocks.give_back(b);
                    });
                });
            }
        });
        assert_eq!(blocks.in_use(), 0);
        assert!(blocks.retire());
    }

    proptest! {
        #[test]
        fn blocks_never_overlap(steps in proptest::collection::vec((0u8..13, any::<bool>(), any::<u16>()), 1..300)) {
            let blocks = Blocks::new(50 << 20);
            let mut held: Vec<Block> = Vec::new();
            for (class, take, pick) in steps {
                if take {
                    if let Some(block) = blocks.take(class) {
                        let clash = held.iter().any(|h| block.offset < h.offset + h.len() && h.offset < block.offset + block.len());
                        prop_assert!(!clash && block.offset % block.len() == 0);
                        prop_assert!(block.offset + block.len() <= 50 << 20);
                        held.push(block);
                    }
                } else if !held.is_empty() {
                    blocks.give_back(held.swap_remove(usize::from(pick) % held.len()));
                }
                prop_assert_eq!(blocks.in_use(), held.iter().map(|b| b.len()).sum::<usize>());
            }
        }
    }
}
