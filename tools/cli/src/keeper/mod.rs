//! The keeper: does, again and again, what pins and policies ask for.
//!
//! **Owns** the guards that keep pinned files from eviction, the memory of when a file was last used (as far as a
//! time to live needs it), and the rounds: a walk over those parts of the tree that a rule speaks of, and no other.
//!
//! **Never does** hold up a request: rounds run beside them, and what a round finds wrong it logs and looks at again.
//!
//! **In and out:** rules come from the mount table and from [`AskedFile`]; bytes are brought by the client and let go
//! by it; figures leave for the metrics page.
//!
//! **Why this shape:** a rule is about paths, and files come, go and move all the time: by us, by other programs, in
//! the under file system. Looking at what is there now needs no bookkeeping that could go wrong, and a round that
//! failed is repeated by the next. A walk costs listings, so the pause between two grows with what the last one took.

mod round;

use crate::asked::{AskedFile, is_within};
use forebay_client::Client;
use forebay_fuse::FuseMount;
use forebay_namespace::{Namespace, Policy, PolicyChange};
use forebay_shard::ShardHandle;
use forebay_store::{Extent, Held, Hold};
use forebay_types::{ContentLocation, ExtentId, FsError, FsErrorKind, FsResult};
use forebay_vfs::Vfs;
use forebay_worker::Worker;
use parking_lot::Mutex;
use round::LastUse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A round may take this share of the time: the pause after it is so many times as long as it was.
const PAUSE_FACTOR: u32 = 20;
/// A quota that refuses is counted anew after this pause, however often it refuses.
const RECOUNT_PAUSE: Duration = Duration::from_millis(500);

/// What the keeper works with.
pub(crate) struct KeeperParts {
    pub(crate) mount: Arc<FuseMount>,
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) names: Arc<Namespace>,
    pub(crate) client: Arc<Client>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) shard: ShardHandle,
    pub(crate) asked: Arc<AskedFile>,
}

/// What the last round found, and all rounds did.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeeperFigures {
    /// Files that pins keep, and their bytes.
    pub(crate) pinned_files: u64,
    pub(crate) pinned_bytes: u64,
    /// Pinned files that could not be brought here wholly, in the last round.
    pub(crate) unpinnable: u64,
    /// Files whose cached bytes went because their time was over.
    pub(crate) ttl_freed: u64,
    /// Files that were deleted because their time was over.
    pub(crate) ttl_deleted: u64,
    /// Files whose cached bytes went for a quota.
    pub(crate) quota_evicted: u64,
    /// Rounds that came to their end, and how long the last one took.
    pub(crate) rounds: u64,
    pub(crate) last_round: Duration,
}

/// Keeps pins, times to live and quotas.
pub(crate) struct Keeper {
    parts: KeeperParts,
    every_ms: AtomicU64,
    holds: Mutex<HashMap<ExtentId, Held>>,
    used: Mutex<HashMap<ExtentId, LastUse>>,
    figures: Mutex<KeeperFigures>,
    wanted: Notify,
    turn: tokio::sync::Mutex<()>,
    stopping: AtomicBool,
}

impl Keeper {
    /// A keeper that begins a round every so often once it [runs](Self::run).
    pub(crate) fn new(parts: KeeperParts, every: Duration) -> Arc<Self> {
        let keeper = Self {
            parts,
            every_ms: AtomicU64::new(0),
            holds: Mutex::default(),
            used: Mutex::default(),
            figures: Mutex::default(),
            wanted: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            stopping: AtomicBool::new(false),
        };
        keeper.set_every(every);
        Arc::new(keeper)
    }

    /// Changes how often a round begins, if the one before was short.
    pub(crate) fn set_every(&self, every: Duration) {
        self.every_ms.store(every.as_millis() as u64, Relaxed);
        self.wanted.notify_one();
    }

    /// A rule has changed: the next round begins now.
    pub(crate) fn poke(&self) {
        self.wanted.notify_one();
    }

    /// What it found and did.
    pub(crate) fn figures(&self) -> KeeperFigures {
        self.figures.lock().clone()
    }

    /// Works until it is dropped or told to stop.
    pub(crate) async fn run(self: Arc<Self>) {
        while !self.stopping.load(Relaxed) {
            let began = Instant::now();
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "a round over pins, times to live and quotas broke off; it is repeated");
            }
            let every = Duration::from_millis(self.every_ms.load(Relaxed));
            let pause = every.max(began.elapsed() * PAUSE_FACTOR);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
                () = self.parts.vfs.quotas().refused() => tokio::time::sleep(RECOUNT_PAUSE).await,
            }
        }
    }

    /// Ends the round under way soon, and begins no other. The guards go with the keeper.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.wanted.notify_one();
    }

    /// One round over everything that a rule speaks of.
    ///
    /// # Errors
    /// The tree could not be walked to its end; what was found until then is done.
    pub(crate) async fn round(self: &Arc<Self>) -> FsResult<()> {
        let _turn = self.turn.lock().await;
        let began = Instant::now();
        let tops = self.tops();
        let keeper = Arc::clone(self);
        let walked = self.parts.shard.call(move || async move { keeper.walk(tops).await }).await;
        walked.map_err(|error| FsError::new(FsErrorKind::Overloaded, error))??;
        let mut figures = self.figures.lock();
        figures.rounds += 1;
        figures.last_round = began.elapsed();
        Ok(())
    }

    /// The highest paths below which a rule applies, without slashes around.
    fn tops(&self) -> BTreeSet<Vec<u8>> {
        let mut all: BTreeSet<Vec<u8>> =
            self.parts.asked.now().pins.into_iter().map(String::into_bytes).collect();
        for mount in self.parts.names.mounts() {
            let at = mount.spec.path.trim_matches('/');
            if is_ruled(&mount.spec.policy) {
                all.insert(at.as_bytes().to_vec());
            }
            let ruled = mount.spec.prefixes.iter().filter(|(_, change)| is_change_ruled(change));
            all.extend(
                ruled.map(|(prefix, _)| format!("{at}/{prefix}").trim_matches('/').as_bytes().to_vec()),
            );
        }
        let covered = |path: &Vec<u8>| all.iter().any(|other| other != path && is_within(path, other));
        all.iter().filter(|path| !covered(path)).cloned().collect()
    }

    /// The extent that holds a file's bytes, if any are here.
    fn extent_of(&self, content: &ContentLocation) -> Option<Arc<Extent>> {
        self.parts.worker.extent_of(content)
    }

    /// Keeps a file's bytes from eviction, as far as they are here. Says how many they are.
    pub(crate) fn hold(&self, content: &ContentLocation) -> u64 {
        let Some(extent) = self.extent_of(content) else { return 0 };
        let mut holds = self.holds.lock();
        if let Entry::Vacant(place) = holds.entry(extent.id()) {
            match extent.hold(Hold::Pinned) {
                Ok(held) => {
                    place.insert(held);
                }
                Err(error) => {
                    tracing::debug!(%error, "a pinned file is held by the next round");
                    return 0;
                }
            }
        }
        extent.resident_bytes()
    }

    /// Whether a file's bytes are kept from eviction now.
    pub(crate) fn is_held(&self, content: &ContentLocation) -> bool {
        self.extent_of(content).is_some_and(|extent| self.holds.lock().contains_key(&extent.id()))
    }
}

/// Whether the keeper has anything to do for a policy.
fn is_ruled(policy: &Policy) -> bool {
    policy.pin || policy.ttl.is_some() || policy.quota.is_some()
}

fn is_change_ruled(change: &PolicyChange) -> bool {
    change.pin == Some(true) || change.ttl.is_some() || change.quota.is_some()
}
