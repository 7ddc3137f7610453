//! One inode in memory: its record, who refers to it, and what is known of a directory's own names.
//!
//! **Owns** the state of one inode and its order: a record is replaced whole, and a change of a name is ordered with the
//! proof that the directory is empty. **Never does** decide whether the inode stays: [`crate::table`] does.

use crate::images::OfDir;
use crate::record::InodeRecord;
use forebay_types::{Attr, Ino, Name};
use hashbrown::HashSet;
use parking_lot::{RwLock, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};

/// The most own names of one directory that are remembered by their hashes, of 8 bytes and about as much around each.
const OWN_NAMES_MAX: usize = 1 << 20;
/// The most that are read for it.
pub(crate) const OWN_NAMES_READ_MAX: usize = 16 << 10;
const _: () = assert!(OWN_NAMES_READ_MAX < OWN_NAMES_MAX);

/// What the home knows of a directory's own names in the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnNames {
    Unknown,
    /// Neither names nor whiteouts: the engine need not be asked.
    None,
    Some,
}

/// The own names of a directory, whiteouts among them, by their hashes. A name that was taken away stays: two names
/// may share a hash. So what is not here is not there.
#[derive(Default)]
enum OwnHashes {
    #[default]
    Unknown,
    /// Somebody reads them; these have come meanwhile.
    BeingRead(HashSet<u64>),
    Known(HashSet<u64>),
    /// More than are kept in memory.
    TooMany,
}

impl OwnHashes {
    fn add(&mut self, name: &Name) {
        let (Self::BeingRead(hashes) | Self::Known(hashes)) = self else { return };
        hashes.insert(hash_of(name));
        if hashes.len() > OWN_NAMES_MAX {
            *self = Self::TooMany;
        }
    }
}

fn hash_of(name: &Name) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

/// What a listing by an image touches of an inode, in one line of the processor's cache.
#[derive(Default)]
#[repr(align(16))]
pub(crate) struct Told {
    /// Lookups of the kernel.
    pub(crate) lookups: AtomicU64,
    /// Changes whenever something else is to be told of it.
    changes: AtomicU64,
}

impl Told {
    /// Asks for it: several that are asked for one after the other come at one time.
    pub(crate) fn touch(&self) -> u64 {
        self.changes.load(Relaxed)
    }
}

/// An inode in memory.
pub(crate) struct Inode {
    pub(crate) ino: Ino,
    pub(crate) live: RwLock<Live>,
    pub(crate) told: Told,
    pub(crate) holds: AtomicU32,
    /// Stands in the slice's list of inodes that may be forgotten.
    pub(crate) idle: AtomicBool,
    /// Counts the changes of a directory's names.
    names_epoch: AtomicU64,
    pub(crate) image: OfDir,
    own_names: RwLock<OwnHashes>,
    /// Changes whenever a name in this directory stops being ours, and is like no other inode's.
    given_back: AtomicU64,
    /// When a directory was last seen to have nothing visible in the UFS, in milliseconds of the clock; 0: never, or a name
    /// was given back since.
    empty_ms: AtomicU64,
}

/// What an inode is just now.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) record: Arc<InodeRecord>,
    /// The engine (or the log) has the record.
    pub(crate) stored: bool,
    /// The log record that changed it last; the engine has it once that is committed.
    pub(crate) changed_by: u64,
    /// When the UFS last said that this is what it has, in milliseconds of the clock; 0: never.
    pub(crate) validated_ms: u64,
    /// Mode, owner and times are known; a listing alone may not tell them.
    pub(crate) whole: bool,
}

/// A number that was never given before in this process: an inode that is forgotten and read again is told from
/// what it was.
fn new_stamp() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, AcqRel)
}

impl Inode {
    pub(crate) fn new(ino: Ino, live: Live) -> Self {
        Self {
            ino,
            live: RwLock::new(live),
            told: Told::default(),
            holds: AtomicU32::new(0),
            idle: AtomicBool::new(false),
            names_epoch: AtomicU64::new(0),
            image: OfDir::default(),
            own_names: RwLock::default(),
            given_back: AtomicU64::new(new_stamp()),
            empty_ms: AtomicU64::new(0),
        }
    }

    /// Takes over a new state; when the UFS was asked last stays.
    pub(crate) fn replace(&self, new: Live) {
        let mut live = self.live.write();
        let validated_ms = live.validated_ms;
        let same = live.whole == new.whole && live.record.tells_as(&new.record);
        *live = Live { validated_ms, ..new };
        if !same {
            self.changed(&live);
        }
    }

    /// Something else is to be told of it, as its state says, whose lock this is.
    pub(crate) fn changed(&self, _: &RwLockWriteGuard<'_, Live>) {
        self.told.changes.fetch_add(1, Release);
    }

    /// Whoever finds that this is what it was has what was read then, as far as a listing tells it.
    pub(crate) fn changes(&self) -> u64 {
        self.told.changes.load(Acquire)
    }

    pub(crate) fn record(&self) -> Arc<InodeRecord> {
        Arc::clone(&self.live.read().record)
    }

    pub(crate) fn attr(&self) -> Attr {
        self.live.read().record.attr(self.ino)
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.live.read().stored
    }

    /// Whether all its attributes are known.
    pub(crate) fn is_whole(&self) -> bool {
        self.live.read().whole
    }

    pub(crate) fn validated_ms(&self) -> u64 {
        self.live.read().validated_ms
    }

    pub(crate) fn set_validated(&self, now_ms: u64) {
        self.live.write().validated_ms = now_ms;
    }

    pub(crate) fn names_epoch(&self) -> u64 {
        self.names_epoch.load(Acquire)
    }

