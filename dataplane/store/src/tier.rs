//! A tier: a directory with a quota, opened and locked by one process.
//!
//! **Owns** where things are in the directory, its header while it is open, the counting of space, and the notes
//! of what housekeeping should look at. **Never does** anything with the bytes of an extent.
//!
//! **How data comes in and leaves:** [`Tier::open`] takes a configuration and gives a locked tier or an error that
//! names cause and remedy, leaving nothing half made; [`Tier::charge`] and [`Tier::reserve`] count space.

use crate::config::{StoreConfig, TierKind};
use crate::counters::Counters;
use crate::dir::{self, EXTENTS_DIR, LastExit, SEGMENTS_DIR};
use crate::error::StoreError;
use crate::extent::Extent;
use crate::format::tier::TierHeader;
use crate::opened::OpenedFiles;
use crate::room::Evictor;
use crate::segment::Segments;
use crate::store::Store;
use crate::tend::Filled;
use forebay_types::ExtentId;
use parking_lot::Mutex;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// The file name's extension of a sidecar.
pub(crate) const SIDECAR_EXT: &str = "map";
/// The file name's extension of an extent that is being moved in.
pub(crate) const MOVING_EXT: &str = "moving";
/// Directories under `extents/`.
const FANOUT: u64 = 256;
/// Consecutive ids that share a directory, so that one directory sync covers a batch of new extents.
pub(crate) const IDS_PER_DIR: u64 = 256;
/// A tier's space. All in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierUsage {
    /// The tier's name.
    pub name: String,
    /// What kind of medium it is.
    pub kind: TierKind,
    /// The most it may take.
    pub quota: u64,
    /// Blocks allocated to extents and segments.
    pub used: u64,
    /// How much of that may be nowhere else: neither evicted nor moved.
    pub authored: u64,
    /// Promised to writers.
    pub reserved: u64,
    /// Extents in it.
    pub extents: u64,
}

/// One tier of an open store.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) kind: TierKind,
    dir: PathBuf,
    quota: AtomicU64,
    used: AtomicU64,
    authored: AtomicU64,
    reserved: AtomicU64,
    pub(crate) extents: AtomicU64,
    pub(crate) permits_passthrough: bool,
    /// Whether long writes go past the page cache.
    pub(crate) direct_writes: AtomicBool,
    pub(crate) epoch: u32,
    pub(crate) skip_data_sync: bool,
    header: Mutex<TierHeader>,
    /// The kernel's boot_id now.
    boot_id: [u8; 16],
    /// The directory, open since the start: the kernel tells of a failure to write only who had a file open before it.
    root: File,
    /// Some sync has failed since the start.
    sync_failed: AtomicBool,
    /// Which directories exist already, one bit each.
    dirs_made: Mutex<[bool; FANOUT as usize]>,
    pub(crate) evictor: Evictor,
    pub(crate) counters: Arc<Counters>,
    filled: Mutex<Filled>,
    packable: Mutex<Filled>,
    pack_max: u64,
    pub(crate) segments: Segments,
    pub(crate) opened: OpenedFiles,
    pub(crate) store: OnceLock<Weak<Store>>,
    /// Dropped last: the directory is ours until then.
    _lock: File,
}

impl Tier {
    /// Checks, locks and opens a directory; makes it a tier if it is empty.
    pub(crate) fn open(
        cfg: &StoreConfig,
        index: usize,
        boot_id: [u8; 16],
        counters: &Arc<Counters>,
    ) -> Result<(Self, LastExit), StoreError> {
        let tier = &cfg.tiers[index];
        let io = |source| StoreError::io(format!("opening cache directory {}", tier.dir.display()), source);
        fs::create_dir_all(&tier.dir).map_err(io)?;
        dir::refuse_foreign_content(&tier.dir)?;
        let lock = dir::lock_dir(&tier.dir)?;
        let found = dir::read_header(&tier.dir, cfg)?;
        for sub in [EXTENTS_DIR, SEGMENTS_DIR] {
            fs::create_dir_all(tier.dir.join(sub)).map_err(io)?;
        }
        let (header, exit) = dir::next_header(cfg, found, boot_id);
        let root = File::open(&tier.dir).map_err(io)?;
        let opened = Self::assemble(cfg, index, (header, boot_id), (lock, root), counters);
        opened.write_header().map_err(io)?;
        Ok((opened, exit))
    }

