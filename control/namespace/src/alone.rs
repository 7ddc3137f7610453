//! Directories that are ours alone: of which the UFS is known to have nothing that we have no name for.
//!
//! **Owns** when that was last so, of directories of object stores, where each listing is a request that is waited for. Who
//! lists such a directory within the mount's `metadata_ttl` of that time is shown our names, and the UFS is not asked.
//!
//! **Learnt** when a directory is made here at a name at which the UFS was asked and had nothing, and when a listing went
//! through all of the UFS's entries and each of them was ours. **Never believed** once a name of the directory was given
//! back to the UFS, nor under another key, nor after a name that is not ours was found in it, nor once all was to be
//! forgotten. Names that we carry or remove meanwhile change nothing about it.
//!
//! **Bounded** by [`DIRS_MAX`] directories, in two generations.

use crate::generations::Generations;
use crate::inode::Inode;
use crate::namespace::Namespace;
use crate::ops::create::{Made, Vacancy};
use forebay_types::{FsResult, Ino, MountId, Name, UfsKey};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

/// Directories remembered.
const DIRS_MAX: usize = 4096;
/// Counters of what was found; directories that share one are mistaken for each other, which costs a listing and no more.
const COUNTERS: usize = 256;

/// What a directory was before the question whether it is ours alone was asked, or the answer to it used.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) mount: MountId,
    pub(crate) key: UfsKey,
    dir: Ino,
    given_back: u64,
    found: u64,
    cleared: u64,
}

struct Known {
    mount: MountId,
    key: UfsKey,
    /// [`Inode::given_back`] at that time.
    given_back: u64,
    since_ms: u64,
}

/// The directories.
pub(crate) struct Alone {
    known: Mutex<Generations<Ino, Known>>,
    /// How often a name that is not ours was found, by directory.
    found: [AtomicU64; COUNTERS],
    cleared: AtomicU64,
}

impl Default for Alone {
    fn default() -> Self {
        let found = std::array::from_fn(|_| AtomicU64::new(0));
        Self { known: Mutex::new(Generations::new(DIRS_MAX)), found, cleared: AtomicU64::new(0) }
    }
}

impl Alone {
    fn counter(&self, dir: Ino) -> &AtomicU64 {
        &self.found[dir.0 as usize % COUNTERS]
    }

    /// Changes whenever all is to be forgotten.
    pub(crate) fn cleared(&self) -> u64 {
        self.cleared.load(Acquire)
    }

    /// What a directory is just now.
    pub(crate) fn standing(&self, dir: &Inode, mount: MountId, key: UfsKey) -> Standing {
        let found = self.counter(dir.ino).load(Acquire);
        Standing { mount, key, dir: dir.ino, given_back: dir.given_back(), found, cleared: self.cleared() }
    }

    /// At `since_ms`, after the directory stood like that, the UFS had nothing in it that is not among our names.
    pub(crate) fn keep(&self, standing: &Standing, since_ms: u64) {
        let mut known = self.known.lock();
        let Standing { mount, key, dir, given_back, found, cleared } = standing.clone();
        if found != self.counter(dir).load(Acquire) || cleared != self.cleared() {
            return;
        }
        drop(known.insert(dir, Known { mount, key, given_back, since_ms }, 1));
    }

    /// The key under which the directory is known to be ours alone, and since when it was not looked at.
    fn key_of(&self, dir: &Inode, mount: MountId) -> Option<(UfsKey, u64)> {
        let known = self.known.lock();
        let found = known.get(&dir.ino)?;
        let holds = found.mount == mount && found.given_back == dir.given_back();
        holds.then(|| (found.key.clone(), found.since_ms))
    }

    /// A name that is not ours was found in the directory.
    pub(crate) fn forget(&self, dir: Ino) {
        let mut known = self.known.lock();
        self.counter(dir).fetch_add(1, AcqRel);
        known.remove(&dir);
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut known = self.known.lock();
        self.cleared.fetch_add(1, AcqRel);
        drop(known.clear());
    }
}

