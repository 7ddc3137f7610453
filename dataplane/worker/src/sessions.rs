//! Who writes: what the worker must remember of an extent from the first writer's open to the last one's close.
//!
//! **Owns** the clean identity that an extent had before (so that a writer who changed nothing gives it back), and,
//! for an extent that is not wholly here, its times. The extent file cannot tell those: fetching an absent page
//! into it moves them too. Such a file is never given to the kernel, so the worker sees every write to it.

use forebay_store::{Extent, Held, Reservation};
use forebay_types::{
    Clock, ContentKey, ExtentId, FileTimes, FsError, FsErrorKind, FsResult, SystemClock, TimeSpec,
};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::time::Duration;
use tokio::sync::MutexGuard;

/// Spreads the locks; a power of two above the number of cores.
const SLICES: usize = 64;
const _: () = assert!(SLICES.is_power_of_two());

/// One extent that is open for write.
pub(crate) struct Session {
    /// What it was found by before; empty if it was dirty already. `None` once the session has ended.
    keys: Mutex<Option<Vec<ContentKey>>>,
    /// How many writers had begun on the extent with it.
    writers: u64,
    /// Its bytes were carried, or are to be, while it goes on.
    published: AtomicBool,
    /// Its last change, if the worker keeps that itself.
    changed_at: Option<Mutex<TimeSpec>>,
    /// Keeps the extent where it is: a writer has its file open.
    held: Held,
    /// How many are making it durable just now.
    syncs: AtomicUsize,
    /// Room that is promised to the writer; how much that shall be.
    promised: Mutex<Reservation>,
    reserve: u64,
}

impl Session {
    /// A session of an extent that had `keys`, the last of `writers` that began on it. `kept_since` is its last change
    /// if the worker is to keep its times.
    pub(crate) fn new(
        held: Held,
        (keys, writers): (Vec<ContentKey>, u64),
        kept_since: Option<TimeSpec>,
        promised: Reservation,
    ) -> Self {
        let reserve = promised.len();
        let (keys, promised) = (Mutex::new(Some(keys)), Mutex::new(promised));
        let (published, changed_at) = (AtomicBool::new(false), kept_since.map(Mutex::new));
        Self { keys, writers, published, changed_at, held, syncs: AtomicUsize::new(0), promised, reserve }
    }

    /// What is written to.
    pub(crate) fn extent(&self) -> &Arc<Extent> {
        self.held.extent()
    }

    /// Somebody makes it durable, until the guard is dropped.
    pub(crate) fn begin_sync(self: Arc<Self>) -> Syncing {
        self.syncs.fetch_add(1, Relaxed);
        Syncing(self)
    }

    pub(crate) fn is_syncing(&self) -> bool {
        self.syncs.load(Relaxed) > 0
    }

    /// Room for a write out of what is promised, and what is free besides; what it takes is promised again as soon as
    /// it fits.
    pub(crate) fn lend(&self, len: u64) -> Option<Reservation> {
        let mut promised = self.promised.lock();
        promised.top_up(len);
        promised.split(len)
    }

    /// Promises again what was lent, if it fits now.
    pub(crate) fn renew(&self) {
        let mut promised = self.promised.lock();
        if promised.len() < self.reserve {
            promised.top_up(self.reserve);
        }
    }

    /// Ends it: what the extent is found by if nothing was changed. Nothing is added any more.
    pub(crate) fn close(&self) -> Vec<ContentKey> {
        self.keys.lock().take().unwrap_or_default()
    }

    /// The bytes that it had when `writers` had begun were carried to the under file system, where they have this key.
    /// `now` says how many there are by now. False if the session has ended and cannot give them back any more.
    pub(crate) fn carried(&self, key: ContentKey, writers: u64, now: impl FnOnce() -> u64) -> bool {
        let mut keys = self.keys.lock();
        let Some(keys) = &mut *keys else { return false };
        let now = now();
        // Read while it was open, and not published since; or before it began, and it was not published at all.
        if now == writers || (now == writers + 1 && self.writers == now) {
            keys.push(key);
        } else {
            tracing::debug!(writers, now, "it was written again before it was bound: it stays ours");
        }
        true
    }