    fn assemble(
        cfg: &StoreConfig,
        index: usize,
        (header, boot_id): (TierHeader, [u8; 16]),
        (lock, root): (File, File),
        counters: &Arc<Counters>,
    ) -> Self {
        let tier = &cfg.tiers[index];
        Self {
            index,
            name: tier.name.clone(),
            kind: tier.kind,
            dir: tier.dir.clone(),
            quota: AtomicU64::new(tier.quota.as_u64()),
            used: AtomicU64::new(0),
            authored: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            extents: AtomicU64::new(0),
            // The kernel would hold on to the file, and a writer could not move it to where writes last.
            permits_passthrough: tier.kind != TierKind::Mem && dir::permits_passthrough(&tier.dir),
            direct_writes: AtomicBool::new(cfg.direct_writes && tier.kind == TierKind::Nvme),
            epoch: header.epoch,
            skip_data_sync: cfg.skip_data_sync,
            header: Mutex::new(header),
            boot_id,
            root,
            sync_failed: AtomicBool::new(false),
            dirs_made: Mutex::new([false; FANOUT as usize]),
            evictor: Evictor::new(cfg.eviction, tier.quota.as_u64()),
            counters: Arc::clone(counters),
            filled: Mutex::new(Filled::default()),
            packable: Mutex::new(Filled::default()),
            pack_max: cfg.pack_max.as_u64(),
            segments: Segments::default(),
            opened: OpenedFiles::new(cfg.open_files_max),
            store: OnceLock::new(),
            _lock: lock,
        }
    }

    fn write_header(&self) -> io::Result<()> {
        dir::replace_header(&self.dir, &self.header.lock())
    }

    /// Ids below this one may have been handed out.
    pub(crate) fn id_mark(&self) -> u64 {
        self.header.lock().id_mark
    }

    /// Records, durably, that ids below `mark` may be handed out. Blocks.
    pub(crate) fn raise_id_mark(&self, mark: u64) -> Result<(), StoreError> {
        self.header.lock().id_mark = mark;
        self.write_header()
            .map_err(|e| StoreError::io(format!("raising the id mark of tier {}", self.name), e))
    }

