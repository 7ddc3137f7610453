//! The store: all tiers of a node, and the index of what is in them.
//!
//! **Owns** the life of extents (created from blanks, found by id or content key, bound, removed) and the start and end
//! of a tier's use. **Never does** fetch, and never decides who may read what.
//!
//! **How data comes in and leaves:** [`Store::open`] blocks and belongs to start-up; everything else is called from any
//! thread, except that what reads or writes files is polled on a shard.

use crate::blanks::{self, Blank, Blanks, Ids};
use crate::config::{StoreConfig, TierKind};
use crate::counters::Counters;
use crate::dir;
use crate::error::StoreError;
use crate::extent::{Authority, Extent, ExtentParts, Origin};
use crate::recovery::{self, RecoveryReport};
use crate::residency::TRACKED_PAGES_MAX;
use crate::sidecar::{Sidecar, overloaded};
use crate::table::Table;
use crate::tier::{Reservation, Tier, TierUsage};
use forebay_shard::blocking;
use forebay_types::{ByteSize, ContentKey, ExtentId, PageSize};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a new extent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentSpec {
    /// For bytes of the under file system, their length; for bytes born here ignored.
    pub len: u64,
    /// Whether its bytes are written here rather than fetched.
    pub born_here: bool,
    /// What it will be found by; needed for bytes that are fetched.
    pub key: Option<ContentKey>,
    /// The size of its pages; the configuration's if `None`.
    pub page_size: Option<PageSize>,
}

impl ExtentSpec {
    /// For a new file.
    pub const BORN_HERE: Self = Self { len: 0, born_here: true, key: None, page_size: None };

    /// For `len` bytes to be fetched.
    pub const fn fetched(key: ContentKey, len: u64) -> Self {
        Self { len, born_here: false, key: Some(key), page_size: None }
    }
}

/// All tiers of a node.
#[derive(Debug)]
pub struct Store {
    cfg: StoreConfig,
    tiers: Vec<Arc<Tier>>,
    /// The tier new files and fetched bytes enter: the fastest that outlives a reboot, else the fastest.
    entry_tier: usize,
    table: Table,
    ids: Ids,
    /// Ids below this one were there at start.
    first_new_id: u64,
    blanks: Arc<Blanks>,
    counters: Arc<Counters>,
    /// Until when packing waits for what is more urgent.
    pub(crate) pack_from: Mutex<Option<Instant>>,
    closed: AtomicBool,
}

impl Store {
    /// Checks, locks and reads all tiers. Blocks; belongs to start-up.
    ///
    /// # Errors
    /// The kinds of [`StoreError`] that name a directory, its trouble and the remedy. Nothing is left half made.
    pub fn open(cfg: StoreConfig) -> Result<(Arc<Self>, RecoveryReport), StoreError> {
        check(&cfg)?;
        let boot_id = cfg.boot_id.map_or_else(dir::boot_id, Ok)?;
        let counters = Arc::new(Counters::default());
        let opened: Result<Vec<_>, _> =
            (0..cfg.tiers.len()).map(|index| Tier::open(&cfg, index, boot_id, &counters)).collect();
        let opened: Vec<_> = opened?.into_iter().map(|(tier, exit)| (Arc::new(tier), exit)).collect();
        let mut report = RecoveryReport::default();
        let mut extents = Vec::new();
        for (tier, exit) in &opened {
            let (found, part) = recovery::recover(tier, *exit, cfg.page_size)?;
            extents.extend(found);
            report.add(part);
        }
        let tiers: Vec<_> = opened.into_iter().map(|(tier, _)| tier).collect();
        let store = Self::assemble(cfg, tiers, extents, counters);
        std::thread::Builder::new()
            .name("store-helper".into())
            .spawn({
                let (weak, blanks) = (Arc::downgrade(&store), Arc::clone(&store.blanks));
                move || blanks::help(weak, blanks)
            })
            .map_err(|e| StoreError::io("starting the store's helper thread", e))?;
        Ok((store, report))
    }

