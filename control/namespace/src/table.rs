//! The inode table: every inode somebody knows of, readable from any core without asking the home.
//!
//! **Owns** the inodes in memory: their records, how often the kernel and open handles refer to them, and the
//! numbers of clean ones. **Never does** I/O. Records of stored inodes are written by the home alone; clean
//! ones are put in by whoever asked the UFS.
//!
//! **What stays:** an inode that the kernel has looked up, that is held open, that somebody works on right
//! now, or whose last change the engine does not have yet. All others are a cache, bounded by `inodes_max`:
//! the one that was let go of first is forgotten first.

use crate::record::{InodeRecord, UfsAt};
use forebay_types::{Attr, FileKind, Ino, MountId, UfsKey, UfsVersion};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};
use xxhash_rust::xxh3::Xxh3;

/// Spreads the locks; a power of two well above the number of cores.
const SLICES: usize = 256;
/// How many inodes are looked at for one that can go, when one comes in: keeps the cost of coming in even.
const EVICT_TRIES: usize = 4;

/// What the home knows of a directory's own names in the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum OwnNames {
    Unknown = 0,
    /// Neither names nor whiteouts: the engine need not be asked.
    None = 1,
    Some = 2,
}

/// An inode in memory.
pub(crate) struct Inode {
    pub(crate) ino: Ino,
    live: RwLock<Live>,
    lookups: AtomicU64,
    holds: AtomicU32,
    /// Stands in the slice's list of inodes that may be forgotten.
    idle: AtomicBool,
    /// Counts the changes of a directory's names.
    names_epoch: AtomicU64,
    own_names: AtomicU8,
    /// Changes whenever a name in this directory stops being ours, and is like no other inode's.
    given_back: AtomicU64,
    /// When a directory was last seen to be empty in the UFS, in milliseconds of the clock; 0: never, or its
    /// names have changed since.
    empty_ms: AtomicU64,
}

#[derive(Clone)]
struct Live {
    record: Arc<InodeRecord>,
    /// The engine (or the log) has the record.
    stored: bool,
    /// The log record that changed it last; the engine has it once that is committed.
    changed_by: u64,
    /// When the UFS last said that this is what it has, in milliseconds of the clock; 0: never.
    validated_ms: u64,
    /// Mode, owner and times are known; a listing alone may not tell them.
    whole: bool,
}

/// A number that was never given before in this process: an inode that is forgotten and read again is told from
/// what it was.
fn new_stamp() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, AcqRel)
}

impl Inode {
    fn new(ino: Ino, live: Live) -> Self {
        Self {
            ino,
            live: RwLock::new(live),
            lookups: AtomicU64::new(0),
            holds: AtomicU32::new(0),
            idle: AtomicBool::new(false),
            names_epoch: AtomicU64::new(0),
            own_names: AtomicU8::new(OwnNames::Unknown as u8),
            given_back: AtomicU64::new(new_stamp()),
            empty_ms: AtomicU64::new(0),
        }
    }

    /// Takes over a new state; when the UFS was asked last stays.
    fn replace(&self, new: Live) {
        let mut live = self.live.write();
        let validated_ms = live.validated_ms;
        *live = Live { validated_ms, ..new };
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

    pub(crate) fn add_lookups(&self, count: u64) {
        self.lookups.fetch_add(count, AcqRel);
    }

    pub(crate) fn hold(&self) {
        self.holds.fetch_add(1, AcqRel);
    }

    pub(crate) fn names_epoch(&self) -> u64 {
        self.names_epoch.load(Acquire)
    }

    pub(crate) fn own_names(&self) -> OwnNames {
        match self.own_names.load(Acquire) {
            1 => OwnNames::None,
            2 => OwnNames::Some,
            _ => OwnNames::Unknown,
        }
    }

    /// Records what was read when the names were at `epoch`.
    pub(crate) fn learn_own_names(&self, some: bool, epoch: u64) {
        let learned = if some { OwnNames::Some } else { OwnNames::None };
        // The lock orders this with the home's own note: whichever comes second sees the other.
        let _live = self.live.write();
        if self.names_epoch() == epoch {
            self.own_names.store(learned as u8, Release);
        }
    }

    /// The home has changed a name in this directory.
    pub(crate) fn names_changed(&self) {
        let _live = self.live.write();
        self.names_epoch.fetch_add(1, AcqRel);
        self.own_names.store(OwnNames::Some as u8, Release);
        self.empty_ms.store(0, Release);
    }

    /// The home has given a name in this directory back to the UFS to answer for.
    pub(crate) fn name_given_back(&self) {
        self.given_back.store(new_stamp(), Release);
    }

    /// Tells whether a name was given back in between: then it is another.
    pub(crate) fn given_back(&self) -> u64 {
        self.given_back.load(Acquire)
    }

    /// Records that the UFS has nothing visible in this directory, seen while its names were at `epoch`.
    pub(crate) fn prove_empty(&self, now_ms: u64, epoch: u64) {
        let _live = self.live.write();
        if self.names_epoch() == epoch {
            self.empty_ms.store(now_ms.max(1), Release);
        }
    }

    /// Whether that was at most `age_max_ms` ago.
    pub(crate) fn is_proven_empty(&self, now_ms: u64, age_max_ms: u64) -> bool {
        let seen = self.empty_ms.load(Acquire);
        seen > 0 && now_ms.checked_sub(seen).is_none_or(|age| age <= age_max_ms)
    }

    fn is_idle(&self, committed: u64) -> bool {
        let in_use = self.lookups.load(Acquire) > 0 || self.holds.load(Acquire) > 0;
        !in_use && self.live.read().changed_by <= committed
    }
}

#[derive(Default)]
struct Slice {
    inodes: HashMap<Ino, Arc<Inode>>,
    /// Inodes that were let go of, oldest first. Bounded by the number of inodes: each stands here once.
    idle: VecDeque<Ino>,
}

/// All inodes in memory.
pub(crate) struct Table {
    slices: Box<[Mutex<Slice>]>,
    slice_max: usize,
    /// The last log record the engine has.
    committed: AtomicU64,
    /// The engine holds records with derived numbers, which a clean inode must not collide with.
    stored_derived: AtomicBool,
}

/// What makes a clean inode the one it is.
pub(crate) struct CleanId<'a> {
    pub(crate) mount: MountId,
    pub(crate) key: &'a UfsKey,
    pub(crate) kind: FileKind,
    pub(crate) version: Option<&'a UfsVersion>,
}

