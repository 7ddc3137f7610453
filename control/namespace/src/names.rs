//! The cache of names: what a name in a directory resolved to, and until when that may be believed.
//!
//! **Owns** answers, positive and negative, of the engine and the UFS. The home takes an answer away when it
//! changes the name; an answer that was found before a change and comes in after it is refused (by [`Names::epoch`]:
//! counted for each name, or nearly so, since a directory in which much is carried changes all the time). Bounded: of two generations the older one is dropped whole when the younger one is
//! full, so that what is asked for again stays and nothing need be counted or sorted.

use forebay_types::{Ino, Name};
use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

/// Spreads the locks.
const SLICES: usize = 64;
/// Counters of changes; names that share one are mistaken for each other, which costs a question and no more.
const EPOCHS: usize = 4096;
const _: () = assert!(EPOCHS.is_multiple_of(SLICES), "names that share a counter share a lock");

/// What a name resolved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An inode.
    Present(Ino),
    /// Nothing.
    Absent,
    /// Nothing, since the directory is not in the UFS, which was not asked about the name.
    NoDirectory,
}

/// An answer and when the UFS gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cached {
    pub(crate) answer: Answer,
    /// Milliseconds of the clock; `None`: it is ours, and good until the home takes it away.
    pub(crate) asked_ms: Option<u64>,
}

impl Cached {
    /// Whether the answer is at most `ttl_ms` old. A clock that was turned back ages everything at once.
    pub(crate) fn is_fresh(&self, now_ms: u64, ttl_ms: u64) -> bool {
        self.asked_ms.is_none_or(|asked| now_ms.checked_sub(asked).is_some_and(|age| age < ttl_ms))
    }
}

#[derive(PartialEq, Eq)]
struct NameKey {
    dir: Ino,
    name: Name,
}

struct NameRef<'a> {
    dir: Ino,
    name: &'a Name,
}

impl Hash for NameKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NameRef { dir: self.dir, name: &self.name }.hash(state);
    }
}

impl Hash for NameRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dir.hash(state);
        self.name.hash(state);
    }
}

impl Equivalent<NameKey> for NameRef<'_> {
    fn equivalent(&self, key: &NameKey) -> bool {
        self.dir == key.dir && *self.name == key.name
    }
}

/// The bytes of an answer and its key, without those of the name.
pub(crate) const ENTRY_LEN: usize = size_of::<(NameKey, Cached)>();

#[derive(Default)]
struct Slice {
    young: HashMap<NameKey, Cached>,
    old: HashMap<NameKey, Cached>,
}

/// The cache.
pub(crate) struct Names {
    slices: Box<[Mutex<Slice>]>,
    epochs: Box<[AtomicU64]>,
    young_max: usize,
}

impl Names {
    /// A cache of at most `names_max` answers.
    pub(crate) fn new(names_max: usize) -> Self {
        let young_max = (names_max / 2).div_ceil(SLICES).max(1);
        let epochs = (0..EPOCHS).map(|_| AtomicU64::new(0)).collect();
        Self { slices: (0..SLICES).map(|_| Mutex::default()).collect(), epochs, young_max }
    }

    fn place(&self, dir: Ino, name: &Name) -> (&Mutex<Slice>, &AtomicU64) {
        let mixed = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), dir.0) as usize;
        (&self.slices[mixed % SLICES], &self.epochs[mixed % EPOCHS])
    }

    fn slice(&self, dir: Ino, name: &Name) -> &Mutex<Slice> {
        self.place(dir, name).0
    }

    /// Counts the changes of a name.
    pub(crate) fn epoch(&self, dir: Ino, name: &Name) -> u64 {
        self.place(dir, name).1.load(Acquire)
    }

    pub(crate) fn get(&self, dir: Ino, name: &Name) -> Option<Cached> {
        let mut slice = self.slice(dir, name).lock();
        let key = NameRef { dir, name };
        if let Some(cached) = slice.young.get(&key) {
            return Some(*cached);
        }
        let (key, cached) = slice.old.remove_entry(&key)?;
        self.put(&mut slice, key, cached);
        Some(cached)
    }

    fn put(&self, slice: &mut Slice, key: NameKey, cached: Cached) {
        if slice.young.len() >= self.young_max {
            slice.old = std::mem::take(&mut slice.young);
        }
        slice.young.insert(key, cached);
    }

    /// Keeps an answer that was found while the name was at `epoch`.
    pub(crate) fn learn(&self, dir: Ino, epoch: u64, name: &Name, cached: Cached) {
        let (slice, now) = self.place(dir, name);
        let mut slice = slice.lock();
        if now.load(Acquire) == epoch {
            slice.old.remove(&NameRef { dir, name });
            self.put(&mut slice, NameKey { dir, name: name.clone() }, cached);
        }
    }

    /// Takes an answer away: the name has changed.
    pub(crate) fn forget(&self, dir: Ino, name: &Name) {
        let (slice, epoch) = self.place(dir, name);
        let mut slice = slice.lock();
        epoch.fetch_add(1, AcqRel);
        let key = NameRef { dir, name };
        slice.young.remove(&key);
        slice.old.remove(&key);
    }

    /// Takes all answers away.
    pub(crate) fn forget_all(&self) {
        for (at, slice) in self.slices.iter().enumerate() {
            let mut slice = slice.lock();
            for epoch in self.epochs.iter().skip(at).step_by(SLICES) {
                epoch.fetch_add(1, AcqRel);
            }
            slice.young.clear();
            slice.old.clear();
        }
    }

    /// The number of answers held.
    pub(crate) fn len(&self) -> usize {
        let of = |slice: &Mutex<Slice>| {
            let slice = slice.lock();
            slice.young.len() + slice.old.len()
        };
        self.slices.iter().map(of).sum()
    }
}
