//! What came of a task, recorded in one mutation.
//!
//! The state may have moved on while the task was out: the name may be another inode's, the inode may have
//! another name, other content or other attributes. What the UFS has now is recorded with the name's shadow in
//! any case; what that means for the inode is decided by its record now. A name that still differs stays in
//! the queue.

mod theirs;

use super::derive::ufs_attr;
use super::queue::Out;
use crate::keys;
use crate::record::{Dentry, InodeRecord, Shadow, Slot, UfsAt};
use crate::txn::{OpResult, Txn};
use forebay_types::{
    FileKind, Ino, InodeState, Name, PersistTask, PersistWork, Settled, UfsAttr, UfsKey, UfsVersion,
};

/// What came of a task, with what had to be asked of the UFS to record it.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// The UFS has this now at the task's key (`None`: nothing).
    Done(Option<UfsAttr>),
    /// Nothing was put.
    Undone,
    /// Theirs keeps the name; ours, if it had bytes, is here, and is this.
    Beside(Option<(Name, UfsAttr)>),
    /// Nothing was put, and nothing is there.
    Vacant,
    /// What was to be moved is something else now, by others' hands.
    SourceChanged(UfsAttr),
    /// What was to be moved is there no more, by others' hands.
    SourceGone,
    /// The UFS cannot hold it.
    Unpersistable(String),
}

pub(crate) fn finish(
    txn: &mut Txn<'_>,
    Out { slot, left, .. }: &Out,
    task: &PersistTask,
    ending: Ending,
) -> OpResult<Settled> {
    txn.end(slot);
    let mut end = End { txn, slot, left: left.as_ref(), task };
    end.dirs_moved()?;
    match ending {
        Ending::Done(now) => end.done(now),
        Ending::Undone => end.undone(),
        Ending::Beside(beside) => end.beside(beside),
        Ending::Vacant => end.set_shadow(None).map(|()| Settled::StillDirty),
        Ending::SourceChanged(there) => end.source_changed(&there),
        Ending::SourceGone => end.source_gone(),
        Ending::Unpersistable(why) => end.unpersistable(why),
    }
}

struct End<'e, 'a> {
    txn: &'e mut Txn<'a>,
    slot: &'e Slot,
    /// Of a move: the name at whose key the thing was.
    left: Option<&'e Slot>,
    task: &'e PersistTask,
}

impl End<'_, '_> {
    fn dentry(&self) -> OpResult<Dentry> {
        let gone = Dentry { target: None, shadow: None, mount_point: false };
        Ok(self.txn.dentry(self.slot.0, &self.slot.1)?.unwrap_or(gone))
    }

    /// The inode's record, if it is still kept.
    fn record(&self) -> OpResult<Option<InodeRecord>> {
        match self.txn.is_stored(self.task.ino)? {
            true => Ok(Some(InodeRecord::clone(&*self.txn.inode(self.task.ino)?))),
            false => Ok(None),
        }
    }

    /// Writes the name with what the UFS has there; it stays in the queue if anything is left to do.
    fn set_shadow(&mut self, shadow: Option<Shadow>) -> OpResult<()> {
        let before = self.dentry()?;
        let (dir, name) = self.slot;
        if let Some(old) = &before.shadow
            && shadow.as_ref().is_none_or(|shadow| shadow.owner != old.owner)
            && before.target.is_none_or(|(ino, _)| ino != old.owner)
        {
            // It is no longer a name under which the UFS has the one who had it before.
            self.txn.put_key(keys::link(old.owner, *dir, name), None);
        }
        let dentry = Dentry { shadow, ..before };
        self.txn.reset_name(self.slot.0, &self.slot.1, dentry);
        Ok(())
    }

    fn shadow(&self, now: &UfsAttr) -> OpResult<Shadow> {
        let version = (now.kind != FileKind::Directory).then(|| now.version.clone());
        let (owner, generation) = (self.task.ino, self.task.generation);
        let had = self.dentry()?.shadow.filter(|shadow| shadow.owner == owner);
        let since = had.map_or(self.txn.seq, |shadow| shadow.since);
        let shadow = Shadow { kind: now.kind, version, owner, generation, since, mode: None, ids: None };
        Ok(shadow.showing(now))
    }