    /// Syncs everything on the tier's file system. Blocks.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        let synced = rustix::fs::syncfs(&self.root);
        self.note_sync(synced.is_ok());
        Ok(synced?)
    }

    /// Some sync of something in the tier has ended.
    pub(crate) fn note_sync(&self, succeeded: bool) {
        if !succeeded {
            self.sync_failed.store(true, Ordering::Release);
        }
    }

    /// Records that a start has come to its end, with everything done that the way in which the last process ended asks
    /// for. Blocks.
    pub(crate) fn confirm_start(&self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.header.lock().boot_id, self.boot_id) == self.boot_id {
            return Ok(());
        }
        self.write_header()
            .map_err(|e| StoreError::io(format!("recording the start of tier {}", self.name), e))
    }

    /// Removes what this tier may have of an extent that is in another one, durably. Blocks.
    pub(crate) fn end_copy(&self, id: ExtentId) -> io::Result<()> {
        crate::blanks::unlink(self, id);
        match self.sync_dir_of(id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        }
    }

    /// Syncs everything in the tier and leaves the mark that says so. Blocks.
    pub(crate) fn mark_clean(&self) -> Result<(), StoreError> {
        let io = |e| StoreError::io(format!("closing tier {}", self.name), e);
        self.sync_all().map_err(io)?;
        if self.sync_failed.load(Ordering::Acquire) {
            // The kernel tells of it once; what was to be written then may not be on the disk even now.
            return Err(io(io::Error::other("something in it could not be synced before")));
        }
        self.header.lock().clean = true;
        self.write_header().map_err(io)
    }

    fn dir_of(&self, id: ExtentId) -> PathBuf {
        self.dir.join(EXTENTS_DIR).join(format!("{:02x}", id.0 / IDS_PER_DIR % FANOUT))
    }

    /// The path of an extent's file.
    pub(crate) fn path_of(&self, id: ExtentId) -> PathBuf {
        self.dir_of(id).join(id.to_string())
    }

    /// The path of an extent's sidecar.
    pub(crate) fn sidecar_of(&self, id: ExtentId) -> PathBuf {
        self.path_of(id).with_extension(SIDECAR_EXT)
    }

    /// Where segments are.
    pub(crate) fn segments_dir(&self) -> PathBuf {
        self.dir.join(SEGMENTS_DIR)
    }

    /// The directories that hold extents, with their numbers.
    pub(crate) fn extent_dirs(&self) -> Vec<PathBuf> {
        (0..FANOUT).map(|d| self.dir.join(EXTENTS_DIR).join(format!("{d:02x}"))).collect()
    }

    /// Makes the directory of an extent if need be. Blocks.
    pub(crate) fn make_dir_of(&self, id: ExtentId) -> io::Result<()> {
        let mut made = self.dirs_made.lock();
        let slot = &mut made[(id.0 / IDS_PER_DIR % FANOUT) as usize];
        if !*slot {
            fs::create_dir_all(self.dir_of(id))?;
            dir::sync_dir(&self.dir.join(EXTENTS_DIR))?;
            *slot = true;
        }
        Ok(())
    }

    /// Syncs the directory entries of an extent and its sidecar. Blocks.
    pub(crate) fn sync_dir_of(&self, id: ExtentId) -> io::Result<()> {
        dir::sync_dir(&self.dir_of(id))
    }

    /// Counts `now` bytes for something that counted `before`.
    pub(crate) fn charge(&self, before: u64, now: u64) {
        recount(&self.used, before, now);
    }

    /// Counts `now` bytes that may be nowhere else for an extent that counted `before`.
    pub(crate) fn charge_authored(&self, before: u64, now: u64) {
        recount(&self.authored, before, now);
    }

    /// Bytes taken and promised.
    pub(crate) fn taken(&self) -> u64 {
        self.used.load(Ordering::Acquire) + self.reserved.load(Ordering::Acquire)
    }

    /// The most bytes the tier may take.
    pub(crate) fn quota(&self) -> u64 {
        self.quota.load(Ordering::Acquire)
    }

    /// Changes the most bytes the tier may take.
    pub(crate) fn set_quota(&self, quota: u64) {
        self.quota.store(quota, Ordering::Release);
    }

    /// Whether `len` more bytes fit the quota.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.taken().saturating_add(len) <= self.quota()
    }

    /// Promises `len` bytes to a writer; `None` if they do not fit.
    pub(crate) fn reserve(self: &Arc<Self>, len: u64) -> Option<Reservation> {
        self.reserved.fetch_add(len, Ordering::AcqRel);
        if self.taken() <= self.quota() {
            return Some(Reservation { tier: Arc::clone(self), len });
        }
        self.reserved.fetch_sub(len, Ordering::AcqRel);
        None
    }

    /// Pages of an extent were filled that no sync covered yet.
    pub(crate) fn note_filled(&self, id: ExtentId) {
        self.filled.lock().note(id);
    }

    /// Extents with pages filled longer than `delay` ago.
    pub(crate) fn take_filled(&self, delay: Duration, max: usize) -> Vec<ExtentId> {
        self.filled.lock().take_due(delay, max)
    }

    /// An extent may have become one to pack.
    pub(crate) fn note_packable(&self, extent: &Extent) {
        if extent.len() <= self.pack_max && !extent.is_packed() {
            self.packable.lock().note(extent.id());
        }
    }

    /// How many extents may have become packable and were not looked at since.
    pub(crate) fn packable_len(&self) -> usize {
        self.packable.lock().len()
    }

    /// Extents that may have become packable longer than `delay` ago.
    pub(crate) fn take_packable(&self, delay: Duration, max: usize) -> Vec<ExtentId> {
        self.packable.lock().take_due(delay, max)
    }

    /// The error for a tier in which nothing can be evicted.
    pub(crate) fn no_space(&self) -> StoreError {
        StoreError::NoSpace { tier: self.name.clone() }
    }

    /// An extent that eviction gave up on is held no longer.
    pub(crate) fn returned(&self, id: ExtentId) {
        self.evictor.returned(id);
    }

    pub(crate) fn usage(&self) -> TierUsage {
        TierUsage {
            name: self.name.clone(),
            kind: self.kind,
            quota: self.quota(),
            used: self.used.load(Ordering::Acquire),
            authored: self.authored.load(Ordering::Acquire),
            reserved: self.reserved.load(Ordering::Acquire),
            extents: self.extents.load(Ordering::Acquire),
        }
    }
}

/// Space promised to a writer; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    tier: Arc<Tier>,
    len: u64,
}

impl Reservation {
    /// How much is promised.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a part of the promise out; `None` if it is not so large.
    pub fn split(&mut self, len: u64) -> Option<Self> {
        self.len = self.len.checked_sub(len)?;
        Some(Self { tier: Arc::clone(&self.tier), len })
    }

    /// Makes the promise larger by as much as is missing to `len`, if that fits now.
    pub fn top_up(&mut self, len: u64) {
        let missing = len.saturating_sub(self.len);
        if missing > 0
            && let Some(mut more) = self.tier.reserve(missing)
        {
            self.len += std::mem::take(&mut more.len);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.tier.reserved.fetch_sub(self.len, Ordering::AcqRel);
    }
}

fn recount(total: &AtomicU64, before: u64, now: u64) {
    if now >= before {
        total.fetch_add(now - before, Ordering::AcqRel);
    } else {
        total.fetch_sub(before - now, Ordering::AcqRel);
    }
}
