//! Which pages of an extent are here: atomic bitmaps that any core reads without a lock.
//!
//! **Owns** three bits and a checksum for each page whose bytes come from the under file system: *written* (the
//! bytes are in the extent file), *durable* (an fdatasync covered them), *checked* (the checksum counts). A page
//! past the tracked ones was born here and is always resident.
//!
//! **Never does** I/O and never waits. The store sets bits after the bytes are in the file and clears them before a
//! hole is punched; readers that must not see a hole compare [`crate::Extent`]'s punch count around the read.
//!
//! **Why this shape:** memory is taken in chunks of up to 4,096 pages on first use, so that an unread file of any
//! length costs next to nothing and a file of one page costs a few words.

use forebay_types::{PageChecksum, PageIndex};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Pages in one chunk.
const CHUNK_PAGES: u64 = 4096;
/// The most pages one extent tracks: 1 PiB of pages of 1 MiB.
pub(crate) const TRACKED_PAGES_MAX: u64 = 1 << 30;

/// One bit a page.
type Bits = Box<[AtomicU64]>;

#[derive(Debug)]
struct Chunk {
    written: Bits,
    durable: Bits,
    checked: Bits,
    checksums: Box<[AtomicU32]>,
}

impl Chunk {
    fn new(pages: u64) -> Self {
        let bits = || (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let checksums = (0..pages).map(|_| AtomicU32::new(0)).collect();
        Self { written: bits(), durable: bits(), checked: bits(), checksums }
    }
}

fn bit(bits: &Bits, at: u64) -> (&AtomicU64, u64) {
    (&bits[(at / 64) as usize], 1 << (at % 64))
}

fn is_set(bits: &Bits, at: u64) -> bool {
    let (word, mask) = bit(bits, at);
    word.load(Ordering::Acquire) & mask != 0
}

fn set(bits: &Bits, at: u64) -> bool {
    let (word, mask) = bit(bits, at);
    word.fetch_or(mask, Ordering::AcqRel) & mask == 0
}

fn clear(bits: &Bits, at: u64) -> bool {
    let (word, mask) = bit(bits, at);
    word.fetch_and(!mask, Ordering::AcqRel) & mask != 0
}

/// The tracked pages of one extent.
#[derive(Debug)]
pub(crate) struct Pages {
    count: u64,
    resident: AtomicU64,
    chunks: Box<[OnceLock<Chunk>]>,
}

impl Pages {
    /// `count` absent pages.
    ///
    /// # Panics
    /// If there are more than [`TRACKED_PAGES_MAX`]; the store refuses such lengths before.
    pub(crate) fn new(count: u64) -> Self {
        assert!(count <= TRACKED_PAGES_MAX, "the length was checked against the bound");
        let chunks = (0..count.div_ceil(CHUNK_PAGES)).map(|_| OnceLock::new()).collect();
        Self { count, resident: AtomicU64::new(0), chunks }
    }

    /// How many pages are tracked.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many tracked pages are resident.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Acquire)
    }

    fn chunk(&self, page: PageIndex) -> Option<(&Chunk, u64)> {
        let chunk = self.chunks.get((page.0 / CHUNK_PAGES) as usize)?.get()?;
        Some((chunk, page.0 % CHUNK_PAGES))
    }

    fn chunk_made(&self, page: PageIndex) -> (&Chunk, u64) {
        assert!(page.0 < self.count, "only tracked pages have bits");
        let index = page.0 / CHUNK_PAGES;
        let pages = CHUNK_PAGES.min(self.count - index * CHUNK_PAGES);
        (self.chunks[index as usize].get_or_init(|| Chunk::new(pages)), page.0 % CHUNK_PAGES)
    }

    /// Whether the bytes of `page` are in the extent file; true past the tracked pages.
    pub(crate) fn is_resident(&self, page: PageIndex) -> bool {
        page.0 >= self.count || self.chunk(page).is_some_and(|(chunk, at)| is_set(&chunk.written, at))
    }

    /// Whether every page of the range is resident.
    pub(crate) fn all_resident(&self, pages: Range<u64>) -> bool {
        self.resident() == self.count || pages.into_iter().all(|page| self.is_resident(PageIndex(page)))
    }

    /// The pages of the range that are not resident.
    pub(crate) fn missing(&self, pages: Range<u64>) -> Vec<PageIndex> {
        let end = pages.end.min(self.count);
        (pages.start..end).map(PageIndex).filter(|page| !self.is_resident(*page)).collect()
    }

    /// Whether an fdatasync covered the page.
    pub(crate) fn is_durable(&self, page: PageIndex) -> bool {
        self.chunk(page).is_some_and(|(chunk, at)| is_set(&chunk.durable, at))
    }

    /// The checksum of a resident page, where one counts.
    pub(crate) fn checksum(&self, page: PageIndex) -> Option<PageChecksum> {
        let (chunk, at) = self.chunk(page)?;
        let counts = is_set(&chunk.checked, at);
        counts.then(|| PageChecksum(chunk.checksums[at as usize].load(Ordering::Acquire)))
    }