    /// What was written so far is to be carried while it goes on. If that has changed, `count` counts one writer more.
    pub(crate) fn publish(&self, changed: bool, count: impl FnOnce()) {
        let mut keys = self.keys.lock();
        if changed {
            keys.iter_mut().for_each(Vec::clear);
            // What was read of it for an earlier call says nothing of what it is now.
            count();
        }
        self.published.store(true, Release);
    }

    /// Whether what it has changed was told of before its end.
    pub(crate) fn was_published(&self) -> bool {
        self.published.load(Acquire)
    }

    /// Whether the extent file's times are not to be believed, and the kernel may not write to it.
    pub(crate) fn keeps_times(&self) -> bool {
        self.changed_at.is_some()
    }

    /// Takes note of a change.
    pub(crate) fn changed(&self) {
        if let Some(changed_at) = &self.changed_at {
            let mut changed_at = changed_at.lock();
            *changed_at = SystemClock.now().max(*changed_at);
        }
    }

    /// The times of an extent of `len` bytes as kept here. The space is what its bytes would take: what it takes
    /// just now depends on what was fetched.
    pub(crate) fn times(&self, len: u64) -> Option<FileTimes> {
        let changed_at = *self.changed_at.as_ref()?.lock();
        Some(FileTimes { len, mtime: changed_at, ctime: changed_at, blocks_512: len.div_ceil(512) })
    }
}

/// An extent that is being made durable while it is open for write.
pub(crate) struct Syncing(Arc<Session>);

impl Drop for Syncing {
    fn drop(&mut self) {
        self.0.syncs.fetch_sub(1, Relaxed);
    }
}

/// An extent on its way back to the clean identity it had.
pub(crate) struct Returning {
    sessions: Arc<Sessions>,
    pub(crate) id: ExtentId,
}

impl Returning {
    /// Its keys, unless a writer has come and taken them: what that one changes must not be found by them.
    pub(crate) fn keys_left(&self) -> Vec<ContentKey> {
        let returning = self.sessions.returning.lock();
        returning.iter().filter(|(_, id)| **id == self.id).map(|(key, _)| *key).collect()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        self.sessions.take_returning(self.id);
    }
}

/// A content that was just carried is told of as long as this is there.
pub(crate) struct JustCarried {
    sessions: Arc<Sessions>,
    content: ContentKey,
    number: u64,
}

impl Drop for JustCarried {
    fn drop(&mut self) {
        let mut carried = self.sessions.carried.lock();
        // The same content may have been carried once more meanwhile, from this extent or another.
        if carried.get(&self.content).is_some_and(|told| told.number == self.number) {
            carried.remove(&self.content);
        }
    }
}

/// What is told of a content that was just carried.
#[derive(Clone, Copy)]
struct Told {
    id: ExtentId,
    /// How many writers had begun on the extent before it was read.
    writers: u64,
    /// No two have the same.
    number: u64,
}

type Slice = Mutex<HashMap<ExtentId, Arc<Session>>>;

/// All sessions, and the turns in which they begin and end.
pub(crate) struct Sessions {
    slices: Box<[Slice]>,
    /// Extents that are on their way back to the clean identity they had: found by it already, so that nobody fetches
    /// what is here.
    returning: Mutex<HashMap<ContentKey, ExtentId>>,
    /// Extents that were just carried, and how many writers had begun on them before they were read. The name space tells
    /// of the content before the store knows it, which syncs the file first.
    carried: Mutex<HashMap<ContentKey, Told>>,
    tellings: AtomicU64,
    turns: Box<[tokio::sync::Mutex<()>]>,
}