    fn assemble(
        cfg: StoreConfig,
        tiers: Vec<Arc<Tier>>,
        extents: Vec<Arc<Extent>>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let entry_tier = cfg.tiers.iter().position(|tier| tier.kind != TierKind::Mem).unwrap_or(0);
        let marks = tiers.iter().map(|tier| tier.id_mark());
        let seen = extents.iter().map(|extent| extent.id().0 + 1);
        let first_new_id = marks.chain(seen).max().unwrap_or(1);
        let store = Arc::new(Self {
            blanks: Arc::new(Blanks::new(cfg.blanks, cfg.blanks_max)),
            cfg,
            tiers,
            entry_tier,
            table: Table::new(),
            ids: Ids::starting_at(first_new_id),
            first_new_id,
            counters,
            pack_from: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        for tier in &store.tiers {
            tier.store.set(Arc::downgrade(&store)).expect("a tier is given to one store");
        }
        for extent in extents {
            store.take_in(&extent);
        }
        store
    }

    /// Puts an extent that was found at start into the index. Of two with one id (a move between tiers was cut short, or
    /// the old place was not given up durably) the one that counts for more stays, the one in the faster tier if both
    /// count for the same.
    fn take_in(&self, extent: &Arc<Extent>) {
        if let Some(faster) = self.table.get(extent.id()) {
            if rank(&faster) >= rank(extent) {
                extent.guards().retire();
                return self.bury(extent);
            }
            self.end(&faster);
        }
        self.table.insert(extent);
        for key in extent.keys() {
            self.table.bind(key, extent.id());
        }
        if extent.is_replaceable() {
            extent.tier().evictor.admit(extent);
            extent.tier().note_packable(extent);
        }
    }

    /// Records, durably, that the start has come to its end: whoever opened the store has done all that
    /// [`RecoveryReport::tiers`] asks for. To be called before anything is acknowledged to anybody. A start that does not
    /// come here leaves it to the next one to find that the machine went down. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`]: nothing may be acknowledged.
    pub fn confirm_start(&self) -> Result<(), StoreError> {
        self.tiers.iter().try_for_each(|tier| tier.confirm_start())
    }

    /// A new extent, from the pool of blanks if it is not empty. If `spec.key` is bound already, the extent it is
    /// bound to.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], [`StoreError::Io`], [`StoreError::Invalid`] for a length beyond 1 PiB.
    pub async fn create(self: &Arc<Self>, spec: ExtentSpec) -> Result<Arc<Extent>, StoreError> {
        self.check_spec(&spec)?;
        if let Some(there) = spec.key.and_then(|key| self.find(&key)) {
            return Ok(there);
        }
        let blank = self.blank().await?;
        if !spec.born_here && spec.len > 0 {
            let (file, len) = (blank.file.clone(), spec.len);
            let sized = blocking(move || file.std().set_len(len)).await;
            let sized = sized.map_err(|e| overloaded("sizing an extent", e))?;
            sized.map_err(|e| StoreError::io(format!("sizing extent {}", blank.id), e))?;
        }
        Ok(self.admit_new(blank, &spec))
    }

    fn check_spec(&self, spec: &ExtentSpec) -> Result<(), StoreError> {
        if spec.born_here == spec.key.is_some() {
            return Err(StoreError::Invalid("fetched bytes have a key, bytes born here have none"));
        }
        let page_size = spec.page_size.unwrap_or(self.cfg.page_size);
        if !spec.born_here && page_size.pages_in(spec.len) > TRACKED_PAGES_MAX {
            return Err(StoreError::Invalid("the file has too many pages to be cached"));
        }
        Ok(())
    }

    fn admit_new(self: &Arc<Self>, blank: Blank, spec: &ExtentSpec) -> Arc<Extent> {
        let page_size = spec.page_size.unwrap_or(self.cfg.page_size);
        let (authority, len) =
            if spec.born_here { (Authority::Here, 0) } else { (Authority::Origin, spec.len) };
        let extent = Arc::new(Extent::new(ExtentParts {
            id: blank.id,
            tier: Arc::clone(&self.tiers[self.entry_tier]),
            page_size,
            born_here: spec.born_here,
            len,
            origin: Origin::absent(authority, len, page_size),
            keys: spec.key.into_iter().collect(),
            file: Some(blank.file),
            sidecar: Sidecar::default(),
            verified: true,
            entry_synced: blank.entry_synced,
            len_synced: false,
            charged: 0,
        }));
        self.table.insert(&extent);
        extent.tier().close_some_idle();
        let Some(key) = spec.key else { return extent };
        let first = self.table.bind_new(key, extent.id());
        if first != extent.id()
            && let Some(there) = self.get(first)
        {
            // Two asked for one content at once; the first to bind it wins.
            extent.keys_mut().clear();
            self.end(&extent);
            return there;
        }
        extent
    }

    async fn blank(self: &Arc<Self>) -> Result<Blank, StoreError> {
        if let Some(blank) = self.blanks.take() {
            return Ok(blank);
        }
        let store = Arc::clone(self);
        let made =
            blocking(move || Blank::make(&store.tiers[store.entry_tier], store.ids.take(&store.tiers)?));
        made.await.map_err(|e| overloaded("making an extent", e))?
    }

    /// A new extent for bytes born here if a blank is ready; never waits.
    pub fn try_create(self: &Arc<Self>) -> Option<Arc<Extent>> {
        let blank = self.blanks.take()?;
        Some(self.admit_new(blank, &ExtentSpec::BORN_HERE))
    }

    /// How many blanks are ready.
    pub fn blanks_ready(&self) -> usize {
        self.blanks.len()
    }

    /// The extent that holds a content.
    pub fn find(&self, key: &ContentKey) -> Option<Arc<Extent>> {
        self.table.find(*key)
    }

    /// An extent by its id.
    pub fn get(&self, id: ExtentId) -> Option<Arc<Extent>> {
        self.table.get(id)
    }

    /// How many extents there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes an extent, whoever holds it: open files keep their bytes to their end. Its files are unlinked soon.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if there is none.
    pub async fn remove(&self, id: ExtentId) -> Result<(), StoreError> {
        let extent = self.get(id).ok_or(StoreError::Gone(id))?;
        self.end(&extent);
        Ok(())
    }

    pub(crate) fn end(&self, extent: &Arc<Extent>) {
        extent.tier().evictor.forget(extent);
        self.table.remove(extent);
        if extent.guards().retire() {
            self.bury(extent);
        }
    }

    /// Gives an ended extent's space back and has its files unlinked.
    pub(crate) fn bury(&self, extent: &Arc<Extent>) {
        extent.discharge();
        if let Some(packed) = extent.packed() {
            return extent.tier().entry_died(&packed.segment, extent.id());
        }
        // Whoever still reads it does so through a file that stays open.
        let _ = extent.file();
        self.blanks.doom(Arc::clone(extent));
    }

    /// Removes what was found at start, may be nowhere else, and is unknown to the name space: files whose creation
    /// was never recorded, and blanks. Returns how many.
    pub fn sweep(&self, is_known: impl Fn(ExtentId) -> bool) -> u64 {
        let strays = self.table.all().into_iter().filter(|extent| {
            let old = extent.id().0 < self.first_new_id;
            old && extent.authority() == Authority::Here && !is_known(extent.id())
        });
        let mut swept = 0;
        for extent in strays.filter(|extent| !extent.guards().is_held()) {
            self.end(&extent);
            swept += 1;
        }
        swept
    }

    /// Promises a writer `len` bytes of the tier new files go to.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] if they do not fit even after eviction.
    pub async fn reserve(self: &Arc<Self>, len: u64) -> Result<Reservation, StoreError> {
        let tier = &self.tiers[self.entry_tier];
        if let Some(reservation) = tier.reserve(len) {
            return Ok(reservation);
        }
        self.make_room(self.entry_tier, len).await?;
        tier.reserve(len).ok_or_else(|| tier.no_space())
    }

    /// How many segment files a tier has.
    pub fn segments(&self, tier: usize) -> usize {
        self.tiers.get(tier).map_or(0, |tier| tier.segments.len())
    }

    /// The space of each tier, fastest first.
    pub fn usage(&self) -> Vec<TierUsage> {
        self.tiers.iter().map(|tier| tier.usage()).collect()
    }

    /// The space of the tier that new files and what is written go to.
    pub fn written_to(&self) -> TierUsage {
        self.tiers[self.entry_tier].usage()
    }

    /// Changes the most bytes that the extents of a tier may take. What is over a smaller quota is evicted by the
    /// housekeeping, as far as it can be had again; until then nothing new is taken in.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if there is no such tier.
    pub fn set_quota(&self, tier: usize, quota: ByteSize) -> Result<(), StoreError> {
        let tier = self.tiers().get(tier).ok_or(StoreError::Invalid("no such tier"))?;
        tier.set_quota(quota.as_u64());
        Ok(())
    }

    /// What the store counted since its start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What it was opened with.
    pub fn config(&self) -> &StoreConfig {
        &self.cfg
    }

    pub(crate) fn entry_tier(&self) -> usize {
        self.entry_tier
    }

    pub(crate) fn tiers(&self) -> &[Arc<Tier>] {
        &self.tiers
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn blanks(&self) -> &Arc<Blanks> {
        &self.blanks
    }

    pub(crate) fn refill_blanks(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.blanks.refill(&self.tiers[self.entry_tier], &self.ids, &self.tiers)
    }

    /// Syncs everything and leaves the mark of a clean end. Blocks. Nothing may be written afterwards.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the next start treats the end as the daemon's death.
    pub fn close(&self) -> Result<(), StoreError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.blanks.stop();
        self.blanks.wait_unlinked(Duration::from_secs(60));
        self.blanks.discard(&self.tiers[self.entry_tier]);
        self.tiers.iter().try_for_each(|tier| tier.mark_clean())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.blanks.stop();
    }
}

/// What an extent that was found counts for beside another one of its id.
fn rank(extent: &Extent) -> u8 {
    match (extent.is_replaceable(), extent.sidecar.is_used()) {
        // Written here: no other copy was left when that began.
        (false, true) => 3,
        (true, true) => 2,
        // An entry of a segment may be one that died long ago.
        (true, false) => 1,
        // Without its sidecar nothing says which of its bytes are there.
        (false, false) => 0,
    }
}

fn check(cfg: &StoreConfig) -> Result<(), StoreError> {
    if cfg.tiers.is_empty() {
        return Err(StoreError::Config("a store needs at least one tier".into()));
    }
    if !(cfg.low_watermark <= cfg.high_watermark && cfg.high_watermark <= 100) {
        let (low, high) = (cfg.low_watermark, cfg.high_watermark);
        return Err(StoreError::Config(format!(
            "watermarks are percentages, the low one not above the high one: {low} and {high}"
        )));
    }
    Ok(())
}
