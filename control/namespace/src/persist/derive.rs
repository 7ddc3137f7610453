//! What is to be done for a queued name, worked out from its state now, on the home's thread.
//!
//! The dentry says what the name is to be, its shadow what the UFS has there, the inode's record what is ours
//! and where the UFS has it. Before a task is handed out the shadow notes that something may come to be at the
//! key, so that whatever happens until the outcome is recorded, the name is not forgotten while the UFS has
//! something under it.

use super::queue::{Candidate, Candidates, Footprint, LARGE_LEN, Out, Wait};
use super::siblings::{note_touched, sharing, siblings};
use crate::moving::name_aside;
use crate::record::{Attempt, Dentry, InodeRecord, Shadow, Slot, UfsAt};
use crate::shared::millis;
use crate::txn::{OpResult, Txn};
use forebay_types::{
    FileKind, FsResult, Generation, Ino, InodeState, MountId, PersistOrder, PersistTask, PersistWork,
    UfsAttr, UfsKey, UfsVersion,
};
use std::sync::Arc;

/// How many steps a circle of names that wait for each other may have to be found.
const CIRCLE_MAX: usize = 64;

/// How long content that only an open handle still needs is left alone in the UFS. After that what is new there
/// counts for more: the handle reads what is cached.
const ORPHAN_PATIENCE_MS: u64 = 60_000;

/// Of what stands in a shadow only because something was begun.
const UNKNOWN: Generation = Generation(u64::MAX);

/// What is to be done for a name.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing: it has left the queue.
    Settled,
    /// This, and it is noted that it may happen.
    Task(Box<(PersistTask, Out)>),
    /// Nothing yet.
    Wait(Wait),
    /// An earlier task's end is not known: the UFS has to be asked what is there.
    Reconcile(Unknown),
}

/// A name of which it is not known what the UFS has.
#[derive(Clone, Debug)]
pub(crate) struct Unknown {
    pub(crate) mount: MountId,
    pub(crate) key: UfsKey,
    /// Where what was to be moved there was before.
    pub(crate) from: Option<UfsKey>,
}