    /// Records that the page's bytes are in the file. The checksum stands before the bit can be seen.
    pub(crate) fn set_written(&self, page: PageIndex, checksum: Option<PageChecksum>) {
        let (chunk, at) = self.chunk_made(page);
        match checksum {
            Some(checksum) => {
                chunk.checksums[at as usize].store(checksum.0, Ordering::Release);
                set(&chunk.checked, at);
            }
            None => {
                clear(&chunk.checked, at);
            }
        }
        if set(&chunk.written, at) {
            self.resident.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Records that an fdatasync covered the page. Without effect on an absent page.
    pub(crate) fn set_durable(&self, page: PageIndex) {
        if let Some((chunk, at)) = self.chunk(page)
            && is_set(&chunk.written, at)
        {
            set(&chunk.durable, at);
        }
    }

    /// Makes the page absent; says whether it was resident.
    pub(crate) fn clear(&self, page: PageIndex) -> bool {
        let Some((chunk, at)) = self.chunk(page) else { return false };
        let was = clear(&chunk.written, at);
        clear(&chunk.durable, at);
        clear(&chunk.checked, at);
        if was {
            self.resident.fetch_sub(1, Ordering::AcqRel);
        }
        was
    }

    /// Resident pages that no fdatasync covered yet.
    pub(crate) fn not_durable(&self) -> Vec<PageIndex> {
        self.resident_pages().filter(|page| !self.is_durable(*page)).collect()
    }

    /// The resident pages, in order.
    pub(crate) fn resident_pages(&self) -> impl Iterator<Item = PageIndex> + '_ {
        let made = self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.get().is_some());
        let pages = made.flat_map(|(index, _)| {
            let start = index as u64 * CHUNK_PAGES;
            start..(start + CHUNK_PAGES).min(self.count)
        });
        pages.map(PageIndex).filter(|page| self.is_resident(*page))
    }

    /// The same pages and bits for an extent that tracks `count` pages.
    pub(crate) fn resized(&self, count: u64) -> Self {
        let new = Self::new(count);
        for page in self.resident_pages().take_while(|page| page.0 < count) {
            new.set_written(page, self.checksum(page));
            if self.is_durable(page) {
                new.set_durable(page);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_not_tracked_is_resident() {
        let pages = Pages::new(2);
        assert!(!pages.is_resident(PageIndex(1)));
        assert!(pages.is_resident(PageIndex(2)));
        assert!(Pages::new(0).all_resident(0..100));
    }

    #[test]
    fn a_long_file_costs_nothing_until_it_is_read() {
        let pages = Pages::new(TRACKED_PAGES_MAX);
        assert_eq!(pages.chunks.iter().filter(|chunk| chunk.get().is_some()).count(), 0);
        pages.set_written(PageIndex(TRACKED_PAGES_MAX - 1), None);
        assert_eq!(pages.resident_pages().collect::<Vec<_>>(), [PageIndex(TRACKED_PAGES_MAX - 1)]);
    }

    #[test]
    fn bits_set_from_many_threads_are_all_there() {
        let pages = Pages::new(10_000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let pages = &pages;
                scope.spawn(move || {
                    for page in (thread..10_000).step_by(3) {
                        pages.set_written(PageIndex(page), Some(PageChecksum(page as u32)));
                    }
                });
            }
        });
        assert_eq!(pages.resident(), 10_000);
        assert!((0..10_000).all(|p| pages.checksum(PageIndex(p)) == Some(PageChecksum(p as u32))));
    }

    proptest! {
        /// The bitmap against a plain map, over any order of operations.
        #[test]
        fn agrees_with_a_map(
            count in 1u64..9000,
            steps in prop::collection::vec((0u8..4, any::<u64>(), any::<Option<u32>>()), 0..200),
        ) {
            let pages = Pages::new(count);
            let mut model: BTreeMap<u64, (bool, Option<u32>)> = BTreeMap::new();
            for (step, at, checksum) in steps {
                let at = at % count;
                match step {
                    0 | 1 => {
                        pages.set_written(PageIndex(at), checksum.map(PageChecksum));
                        model.entry(at).or_insert((false, None)).1 = checksum;
                    }
                    2 => {
                        pages.set_durable(PageIndex(at));
                        if let Some(entry) = model.get_mut(&at) { entry.0 = true; }
                    }
                    _ => prop_assert_eq!(pages.clear(PageIndex(at)), model.remove(&at).is_some()),
                }
            }
            for seen in [&pages, &pages.resized(count), &pages.resized(count + 5000)] {
                prop_assert_eq!(seen.resident(), model.len() as u64);
                let not_durable: Vec<_> =
                    model.iter().filter(|(_, v)| !v.0).map(|(k, _)| PageIndex(*k)).collect();
                prop_assert_eq!(seen.not_durable(), not_durable);
                for (page, (_, checksum)) in &model {
                    prop_assert_eq!(seen.checksum(PageIndex(*page)), checksum.map(PageChecksum));
                }
            }
            let absent = (0..count).filter(|p| !model.contains_key(p)).map(PageIndex).collect::<Vec<_>>();
            prop_assert_eq!(pages.missing(0..count + 10), absent);
        }
    }
}