    /// Whatever was done at a name has moved the time of the directory it is in, and that of the one it left.
    fn dirs_moved(&mut self) -> OpResult<()> {
        if matches!(self.task.work, PersistWork::SetAttr { .. }) {
            return Ok(());
        }
        let from = self.left.map(|(dir, _)| *dir).filter(|dir| *dir != self.slot.0);
        for dir in from.into_iter().chain([self.slot.0]) {
            if self.txn.is_stored(dir)? {
                let mut record = InodeRecord::clone(&*self.txn.inode(dir)?);
                if !record.mtime_due {
                    self.txn.own_mtime(dir, &mut record)?;
                    self.txn.put(dir, record);
                }
            }
        }
        Ok(())
    }

    fn done(&mut self, now: Option<UfsAttr>) -> OpResult<Settled> {
        let work = &self.task.work;
        let Some(now) = now else { return self.removed() };
        match work {
            PersistWork::Remove { .. } => self.removed(),
            PersistWork::Put { to, attr, .. } => self.made(to, attr, &now),
            PersistWork::MakeDir { key, attr } => self.made(key, attr, &now),
            PersistWork::MakeSpecial { key, attr, .. } => self.made(key, attr, &now),
            PersistWork::Move { from, to, .. } => self.moved(from, to, &now),
            PersistWork::SetAttr { attr, .. } => self.attrs_set(attr, &now),
            PersistWork::Link { .. } => self.linked(&now),
        }
    }

    /// A file, a directory or a link is in the UFS.
    fn made(&mut self, key: &UfsKey, sent: &UfsAttr, now: &UfsAttr) -> OpResult<Settled> {
        let shadow = self.shadow(now)?;
        self.set_shadow(Some(shadow))?;
        let Some(mut record) = self.record()? else { return Ok(Settled::StillDirty) };
        let left = record.left.clone();
        self.is_now_at(&mut record, key);
        if record.kind != FileKind::Directory {
            record.version = Some(now.version.clone());
        }
        let unchanged = record.generation == self.task.generation && self.counts_as_closed(&record);
        if unchanged && record.state == InodeState::Dirty {
            record.state = InodeState::Clean;
            record.turned_at = self.txn.seq;
            // Where it is open for write the extent stays known to the log: a start looks at what was written since.
            record.extent = record.extent.filter(|_| record.write_open);
            record.attrs_ours = attrs_differ(&ufs_attr(&record), sent);
            if record.mtime != now.mtime {
                self.txn.own_mtime(self.task.ino, &mut record)?;
            }
        }
        if left.is_some() && record.left != left {
            self.requeue(left.as_ref())?;
        }
        self.conclude(record)
    }

    /// Whether its content is what the log says: nobody has it open for write, or what was written so far was told.
    fn counts_as_closed(&self, record: &InodeRecord) -> bool {
        !record.write_open || self.txn.shared.is_published(self.task.ino)
    }

    /// The UFS has the inode's content at `key`, which is its first name's if that has not changed meanwhile.
    fn is_now_at(&self, record: &mut InodeRecord, key: &UfsKey) {
        if record.at.as_ref() == Some(self.slot) {
            record.ufs_at = UfsAt::Inherit;
            record.left = None;
        } else {
            record.ufs_at = UfsAt::At(key.clone());
            record.left = Some(self.slot.clone());
        }
    }

    /// A name where older content is may be cleared now.
    fn requeue(&mut self, slot: Option<&Slot>) -> OpResult<()> {
        if let Some((dir, name)) = slot
            && let Some(dentry) = self.txn.dentry(*dir, name)?
            && dentry.shadow.is_some()
        {
            self.txn.requeue(*dir, name);
        }
        Ok(())
    }

