//! What each part takes now, and a word in the log when the whole is above the budget.
//!
//! A part that counts its bytes is asked for them; one that is a table of many small things is counted by their number
//! and weight. What the process has beyond all of these is the part `process`: code and stacks, and what the allocator
//! keeps.

use super::pruning::Pruning;
use super::resident::Resident;
use super::{Part, Split, sum};
use forebay_fuse::FuseMount;
use forebay_namespace::{CHANGE_COPIES, INODE_WEIGHT, NAME_WEIGHT, Namespace, QUEUED_WEIGHT, TableSizes};
use forebay_store::{EXTENT_WEIGHT, Store};
use forebay_types::ByteSize;
use forebay_worker::{Persister, Worker};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often the whole is held against the budget, and the inodes against theirs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// It is told again only after it was below so many eighths of the budget.
const CALM_EIGHTHS: u64 = 7;

/// Who is asked what it takes.
pub(crate) struct Counted {
    pub(crate) mount: Arc<FuseMount>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) store: Arc<Store>,
    pub(crate) names: Arc<Namespace>,
    pub(crate) persister: Weak<Persister>,
}

/// The daemon's memory as it is now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// All that it is to take.
    pub(crate) budget: u64,
    /// Where that figure comes from.
    pub(crate) budget_from: String,
    /// What it takes, as the kernel counts it, without pages of files.
    pub(crate) resident: u64,
    /// Pages of files beside that, which the kernel takes back when it wants to.
    pub(crate) resident_files: u64,
    /// The parts, `process` among them.
    pub(crate) parts: Vec<PartReport>,
    /// What some of the parts hold within another.
    pub(crate) within: Vec<WithinReport>,
    /// Inodes in memory.
    pub(crate) inodes: usize,
    /// Whether the kernel can be asked to forget inodes.
    pub(crate) can_prune: bool,
    /// How many it was asked to forget.
    pub(crate) asked_to_forget: u64,
}

/// A part as it is now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PartReport {
    pub(crate) part: &'static str,
    /// The most that it takes, or, where `held` is false, what was foreseen.
    pub(crate) limit: u64,
    /// What is in use of it.
    pub(crate) used: u64,
    /// What it takes of the machine: the arena is taken as a whole at the start.
    pub(crate) taken: u64,
    /// Whether it never takes more.
    pub(crate) held: bool,
    /// The setting with its limit; `null`: it is derived.
    pub(crate) set_by: Option<&'static str>,
}

/// A use within a part.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WithinReport {
    pub(crate) part: &'static str,
    pub(crate) of: &'static str,
    pub(crate) used: u64,
}

/// Counts the daemon's memory.
pub(crate) struct Account {
    split: Split,
    counted: Counted,
    alarm: Alarm,
    pruning: Pruning,
}

/// Tells once that the whole is above the budget, and once more only after it was well below.
#[derive(Default)]
struct Alarm(AtomicBool);

impl Alarm {
    fn rings(&self, taken: u64, budget: u64) -> bool {
        if taken <= budget / 8 * CALM_EIGHTHS {
            self.0.store(false, Relaxed);
        }
        taken > budget && !self.0.swap(true, Relaxed)
    }
}

impl Account {
    /// Over parts that run; from now on the whole is held against the budget. Must be called on a tokio runtime.
    pub(crate) fn begin(split: &Split, counted: Counted) -> Arc<Self> {
        tracing::info!(budget = %split.budget(), from = split.origin(), parts = %split, "the memory is shared out");
        let account = Arc::new(Self {
            split: split.clone(),
            counted,
            alarm: Alarm::default(),
            pruning: Pruning::default(),
        });
        tokio::spawn(watch(Arc::downgrade(&account)));
        account
    }

