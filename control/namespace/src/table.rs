//! The inode table: every inode somebody knows of, readable from any core without asking the home.
//!
//! **Owns** which inodes are in memory, how often the kernel and open handles refer to them, and the
//! numbers of clean ones. **Never does** I/O. Records of stored inodes are written by the home alone; clean
//! ones are put in by whoever asked the UFS.
//!
//! **What the next process is left:** the records of clean directories that the kernel has looked up, and of clean files
//! that are open, are kept with an [`InodeMemo`] if there is one: the kernel knows them by their numbers alone.
//!
//! **What stays:** an inode that the kernel has looked up, that is held open, that somebody works on right
//! now, or whose last change the engine does not have yet. All others are a cache, bounded by `inodes_max`:
//! the one that was let go of first is forgotten first.

use crate::inode::{Inode, Live};
use crate::record::{InodeRecord, UfsAt};
use forebay_types::{FileKind, Ino, InodeMemo, MountId, UfsKey, UfsVersion};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release, fence,
};
use xxhash_rust::xxh3::Xxh3;

/// Spreads the locks; a power of two well above the number of cores.
const SLICES: usize = 256;
/// How many inodes are looked at for one that can go, when one comes in: keeps the cost of coming in even.
const EVICT_TRIES: usize = 4;
/// What part of what the table may hold is made free at a time where it is the kernel that has to forget.
const SLACK_SHARE: usize = 8;
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
    memo: Option<Arc<dyn InodeMemo>>,
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
            slice_max: (inodes_max / SLICES).max(1),
            committed: AtomicU64::new(committed),
            stored_derived: AtomicBool::new(stored_derived),
            memo: None,
        }
    }

    /// Leaves the next process what it would not know.
    pub(crate) fn with_memo(self, memo: Option<Arc<dyn InodeMemo>>) -> Self {
        Self { memo, ..self }
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

    /// Puts in what a process before this one told the kernel of, and what no engine has. The kernel still refers to a
    /// directory; how often is not known, and it gives back all of it at once.
    pub(crate) fn recall(&self, ino: Ino, record: InodeRecord) {
        let lookups = u64::from(record.is_dir());
        let live =
            Live { record: Arc::new(record), stored: false, changed_by: 0, validated_ms: 0, whole: true };
        self.enter(ino, live).told.lookups.fetch_add(lookups, AcqRel);
    }

    /// Counts lookups of the kernel.
    pub(crate) fn count_lookups(&self, inode: &Inode, count: u64) {
        if inode.told.lookups.fetch_add(count, AcqRel) == 0 {
            self.memorize(inode, true);
        }
    }

    /// Holds an inode, until [`Table::unhold`].
    pub(crate) fn hold(&self, inode: &Inode) {
        if inode.holds.fetch_add(1, AcqRel) == 0 {
            self.memorize(inode, false);
        }
    }

    /// Keeps what only this process knows of an inode: a directory that was looked up, or a file that is open. The lock
    /// orders this with who gives the last one back.
    fn memorize(&self, inode: &Inode, dir: bool) {
        let Some(memo) = &self.memo else { return };
        let live = inode.live.read().clone();
        if !live.stored && live.whole && live.record.is_dir() == dir {
            let _slice = self.slice(inode.ino).lock();
            memo.keep(inode.ino, &live.record.encode());
        }
    }

    /// Nobody refers to an inode any more. Only with the lock of its slice.
    fn unmemorize(&self, inode: &Inode, dir: bool) {
        let Some(memo) = &self.memo else { return };
        if inode.live.read().record.is_dir() == dir {
            memo.forget(inode.ino);
        }
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
            inode.changed(&live);
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
        let left =
            inode.told.lookups.fetch_update(AcqRel, Acquire, |known| Some(known.saturating_sub(count)));
        if left.unwrap_or(0) <= count {
            if inode.told.lookups.load(Acquire) == 0 {
                self.unmemorize(&inode, true);
            }
            self.let_go(&mut slice, &inode);
        }
    }

    /// How many inodes are above what it is to hold, and a little below that, so that it is not full again at once; 0 if it
    /// is not full.
    pub(crate) fn surplus(&self) -> usize {
        let most = self.slice_max * SLICES;
        match self.len() {
            len if len > most => len - most + most / SLACK_SHARE,
            _ => 0,
        }
    }

    /// Up to `count` inodes that are in the table for nothing but the kernel's lookups, so that it may be asked to give
    /// those back: of each slice as many as its share, those that are ours first, which cost no question to come back, and
    /// then those that the UFS was asked about the longest ago.
    pub(crate) fn only_looked_up(&self, count: usize) -> Vec<Ino> {
        let of_slice = count.div_ceil(SLICES);
        let mut all = Vec::new();
        for slice in &self.slices {
            let slice = slice.lock();
            let known = slice.inodes.values().filter(|inode| inode.is_only_looked_up());
            let mut ages: Vec<_> = known.map(|inode| (inode.validated_ms(), inode.ino)).collect();
            drop(slice);
            ages.sort_unstable();
            all.extend(ages.into_iter().take(of_slice).map(|(_, ino)| ino));
        }
        all.truncate(count);
        all
    }

    /// Gives back one hold.
    pub(crate) fn unhold(&self, ino: Ino) {
        let mut slice = self.slice(ino).lock();
        let Some(inode) = slice.inodes.get(&ino).cloned() else { return };
        let left = inode.holds.fetch_update(AcqRel, Acquire, |known| Some(known.saturating_sub(1)));
        if left.unwrap_or(0) <= 1 {
            if inode.holds.load(Acquire) == 0 {
                self.unmemorize(&inode, false);
            }
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
            // The table's own reference is the only one: nobody can be about to lay claim to it. Looked at before the claims
            // are: who had it in hand until just now has counted his by the time he lets go.
            let is_unclaimed = Arc::strong_count(inode) == 1;
            fence(Acquire);
            if !inode.is_idle(self.committed()) {
                let waits = inode.told.lookups.load(Acquire) == 0 && inode.holds.load(Acquire) == 0;
                if waits {
                    slice.idle.push_back(ino);
                } else {
                    inode.idle.store(false, Release);
                }
                continue;
            }
            if is_unclaimed {
                slice.inodes.remove(&ino);
            } else {
                slice.idle.push_back(ino);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use forebay_types::{Generation, InodeState, TimeSpec};

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

    pub(crate) fn a_dir() -> std::sync::Arc<Inode> {
        let id =
            CleanId { mount: MountId(2), key: &UfsKey::root(), kind: FileKind::Directory, version: None };
        let table = Table::new(16, 0, false);
        let record = crate::record::InodeRecord {
            kind: FileKind::Directory,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks_512: 0,
            atime: TimeSpec::default(),
            mtime: TimeSpec::default(),
            ctime: TimeSpec::default(),
            extent_mtime: TimeSpec::default(),
            state: InodeState::Clean,
            mount: MountId(2),
            at: None,
            ufs_at: UfsAt::Inherit,
            left: None,
            version: None,
            extent: None,
            link_target: None,
            generation: Generation(0),
            write_open: false,
            attrs_ours: false,
            mtime_due: false,
            xattrs: Vec::new(),
            turned_at: 0,
            unpersistable: None,
        };
        match table.offer_clean(id.number(0), record, true, 1) {
            Offered::Here(inode) => inode,
            Offered::Taken => panic!("the table is empty"),
        }
    }

    #[derive(Default)]
    struct Kept(Mutex<std::collections::BTreeMap<Ino, Box<[u8]>>>);

    impl InodeMemo for Kept {
        fn keep(&self, ino: Ino, record: &[u8]) {
            self.0.lock().insert(ino, record.into());
        }
        fn forget(&self, ino: Ino) {
            self.0.lock().remove(&ino);
        }
    }

    #[test]
    fn the_next_process_is_left_what_only_this_one_knows_as_long_as_the_kernel_refers_to_it() {
        let kept = Arc::new(Kept::default());
        let table = Table::new(8 * SLICES, 0, false).with_memo(Some(Arc::clone(&kept) as _));
        let dir = InodeRecord::clone(&a_dir().record());
        let file = InodeRecord { kind: FileKind::Regular, ..dir.clone() };
        let offer = |ino, record: &InodeRecord| match table.offer_clean(Ino(ino), record.clone(), true, 1) {
            Offered::Here(inode) => inode,
            Offered::Taken => panic!("the number is free"),
        };
        let (dir_inode, file_inode) = (offer(2, &dir), offer(3, &file));
        table.count_lookups(&file_inode, 1);
        table.hold(&table.load(Ino(4), file.clone()));
        assert!(
            kept.0.lock().is_empty(),
            "a file that is only known, and what the engine has, are found again"
        );
        table.count_lookups(&dir_inode, 2);
        table.hold(&file_inode);
        assert_eq!(kept.0.lock().keys().copied().collect::<Vec<_>>(), [Ino(2), Ino(3)]);

        let next = Table::new(8 * SLICES, 0, false);
        let kept_dir = InodeRecord::decode(&kept.0.lock()[&Ino(2)]).unwrap();
        next.recall(Ino(2), kept_dir);
        assert_eq!(*next.get(Ino(2)).unwrap().record(), dir);
        // More than was counted here, since the kernel counted before.
        next.forget(Ino(2), 7);

        table.forget(Ino(2), 1);
        table.unhold(Ino(3));
        assert_eq!(kept.0.lock().keys().copied().collect::<Vec<_>>(), [Ino(2)]);
        table.forget(Ino(2), 1);
        assert!(kept.0.lock().is_empty());
    }

    #[test]
    fn what_only_the_kernel_keeps_is_too_much_above_the_bound_and_the_oldest_goes_first() {
        let table = Table::new(8 * SLICES, 0, false);
        let record = InodeRecord::clone(&a_dir().record());
        // All in one slice, looked up in turn; one of them is held as well, and one by nobody.
        let ino = |n: u64| Ino(2 + n * SLICES as u64);
        for n in 0..4 {
            let Offered::Here(inode) = table.offer_clean(ino(n), record.clone(), true, 10 - n) else {
                panic!("the number is free")
            };
            table.count_lookups(&inode, u64::from(n != 3));
        }
        table.hold(&table.get(ino(2)).unwrap());
        assert_eq!(table.only_looked_up(2 * SLICES), [ino(1), ino(0)]);
        assert_eq!(table.only_looked_up(1), [ino(1)]);
        assert_eq!(table.surplus(), 0);
        table.forget(ino(1), 1);
        assert_eq!(table.only_looked_up(SLICES), [ino(0)]);
        let small = Table::new(SLICES, 0, false);
        (0..=SLICES as u64).for_each(|n| small.hold(&small.load(Ino(n), record.clone())));
        assert_eq!(small.surplus(), 1 + SLICES / SLACK_SHARE);
    }
}