    fn moved(&mut self, from: &UfsKey, to: &UfsKey, now: &UfsAttr) -> OpResult<Settled> {
        let shadow = self.shadow(now)?;
        self.set_shadow(Some(shadow))?;
        if let Some((dir, name)) = self.left.filter(|left| *left != self.slot) {
            self.clear_left(*dir, name)?;
        }
        let Some(mut record) = self.record()? else { return Ok(Settled::StillDirty) };
        // It may have come back to its name while it was moved away from there.
        if self.txn.ufs_key(&record)?.as_ref() != Some(from) {
            return self.conclude(record);
        }
        self.is_now_at(&mut record, to);
        if record.is_dir() {
            self.follow(self.task.ino, from, to)?;
        } else if let PersistWork::Move { version, .. } = &self.task.work {
            self.new_version(version.as_ref(), now)?;
            record.version = Some(now.version.clone());
        }
        self.conclude(record)
    }

    /// The key an inode was moved away from has nothing any more.
    fn clear_left(&mut self, dir: Ino, name: &Name) -> OpResult<()> {
        let Some(dentry) = self.txn.dentry(dir, name)? else { return Ok(()) };
        if dentry.shadow.as_ref().is_some_and(|shadow| shadow.owner == self.task.ino) {
            if dentry.target.is_none_or(|(ino, _)| ino != self.task.ino) {
                self.txn.put_key(keys::link(self.task.ino, dir, name), None);
            }
            self.txn.reset_name(dir, name, Dentry { shadow: None, ..dentry });
        }
        Ok(())
    }

    /// Everything that still is below a directory that was moved was moved with it, also what no longer has a
    /// name there: the shadows in it tell whose it is.
    fn follow(&mut self, top: Ino, from: &UfsKey, to: &UfsKey) -> OpResult<()> {
        let mut dirs = vec![top];
        while let Some(dir) = dirs.pop() {
            let mut owners = Vec::new();
            self.txn.each_name(dir, |_, dentry| {
                owners.extend(dentry.shadow.as_ref().map(|shadow| (shadow.owner, shadow.kind)));
                owners.extend(dentry.target);
                Ok(true)
            })?;
            owners.sort_unstable_by_key(|(ino, _)| *ino);
            owners.dedup_by_key(|(ino, _)| *ino);
            for (ino, kind) in owners {
                if !self.txn.is_stored(ino)? {
                    continue;
                }
                let mut record = InodeRecord::clone(&*self.txn.inode(ino)?);
                let inherits = record.ufs_at == UfsAt::Inherit;
                if let UfsAt::At(key) = &record.ufs_at
                    && let Some(key) = key.rebased(from, to)
                {
                    record.ufs_at = UfsAt::At(key);
                    self.txn.put(ino, record);
                    dirs.extend((kind == FileKind::Directory).then_some(ino));
                } else if inherits && kind == FileKind::Directory {
                    dirs.push(ino);
                }
            }
        }
        Ok(())
    }

    fn attrs_set(&mut self, sent: &UfsAttr, now: &UfsAttr) -> OpResult<Settled> {
        if now.kind != FileKind::Directory {
            self.new_version(Some(&sent.version), now)?;
        }
        let mut dentry = self.dentry()?;
        dentry.shadow = dentry.shadow.map(|shadow| shadow.showing(now));
        self.txn.reset_name(self.slot.0, &self.slot.1, dentry);
        let Some(mut record) = self.record()? else { return Ok(Settled::StillDirty) };
        if sent.mode.is_some() {
            record.attrs_ours = record.state == InodeState::Clean && attrs_differ(&ufs_attr(&record), sent);
        }
        self.conclude(record)
    }

    /// The same content has another version now; so have all names that are the very same file there.
    fn new_version(&mut self, old: Option<&UfsVersion>, now: &UfsAttr) -> OpResult<()> {
        let mut names = self.txn.names_in_ufs(self.task.ino)?;
        names.push(self.slot.clone());
        for (dir, name) in names {
            let Some(dentry) = self.txn.dentry(dir, &name)? else { continue };
            let Some(shadow) = dentry.shadow.clone() else { continue };
            if shadow.owner == self.task.ino && shadow.version.as_ref() == old {
                let shadow = Shadow { version: Some(now.version.clone()), ..shadow }.showing(now);
                self.txn.put_name(dir, &name, Dentry { shadow: Some(shadow), ..dentry });
            }
        }
        let record = self.record()?.filter(|record| record.version.as_ref() == old);
        if let Some(record) = record {
            self.txn.put(self.task.ino, InodeRecord { version: Some(now.version.clone()), ..record });
        }
        Ok(())
    }