    /// What it is now.
    pub(crate) fn report(&self) -> Report {
        let resident = Resident::look();
        let uses = self.uses();
        let known = sum(Part::ALL.iter().zip(uses).map(|(part, used)| self.taken(*part, used)));
        let rest = ByteSize::bytes(resident.own.as_u64().saturating_sub(known.as_u64()));
        let parts = Part::ALL.into_iter().zip(uses).map(|(part, used)| {
            let used = if part == Part::Process { rest } else { used };
            self.part(part, used)
        });
        Report {
            budget: self.split.budget().as_u64(),
            budget_from: self.split.origin(),
            resident: resident.own.as_u64(),
            resident_files: resident.files.as_u64(),
            parts: parts.collect(),
            within: self.within_the_arena(),
            inodes: self.counted.names.table_sizes().inodes,
            can_prune: self.counted.mount.can_prune(),
            asked_to_forget: self.pruning.asked(),
        }
    }

    fn part(&self, part: Part, used: ByteSize) -> PartReport {
        PartReport {
            part: part.name(),
            limit: self.split.limit(part).as_u64(),
            used: used.as_u64(),
            taken: self.taken(part, used).as_u64(),
            held: part.is_held(),
            set_by: self.split.set_by(part),
        }
    }

    fn taken(&self, part: Part, used: ByteSize) -> ByteSize {
        if part == Part::Arena { forebay_shard::arena().size() } else { used }
    }

    /// What is in use of each part, in the order of [`Part::ALL`]; nothing of `process`, which is what is left.
    fn uses(&self) -> [ByteSize; Part::ALL.len()] {
        let Counted { worker, store, names, persister, .. } = &self.counted;
        let sizes = names.table_sizes();
        let persist = persister.upgrade().map_or(0, |persister| persister.memory_used());
        let gets = worker.transfer_memory();
        Part::ALL.map(|part| match part {
            Part::Arena => forebay_shard::arena().in_use(),
            Part::Persist => ByteSize::bytes(persist),
            Part::Transfers => ByteSize::bytes(gets).max(forebay_ufs::scratch_memory()),
            Part::Extents => times(EXTENT_WEIGHT, store.len()),
            Part::Process => ByteSize::default(),
            part => of_table(part, &sizes),
        })
    }

    fn within_the_arena(&self) -> Vec<WithinReport> {
        let of = Part::Arena.name();
        let (fetched, _) = self.counted.worker.fetch_memory();
        let channel = self.counted.mount.buffers().as_u64();
        [("channel", channel), ("fetched", fetched)]
            .map(|(part, used)| WithinReport { part, of, used })
            .into()
    }

    fn look(&self) {
        self.pruning.look(&self.counted.names, &self.counted.mount);
        let report = self.report();
        let taken = report.parts.iter().map(|part| part.taken).sum::<u64>().max(report.resident);
        if self.alarm.rings(taken, report.budget) {
            let most = report.parts.iter().max_by_key(|part| part.taken.saturating_sub(part.limit));
            let (part, takes) = most.map_or(("", 0), |most| (most.part, most.taken));
            tracing::warn!(
                budget = %self.split.budget(), taken_bytes = taken, part, part_bytes = takes,
                "the daemon takes more memory than node.memory; the part named is the furthest above its limit"
            );
        }
    }
}

/// What a table of the name space takes.
fn of_table(part: Part, sizes: &TableSizes) -> ByteSize {
    match part {
        Part::Changes => times(sizes.changed, CHANGE_COPIES as usize),
        Part::Inodes => times(INODE_WEIGHT, sizes.inodes),
        Part::Names => times(NAME_WEIGHT, sizes.names),
        Part::Queue => times(QUEUED_WEIGHT, sizes.queued),
        _ => unreachable!("no table of the name space"),
    }
}

fn times(weight: ByteSize, count: usize) -> ByteSize {
    ByteSize::bytes(weight.as_u64().saturating_mul(count as u64))
}

/// Holds the whole against the budget again and again, as long as somebody has the account.
async fn watch(account: Weak<Account>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let Some(account) = account.upgrade() else { return };
        account.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_budget_is_told_once_until_it_was_well_below() {
        let alarm = Alarm::default();
        let rang = [799, 801, 900, 790, 850, 700, 801, 802].map(|taken| alarm.rings(taken, 800));
        assert_eq!(rang, [false, true, false, false, false, false, true, false]);
    }
}
