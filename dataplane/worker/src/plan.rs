//! Which pages a request touches, and how the absent ones are grouped into requests to the under file system.
//!
//! Pure arithmetic. A request to an object store costs a round trip whatever its length, so adjacent absent
//! pages go in one; one connection is slow, so a long run is cut into several that go side by side.

use forebay_types::{PageIndex, PageSize};
use std::ops::Range;

/// Adjacent pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: PageIndex,
    pub(crate) pages: u64,
}

impl Run {
    /// The bytes of the run in a file of `len` bytes.
    pub(crate) fn bytes(&self, page_size: PageSize, len: u64) -> Range<u64> {
        let start = page_size.start_of(self.first);
        start..page_size.start_of(PageIndex(self.first.0 + self.pages)).min(len)
    }
}

/// The numbers of the pages that hold `range`.
pub(crate) fn pages_of(range: &Range<u64>, page_size: PageSize) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    page_size.page_of(range.start).0..page_size.page_of(range.end - 1).0 + 1
}

/// Groups pages, given in order, into runs of adjacent ones of at most `run_max` pages.
pub(crate) fn runs(pages: impl IntoIterator<Item = PageIndex>, run_max: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(run) if run.first.0 + run.pages == page.0 && run.pages < run_max => run.pages += 1,
            _ => runs.push(Run { first: page, pages: 1 }),
        }
    }
    runs
}

/// How many pages one request should bring when `wanted` bytes are wanted: whole pages, at most `get_max` bytes,
/// and at least [`SIDE_BY_SIDE`] requests where the pages allow it.
pub(crate) fn run_max(wanted: u64, page_size: PageSize, get_max: u64) -> u64 {
    let share = (wanted / SIDE_BY_SIDE).clamp(page_size.bytes(), get_max.max(page_size.bytes()));
    share / page_size.bytes()
}

/// Requests that a small window is cut into, so that its first bytes do not wait for its last.
const SIDE_BY_SIDE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_request_touches_the_pages_of_its_first_and_last_byte() {
        let size = PageSize::DEFAULT;
        assert_eq!(pages_of(&(0..1), size), 0..1);
        assert_eq!(pages_of(&(0..MIB), size), 0..1);
        assert_eq!(pages_of(&(MIB - 1..MIB + 1), size), 0..2);
        assert_eq!(pages_of(&(5..5), size), 0..0);
    }

    #[test]
    fn long_wishes_get_few_large_requests_and_short_ones_go_side_by_side() {
        let size = PageSize::DEFAULT;
        assert_eq!(run_max(MIB, size, 8 * MIB), 1);
        assert_eq!(run_max(4 * MIB, size, 8 * MIB), 1);
        assert_eq!(run_max(64 * MIB, size, 8 * MIB), 8);
        assert_eq!(run_max(64 * MIB, size, 1), 1);
    }

    proptest! {
        #[test]
        fn runs_cover_just_the_pages(pages in prop::collection::btree_set(0u64..500, 0..200), max in 1u64..20) {
            let runs = runs(pages.iter().copied().map(PageIndex), max);
            let covered: Vec<u64> = runs.iter().flat_map(|run| run.first.0..run.first.0 + run.pages).collect();
            prop_assert_eq!(covered, pages.into_iter().collect::<Vec<_>>());
            prop_assert!(runs.iter().all(|run| (1..=max).contains(&run.pages)));
        }
    }
}
