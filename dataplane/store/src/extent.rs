//! One extent: a sparse file with each byte at its native offset, and what is known about it.
//!
//! **Owns** an extent's identity, length, residency, keys and guards, as any core may read them without waiting. The
//! operations that change bytes are in `io`, `change` and `verify`. **Never does** I/O here, beyond opening its own file on
//! first use and one `fstat`.
//!
//! **Why this shape:** a hit is served by the core it arrives on, so what a hit asks (`is_resident`, `len`, `file`) is an
//! atomic read. What changes the meaning of the bits (a first write, a truncation) swaps [`Origin`] as a whole.

use crate::error::StoreError;
pub use crate::format::sidecar::Authority;
use crate::format::sidecar::SidecarHeader;
use crate::guard::{Guards, Held, Hold};
use crate::own_file::OwnFile;
use crate::residency::Pages;
use crate::segment::Packed;
use crate::sidecar::Sidecar;
use crate::tier::Tier;
use arc_swap::{ArcSwap, ArcSwapOption};
use forebay_shard::File;
use forebay_types::{ContentKey, ExtentId, PageIndex, PageSize};
use parking_lot::{Mutex, RwLock};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// What of an extent comes from the under file system.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) authority: Authority,
    /// Bytes below this offset are the under file system's unless their page is resident.
    pub(crate) len: u64,
    pub(crate) pages: Arc<Pages>,
}

impl Origin {
    /// `len` bytes of which none is here yet, `authority` being the under file system or, from the first write, us.
    pub(crate) fn absent(authority: Authority, len: u64, page_size: PageSize) -> Self {
        Self { authority, len, pages: Arc::new(Pages::new(page_size.pages_in(len))) }
    }
}

/// An extent file of this node.
#[derive(Debug)]
pub struct Extent {
    id: ExtentId,
    tier: Arc<Tier>,
    page_size: PageSize,
    born_here: bool,
    len: AtomicU64,
    origin: ArcSwap<Origin>,
    keys: Mutex<Vec<ContentKey>>,
    guards: Guards,
    /// Counts the times bytes were taken away, moved or began to be written over, so that a read that ran beside one is recognised.
    pub(crate) punches: AtomicU64,
    /// How often a writer has begun since the start.
    writers: AtomicU64,
    /// Allocated bytes counted against the tier.
    pub(crate) charged_bytes: AtomicU64,
    /// How much of that is counted as bytes that may be nowhere else.
    pub(crate) charged_authored: AtomicU64,
    /// How eviction policies know its content; 0 while it has no key.
    pub(crate) print: AtomicU64,
    /// The last second and region in which a use was counted, so that one pass over a file is one use.
    pub(crate) last_use: AtomicU64,
    /// What goes first when room is wanted: the lower before the higher.
    priority: AtomicI32,
    /// Uses since it was last noted as hot.
    pub(crate) uses: AtomicU32,
    pub(crate) file: OwnFile,
    /// The same file, opened for writes past the page cache.
    pub(crate) direct: Mutex<Option<File>>,
    /// Where its bytes are if they have no file of their own.
    pub(crate) packed: ArcSwapOption<Packed>,
    /// The last read did not find all its bytes in memory.
    pub(crate) beyond_memory: AtomicBool,
    /// Whether the file was asked for since it was last looked at to be closed.
    pub(crate) recently_used: AtomicBool,
    /// Whether its tier looks at it when files are to be closed.
    pub(crate) in_order: AtomicBool,
    pub(crate) sidecar: Sidecar,
    /// False after an unclean boot until the checksums were compared.
    pub(crate) verified: AtomicBool,
    /// Whether the directory entry is on disk.
    pub(crate) entry_synced: AtomicBool,
    /// A sync of the bytes has failed. The kernel tells of it once and forgets what it could not write, so that no later
    /// sync says anything of it.
    pub(crate) sync_failed: AtomicBool,
    /// Whether the file's length is on disk as it is; matters while we are not the authority for it.
    pub(crate) len_synced: AtomicBool,
    /// Shared by whoever only adds bytes that nobody else adds; exclusive for what changes the meaning of the bits, and for what
    /// goes through the page cache where others may go past it.
    pub(crate) change: tokio::sync::RwLock<()>,
    /// Held (shared) while a bit is set, so that a swap of `origin` loses none.
    pub(crate) bits: RwLock<()>,
}

