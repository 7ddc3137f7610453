//! Extent files made beforehand, so that creating a file waits for no file system.
//!
//! **Owns** the ids (none is ever used twice), the pool of empty open files, and the helper thread that refills the pool
//! and unlinks what was removed, in batches. **Never does** anything a caller waits for, except that an empty pool makes
//! the next file on the spot. A pool that ran empty is larger from then on, up to a bound: how many files are made at once
//! differs between programs by far, and each blank costs a descriptor.
//!
//! Consecutive ids share a directory, so one directory sync makes a whole batch of blanks outlive a power loss, and the
//! first `fsync` of a new file has no directory to sync.

use crate::error::StoreError;
use crate::extent::Extent;
use crate::store::Store;
use crate::tier::{IDS_PER_DIR, Tier};
use crossbeam_queue::ArrayQueue;
use forebay_shard::File;
use forebay_types::ExtentId;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Ids are promised on disk in steps of this many, so that the header is written seldom.
const ID_STEP: u64 = 4096;
/// How many files the helper unlinks before it looks for other work.
const UNLINK_BATCH: usize = 256;
/// The helper looks at its work at least this often.
const HELPER_NAP: Duration = Duration::from_secs(1);
/// How long it waits for the last users of what it unlinked, before it turns to other work; and how often it looks.
const LAST_USERS_WAIT: Duration = Duration::from_millis(10);
const LAST_USERS_LOOK: Duration = Duration::from_micros(200);
/// How often it looks for those who take longer.
const LINGERING_LOOK: Duration = Duration::from_millis(50);

/// Hands out extent ids.
#[derive(Debug)]
pub(crate) struct Ids(Mutex<IdRange>);

#[derive(Debug)]
struct IdRange {
    next: u64,
    mark: u64,
}

impl Ids {
    pub(crate) fn starting_at(next: u64) -> Self {
        Self(Mutex::new(IdRange { next, mark: next }))
    }

    /// The next id; every [`ID_STEP`] ids the mark on every tier is raised first. Blocks.
    pub(crate) fn take(&self, tiers: &[Arc<Tier>]) -> Result<ExtentId, StoreError> {
        let mut range = self.0.lock();
        if range.next == range.mark {
            let mark = range.mark + ID_STEP;
            tiers.iter().try_for_each(|tier| tier.raise_id_mark(mark))?;
            range.mark = mark;
        }
        let id = ExtentId(range.next);
        range.next += 1;
        Ok(id)
    }
}

/// An empty extent file.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) id: ExtentId,
    pub(crate) file: File,
    pub(crate) entry_synced: bool,
}