/// Looks at candidates in their order up to the first for which there is something to do now.
pub(crate) fn derive(txn: &mut Txn<'_>, from: &Candidates) -> OpResult<Vec<(Slot, Verdict)>> {
    let mut verdicts = Vec::new();
    for Candidate { slot, seq, since_ms } in &from.slots {
        let waited_ms = millis(txn.now).saturating_sub(*since_ms);
        let verdict = Look { txn, slot, seq: *seq, waited_ms, from }.at_name()?;
        let found = matches!(verdict, Verdict::Task(_) | Verdict::Reconcile(..));
        verdicts.push((slot.clone(), verdict));
        if found {
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
}

impl Look<'_, '_> {
    fn at_name(&mut self) -> OpResult<Verdict> {
        let (dir_ino, name) = self.slot.clone();
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
        if let Some(verdict) = self.unknown_end(&at)? {
            return Ok(verdict);
        }
        match at.dentry.target {
            None => self.absent(&at),
            Some((ino, _)) => {
                let record = self.txn.inode(ino)?;
                self.present(&at, ino, &record)
            }
        }
    }

    /// If something was begun at the name and its end is not known, the UFS is asked first. A directory that
    /// was to be made is simply made again.
    fn unknown_end(&self, at: &Place) -> OpResult<Option<Verdict>> {
        let Some(shadow) = &at.dentry.shadow else { return Ok(None) };
        let Some(Attempt { ino, .. }) = shadow.attempt else { return Ok(None) };
        let from = self.txn.begun_move(ino, self.slot)?;
        if shadow.kind == FileKind::Directory && from.is_none() {
            return Ok(None);
        }
        Ok(Some(match self.busy(&at.footprint(true)) {
            Some(wait) => wait,
            None => Verdict::Reconcile(Unknown { mount: at.mount, key: at.key.clone(), from }),
        }))
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
        let Some(shadow) = &at.dentry.shadow else { return self.settled() };
        if let Some(wait) = self.owner_in_the_way(at, shadow)? {
            return Ok(wait);
        }
        let tree = shadow.kind == FileKind::Directory;
        let work =
            PersistWork::Remove { key: at.key.clone(), kind: shadow.kind, expect: shadow.version.clone() };
        self.task(at, shadow.owner, Generation(0), work, tree)
    }

    /// Whether what the UFS has at the key is still needed there, or has names in it that have to go first.
    fn owner_in_the_way(&mut self, at: &Place, shadow: &Shadow) -> OpResult<Option<Verdict>> {
        let Ok(owner) = self.txn.inode(shadow.owner) else { return Ok(None) };
        if owner.ufs_at != UfsAt::At(at.key.clone()) || owner.mount != at.mount {
            return Ok(None);
        }
        if owner.is_dir() && owner.nlink == 0 {
            let inside = self.txn.find_name(shadow.owner, |_| true)?;
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

    /// Whether names wait for each other from `first` on until it is our turn again.
    fn closes_circle(&self, first: &Slot) -> OpResult<bool> {
        let mut next = first.clone();
        for _ in 0..CIRCLE_MAX {
            if next == *self.slot {
                return Ok(true);
            }
            if let Some(blocker) = self.unready_dir(&self.txn.inode(next.0)?)? {
                next = blocker;
                continue;
            }
            let shadow = self.txn.dentry(next.0, &next.1)?.and_then(|dentry| dentry.shadow);
            let Some(shadow) = shadow else { return Ok(false) };
            let Ok(owner) = self.txn.inode(shadow.owner) else { return Ok(false) };
            match (&owner.ufs_at, &owner.at) {
                (UfsAt::At(_), Some(theirs)) if *theirs != next => next = theirs.clone(),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Two or more files or directories have changed places: one goes to a name of its own first, beside the
    /// key where it is.
    fn step_aside(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        let name = name_aside(ino);
        let Some((dir_key, _)) = at.key.split() else { return self.settled() };
        let to = dir_key.child(&name);
        let slot = (self.slot.0, name);
        let aside = Place { mount: at.mount, key: to.clone(), dentry: hidden(ino, record) };
        let work = PersistWork::Move {
            from: at.key.clone(),
            to: to.clone(),
            kind: record.kind,
            version: record.version.clone(),
            replaces: None,
        };
        let tree = record.is_dir();
        let footprint = Footprint { mount: at.mount, keys: vec![at.key.clone(), to], tree };
        if let Some(wait) = self.busy(&footprint) {
            return Ok(wait);
        }
        self.txn.put_name(slot.0, &slot.1, aside.dentry);
        self.txn.requeue(slot.0, &slot.1);
        self.txn.put(ino, InodeRecord { moving_to: Some(slot.clone()), ..record.clone() });
        let (mount, generation) = (at.mount, record.generation);
        let task = PersistTask { id: 0, mount, ino, generation, work };
        Ok(Verdict::Task(Box::new((task, Out { slot, footprint, moving: true }))))
    }

    /// The name is to be an inode.
    fn present(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        let theirs = at.dentry.shadow.clone().filter(|shadow| shadow.owner != ino);
        if record.state == InodeState::Native || record.unpersistable.is_some() {
            // Nothing of ours goes there, but what was there before must not stay.
            return if theirs.is_some() { self.absent(at) } else { self.settled() };
        }
        if record.write_open {
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
        self.task(at, ino, record.generation, work, false)
    }

    /// A small file is not put before large ones that were closed earlier.
    fn out_of_turn(&self, mount: MountId, record: &InodeRecord) -> OpResult<Option<Verdict>> {
        let order = self.txn.shared.mount(mount)?.spec.policy.persist_order;
        let first_large = self.from.first_large.get(&mount).copied();
        let waits = order == PersistOrder::Checkpoint
            && record.size < LARGE_LEN
            && first_large.is_some_and(|seq| seq < self.seq);
        Ok(waits.then_some(Verdict::Wait(Wait::ForLarge(mount))))
    }

    /// The UFS has the content: the name or the attributes may still differ.
    fn keep_up(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        if let UfsAt::At(from) = &record.ufs_at
            && *from != at.key
        {
            if let Some(left) = self.unknown_left(record)? {
                return Ok(Verdict::Wait(Wait::For(left)));
            }
            let work = PersistWork::Move {
                from: from.clone(),
                to: at.key.clone(),
                kind: record.kind,
                version: record.version.clone(),
                replaces: at.expected(),
            };
            return self.task(at, ino, record.generation, work, record.is_dir());
        }
        if !record.attrs_ours {
            return self.settled();
        }
        let attr = ufs_attr(record);
        let work = PersistWork::SetAttr { key: at.key.clone(), kind: record.kind, attr };
        self.task(at, ino, record.generation, work, false)
    }

    /// The name an inode has left, if something was begun there whose end is not known.
    fn unknown_left(&self, record: &InodeRecord) -> OpResult<Option<Slot>> {
        let Some((dir, name)) = &record.left else { return Ok(None) };
        let shadow = self.txn.dentry(*dir, name)?.and_then(|dentry| dentry.shadow);
        let unknown =
            shadow.is_some_and(|shadow| shadow.attempt.is_some() && shadow.kind != FileKind::Directory);
        Ok(unknown.then(|| (*dir, name.clone())))
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
        self.task(at, ino, record.generation, work, false)
    }

    /// Hands out `work`, unless a task that is out is in its way, and notes that it may happen.
    fn task(
        &mut self,
        at: &Place,
        ino: Ino,
        generation: Generation,
        work: PersistWork,
        tree: bool,
    ) -> OpResult<Verdict> {
        let mut footprint = at.footprint(tree);
        let mut moving = false;
        match &work {
            PersistWork::Move { from, .. } => {
                footprint.keys.push(from.clone());
                moving = true;
            }
            PersistWork::Link { existing, .. } => footprint.keys.push(existing.clone()),
            _ => {}
        }
        if let Some(wait) = self.busy(&footprint) {
            return Ok(wait);
        }
        self.note_attempt(at, ino, &work)?;
        if moving {
            let record = InodeRecord::clone(&*self.txn.inode(ino)?);
            self.txn.put(ino, InodeRecord { moving_to: Some(self.slot.clone()), ..record });
        }
        let mut touched = siblings(self.txn, self.slot)?.map(|found| found.slots).unwrap_or_default();
        if matches!(work, PersistWork::Move { .. } | PersistWork::Link { .. }) {
            touched.extend(sharing(self.txn, ino, self.slot)?);
        }
        footprint.keys.extend(note_touched(self.txn, &touched)?);
        let task = PersistTask { id: 0, mount: at.mount, ino, generation, work };
        Ok(Verdict::Task(Box::new((task, Out { slot: self.slot.clone(), footprint, moving }))))
    }

    fn busy(&self, footprint: &Footprint) -> Option<Verdict> {
        let crossing = self.from.out.iter().find(|out| out.footprint.crosses(footprint));
        crossing.map(|out| Verdict::Wait(Wait::For(out.slot.clone())))
    }

    fn note_attempt(&mut self, at: &Place, ino: Ino, work: &PersistWork) -> OpResult<()> {
        let (dir, name) = self.slot;
        let record = self.txn.inode(ino);
        let size = match work {
            PersistWork::Put { content, .. } => content.size,
            PersistWork::Remove { kind: FileKind::Directory, .. } => return Ok(()),
            // Whatever is there afterwards, it is not what was to be removed.
            PersistWork::Remove { .. } => Attempt::NOTHING,
            PersistWork::SetAttr { kind: FileKind::Directory, .. } => return Ok(()),
            PersistWork::SetAttr { .. }
            | PersistWork::MakeDir { .. }
            | PersistWork::MakeSpecial { .. }
            | PersistWork::Link { .. }
            | PersistWork::Move { .. } => record.as_ref().map_or(0, |record| record.size),
        };
        let kind = match &at.dentry.shadow {
            Some(shadow) => shadow.kind,
            None => record?.kind,
        };
        let fresh = Shadow { kind, version: None, owner: ino, generation: UNKNOWN, attempt: None };
        let attempt = Some(Attempt { ino, size });
        let shadow = Shadow { attempt, ..at.dentry.shadow.clone().unwrap_or(fresh) };
        self.txn.put_name(*dir, name, Dentry { shadow: Some(shadow), ..at.dentry.clone() });
        Ok(())
    }
}

/// A name's key and dentry.
struct Place {
    mount: MountId,
    key: UfsKey,
    dentry: Dentry,
}

impl Place {
    fn footprint(&self, tree: bool) -> Footprint {
        Footprint { mount: self.mount, keys: vec![self.key.clone()], tree }
    }

    /// The version that should be at the key.
    fn expected(&self) -> Option<UfsVersion> {
        self.dentry.shadow.as_ref().and_then(|shadow| shadow.version.clone())
    }
}

/// Hides what is about to stand at a name that nobody is to see.
fn hidden(owner: Ino, record: &InodeRecord) -> Dentry {
    let shadow = Shadow {
        kind: record.kind,
        version: record.version.clone(),
        owner,
        generation: record.generation,
        attempt: Some(Attempt { ino: owner, size: record.size }),
    };
    Dentry { target: None, shadow: Some(shadow), mount_point: false }
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
    }
}