/// What an extent begins with.
pub(crate) struct ExtentParts {
    pub(crate) id: ExtentId,
    pub(crate) tier: Arc<Tier>,
    pub(crate) page_size: PageSize,
    pub(crate) born_here: bool,
    pub(crate) len: u64,
    pub(crate) origin: Origin,
    pub(crate) keys: Vec<ContentKey>,
    pub(crate) file: Option<File>,
    pub(crate) sidecar: Sidecar,
    pub(crate) verified: bool,
    pub(crate) entry_synced: bool,
    pub(crate) len_synced: bool,
    pub(crate) charged: u64,
}

impl Extent {
    /// A writer begins: what was read of the bytes before says nothing of them from now on.
    pub fn note_writer(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }

    /// A writer ends who has changed nothing: it is as if there had been none.
    pub fn note_unchanged(&self) {
        let before = self.writers.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a writer ends that never began");
    }

    /// How many writers have begun since the start, without those who ended and changed nothing. The same number says
    /// that the bytes are the same.
    pub fn writers(&self) -> u64 {
        self.writers.load(Ordering::Acquire)
    }

    pub(crate) fn new(parts: ExtentParts) -> Self {
        parts.tier.extents.fetch_add(1, Ordering::AcqRel);
        if parts.file.is_some() {
            parts.tier.opened.count_one();
        }
        parts.tier.charge(0, parts.charged);
        let print = parts.keys.first().map_or(0, |key| crate::room::print_of(*key));
        let extent = Self {
            id: parts.id,
            tier: parts.tier,
            page_size: parts.page_size,
            born_here: parts.born_here,
            len: AtomicU64::new(parts.len),
            origin: ArcSwap::from_pointee(parts.origin),
            keys: Mutex::new(parts.keys),
            guards: Guards::default(),
            punches: AtomicU64::new(0),
            writers: AtomicU64::new(0),
            charged_bytes: AtomicU64::new(parts.charged),
            charged_authored: AtomicU64::new(0),
            print: AtomicU64::new(print),
            last_use: AtomicU64::new(u64::MAX),
            priority: AtomicI32::new(0),
            uses: AtomicU32::new(0),
            file: OwnFile::new(parts.file),
            direct: Mutex::default(),
            packed: ArcSwapOption::empty(),
            beyond_memory: AtomicBool::new(false),
            recently_used: AtomicBool::new(true),
            in_order: AtomicBool::new(false),
            sidecar: parts.sidecar,
            verified: AtomicBool::new(parts.verified),
            entry_synced: AtomicBool::new(parts.entry_synced),
            sync_failed: AtomicBool::new(false),
            len_synced: AtomicBool::new(parts.len_synced),
            change: tokio::sync::RwLock::new(()),
            bits: RwLock::new(()),
        };
        extent.recount_authored();
        extent
    }

    /// Its id, for ever.
    pub fn id(&self) -> ExtentId {
        self.id
    }

    /// What goes first when room is wanted: the lower before the higher. Known until the next start.
    pub fn priority(&self) -> i32 {
        self.priority.load(Ordering::Acquire)
    }

    /// Gives it a priority.
    pub fn rank(&self, priority: i32) {
        if self.priority() != priority {
            self.priority.store(priority, Ordering::Release);
            self.tier.evictor.ranked(self);
        }
    }

    /// The size of its pages.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Its length in bytes, as of the last call that changed it or [`Self::adopt`].
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn store_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    pub(crate) fn raise_len(&self, len: u64) {
        self.len.fetch_max(len, Ordering::AcqRel);
    }

    /// Whether it was created for bytes written here, rather than for bytes fetched.
    pub fn born_here(&self) -> bool {
        self.born_here
    }

    /// Who is the authority for its bytes.
    pub fn authority(&self) -> Authority {
        self.origin.load().authority
    }

    /// How many of its bytes, from the first, are the under file system's unless their page was filled or written.
    pub fn origin_len(&self) -> u64 {
        self.origin.load().len
    }

    /// The content keys it is found by, oldest first.
    pub fn keys(&self) -> Vec<ContentKey> {
        self.keys.lock().clone()
    }