impl Namespace {
    /// When a directory that the UFS has at `key` was last known to have nothing but our names, if that may be believed.
    pub(crate) fn alone_since(&self, dir: &Inode, mount: MountId, key: &UfsKey) -> FsResult<Option<u64>> {
        let Some((known, since_ms)) = self.alone.key_of(dir, mount) else { return Ok(None) };
        let ttl_ms = self.shared.metadata_ttl_ms(&dir.record())?;
        let young = self.shared.now_ms().checked_sub(since_ms).is_some_and(|age| age < ttl_ms);
        Ok((young && known == *key).then_some(since_ms))
    }

    /// A directory was made here under `name`. `cleared` is what [`Alone::cleared`] said before.
    pub(crate) fn learn_made(&self, (parent, name): (Ino, &Name), made: &Made, cleared: u64) {
        let Some(dir) = self.shared.table.get(made.ino) else { return };
        let mount = dir.record().mount;
        if self.shared.ufs.lists_attrs(mount) {
            return;
        }
        let vacant = match &made.vacancy {
            Vacancy::Unknown => None,
            Vacancy::Asked(key, asked_ms) => Some((key.clone(), *asked_ms)),
            // It may be there a moment later, with what others put into it. Where nothing of theirs was, nothing is below.
            Vacancy::NoDirectory => {
                let parent = self.shared.table.get(parent);
                let known = parent.and_then(|parent| self.alone.key_of(&parent, mount));
                known.map(|(key, since_ms)| (key.child(name), since_ms))
            }
        };
        let Some((key, since_ms)) = vacant else { return };
        let standing = Standing { cleared, ..self.alone.standing(&dir, mount, key) };
        // A name that came and was given back before that would not be missed otherwise.
        if dir.names_epoch() == 0 {
            self.alone.keep(&standing, since_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::a_dir;

    fn key(text: &str) -> UfsKey {
        UfsKey::new(text.as_bytes()).unwrap()
    }

    fn is_known(alone: &Alone, dir: &Inode) -> bool {
        alone.key_of(dir, MountId(2)).is_some_and(|known| known == (key("d"), 7))
    }

    #[test]
    fn what_is_known_ends_with_a_name_that_is_theirs() {
        let (alone, dir) = (Alone::default(), a_dir());
        let before = alone.standing(&dir, MountId(2), key("d"));
        alone.keep(&before, 7);
        assert!(is_known(&alone, &dir) && alone.key_of(&dir, MountId(3)).is_none());
        dir.name_given_back();
        assert!(!is_known(&alone, &dir));
        alone.keep(&before, 7);
        assert!(!is_known(&alone, &dir), "the name was given back after it was looked");
        alone.keep(&alone.standing(&dir, MountId(2), key("d")), 7);
        assert!(is_known(&alone, &dir));
    }

    #[test]
    fn what_was_found_or_forgotten_while_it_was_looked_is_not_overlooked() {
        let (alone, dir) = (Alone::default(), a_dir());
        for forget in [|alone: &Alone, dir: Ino| alone.forget(dir), |alone: &Alone, _: Ino| alone.clear()] {
            let before = alone.standing(&dir, MountId(2), key("d"));
            alone.keep(&before, 7);
            assert!(is_known(&alone, &dir));
            forget(&alone, dir.ino);
            assert!(!is_known(&alone, &dir));
            alone.keep(&before, 7);
            assert!(!is_known(&alone, &dir));
        }
    }

    #[test]
    fn directories_are_bounded_and_the_oldest_go() {
        let (alone, dir) = (Alone::default(), a_dir());
        let standing = alone.standing(&dir, MountId(2), key("d"));
        for n in 0..10 * DIRS_MAX as u64 {
            alone.keep(&Standing { dir: Ino(n * COUNTERS as u64), found: 0, ..standing.clone() }, 7);
        }
        let known = alone.known.lock();
        assert!(known.weight() <= DIRS_MAX);
        assert!(known.get(&Ino((10 * DIRS_MAX as u64 - 1) * COUNTERS as u64)).is_some());
    }
}
