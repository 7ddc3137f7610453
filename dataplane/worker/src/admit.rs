//! Which cold pages may enter the cache.
//!
//! **Owns** the memory of what was read once. It is bounded and forgets: two sets of hashes, of which the older
//! is dropped when the newer is full, so a second read counts if it comes within the last [`SEEN_MAX`] first
//! reads at least.

use forebay_types::{Admission, ContentKey, ReadMode};
use forebay_wire::ReadPolicy;
use hashbrown::HashSet;
use parking_lot::Mutex;

/// First reads that are remembered in one set: 1 MiB of memory for both.
const SEEN_MAX: usize = 64 << 10;

/// Decides about cold pages.
#[derive(Default)]
pub(crate) struct Admit {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl Admit {
    /// Whether what a read at `offset` is about to fetch may be kept. The offset is remembered, not the page: a
    /// first reader comes for one page in many pieces, a second one comes for the same pieces again.
    pub(crate) fn may_keep(&self, policy: ReadPolicy, content: ContentKey, offset: u64) -> bool {
        match (policy.mode, policy.admission) {
            (ReadMode::NoCache, _) | (ReadMode::Cache, Admission::LoadOnly) => false,
            (ReadMode::Cache, Admission::All) => true,
            (ReadMode::Cache, Admission::SecondRead) => self.seen.lock().again(mix(content, offset)),
        }
    }

    /// The same for read-ahead, which is no read: nothing is remembered.
    pub(crate) fn may_keep_ahead(&self, policy: ReadPolicy, content: ContentKey, offset: u64) -> bool {
        if policy == SECOND_READ {
            self.seen.lock().has(mix(content, offset))
        } else {
            self.may_keep(policy, content, offset)
        }
    }
}

const SECOND_READ: ReadPolicy =
    ReadPolicy { mode: ReadMode::Cache, admission: Admission::SecondRead, priority: None };

/// The content key is a hash already; the offset only has to be spread.
fn mix(content: ContentKey, offset: u64) -> u64 {
    (content.0 as u64) ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Seen {
    /// Whether it was here before; remembers it.
    fn again(&mut self, hash: u64) -> bool {
        if self.has(hash) {
            return true;
        }
        if self.newer.len() >= SEEN_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(hash);
        false
    }

    fn has(&self, hash: u64) -> bool {
        self.newer.contains(&hash) || self.older.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(admit: &Admit, admission: Admission, offset: u64) -> bool {
        let policy = ReadPolicy { mode: ReadMode::Cache, admission, priority: None };
        admit.may_keep(policy, ContentKey(1), offset)
    }

    #[test]
    fn the_second_read_is_kept() {
        let admit = Admit::default();
        assert!(!ask(&admit, Admission::SecondRead, 1));
        assert!(!ask(&admit, Admission::SecondRead, 2));
        assert!(ask(&admit, Admission::SecondRead, 1));
    }

    #[test]
    fn reading_ahead_does_not_count_as_a_read() {
        let admit = Admit::default();
        assert!(!admit.may_keep_ahead(SECOND_READ, ContentKey(1), 7));
        assert!(!admit.may_keep(SECOND_READ, ContentKey(1), 7));
        assert!(admit.may_keep_ahead(SECOND_READ, ContentKey(1), 7));
    }

    #[test]
    fn the_memory_is_bounded_and_forgets() {
        let admit = Admit::default();
        for page in 0..4 * SEEN_MAX as u64 {
            ask(&admit, Admission::SecondRead, page);
        }
        let seen = admit.seen.lock();
        assert!(seen.newer.len() <= SEEN_MAX && seen.older.len() <= SEEN_MAX);
        drop(seen);
        assert!(!ask(&admit, Admission::SecondRead, 0), "it was forgotten");
    }

    #[test]
    fn the_other_policies_do_not_depend_on_the_past() {
        let admit = Admit::default();
        assert!(ask(&admit, Admission::All, 9));
        assert!(!ask(&admit, Admission::LoadOnly, 9) && !ask(&admit, Admission::LoadOnly, 9));
        let no_cache = ReadPolicy { mode: ReadMode::NoCache, admission: Admission::All, priority: None };
        assert!(!admit.may_keep(no_cache, ContentKey(1), 1));
    }
}
