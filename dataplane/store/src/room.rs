//! Making room in a tier: asking the policy, taking the token, punching or unlinking.
//!
//! **Owns** what the policy's units mean (a whole extent, or a 64 MiB region of one above 1 GiB), and the loop that evicts
//! until there is room or nothing can go. **Never does** touch an extent without an [`Evictable`]; a unit in use leaves
//! the policy and comes back when its last guard is dropped, so a tier full of open files is not scanned again and
//! again.
//!
//! A region's bits are cleared, on the disk too, before its bytes are punched: after any crash a page is either there
//! whole or known to be absent.

use crate::error::StoreError;
use crate::eviction::{EvictionKind, Ranked};
use crate::extent::Extent;
use crate::guard::Evictable;
use crate::sidecar::overloaded;
use crate::store::Store;
use crate::table::Table;
use crate::tier::Tier;
use crossbeam_queue::ArrayQueue;
use forebay_shard::blocking;
use forebay_types::limits::{REGION_FILE_MIN, REGION_LEN};
use forebay_types::{ContentKey, ExtentId, PageIndex};
use hashbrown::HashMap;
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Uses noted and not yet told to the policy; beyond it they are not counted.
const USES_NOTED_MAX: usize = 4096;
/// Extents noted as hot and not moved yet; beyond it they are noted at a later use.
const HOT_NOTED_MAX: usize = 1024;
/// An extent used in this many different seconds is worth a faster tier.
const USES_TO_PROMOTE: u32 = 3;
/// Eviction frees at least this share of the quota when it runs, so that it runs seldom.
const FREE_AT_ONCE_SHARE: u64 = 100;
/// ... but never more than this many bytes beyond what is needed.
const FREE_AT_ONCE_MAX: u64 = 256 << 20;
/// How long a caller waits for unlinks to give their space back.
const UNLINK_WAIT: Duration = Duration::from_secs(5);

/// What a unit of the policy stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    extent: ExtentId,
    /// `None`: all of it.
    region: Option<u64>,
}

/// The eviction state of one tier.
#[derive(Debug)]
pub(crate) struct Evictor {
    inner: Mutex<Inner>,
    uses: ArrayQueue<u64>,
    /// Extents used often enough to be moved to a faster tier.
    hot: ArrayQueue<ExtentId>,
    returned: Mutex<Vec<ExtentId>>,
    turn: tokio::sync::Mutex<()>,
    started: Instant,
}

#[derive(Debug)]
struct Inner {
    policy: Ranked,
    units: HashMap<u64, Unit>,
}

/// How a policy knows a content again after it was evicted and fetched into another extent.
pub(crate) fn print_of(key: ContentKey) -> u64 {
    // The key is a hash already; 0 stands for no key.
    ((key.0 >> 64) as u64 ^ key.0 as u64).max(1)
}

fn unit_print(extent: &Extent, region: Option<u64>) -> u64 {
    let print = extent.print.load(Ordering::Acquire);
    // Odd multiplier of MurmurHash3's finaliser: neighbouring regions must not collide.
    print ^ region.map_or(0, |region| (region + 1).wrapping_mul(0xff51_afd7_ed55_8ccd))
}

fn is_by_region(extent: &Extent) -> bool {
    extent.len() > REGION_FILE_MIN.as_u64()
}

fn region_at(extent: &Extent, offset: u64) -> Option<u64> {
    is_by_region(extent).then(|| offset / REGION_LEN.as_u64())
}

/// All units that an extent may have.
fn units_of(extent: &Extent) -> impl Iterator<Item = u64> {
    let regions = if is_by_region(extent) { extent.len().div_ceil(REGION_LEN.as_u64()) } else { 0 };
    (0..regions).map(Some).chain([None]).map(|region| unit_print(extent, region))
}

impl Evictor {
    pub(crate) fn new(kind: EvictionKind, quota: u64) -> Self {
        Self {
            inner: Mutex::new(Inner { policy: Ranked::new(kind, quota), units: HashMap::new() }),
            uses: ArrayQueue::new(USES_NOTED_MAX),
            hot: ArrayQueue::new(HOT_NOTED_MAX),
            returned: Mutex::new(Vec::new()),
            turn: tokio::sync::Mutex::new(()),
            started: Instant::now(),
        }
    }

    /// The bytes at `offset` were used. Lock-free; counted once a second a unit at most.
    pub(crate) fn touched(&self, extent: &Extent, offset: u64) {
        let region = region_at(extent, offset);
        let stamp = self.started.elapsed().as_secs() << 24 | (region.unwrap_or(0) & 0xff_ffff);
        if extent.last_use.load(Ordering::Relaxed) == stamp {
            return;
        }
        extent.last_use.store(stamp, Ordering::Relaxed);
        if extent.uses.fetch_add(1, Ordering::Relaxed) + 1 >= USES_TO_PROMOTE && extent.tier_index() > 0 {
            // If there is no place it is noted at a later use.
            extent.uses.store(0, Ordering::Relaxed);
            let _ = self.hot.push(extent.id());
        }
        // A lost use makes the order a little worse, never wrong.
        let _ = self.uses.push(unit_print(extent, region));
    }