impl CleanId<'_> {
    /// The number of a clean inode: frozen, so that every restart gives a file the same. `attempt` counts the
    /// collisions before.
    pub(crate) fn number(&self, attempt: u32) -> Ino {
        let mut hash = Xxh3::new();
        hash.update(&self.mount.0.to_le_bytes());
        hash.update(&[crate::record::kind_code(self.kind) as u8]);
        hash.update(&(self.key.as_bytes().len() as u32).to_le_bytes());
        hash.update(self.key.as_bytes());
        // A directory is the same whatever is put into it.
        if let (Some(version), false) = (self.version, self.kind == FileKind::Directory) {
            hash.update(version.as_bytes());
        }
        if attempt > 0 {
            hash.update(&attempt.to_le_bytes());
        }
        Ino(hash.digest() | Ino::DERIVED_BIT)
    }
}

/// What came of offering a clean inode to the table.
pub(crate) enum Offered {
    /// It is there now, or was.
    Here(Arc<Inode>),
    /// Another inode has the number.
    Taken,
}

impl Table {
    pub(crate) fn new(inodes_max: usize, committed: u64, stored_derived: bool) -> Self {
        Self {
            slices: (0..SLICES).map(|_| Mutex::default()).collect(),
            slice_max: inodes_max.div_ceil(SLICES).max(1),
            committed: AtomicU64::new(committed),
            stored_derived: AtomicBool::new(stored_derived),
        }
    }

    fn slice(&self, ino: Ino) -> &Mutex<Slice> {
        // The low bits of allocated numbers count up and those of derived ones are a hash: both spread.
        &self.slices[ino.0 as usize % SLICES]
    }

