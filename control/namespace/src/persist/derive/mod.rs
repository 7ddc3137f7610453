//! What is to be done for a queued name, worked out from its state now, on the home's thread.
//!
//! The dentry says what the name is to be, its shadow what the UFS has there, the inode's record what is ours
//! and where the UFS has it. A task that was begun for the name and whose end is not known comes before anything
//! else. Each task is noted as begun in the same mutation that works it out.

mod circles;

use super::begun;
use super::queue::{Candidate, Candidates, Out, Wait};
use crate::record::{Dentry, InodeRecord, Shadow, Slot, UfsAt};
use crate::shared::millis;
use crate::txn::{OpResult, Txn};
use forebay_types::{
    FileKind, FsResult, Generation, Ino, InodeState, LARGE_LEN, MountId, PersistOrder, PersistTask,
    PersistWork, UfsAttr, UfsKey, UfsVersion,
};
use std::sync::Arc;
use std::time::Duration;

/// How long content that only an open handle still needs is left alone in the UFS. After that what is new there
/// counts for more: the handle reads what is cached.
const ORPHAN_PATIENCE_MS: u64 = 60_000;

/// The most tasks that are worked out at a time: they share one sync of the log.
const TASKS_AT_ONCE: usize = 16;

/// What is to be done for a name.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing: it has left the queue.
    Settled,
    /// This, and it is noted that it was begun.
    Task(Box<(PersistTask, Out)>),
    /// Nothing yet.
    Wait(Wait),
}

/// Looks at candidates in their order until enough tasks are found.
pub(crate) fn derive(txn: &mut Txn<'_>, from: &Candidates) -> OpResult<Vec<(Candidate, Verdict)>> {
    let mut verdicts = Vec::new();
    let mut out = from.out.clone();
    let mut found = 0;
    for candidate in &from.slots {
        let Candidate { slot, seq, since_ms } = candidate;
        let waited_ms = millis(txn.now).saturating_sub(*since_ms);
        let verdict = Look { txn, slot, seq: *seq, waited_ms, from, out: &out }.at_name()?;
        if let Verdict::Task(task) = &verdict {
            found += 1;
            out.push(task.1.clone());
        }
        verdicts.push((candidate.clone(), verdict));
        if found == TASKS_AT_ONCE {
            break;
        }
    }
    Ok(verdicts)
}

struct Look<'l, 'a> {
    txn: &'l mut Txn<'a>,
    slot: &'l Slot,
    seq: u64,
    waited_ms: u64,
    from: &'l Candidates,
    /// What is out or in doubt, with what this look at the candidates has found already.
    out: &'l [Out],
}

impl Look<'_, '_> {
    fn at_name(&mut self) -> OpResult<Verdict> {
        let (dir_ino, name) = self.slot.clone();
        if let Some((task, out)) = self.txn.begun(dir_ino, &name)? {
            return Ok(self.again(task, out));
        }
        let Some(dentry) = self.txn.dentry(dir_ino, &name)? else { return self.settled() };
        let dir = self.txn.inode(dir_ino)?;
        if dir.state == InodeState::Native || dentry.mount_point {
            return self.settled();
        }
        if let Some(blocker) = self.unready_dir(&dir)? {
            return Ok(Verdict::Wait(Wait::For(blocker)));
        }
        let Some(dir_key) = self.txn.ufs_key(&dir)? else { return self.settled() };
        let at = Place { mount: dir.mount, key: dir_key.child(&name), dentry };
        match at.dentry.target {
            None => self.absent(&at),
            Some((ino, _)) => {
                let record = self.txn.inode(ino)?;
                self.present(&at, ino, &record)
            }
        }
    }

    /// What was begun at the name and has no known end is looked into before anything else is done there.
    fn again(&self, task: PersistTask, out: Out) -> Verdict {
        let known = self.out.iter().find(|out| out.slot == *self.slot);
        let out = known.cloned().unwrap_or(out);
        let mut others = self.out.iter().filter(|other| other.slot != out.slot);
        match others.find(|other| other.footprint.crosses(&out.footprint)) {
            Some(other) => Verdict::Wait(Wait::For(other.slot.clone())),
            None => Verdict::Task(Box::new((task, out))),
        }
    }