    /// The next extent that is worth a faster tier.
    pub(crate) fn take_hot(&self) -> Option<ExtentId> {
        self.hot.pop()
    }

    /// Bytes of the under file system were put in at `offset`.
    pub(crate) fn filled(&self, extent: &Extent, offset: u64) {
        let region = region_at(extent, offset);
        let weight = if region.is_some() { REGION_LEN.as_u64() } else { extent.len() };
        self.inner.lock().insert(extent, region, weight);
    }

    /// Takes in all of an extent that can be had again.
    pub(crate) fn admit(&self, extent: &Extent) {
        if !is_by_region(extent) {
            return self.filled(extent, 0);
        }
        let per_region = REGION_LEN.as_u64() / extent.page_size().bytes();
        let origin = extent.origin();
        let mut last = None;
        for page in origin.pages.resident_pages() {
            if last != Some(page.0 / per_region) {
                last = Some(page.0 / per_region);
                self.filled(extent, extent.page_size().start_of(page));
            }
        }
    }

    /// Takes an extent out: it was written to, removed or moved.
    pub(crate) fn forget(&self, extent: &Extent) {
        let mut inner = self.inner.lock();
        for print in units_of(extent) {
            if inner.units.get(&print).is_some_and(|unit| unit.extent == extent.id()) {
                inner.units.remove(&print);
                inner.policy.remove(print);
            }
        }
    }

    /// The priority of an extent has changed.
    pub(crate) fn ranked(&self, extent: &Extent) {
        let by_region = is_by_region(extent);
        let weight = if by_region { REGION_LEN.as_u64() } else { extent.len() };
        let mut inner = self.inner.lock();
        for print in units_of(extent) {
            if inner.units.get(&print).is_some_and(|unit| unit.extent == extent.id()) {
                inner.policy.insert(print, weight, extent.priority());
            }
        }
    }

    /// The last guard of an extent that was given up was dropped.
    pub(crate) fn returned(&self, id: ExtentId) {
        self.returned.lock().push(id);
    }

    /// The next unit to go, taken out of the policy.
    fn pick(&self, table: &Table) -> Option<Unit> {
        for id in std::mem::take(&mut *self.returned.lock()) {
            if let Some(extent) = table.get(id)
                && extent.is_replaceable()
            {
                // It was in use a moment ago, so it comes back as used.
                self.admit(&extent);
                self.touched(&extent, 0);
            }
        }
        let mut inner = self.inner.lock();
        while let Some(print) = self.uses.pop() {
            inner.policy.access(print);
        }
        let print = inner.policy.pick()?;
        inner.units.remove(&print)
    }
}

impl Inner {
    fn insert(&mut self, extent: &Extent, region: Option<u64>, weight: u64) {
        let print = unit_print(extent, region);
        let unit = Unit { extent: extent.id(), region };
        if self.units.insert(print, unit) != Some(unit) {
            self.policy.insert(print, weight, extent.priority());
        }
    }
}

impl Tier {
    /// Waits until `len` more bytes fit, evicting what can be had again.
    pub(crate) async fn ensure_room(self: &Arc<Self>, len: u64) -> Result<(), StoreError> {
        if self.has_room(len) {
            return Ok(());
        }
        let store = self.store.get().and_then(std::sync::Weak::upgrade).ok_or_else(|| self.no_space())?;
        store.make_room(self.index, len).await.map(|_| ())
    }

    /// Evicts though the quota is not used up, since the file system under the tier is full; says whether that freed
    /// anything.
    pub(crate) async fn free_on_disk(self: &Arc<Self>, len: u64) -> bool {
        let Some(store) = self.store.get().and_then(std::sync::Weak::upgrade) else { return false };
        match store.evict_at_least(self, len).await {
            Ok(freed) => freed > 0,
            Err(error) => {
                tracing::warn!(tier = self.name, %error, "cannot evict though the file system is full");
                false
            }
        }
    }
}

impl Store {
    async fn evict_at_least(self: &Arc<Self>, tier: &Arc<Tier>, len: u64) -> Result<u64, StoreError> {
        let _turn = tier.evictor.turn.lock().await;
        let wanted = len.saturating_add((tier.quota() / FREE_AT_ONCE_SHARE).min(FREE_AT_ONCE_MAX));
        let mut freed = 0;
        while freed < wanted
            && let Some(bytes) = self.evict_next(tier).await?
        {
            freed += bytes;
        }
        self.wait_unlinked(UNLINK_WAIT).await;
        Ok(freed)
    }

