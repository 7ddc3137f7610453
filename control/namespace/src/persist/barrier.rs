//! Waiting for what is dirty to be carried, and how much that is.

use super::queue::Seen;
use crate::moving::is_aside;
use crate::namespace::Namespace;
use crate::record::Slot;
use forebay_types::{FsError, FsErrorKind, FsResult, Ino, InodeState};
use futures_timer::Delay;
use futures_util::future::select;
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

/// How often who waits looks again even if nothing was reported.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What of all that was dirty could not be carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BarrierReport {
    /// Names that failed since the call, with the reason: still queued, tried again.
    pub failed: Vec<(String, String)>,
    /// Names left out because they are open for write.
    pub open_for_write: usize,
}

/// How much is dirty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirtyStats {
    /// Names that differ from what the UFS has.
    pub names: usize,
    /// Bytes of files that are to be put, as they were when they were queued last.
    pub bytes: u64,
    /// Tasks that are out.
    pub in_flight: usize,
    /// Names that keep failing.
    pub set_aside: usize,
    /// How long the oldest name has been queued, since the start at most.
    pub oldest: Option<Duration>,
}

impl Namespace {
    /// How much is dirty.
    pub fn dirty_stats(&self) -> DirtyStats {
        let totals = self.shared.queue.totals();
        let age = |since: u64| Duration::from_millis(self.shared.now_ms().saturating_sub(since));
        DirtyStats {
            names: totals.names,
            bytes: totals.bytes,
            in_flight: totals.out,
            set_aside: totals.set_aside,
            oldest: totals.oldest_since_ms.map(age),
        }
    }

    /// Has an inode carried now, without its delay, and waits for that. Returns at once for what is clean or
    /// native.
    ///
    /// # Errors
    /// `Busy` while it is open for write; `Unavailable` with the reason if a try failed (it stays queued);
    /// `Unsupported` if the UFS cannot hold it.
    pub async fn persist_now(&self, ino: Ino) -> FsResult<()> {
        let names = self.queued_names(ino).await?;
        let report = self.wait_for(names).await?;
        if let Some((name, why)) = report.failed.first() {
            return Err(FsError::new(FsErrorKind::Unavailable, format!("{name} was not persisted: {why}")));
        }
        if report.open_for_write > 0 {
            return Err(FsError::new(FsErrorKind::Busy, "it is open for write"));
        }
        match &self.inode(ino).await?.record().unpersistable {
            Some(why) => Err(FsError::new(FsErrorKind::Unsupported, why)),
            None => Ok(()),
        }
    }

    async fn queued_names(&self, ino: Ino) -> FsResult<Vec<(Slot, Seen)>> {
        let record = self.inode(ino).await?.record();
        if record.state == InodeState::Native {
            return Ok(Vec::new());
        }
        let names = self.mutate(move |txn| Ok(txn.names_of(ino, &*txn.inode(ino)?)?)).await?;
        Ok(names.into_iter().filter_map(|slot| Some((slot.clone(), self.shared.queue.see(&slot)?))).collect())
    }

    /// Waits until everything that was dirty before the call is carried, below `top` if one is given. What is
    /// open for write is left out; what fails after the call ends the wait for it.
    ///
    /// # Errors
    /// `ShuttingDown`, `Stale` if `top` is gone.
    pub async fn persist_barrier(&self, top: Option<Ino>) -> FsResult<BarrierReport> {
        let mut names = self.shared.queue.up_to(self.committer.pushed());
        if let Some(top) = top {
            let mut below = Vec::new();
            for (slot, seen) in names {
                if self.is_below(slot.0, top).await? {
                    below.push((slot, seen));
                }
            }
            names = below;
        }
        let dirs: BTreeSet<Ino> = names.iter().map(|(slot, _)| slot.0).collect();
        let mut report = self.wait_for(names).await?;
        // Names that have changed places left some aside for a while, beside them or in the root of the mount, and what
        // was carried into a directory has moved its time, which is set right only after that.
        let roots = self.shared.mounts.all().into_iter().map(|mount| mount.root);
        let beside: BTreeSet<Ino> = dirs.iter().copied().chain(roots).collect();
        let aside = beside.into_iter().flat_map(|dir| self.shared.queue.seen_in(dir, is_aside));
        report.failed.extend(self.wait_for(aside.collect()).await?.failed);
        let mut times = Vec::new();
        for dir in dirs {
            let slot = self.inode(dir).await.ok().and_then(|dir| dir.record().at.clone());
            times.extend(slot.and_then(|slot| Some((slot.clone(), self.shared.queue.see(&slot)?))));
        }
        report.failed.extend(self.wait_for(times).await?.failed);
        Ok(report)
    }

    async fn is_below(&self, dir: Ino, top: Ino) -> FsResult<bool> {
        let mut at = dir;
        loop {
            if at == top {
                return Ok(true);
            }
            let up = self.inode(at).await.ok().and_then(|inode| inode.record().at.clone());
            match up {
                Some((parent, _)) => at = parent,
                None => return Ok(false),
            }
        }
    }

    /// Waits for names, one after the other: that one of them has settled says nothing of the others, and to look at all of them
    /// each time would take longer the more there are.
    async fn wait_for(&self, names: Vec<(Slot, Seen)>) -> FsResult<BarrierReport> {
        let mut report = BarrierReport::default();
        self.shared.queue.hasten(names.iter().map(|(slot, _)| slot));
        for (slot, was) in &names {
            self.settled(slot, was, &mut report).await;
        }
        Ok(report)
    }

    async fn settled(&self, slot: &Slot, was: &Seen, report: &mut BarrierReport) {
        loop {
            let changed = self.shared.queue.changed.notified();
            let mut changed = pin!(changed);
            changed.as_mut().enable();
            if !self.is_awaited(slot, was, report) {
                return;
            }
            select(changed, Delay::new(LOOK_EVERY)).await;
        }
    }

    /// Whether a name is still to be waited for; if not, `report` says why, unless it was carried.
    fn is_awaited(&self, slot: &Slot, was: &Seen, report: &mut BarrierReport) -> bool {
        let Some(is) = self.shared.queue.see(slot).filter(|is| is.born == was.born) else { return false };
        if is.failures > was.failures {
            report.failed.push((slot.1.to_string(), is.failure.unwrap_or_default()));
            return false;
        }
        if is.open_for_write || is.written_beside > was.written_beside {
            report.open_for_write += 1;
            return false;
        }
        !is.goes_last
    }
}