    fn settled(&mut self) -> OpResult<Verdict> {
        self.txn.unqueue(self.slot.0, &self.slot.1);
        Ok(Verdict::Settled)
    }

    /// The name that has to be carried before anything can be in this directory: the directory's own or that
    /// of one above it, if it is not made or moved yet.
    fn unready_dir(&self, dir: &Arc<InodeRecord>) -> FsResult<Option<Slot>> {
        let mut at = Arc::clone(dir);
        loop {
            let Some((parent, _)) = &at.at else { return Ok(None) };
            match at.ufs_at {
                UfsAt::Nowhere => return Ok(at.at.clone()),
                UfsAt::At(_) if self.is_mount_root(&at) => return Ok(None),
                UfsAt::At(_) => return Ok(at.at.clone()),
                UfsAt::Inherit => at = self.txn.inode(*parent)?,
            }
        }
    }

    fn is_mount_root(&self, record: &InodeRecord) -> bool {
        matches!(&record.ufs_at, UfsAt::At(key) if key.is_root())
    }

    /// The name is to be nothing.
    fn absent(&mut self, at: &Place) -> OpResult<Verdict> {
        let Some(shadow) = &at.dentry.shadow else {
            if at.dentry.target.is_none() {
                self.txn.drop_name(self.slot.0, &self.slot.1);
            }
            return self.settled();
        };
        if let Some(wait) = self.owner_in_the_way(at, shadow)? {
            return Ok(wait);
        }
        let work =
            PersistWork::Remove { key: at.key.clone(), kind: shadow.kind, expect: shadow.version.clone() };
        let owner = shadow.owner;
        self.task(at, owner, Generation(0), work)
    }

    /// Whether what the UFS has at the key is still needed there, or has names in it that have to go first.
    fn owner_in_the_way(&mut self, at: &Place, shadow: &Shadow) -> OpResult<Option<Verdict>> {
        let Ok(owner) = self.txn.inode(shadow.owner) else { return Ok(None) };
        if owner.ufs_at != UfsAt::At(at.key.clone()) || owner.mount != at.mount {
            return Ok(None);
        }
        if is_removed_dir(&owner) {
            let inside = self.first_inside(shadow.owner)?;
            return Ok(inside.map(|inside| Verdict::Wait(Wait::For(inside))));
        }
        match &owner.at {
            Some(theirs) if *theirs == *self.slot => Ok(None),
            Some(theirs) => match self.closes_circle(theirs)? {
                true => self.step_aside(at, shadow.owner, &owner).map(Some),
                false => Ok(Some(Verdict::Wait(Wait::For(theirs.clone())))),
            },
            None if self.txn.is_stored(shadow.owner)? && self.waited_ms < ORPHAN_PATIENCE_MS => {
                Ok(Some(Verdict::Wait(Wait::ForOrphan)))
            }
            None => Ok(None),
        }
    }

    /// A name that a removed directory still has in the UFS, and that has to go before the directory can: always the same
    /// one while it is there.
    fn first_inside(&self, dir: Ino) -> FsResult<Option<Slot>> {
        self.txn.find_name(dir, |_| true)
    }

    /// The name is to be an inode.
    fn present(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        let theirs = at.dentry.shadow.clone().filter(|shadow| shadow.owner != ino);
        if record.state == InodeState::Native || record.unpersistable.is_some() {
            // Nothing of ours goes there, but what was there before must not stay.
            return if theirs.is_some() { self.absent(at) } else { self.settled() };
        }
        if record.write_open && !self.txn.shared.is_published(ino) {
            return Ok(Verdict::Wait(Wait::ForClose));
        }
        if let Some(shadow) = &theirs {
            if let Some(wait) = self.owner_in_the_way(at, shadow)? {
                return Ok(wait);
            }
            if shadow.kind == FileKind::Directory || record.is_dir() {
                return self.absent(at);
            }
        }
        let is_first = record.at.as_ref() == Some(self.slot);
        let unmade = record.state == InodeState::Dirty || record.ufs_at == UfsAt::Nowhere;
        match (is_first, unmade) {
            (true, true) => self.make(at, ino, record),
            (true, false) => self.keep_up(at, ino, record),
            (false, _) => self.further_name(at, ino, record, unmade),
        }
    }