    pub(crate) fn keys_mut(&self) -> parking_lot::MutexGuard<'_, Vec<ContentKey>> {
        self.keys.lock()
    }

    /// The tier it lies in, as an index into the configuration.
    pub fn tier_index(&self) -> usize {
        self.tier.index
    }

    pub(crate) fn tier(&self) -> &Arc<Tier> {
        &self.tier
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.guards
    }

    pub(crate) fn origin(&self) -> arc_swap::Guard<Arc<Origin>> {
        self.origin.load()
    }

    pub(crate) fn origin_full(&self) -> Arc<Origin> {
        self.origin.load_full()
    }

    /// Swaps what comes from the under file system; `change` is held exclusively.
    pub(crate) fn set_origin(&self, make: impl FnOnce(&Origin) -> Origin) {
        let _no_bit_is_set_now = self.bits.write();
        let new = make(&self.origin.load());
        self.origin.store(Arc::new(new));
        self.recount_authored();
    }

    /// The pages that hold the bytes of `range`, cut off at the length.
    fn pages_of(&self, range: Range<u64>) -> Range<u64> {
        let end = range.end.min(self.len());
        if range.start >= end {
            return 0..0;
        }
        self.page_size.page_of(range.start).0..self.page_size.pages_in(end)
    }

    /// Whether all bytes of `range` that the file has are here. Bytes past the end count as here.
    pub fn is_resident(&self, range: Range<u64>) -> bool {
        self.origin.load().pages.all_resident(self.pages_of(range))
    }

    /// Whether all bytes are here.
    pub fn is_complete(&self) -> bool {
        let origin = self.origin.load();
        origin.pages.resident() == origin.pages.count()
    }

    /// The pages of `range` that are not here, in order.
    pub fn missing(&self, range: Range<u64>) -> Vec<PageIndex> {
        self.origin.load().pages.missing(self.pages_of(range))
    }

    /// How many bytes are here: exact but for holes, which count as here.
    pub fn resident_bytes(&self) -> u64 {
        let origin = self.origin.load();
        let absent = origin.pages.count() - origin.pages.resident();
        self.len().saturating_sub(absent * self.page_size.bytes())
    }

    /// Whether everything here would be found again after a power loss.
    pub fn is_durable(&self) -> bool {
        self.origin.load().pages.not_durable().is_empty()
    }

    /// Whether the kernel may read and write the file itself.
    pub fn permits_passthrough(&self) -> bool {
        self.tier.permits_passthrough && !self.is_packed() && self.is_complete()
    }

    /// Whether [`Self::verify`] must run before it is opened for passthrough.
    pub fn needs_verify(&self) -> bool {
        !self.verified.load(Ordering::Acquire)
    }

    /// Whether it was removed or evicted: what is read is right, but nothing put into it is found again.
    pub fn is_gone(&self) -> bool {
        self.guards.is_retired()
    }

    /// Whether everything in it can be had from the under file system again.
    pub(crate) fn is_replaceable(&self) -> bool {
        self.authority() == Authority::Origin && !self.keys.lock().is_empty()
    }

    /// Another number whenever a use was counted since it was asked for last (once a second at most), so that who asks
    /// now and then sees whether it was used in between. The kernel's reads of a passthrough file are not seen.
    pub fn use_mark(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    /// How many guards of a kind are out.
    pub fn held(&self, kind: Hold) -> u32 {
        self.guards.count(kind)
    }

    /// Keeps the extent from being evicted, punched or moved while the guard is out.
    ///
    /// # Errors
    /// [`StoreError::Gone`]: look it up again. [`StoreError::Busy`]: it is being moved or partly evicted just now.
    /// [`StoreError::Unverified`], for passthrough: call [`Self::verify`] first.
    pub fn hold(self: &Arc<Self>, kind: Hold) -> Result<Held, StoreError> {
        if kind == Hold::OpenPassthrough && self.needs_verify() {
            return Err(StoreError::Unverified(self.id));
        }
        Held::take(self, kind)
    }

    /// What the sidecar's header should say now.
    pub(crate) fn header(&self, sequence: u64) -> SidecarHeader {
        let origin = self.origin.load();
        SidecarHeader {
            id: self.id,
            sequence,
            page_size: self.page_size,
            authority: origin.authority,
            born_here: self.born_here,
            len: self.len(),
            origin_len: origin.len,
            keys: self.keys(),
        }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        if self.file.is_open() {
            self.tier.opened.closed();
        }
    }
}
