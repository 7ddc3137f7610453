//! One round: what is done about each file that a rule speaks of. Runs on a shard.

use super::{Keeper, KeeperFigures};
use crate::walk::{self, Looked};
use forebay_fuse::Notice;
use forebay_namespace::Policy;
use forebay_store::{Extent, Held, Hold};
use forebay_types::{
    Attr, ByteSize, Caller, Clock, ContentLocation, ExtentId, FsError, FsErrorKind, FsResult, InodeState,
    MountId, SystemClock, TimeSpec, TtlAction,
};
use forebay_vfs::QuotaUse;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// When an extent was last seen to be used.
#[derive(Clone, Copy)]
pub(super) struct LastUse {
    mark: u64,
    since: Instant,
}

/// Files of one quota that may be evicted for it, so many at most in one round.
const EVICTABLE_MAX: usize = 65_536;

/// What counts towards one quota.
struct Counted {
    used: QuotaUse,
    evictable: Vec<(Duration, u64, ContentLocation)>,
}

/// What a round gathers.
#[derive(Default)]
struct Round {
    quotas: BTreeMap<(MountId, String), Counted>,
    holds: HashMap<ExtentId, Held>,
    used: HashMap<ExtentId, LastUse>,
    found: KeeperFigures,
    /// Why the first pinned file that could not be brought here could not.
    unpinnable: Option<FsError>,
}

impl Keeper {
    /// Walks everything at and below `tops`.
    pub(super) async fn walk(self: Arc<Self>, tops: BTreeSet<Vec<u8>>) -> FsResult<()> {
        let round = RefCell::new(Round { quotas: self.expect_quotas(), ..Round::default() });
        for top in &tops {
            let tend = |found| self.tend(found, &round);
            match walk::each_file(&self.parts.vfs, top, tend).await {
                // A rule may speak of what is not there yet.
                Err(error) if matches!(error.kind(), FsErrorKind::NotFound | FsErrorKind::NotADirectory) => {}
                walked => walked?,
            }
        }
        self.evict_beyond_quotas(&round).await;
        self.take_over(round.into_inner());
        Ok(())
    }

    fn take_over(&self, round: Round) {
        // The old guards go after the new ones are in place.
        let old = std::mem::replace(&mut *self.holds.lock(), round.holds);
        drop(old);
        *self.used.lock() = round.used;
        if let Some(error) = round.unpinnable {
            tracing::warn!(files = round.found.unpinnable, %error, "pinned files could not be brought here wholly");
        }
        let mut figures = self.figures.lock();
        let found = round.found;
        *figures = KeeperFigures {
            ttl_freed: figures.ttl_freed + found.ttl_freed,
            ttl_deleted: figures.ttl_deleted + found.ttl_deleted,
            quota_evicted: figures.quota_evicted + found.quota_evicted,
            rounds: figures.rounds,
            last_round: figures.last_round,
            ..found
        };
    }

    async fn tend(&self, found: Looked<'_>, round: &RefCell<Round>) -> FsResult<()> {
        if self.stopping.load(Relaxed) {
            return Err(FsErrorKind::ShuttingDown.into());
        }
        match self.tend_file(&found, round).await {
            Ok(()) => Ok(()),
            // What went meanwhile, or cannot be looked at now, is no reason to leave the others alone.
            Err(error) => {
                tracing::debug!(path = %found.path.escape_ascii(), %error, "left to the next round");
                Ok(())
            }
        }
    }

    async fn tend_file(&self, found: &Looked<'_>, round: &RefCell<Round>) -> FsResult<()> {
        let policy = self.parts.names.policy(found.ino).await?;
        let attr = self.parts.vfs.getattr(found.ino).await?.attr;
        if policy.ttl_action == TtlAction::Delete && is_over(&policy, &attr) {
            return self.delete(found, &policy, round).await;
        }
        let content = self.parts.names.content(found.ino).await?;
        if policy.pin || self.parts.asked.is_pinned(&found.path) {
            return self.pin(found, &attr, content, round).await;
        }
        let Some(extent) = self.extent_of(&content) else { return Ok(()) };
        let idle = self.idle_for(&extent, round);
        if policy.ttl.is_some_and(|ttl| policy.ttl_action == TtlAction::Free && idle >= ttl.0)
            && self.parts.client.evict(&content).await? > 0
        {
            round.borrow_mut().found.ttl_freed += 1;
            return Ok(());
        }
        self.count(found, &attr, (content, extent.resident_bytes(), idle), round).await
    }

    /// Counts a file's bytes towards every quota that binds it.
    async fn count(
        &self,
        found: &Looked<'_>,
        attr: &Attr,
        (content, bytes, idle): (ContentLocation, u64, Duration),
        round: &RefCell<Round>,
    ) -> FsResult<()> {
        let (mount, quotas) = self.parts.names.quotas(found.ino).await?;
        let clean = attr.state == InodeState::Clean;
        for (prefix, limit) in quotas {
            let mut round = round.borrow_mut();
            let counted = round.quotas.entry((mount, prefix.clone())).or_insert_with(|| Counted {
                used: QuotaUse { mount, prefix, limit: limit.as_u64(), kept: 0, only_here: 0 },
                evictable: Vec::new(),
            });
            counted.used.kept += bytes;
            if !clean {
                counted.used.only_here += bytes;
            } else if counted.evictable.len() < EVICTABLE_MAX {
                counted.evictable.push((idle, bytes, content.clone()));
            }
        }
        Ok(())
    }