    /// Evicts an extent now, as a whole; returns how many bytes that frees. 0 if its bytes may be nowhere else.
    ///
    /// # Errors
    /// [`StoreError::Gone`]; [`StoreError::Busy`] if somebody holds it.
    pub fn evict_now(&self, id: ExtentId) -> Result<u64, StoreError> {
        let extent = self.get(id).ok_or(StoreError::Gone(id))?;
        if !extent.is_replaceable() {
            return Ok(0);
        }
        let token = Evictable::take(&extent)
            .ok_or(StoreError::Busy { extent: id, what: "evicting what is open, pinned or being filled" })?;
        Ok(self.evict_whole(token))
    }

    /// Evicts from a tier until `need` more bytes fit its quota; returns how many bytes were freed.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] if everything in it is in use: serve the read without caching it.
    pub async fn make_room(self: &Arc<Self>, tier: usize, need: u64) -> Result<u64, StoreError> {
        let tier = self.tiers().get(tier).ok_or(StoreError::Invalid("no such tier"))?;
        if need > tier.quota() {
            return Err(tier.no_space());
        }
        let _turn = tier.evictor.turn.lock().await;
        let mut freed = 0;
        let spare = (tier.quota() / FREE_AT_ONCE_SHARE).min(FREE_AT_ONCE_MAX);
        while !tier.has_room(need.saturating_add(if freed == 0 { 0 } else { spare })) {
            match self.evict_next(tier).await? {
                Some(bytes) => freed += bytes,
                None if tier.has_room(need) => break,
                None => return Err(tier.no_space()),
            }
        }
        if freed > 0 {
            self.wait_unlinked(UNLINK_WAIT).await;
        }
        Ok(freed)
    }

    /// Evicts until a tier is below its low watermark, if it is above the high one.
    pub(crate) async fn keep_below_watermark(self: &Arc<Self>, tier: &Arc<Tier>) -> Result<u64, StoreError> {
        let share = |percent: u8| tier.quota() / 100 * u64::from(percent);
        if tier.taken() <= share(self.config().high_watermark) {
            return Ok(0);
        }
        let _turn = tier.evictor.turn.lock().await;
        let mut freed = 0;
        while tier.taken() > share(self.config().low_watermark) {
            match self.evict_next(tier).await? {
                Some(bytes) => freed += bytes,
                None => break,
            }
        }
        Ok(freed)
    }

    /// Waits until the files of what was removed are unlinked, so that the file system has their space again.
    pub async fn wait_unlinked(&self, limit: Duration) {
        let blanks = Arc::clone(self.blanks());
        // Late unlinks only mean that the file system may still be full for a while.
        let _ = blocking(move || blanks.wait_unlinked(limit)).await;
    }

    /// Evicts one unit; `None` if there is no candidate.
    async fn evict_next(self: &Arc<Self>, tier: &Arc<Tier>) -> Result<Option<u64>, StoreError> {
        while let Some(unit) = tier.evictor.pick(self.table()) {
            let Some(extent) = self.get(unit.extent) else { continue };
            match Evictable::take(&extent) {
                Some(token) => return self.evict(token, unit.region).await.map(Some),
                None if extent.guards().park() => {}
                // Let go between the two looks, or written to; what can be had again comes back into the order.
                None if extent.is_replaceable() => tier.evictor.admit(&extent),
                None => {}
            }
        }
        Ok(None)
    }

    async fn evict(self: &Arc<Self>, token: Evictable, region: Option<u64>) -> Result<u64, StoreError> {
        let Some(region) = region else { return Ok(self.evict_or_demote(token).await) };
        let freed = punch_region(&token, region).await?;
        if token.extent().origin().pages.resident() == 0 {
            return Ok(freed + self.evict_whole(token));
        }
        Ok(freed)
    }

    /// Ends an extent; its files go soon.
    pub(crate) fn evict_whole(&self, token: Evictable) -> u64 {
        let bytes = token.extent().charged();
        self.table().remove(token.extent());
        token.extent().tier().evictor.forget(token.extent());
        if let Some(extent) = token.retire() {
            self.bury(&extent);
            self.counters().evicted(bytes);
        }
        bytes
    }
}

/// Takes one region's bytes away.
async fn punch_region(token: &Evictable, region: u64) -> Result<u64, StoreError> {
    let extent = token.extent();
    let before = extent.charged();
    let start = region * REGION_LEN.as_u64();
    let end = (start + REGION_LEN.as_u64()).min(extent.len());
    extent.punches.fetch_add(1, Ordering::AcqRel);
    let pages = extent.page_size().page_of(start).0..extent.page_size().pages_in(end);
    for page in pages.map(PageIndex) {
        if extent.origin().pages.clear(page) {
            extent.sidecar.note_page(page);
        }
    }
    extent.sync_sidecar().await?;
    let file = extent.file()?;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let punched = blocking(move || rustix::fs::fallocate(file.std(), flags, start, end - start)).await;
    let punched = punched.map_err(|e| overloaded("punching a region", e))?;
    punched.map_err(|e| StoreError::io(format!("punching extent {}", extent.id()), e.into()))?;
    let _ = extent.stat();
    Ok(before.saturating_sub(extent.charged()))
}