    fn linked(&mut self, now: &UfsAttr) -> OpResult<Settled> {
        let shadow = self.shadow(now)?;
        self.set_shadow(Some(shadow))?;
        let Some(mut record) = self.record()? else { return Ok(Settled::StillDirty) };
        let same = record.state == InodeState::Clean && record.generation == self.task.generation;
        if same && record.at.as_ref() == Some(self.slot) && record.ufs_at != UfsAt::Inherit {
            // It has become the first name meanwhile, and the UFS has the content under it already.
            let left = record.left.clone();
            self.is_now_at(&mut record, &UfsKey::root());
            record.version = Some(now.version.clone());
            self.requeue(left.as_ref())?;
        }
        self.conclude(record)
    }

    /// The UFS has nothing at the key any more.
    fn removed(&mut self) -> OpResult<Settled> {
        let owner = self.dentry()?.shadow.map(|shadow| shadow.owner);
        self.set_shadow(None)?;
        if let Some(owner) = owner {
            self.drop_removed_dir(owner)?;
        }
        Ok(Settled::Clean)
    }

    /// A directory's record outlives its name for the sake of the names that were to be removed in it.
    fn drop_removed_dir(&mut self, ino: Ino) -> OpResult<()> {
        if !self.txn.is_stored(ino)? {
            return Ok(());
        }
        let record = InodeRecord::clone(&*self.txn.inode(ino)?);
        if record.is_dir() && record.nlink == 0 {
            self.txn.drop_inode(ino, record);
        }
        Ok(())
    }

    /// Nothing was put: what is known of the UFS is what it was before.
    fn undone(&mut self) -> OpResult<Settled> {
        let dentry = self.dentry()?;
        self.txn.reset_name(self.slot.0, &self.slot.1, dentry);
        if let (PersistWork::SetAttr { .. }, Some(mut record)) = (&self.task.work, self.record()?) {
            self.txn.own_mtime(self.task.ino, &mut record)?;
            self.txn.put(self.task.ino, record);
        }
        Ok(Settled::StillDirty)
    }

    fn unpersistable(&mut self, why: String) -> OpResult<Settled> {
        self.undone()?;
        if let Some(mut record) = self.record()? {
            record.unpersistable = Some(why);
            self.txn.put(self.task.ino, record);
        }
        let dentry = self.dentry()?;
        let ours = dentry.target.is_some_and(|(ino, _)| ino == self.task.ino);
        // What the UFS had there before has to go even so.
        let theirs = dentry.shadow.is_some_and(|shadow| shadow.owner != self.task.ino);
        if ours && !theirs {
            self.txn.unqueue(self.slot.0, &self.slot.1);
        }
        Ok(Settled::StillDirty)
    }

    /// Stores the record; the name leaves the queue if nothing is left to do for it.
    fn conclude(&mut self, record: InodeRecord) -> OpResult<Settled> {
        let ino = self.task.ino;
        let dentry = self.dentry()?;
        let mine = dentry.target.is_some_and(|(target, _)| target == ino);
        let carried = dentry.is_carried() && record.is_settled() && !record.attrs_ours && !record.mtime_due;
        let clean = record.state == InodeState::Clean && self.counts_as_closed(&record);
        if mine
            && record.at.as_ref() == Some(self.slot)
            && record.nlink > 1
            && record.kind != FileKind::Directory
        {
            // What became of the first name decides over the further ones.
            self.txn.queue_names(ino, &record)?;
        }
        if mine && carried {
            self.txn.unqueue(self.slot.0, &self.slot.1);
        } else {
            self.txn.requeue(self.slot.0, &self.slot.1);
        }
        self.txn.put(ino, record);
        Ok(if clean { Settled::Clean } else { Settled::StillDirty })
    }
}

/// Whether what was sent is not what the record says now, as far as a UFS could hold it.
fn attrs_differ(now: &UfsAttr, sent: &UfsAttr) -> bool {
    // A directory's time is set on its own, last of all.
    let mtime = now.kind != FileKind::Directory && now.mtime != sent.mtime;
    mtime || (now.mode, now.owner) != (sent.mode, sent.owner)
}