    pub(crate) fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.slice(ino).lock().inodes.get(&ino).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.lock().inodes.len()).sum()
    }

    /// What the UFS of `mount` said is to be asked again.
    pub(crate) fn forget_validations(&self, mount: MountId) {
        for slice in &self.slices {
            for inode in slice.lock().inodes.values() {
                let mut live = inode.live.write();
                if live.record.mount == mount {
                    live.validated_ms = 0;
                }
            }
        }
    }

    pub(crate) fn set_committed(&self, seq: u64) {
        self.committed.store(seq, Release);
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Acquire)
    }

    pub(crate) fn any_stored_derived(&self) -> bool {
        self.stored_derived.load(Acquire)
    }

    /// Puts in a record that was read from the engine, unless a newer one is here.
    pub(crate) fn load(&self, ino: Ino, record: InodeRecord) -> Arc<Inode> {
        let live =
            Live { record: Arc::new(record), stored: true, changed_by: 0, validated_ms: 0, whole: true };
        self.enter(ino, live)
    }

    fn enter(&self, ino: Ino, live: Live) -> Arc<Inode> {
        let mut slice = self.slice(ino).lock();
        if let Some(known) = slice.inodes.get(&ino) {
            return Arc::clone(known);
        }
        self.make_room(&mut slice);
        let inode = Arc::new(Inode::new(ino, live));
        // Until somebody lays claim to it, it may be forgotten again.
        inode.idle.store(true, Release);
        slice.idle.push_back(ino);
        slice.inodes.insert(ino, Arc::clone(&inode));
        inode
    }

    /// Offers the table what the UFS said. An inode with the same content keeps its number and is validated;
    /// what a listing left out (`whole` is false) replaces nothing that is known.
    pub(crate) fn offer_clean(&self, ino: Ino, record: InodeRecord, whole: bool, now_ms: u64) -> Offered {
        let inode = self.get(ino).unwrap_or_else(|| {
            let record = Arc::new(record.clone());
            self.enter(ino, Live { record, stored: false, changed_by: 0, validated_ms: now_ms, whole })
        });
        let mut live = inode.live.write();
        let known = &live.record;
        let same_place =
            known.at == record.at && known.ufs_at == UfsAt::Inherit && known.mount == record.mount;
        if !same_place || known.kind != record.kind || known.version != record.version || known.nlink == 0 {
            return Offered::Taken;
        }
        if !live.stored && (whole || !live.whole) {
            live.whole = whole;
            if *live.record != record {
                live.record = Arc::new(record);
            }
        }
        live.validated_ms = now_ms;
        drop(live);
        Offered::Here(inode)
    }

    /// The home has changed a record that the engine is to have.
    pub(crate) fn apply(&self, ino: Ino, record: Arc<InodeRecord>, seq: u64) {
        if ino.is_derived() {
            self.stored_derived.store(true, Release);
        }
        let live = Live { record, stored: true, changed_by: seq, validated_ms: 0, whole: true };
        let inode = self.enter(ino, live.clone());
        inode.replace(live);
    }

    /// The home has let a record go: those who still refer to the inode see its last state.
    pub(crate) fn apply_gone(&self, ino: Ino, record: Arc<InodeRecord>, seq: u64) {
        if let Some(inode) = self.get(ino) {
            inode.replace(Live { record, stored: false, changed_by: seq, validated_ms: 0, whole: true });
        }
    }

    /// Gives back `count` of the kernel's lookups.
    pub(crate) fn forget(&self, ino: Ino, count: u64) {
        let mut slice = self.slice(ino).lock();
        let Some(inode) = slice.inodes.get(&ino).cloned() else { return };
        let left = inode.lookups.fetch_update(AcqRel, Acquire, |known| Some(known.saturating_sub(count)));
        if left.unwrap_or(0) <= count {
            self.let_go(&mut slice, &inode);
        }
    }

    /// Gives back one hold.
    pub(crate) fn unhold(&self, ino: Ino) {
        let mut slice = self.slice(ino).lock();
        let Some(inode) = slice.inodes.get(&ino).cloned() else { return };
        let left = inode.holds.fetch_update(AcqRel, Acquire, |known| Some(known.saturating_sub(1)));
        if left.unwrap_or(0) <= 1 {
            self.let_go(&mut slice, &inode);
        }
    }

    fn let_go(&self, slice: &mut Slice, inode: &Arc<Inode>) {
        if !inode.idle.swap(true, AcqRel) {
            slice.idle.push_back(inode.ino);
        }
        if slice.inodes.len() > self.slice_max {
            self.evict(slice);
        }
    }

    fn make_room(&self, slice: &mut Slice) {
        if slice.inodes.len() >= self.slice_max {
            self.evict(slice);
        }
    }

    /// Forgets up to a few inodes that nobody uses. Those that are in use leave the list: they come back to
    /// it when they are let go of. Those that wait for the engine go to its end.
    fn evict(&self, slice: &mut Slice) {
        for _ in 0..EVICT_TRIES {
            let Some(ino) = slice.idle.pop_front() else { return };
            let Some(inode) = slice.inodes.get(&ino) else { continue };
            if !inode.is_idle(self.committed()) {
                let waits = inode.lookups.load(Acquire) == 0 && inode.holds.load(Acquire) == 0;
                if waits {
                    slice.idle.push_back(ino);
                } else {
                    inode.idle.store(false, Release);
                }
                continue;
            }
            // The table's own reference is the only one: nobody can be about to claim it.
            if Arc::strong_count(inode) == 1 {
                slice.inodes.remove(&ino);
            } else {
                slice.idle.push_back(ino);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: inode numbers of clean files outlive restarts.
    #[test]
    fn derived_numbers_never_change() {
        let key = UfsKey::new(*b"a/b").unwrap();
        let version = UfsVersion::new(b"v1");
        let id = |kind| CleanId { mount: MountId(2), key: &key, kind, version: Some(&version) };
        let numbers = [
            id(FileKind::Regular).number(0),
            id(FileKind::Regular).number(1),
            id(FileKind::Directory).number(0),
        ];
        assert!(numbers.iter().all(|ino| ino.is_derived()));
        assert_eq!(numbers.map(|ino| format!("{:016x}", ino.0)), FROZEN);
    }
    const FROZEN: [&str; 3] = ["ac7bccd079bcbf92", "dea90032ff175d0d", "deb4f2881b4a1f45"];
}