    /// The inode's content or the directory is to be put where its name is.
    fn make(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        let (key, expect, attr) = (at.key.clone(), at.expected(), ufs_attr(record));
        let work = match record.kind {
            FileKind::Regular => {
                if let Some(wait) = self.out_of_turn(at.mount, record)? {
                    return Ok(wait);
                }
                let content = crate::ops::content(self.txn, ino, record)?;
                PersistWork::Put { content, to: key, expect, attr }
            }
            FileKind::Directory if record.ufs_at == UfsAt::Nowhere => PersistWork::MakeDir { key, attr },
            FileKind::Directory => return self.keep_up(at, ino, record),
            _ => PersistWork::MakeSpecial { key, expect, attr },
        };
        self.task(at, ino, record.generation, work)
    }

    /// A small file is not put before large ones that were closed earlier.
    fn out_of_turn(&self, mount: MountId, record: &InodeRecord) -> OpResult<Option<Verdict>> {
        let of = self.txn.shared.mount(mount)?;
        let order = of.policy_of(record, |ino| self.txn.inode(ino))?.persist_order;
        let first_large = self.from.first_large.get(&mount).copied();
        let waits = order == PersistOrder::Checkpoint
            && record.size < LARGE_LEN
            && first_large.is_some_and(|seq| seq < self.seq);
        Ok(waits.then_some(Verdict::Wait(Wait::ForLarge(mount))))
    }

    /// The UFS has the content: the name or the attributes may still differ.
    fn keep_up(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        if record.ufs_at == UfsAt::At(at.key.clone()) && !self.is_mount_root(record) {
            return self.came_back(at, ino, record);
        }
        if let UfsAt::At(from) = &record.ufs_at {
            let work = PersistWork::Move {
                from: from.clone(),
                to: at.key.clone(),
                kind: record.kind,
                version: record.version.clone(),
                replaces: at.expected(),
            };
            return self.task(at, ino, record.generation, work);
        }
        match (record.attrs_ours, record.mtime_due) {
            (false, false) => self.settled(),
            (true, false) => self.set_attr(at, ino, record, ufs_attr(record)),
            (attrs_ours, true) => self.set_dir_time(at, ino, record, attrs_ours),
        }
    }

    fn set_attr(&mut self, at: &Place, ino: Ino, record: &InodeRecord, attr: UfsAttr) -> OpResult<Verdict> {
        let work = PersistWork::SetAttr { key: at.key.clone(), kind: record.kind, attr };
        self.task(at, ino, record.generation, work)
    }

    /// A directory's own time of last change is set after all that is carried into it, which moves it there. What
    /// else was changed of it does not wait.
    fn set_dir_time(&mut self, at: &Place, ino: Ino, record: &InodeRecord, attrs: bool) -> OpResult<Verdict> {
        let last = !self.txn.shared.queue.any_first(ino, self.slot);
        let attr = match (attrs, last) {
            (false, false) => return Ok(Verdict::Wait(Wait::ForNamesIn(ino))),
            (false, true) => UfsAttr { mode: None, owner: None, ..ufs_attr(record) },
            (true, _) => ufs_attr(record),
        };
        let verdict = self.set_attr(at, ino, record, attr)?;
        if last && matches!(verdict, Verdict::Task(_)) {
            // What is carried into it while the task is out makes it due once more.
            self.txn.put(ino, InodeRecord { mtime_due: false, ..record.clone() });
        }
        Ok(verdict)
    }

    /// It was renamed, and has come back to the very key where the UFS still has it.
    fn came_back(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        if let Some(out) = self.out.iter().find(|out| out.footprint.inos.contains(&ino)) {
            // It may just be moved away from there.
            return Ok(Verdict::Wait(Wait::For(out.slot.clone())));
        }
        let settled = InodeRecord { ufs_at: UfsAt::Inherit, left: None, ..record.clone() };
        self.txn.put(ino, settled.clone());
        self.keep_up(at, ino, &settled)
    }