    pub(crate) fn own_names(&self) -> OwnNames {
        match &*self.own_names.read() {
            OwnHashes::Unknown => OwnNames::Unknown,
            OwnHashes::Known(hashes) if hashes.is_empty() => OwnNames::None,
            OwnHashes::BeingRead(_) | OwnHashes::Known(_) | OwnHashes::TooMany => OwnNames::Some,
        }
    }

    /// Whether this directory surely has neither a name nor a whiteout of ours at `name`.
    pub(crate) fn lacks_own(&self, name: &Name) -> bool {
        match &*self.own_names.read() {
            OwnHashes::Known(hashes) => !hashes.contains(&hash_of(name)),
            OwnHashes::Unknown | OwnHashes::BeingRead(_) | OwnHashes::TooMany => false,
        }
    }

    /// Whether the caller is to read the own names of this directory, and to say what they are with
    /// [`Inode::learn_own_names`]: at most [`OWN_NAMES_READ_MAX`] of them.
    pub(crate) fn begin_own_names(&self) -> bool {
        let mut known = self.own_names.write();
        let unknown = matches!(*known, OwnHashes::Unknown);
        if unknown {
            *known = OwnHashes::BeingRead(HashSet::new());
        }
        unknown
    }

    /// What was read after [`Inode::begin_own_names`]; `None`: there are more, or it could not be read.
    pub(crate) fn learn_own_names<'n>(&self, read: Option<impl Iterator<Item = &'n Name>>) {
        let mut known = self.own_names.write();
        *known = match (std::mem::take(&mut *known), read) {
            (OwnHashes::BeingRead(mut hashes), Some(names)) => {
                hashes.extend(names.map(hash_of));
                OwnHashes::Known(hashes)
            }
            _ => OwnHashes::TooMany,
        };
    }

    /// The home has changed a name in this directory.
    pub(crate) fn name_changed(&self, name: &Name) {
        self.names_epoch.fetch_add(1, AcqRel);
        self.own_names.write().add(name);
    }

    /// The home has given a name in this directory back to the UFS to answer for.
    pub(crate) fn name_given_back(&self) {
        // The lock orders this with who proves that the directory is empty: whichever comes second sees the other.
        let _live = self.live.write();
        self.given_back.store(new_stamp(), Release);
        self.empty_ms.store(0, Release);
    }

    /// Tells whether a name was given back in between: then it is another.
    pub(crate) fn given_back(&self) -> u64 {
        self.given_back.load(Acquire)
    }

    /// Records that the UFS has nothing visible in this directory, seen while `given_back` was what it is now. Names that come
    /// are our own, and what is removed hides nothing any more: neither brings anything of the UFS to sight.
    pub(crate) fn prove_empty(&self, now_ms: u64, given_back: u64) {
        let _live = self.live.write();
        if self.given_back() == given_back {
            self.empty_ms.store(now_ms.max(1), Release);
        }
    }

    /// Whether that was at most `age_max_ms` ago.
    pub(crate) fn is_proven_empty(&self, now_ms: u64, age_max_ms: u64) -> bool {
        let seen = self.empty_ms.load(Acquire);
        seen > 0 && now_ms.checked_sub(seen).is_none_or(|age| age <= age_max_ms)
    }

    /// Whether nothing but lookups of the kernel keeps it in the table. The root is never let go of.
    pub(crate) fn is_only_looked_up(&self) -> bool {
        self.told.lookups.load(Acquire) > 0 && self.holds.load(Acquire) == 0 && self.ino != Ino::ROOT
    }

    pub(crate) fn is_idle(&self, committed: u64) -> bool {
        let in_use = self.told.lookups.load(Acquire) > 0 || self.holds.load(Acquire) > 0;
        !in_use && self.live.read().changed_by <= committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::a_dir;

    #[test]
    fn a_name_that_came_while_the_names_were_read_is_not_missed() {
        let (dir, name) = (a_dir(), |text: &str| Name::new(text.as_bytes()).unwrap());
        dir.name_changed(&name("before"));
        assert_eq!(dir.own_names(), OwnNames::Unknown);
        assert!(dir.begin_own_names() && !dir.begin_own_names());
        dir.name_changed(&name("meanwhile"));
        assert!(!dir.lacks_own(&name("other")), "not read yet");
        dir.learn_own_names(Some([name("before")].iter()));
        dir.name_changed(&name("after"));
        let lacks = ["before", "meanwhile", "after", "other"].map(|text| dir.lacks_own(&name(text)));
        assert_eq!((lacks, dir.own_names()), ([false, false, false, true], OwnNames::Some));
    }

    #[test]
    fn a_directory_is_empty_until_a_name_in_it_is_given_back() {
        let dir = a_dir();
        let before = dir.given_back();
        dir.name_changed(&Name::new(*b"made, or gone for good").unwrap());
        dir.prove_empty(10, before);
        assert!(dir.is_proven_empty(12, 5) && !dir.is_proven_empty(16, 5));
        dir.name_given_back();
        assert!(!dir.is_proven_empty(12, 5));
        dir.prove_empty(12, before);
        assert!(!dir.is_proven_empty(12, 5), "the name was given back after it was looked");
    }

    #[test]
    fn names_that_cannot_all_be_known_are_asked_for() {
        let dir = a_dir();
        assert!(dir.begin_own_names());
        dir.learn_own_names(None::<std::slice::Iter<'_, Name>>);
        assert_eq!(dir.own_names(), OwnNames::Some);
        assert!(!dir.lacks_own(&Name::new(*b"x").unwrap()) && !dir.begin_own_names());
    }
}