    /// Evicts what is clean and was not used for longest, until each quota holds.
    async fn evict_beyond_quotas(&self, round: &RefCell<Round>) {
        let counted = std::mem::take(&mut round.borrow_mut().quotas);
        let mut uses = Vec::new();
        for Counted { mut used, mut evictable } in counted.into_values() {
            evictable.sort_unstable_by_key(|(idle, ..)| std::cmp::Reverse(*idle));
            for (_, bytes, content) in evictable {
                if used.kept <= used.limit {
                    break;
                }
                // What is open is counted again by the next round.
                if let Ok(1..) = self.parts.client.evict(&content).await {
                    used.kept = used.kept.saturating_sub(bytes);
                    round.borrow_mut().found.quota_evicted += 1;
                }
            }
            uses.push(used);
        }
        self.parts.vfs.quotas().publish(uses);
    }

    /// Quotas of which nothing was found bind as well.
    fn expect_quotas(&self) -> BTreeMap<(MountId, String), Counted> {
        let all = self.parts.names.mounts().into_iter().flat_map(|mount| {
            let whole = mount.spec.policy.quota.map(|quota| (String::new(), quota));
            let below =
                mount.spec.prefixes.into_iter().filter_map(|(prefix, change)| Some((prefix, change.quota?)));
            let of_mount = move |(prefix, limit): (String, ByteSize)| {
                let used = QuotaUse {
                    mount: mount.id,
                    prefix: prefix.clone(),
                    limit: limit.as_u64(),
                    kept: 0,
                    only_here: 0,
                };
                ((mount.id, prefix), Counted { used, evictable: Vec::new() })
            };
            whole.into_iter().chain(below).map(of_mount).collect::<Vec<_>>()
        });
        all.collect()
    }

    /// Brings a file here and keeps it.
    async fn pin(
        &self,
        found: &Looked<'_>,
        attr: &Attr,
        content: ContentLocation,
        round: &RefCell<Round>,
    ) -> FsResult<()> {
        let complete = self.extent_of(&content).is_some_and(|extent| extent.is_complete());
        let brought = if complete { Ok(()) } else { self.parts.client.complete(&content).await };
        if let Err(error) = brought {
            let mut round = round.borrow_mut();
            round.found.unpinnable += 1;
            round.unpinnable.get_or_insert(error);
        }
        let Some(extent) = self.extent_of(&content) else { return Ok(()) };
        let bytes = extent.resident_bytes();
        let held = extent.hold(Hold::Pinned)?;
        {
            let mut round = round.borrow_mut();
            round.found.pinned_files += 1;
            round.found.pinned_bytes += bytes;
            round.holds.entry(extent.id()).or_insert(held);
        }
        self.count(found, attr, (content, bytes, Duration::ZERO), round).await
    }

    /// How long nobody has used an extent, as far as rounds have seen.
    fn idle_for(&self, extent: &Arc<Extent>, round: &RefCell<Round>) -> Duration {
        let mark = extent.use_mark();
        let known = self.used.lock().get(&extent.id()).copied();
        let open = extent.held(Hold::OpenPassthrough) > 0;
        let since =
            known.filter(|known| known.mark == mark && !open).map_or_else(Instant::now, |known| known.since);
        round.borrow_mut().used.insert(extent.id(), LastUse { mark, since });
        since.elapsed()
    }

    async fn delete(&self, found: &Looked<'_>, policy: &Policy, round: &RefCell<Round>) -> FsResult<()> {
        let Some((parent, name)) = &found.at else { return Ok(()) };
        if policy.read_only {
            return Err(FsErrorKind::ReadOnly.into());
        }
        self.parts.vfs.unlink(&Caller::DAEMON, *parent, name).await?;
        // The kernel did not ask for it and would show the name until it looks again.
        let gone = Notice::Gone { parent: *parent, child: found.ino, name: name.clone() };
        self.parts.mount.notifier().send(gone);
        round.borrow_mut().found.ttl_deleted += 1;
        tracing::info!(path = %found.path.escape_ascii(), "deleted: its time to live is over");
        Ok(())
    }
}

/// Whether the time of a file is over, counted from its last change.
fn is_over(policy: &Policy, attr: &Attr) -> bool {
    let Some(ttl) = policy.ttl else { return false };
    let millis = |at: TimeSpec| i128::from(at.secs) * 1000 + i128::from(at.nanos / 1_000_000);
    millis(SystemClock.now()) - millis(attr.mtime) >= ttl.0.as_millis() as i128
}