impl Blank {
    /// Makes one. Blocks.
    pub(crate) fn make(tier: &Tier, id: ExtentId) -> Result<Self, StoreError> {
        let path = tier.path_of(id);
        let io = |e| StoreError::io(format!("creating {}", path.display()), e);
        tier.make_dir_of(id).map_err(io)?;
        let file = fs::File::options().read(true).write(true).create_new(true).open(&path).map_err(io)?;
        Ok(Self { id, file: File::new(file), entry_synced: false })
    }
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Blanks {
    ready: ArrayQueue<Blank>,
    /// How many there should be.
    wanted: AtomicUsize,
    /// The helper was told that there are too few, and has not begun to make more.
    refill: AtomicBool,
    jobs: Mutex<Jobs>,
    wake: Condvar,
    done: Condvar,
}

type Doomed = Vec<Doom>;
/// A tier and an id.
type Place = (usize, ExtentId);

/// What is to be unlinked.
#[derive(Debug)]
enum Doom {
    Extent(Arc<Extent>),
    /// A copy in a tier that nothing refers to.
    Copy(Arc<Tier>, ExtentId),
    Segment(PathBuf),
}

impl Doom {
    /// The tier and the id whose files are unlinked.
    fn place(&self) -> Option<Place> {
        match self {
            Self::Extent(extent) => Some((extent.tier_index(), extent.id())),
            Self::Copy(tier, id) => Some((tier.index, *id)),
            Self::Segment(_) => None,
        }
    }
}

#[derive(Debug, Default)]
struct Jobs {
    doomed: Doomed,
    /// Taken from `doomed` and not unlinked yet.
    unlinking: Vec<Option<Place>>,
    stop: bool,
}

impl Blanks {
    /// A pool of `count`, and of up to `count_max` once it has run empty.
    pub(crate) fn new(count: usize, count_max: usize) -> Self {
        Self {
            ready: ArrayQueue::new(count_max.max(count).max(1)),
            wanted: AtomicUsize::new(count),
            refill: AtomicBool::new(count > 0),
            jobs: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// A blank, if one is ready.
    pub(crate) fn take(&self) -> Option<Blank> {
        let blank = self.ready.pop();
        let wanted = self.wanted.load(Ordering::Relaxed);
        if blank.is_none() && wanted > 0 {
            self.wanted.store((wanted * 2).min(self.ready.capacity()), Ordering::Relaxed);
        }
        if self.ready.len() < wanted / 2 && !self.refill.swap(true, Ordering::AcqRel) {
            // The lock keeps the helper from falling asleep between its look and our call.
            let _jobs = self.jobs.lock();
            self.wake.notify_one();
        }
        blank
    }

    /// How many are ready.
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Has an extent's file and sidecar unlinked soon.
    pub(crate) fn doom(&self, extent: Arc<Extent>) {
        self.jobs.lock().doomed.push(Doom::Extent(extent));
        self.wake.notify_one();
    }

    /// Has a copy of an extent unlinked soon.
    pub(crate) fn doom_copy(&self, tier: Arc<Tier>, id: ExtentId) {
        self.jobs.lock().doomed.push(Doom::Copy(tier, id));
        self.wake.notify_one();
    }

    /// Has a segment file unlinked soon.
    pub(crate) fn doom_segment(&self, path: PathBuf) {
        self.jobs.lock().doomed.push(Doom::Segment(path));
        self.wake.notify_one();
    }

    /// Whether files of an extent in a tier are about to be unlinked, by their names: another file that gets one of these
    /// names before would go in their place.
    pub(crate) fn is_doomed(&self, tier: &Tier, id: ExtentId) -> bool {
        let (jobs, place) = (self.jobs.lock(), Some((tier.index, id)));
        jobs.unlinking.contains(&place) || jobs.doomed.iter().any(|doom| doom.place() == place)
    }

    /// Waits until all that was doomed is unlinked, or the time is up; says which. Blocks.
    pub(crate) fn wait_unlinked(&self, limit: Duration) -> bool {
        let mut jobs = self.jobs.lock();
        let busy = |jobs: &mut Jobs| !jobs.doomed.is_empty() || !jobs.unlinking.is_empty();
        !self.done.wait_while_for(&mut jobs, busy, limit).timed_out()
    }

    /// Ends the helper; what is doomed is unlinked first.
    pub(crate) fn stop(&self) {
        self.jobs.lock().stop = true;
        self.wake.notify_all();
    }

    /// Makes a directory's worth of those that are missing, and asks to be called again for the rest: what is made is
    /// of use before all of it is, and other work has its turn. Blocks.
    pub(crate) fn refill(&self, tier: &Tier, ids: &Ids, tiers: &[Arc<Tier>]) -> Result<(), StoreError> {
        let missing = self.wanted.load(Ordering::Relaxed).saturating_sub(self.ready.len());
        let now = missing.min(IDS_PER_DIR as usize);
        self.make_some(now, tier, ids, tiers)?;
        if now < missing {
            self.refill.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn make_some(&self, count: usize, tier: &Tier, ids: &Ids, tiers: &[Arc<Tier>]) -> Result<(), StoreError> {
        let mut made = Vec::new();
        let mut dirs = BTreeSet::new();
        for _ in 0..count {
            let blank = Blank::make(tier, ids.take(tiers)?)?;
            dirs.insert(blank.id.0 / IDS_PER_DIR);
            made.push(blank);
        }
        for dir in dirs {
            let any = ExtentId(dir * IDS_PER_DIR);
            tier.sync_dir_of(any).map_err(|e| StoreError::io("syncing a directory of blanks", e))?;
        }
        for mut blank in made {
            blank.entry_synced = true;
            if let Err(spare) = self.ready.push(blank) {
                unlink(tier, spare.id);
            }
        }
        Ok(())
    }

    /// Unlinks the blanks that are left. Blocks.
    pub(crate) fn discard(&self, tier: &Tier) {
        while let Some(blank) = self.ready.pop() {
            unlink(tier, blank.id);
        }
    }

    /// What to unlink, and whether to refill; `None` when the helper should end.
    fn next_job(&self, nap: Duration) -> Option<(Doomed, bool)> {
        let mut jobs = self.jobs.lock();
        if jobs.doomed.is_empty() && !self.refill.load(Ordering::Acquire) && !jobs.stop {
            self.wake.wait_for(&mut jobs, nap);
        }
        if jobs.stop && jobs.doomed.is_empty() {
            return None;
        }
        let count = jobs.doomed.len().min(UNLINK_BATCH);
        let batch: Vec<_> = jobs.doomed.drain(..count).collect();
        jobs.unlinking = batch.iter().map(Doom::place).collect();
        let refill = self.refill.swap(false, Ordering::AcqRel) && !jobs.stop;
        Some((batch, refill))
    }

    fn batch_done(&self) {
        self.jobs.lock().unlinking.clear();
        self.done.notify_all();
    }
}

/// Removes an extent's files. What cannot be removed now is found and removed by the next start. Blocks.
pub(crate) fn unlink(tier: &Tier, id: ExtentId) {
    unlink_path(&tier.path_of(id));
    unlink_path(&tier.sidecar_of(id));
}

pub(crate) fn unlink_path(path: &Path) {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %e, "cannot unlink");
        }
        _ => {}
    }
}

/// Closes unlinked files that nobody else uses any more. The last close is what frees the space, and takes as long as that
/// does, a second for a large file: so it is to be here, and not where somebody happens to be the last user.
fn close_unused(unlinked: &mut Vec<Arc<Extent>>) {
    let until = Instant::now() + LAST_USERS_WAIT;
    loop {
        unlinked.retain(|extent| Arc::strong_count(extent) > 1);
        if unlinked.is_empty() || Instant::now() >= until {
            return;
        }
        std::thread::sleep(LAST_USERS_LOOK);
    }
}

/// The helper thread's life: it ends when the store does.
pub(crate) fn help(store: Weak<Store>, blanks: Arc<Blanks>) {
    let mut unlinked = Vec::new();
    let nap = |unlinked: &Vec<_>| if unlinked.is_empty() { HELPER_NAP } else { LINGERING_LOOK };
    while let Some((batch, refill)) = blanks.next_job(nap(&unlinked)) {
        for doom in batch {
            match doom {
                Doom::Extent(extent) => {
                    unlink(extent.tier(), extent.id());
                    unlinked.push(extent);
                }
                Doom::Copy(tier, id) => unlink(&tier, id),
                Doom::Segment(path) => unlink_path(&path),
            }
        }
        close_unused(&mut unlinked);
        blanks.batch_done();
        let Some(store) = store.upgrade() else { return };
        if refill && let Err(error) = store.refill_blanks() {
            tracing::warn!(%error, "cannot make empty extents beforehand; they are made when needed");
        }
    }
}