impl Default for Sessions {
    fn default() -> Self {
        let slices = (0..SLICES).map(|_| Mutex::default()).collect();
        let (returning, carried) = (Mutex::default(), Mutex::default());
        Self {
            slices,
            returning,
            carried,
            tellings: AtomicU64::new(0),
            turns: (0..SLICES).map(|_| tokio::sync::Mutex::default()).collect(),
        }
    }
}

impl Sessions {
    fn slice(&self, extent: ExtentId) -> &Slice {
        &self.slices[extent.0 as usize & (SLICES - 1)]
    }

    /// One at a time decides who is the authority for an extent: a writer who opens or closes it, or the persist
    /// engine which has just carried it.
    pub(crate) async fn turn(&self, extent: ExtentId, within: Duration) -> FsResult<MutexGuard<'_, ()>> {
        let turn = &self.turns[extent.0 as usize & (SLICES - 1)];
        let turn = forebay_shard::timeout(within, turn.lock()).await;
        turn.map_err(|_| FsError::new(FsErrorKind::Overloaded, "an extent is being bound for too long"))
    }

    /// The session of an extent, if there is one.
    pub(crate) fn get(&self, extent: ExtentId) -> Option<Arc<Session>> {
        self.slice(extent).lock().get(&extent).cloned()
    }

    /// Whether `is_so` of any of the first `most` sessions.
    pub(crate) fn any(&self, most: usize, is_so: impl Fn(&Session) -> bool) -> bool {
        let some = |slice: &Slice| slice.lock().values().take(most).cloned().collect::<Vec<_>>();
        self.slices.iter().flat_map(some).take(most).any(|session| is_so(&session))
    }

    /// Begins a session unless there is one.
    pub(crate) fn begin(&self, extent: ExtentId, session: Session) {
        self.slice(extent).lock().entry(extent).or_insert_with(|| Arc::new(session));
    }

    /// An extent whose writer changed nothing is about to be found by `keys` again, until the guard is dropped.
    pub(crate) fn begin_return(self: &Arc<Self>, id: ExtentId, keys: Vec<ContentKey>) -> Returning {
        self.returning.lock().extend(keys.into_iter().map(|key| (key, id)));
        Returning { sessions: Arc::clone(self), id }
    }

    /// The extent that is about to be found by a key.
    pub(crate) fn returning(&self, key: ContentKey) -> Option<ExtentId> {
        self.returning.lock().get(&key).copied()
    }

    /// The bytes that an extent had when `writers` had begun on it are about to be known as `content`, until the guard is
    /// dropped. No writer gets that key by it: what is not recorded yet must not make an extent clean.
    pub(crate) fn tell_carried(
        self: &Arc<Self>,
        content: ContentKey,
        id: ExtentId,
        writers: u64,
    ) -> JustCarried {
        let number = self.tellings.fetch_add(1, Relaxed);
        self.carried.lock().insert(content, Told { id, writers, number });
        JustCarried { sessions: Arc::clone(self), content, number }
    }

    /// The extent that was just carried as `content`, and how many writers had begun on it by then. Nobody may be writing
    /// to it now.
    pub(crate) fn just_carried(&self, content: ContentKey) -> Option<(ExtentId, u64)> {
        let Told { id, writers, .. } = self.carried.lock().get(&content).copied()?;
        self.get(id).is_none().then_some((id, writers))
    }

    /// Whether there is any that the store does not know as clean yet.
    pub(crate) fn any_carried(&self) -> bool {
        !self.carried.lock().is_empty()
    }

    /// Ends the return of an extent, if there is one: its keys, which are the next writer's to give back. Only in the
    /// extent's turn.
    pub(crate) fn take_returning(&self, id: ExtentId) -> Vec<ContentKey> {
        self.returning.lock().extract_if(|_, returning| *returning == id).map(|(key, _)| key).collect()
    }

    /// Ends the session of an extent.
    pub(crate) fn end(&self, extent: ExtentId) -> Option<Arc<Session>> {
        self.slice(extent).lock().remove(&extent)
    }
}