    /// A further name of an inode: the first one is carried first.
    fn further_name(
        &mut self,
        at: &Place,
        ino: Ino,
        record: &InodeRecord,
        unmade: bool,
    ) -> OpResult<Verdict> {
        let Some(first) = record.at.clone() else { return self.settled() };
        if unmade || record.ufs_at != UfsAt::Inherit {
            return Ok(Verdict::Wait(Wait::For(first)));
        }
        let carried = at.dentry.shadow.as_ref().filter(|shadow| shadow.owner == ino);
        if carried.is_some_and(|shadow| shadow.generation == record.generation && shadow.version.is_some()) {
            return self.settled();
        }
        let parent = self.txn.inode(first.0)?;
        if let Some(blocker) = self.unready_dir(&parent)? {
            return Ok(Verdict::Wait(Wait::For(blocker)));
        }
        let Some(existing) = self.txn.ufs_key(record)? else { return Ok(Verdict::Wait(Wait::For(first))) };
        let work = PersistWork::Link { existing, to: at.key.clone(), expect: at.expected() };
        self.task(at, ino, record.generation, work)
    }

    /// Hands out `work`, unless a task that is out is in its way, and notes that it was begun.
    fn task(&mut self, at: &Place, ino: Ino, generation: Generation, work: PersistWork) -> OpResult<Verdict> {
        // A removal's inode may be gone.
        let believed = match &work {
            PersistWork::Put { .. } => self.believed(at.mount, ino)?,
            _ => Duration::ZERO,
        };
        let task = task_of(at.mount, ino, generation, work, believed);
        let left = match &task.work {
            PersistWork::Move { .. } => self.txn.inode(ino)?.left.clone(),
            _ => None,
        };
        let mut out = begun::out(self.slot.clone(), left, &task);
        out.footprint.inos.extend(at.dentry.shadow.as_ref().map(|shadow| shadow.owner));
        if let Some(wait) = self.busy(&out) {
            return Ok(wait);
        }
        self.txn.begin(&out, &task);
        Ok(Verdict::Task(Box::new((task, out))))
    }

    /// How long what was seen of other names is believed where an inode is put.
    fn believed(&self, mount: MountId, ino: Ino) -> OpResult<Duration> {
        let (of, record) = (self.txn.shared.mount(mount)?, self.txn.inode(ino)?);
        Ok(of.policy_of(&record, |ino| self.txn.inode(ino))?.metadata_ttl.0)
    }

    fn busy(&self, ours: &Out) -> Option<Verdict> {
        let crossing = self.out.iter().find(|out| out.footprint.crosses(&ours.footprint));
        crossing.map(|out| Verdict::Wait(Wait::For(out.slot.clone())))
    }
}

/// Whether it is a directory that has no name any more.
fn is_removed_dir(record: &InodeRecord) -> bool {
    record.is_dir() && record.nlink == 0
}

fn task_of(
    mount: MountId,
    ino: Ino,
    generation: Generation,
    work: PersistWork,
    believed: Duration,
) -> PersistTask {
    PersistTask { id: 0, mount, ino, generation, again: false, believed, work }
}

/// A name's key and dentry.
struct Place {
    mount: MountId,
    key: UfsKey,
    dentry: Dentry,
}

impl Place {
    /// The version that should be at the key.
    fn expected(&self) -> Option<UfsVersion> {
        self.dentry.shadow.as_ref().and_then(|shadow| shadow.version.clone())
    }
}

/// The attributes that go with an inode to the UFS.
pub(crate) fn ufs_attr(record: &InodeRecord) -> UfsAttr {
    UfsAttr {
        kind: record.kind,
        size: record.size,
        mtime: record.mtime,
        version: record.version.clone().unwrap_or_else(|| UfsVersion::new([])),
        mode: Some(record.mode),
        owner: Some((record.uid, record.gid)),
        link_target: record.link_target.clone(),
        links: None,
    }
}
