//! What others did to the under file system while a task was out, and what becomes of ours.
//!
//! **Owns** who keeps which name: theirs keeps the one at which it is, ours gets one beside it. Nothing of ours that was
//! written here is given up for it.

use super::End;
use crate::keys;
use crate::record::{Dentry, InodeRecord, Shadow, UfsAt};
use crate::txn::OpResult;
use forebay_types::limits::NAME_LEN_MAX;
use forebay_types::{Generation, InodeState, Name, PersistWork, Settled, UfsAttr};

impl End<'_, '_> {
    /// The file that was renamed here was changed by others where it still is: what is renamed is what they
    /// made of it. Where we have content of our own for it the two part: theirs keeps the name at which it is,
    /// so nothing has to step aside there, and ours is put at its own.
    pub(super) fn source_changed(&mut self, there: &UfsAttr) -> OpResult<Settled> {
        self.undone()?;
        match (self.record()?, self.left) {
            (Some(mut record), _) if record.state == InodeState::Clean && !record.write_open => {
                record.version = Some(there.version.clone());
                record.size = there.size;
                record.mtime = there.mtime;
                record.generation = record.generation.next();
                record.turned_at = self.txn.seq;
                self.txn.put(self.task.ino, record);
            }
            (Some(_), Some((dir, name))) => {
                self.clear_left(*dir, name)?;
                self.txn.note_given_back(*dir);
            }
            _ => {}
        }
        self.txn.requeue(self.slot.0, &self.slot.1);
        Ok(Settled::StillDirty)
    }

    /// The file that was renamed here was deleted by others where it still was: it is gone. A directory is made
    /// anew, for what may be in it.
    pub(super) fn source_gone(&mut self) -> OpResult<Settled> {
        self.undone()?;
        if let Some((dir, name)) = self.left {
            self.clear_left(*dir, name)?;
        }
        let Some(mut record) = self.record()? else { return Ok(Settled::StillDirty) };
        let PersistWork::Move { from, .. } = &self.task.work else { return Ok(Settled::StillDirty) };
        if record.state != InodeState::Clean || self.txn.ufs_key(&record)?.as_ref() != Some(from) {
            return self.conclude(record);
        }
        if record.is_dir() || record.write_open {
            (record.ufs_at, record.left, record.version) = (UfsAt::Nowhere, None, None);
            record.state = InodeState::Dirty;
            record.turned_at = self.txn.seq;
            return self.conclude(record);
        }
        self.lose_all_names(record)?;
        Ok(Settled::StillDirty)
    }

    /// Takes every name of an inode away that the UFS has lost.
    fn lose_all_names(&mut self, record: InodeRecord) -> OpResult<()> {
        let ino = self.task.ino;
        for (dir, name) in self.txn.names_of(ino, &record)? {
            self.txn.put_key(keys::link(ino, dir, &name), None);
            let shadow = self.txn.dentry(dir, &name)?.and_then(|dentry| dentry.shadow);
            let shadow = shadow.filter(|shadow| shadow.owner != ino);
            self.txn.reset_name(dir, &name, Dentry { target: None, shadow, mount_point: false });
        }
        self.txn.drop_inode(ino, InodeRecord { nlink: 0, at: None, ..record });
        Ok(())
    }

    /// Theirs keeps the name. Ours, if the name still is ours, gets the name of the copy, or one made the same
    /// way; what has no bytes and no name any more is given up.
    pub(super) fn beside(&mut self, copy: Option<(Name, UfsAttr)>) -> OpResult<Settled> {
        let dentry = self.dentry()?;
        let record = self.record()?;
        match (record, dentry.target) {
            (Some(record), Some((ino, _))) if ino == self.task.ino => self.step_beside(record, copy),
            (_, target) => {
                match target {
                    // Another inode has the name now and meets theirs when it is put.
                    Some(_) => {
                        self.set_shadow(None)?;
                        self.txn.note_given_back(self.slot.0);
                    }
                    None => self.txn.drop_name(self.slot.0, &self.slot.1),
                }
                if let Some(shadow) = dentry.shadow {
                    self.drop_removed_dir(shadow.owner)?;
                }
                Ok(Settled::StillDirty)
            }
        }
    }

    fn step_beside(&mut self, mut record: InodeRecord, copy: Option<(Name, UfsAttr)>) -> OpResult<Settled> {
        if matches!(self.task.work, PersistWork::SetAttr { .. }) {
            // The content is theirs now: the next look at the name finds that out.
            record.attrs_ours = false;
            return self.conclude(record);
        }
        let (dir, name) = self.slot.clone();
        let (beside, shadow) = match copy {
            Some((beside, now)) => {
                (beside, Some(Shadow { generation: Generation(u64::MAX), ..self.shadow(&now)? }))
            }
            None => (self.conflict_name(&name)?, None),
        };
        if record.at.as_ref() == Some(self.slot) {
            record.at = Some((dir, beside.clone()));
        } else {
            self.txn.put_key(keys::link(self.task.ino, dir, &name), None);
            self.txn.put_key(keys::link(self.task.ino, dir, &beside), Some([].into()));
        }
        record.ctime = self.txn.now;
        self.txn.drop_name(dir, &name);
        self.txn.reset_name(dir, &beside, Dentry::present(self.task.ino, record.kind, shadow));
        self.txn.put(self.task.ino, record);
        Ok(Settled::StillDirty)
    }

    /// `<name>.conflict-<node>-<seconds since 1970>`.
    fn conflict_name(&self, name: &Name) -> OpResult<Name> {
        let suffix = format!(".conflict-{}-{}", self.txn.shared.node, self.txn.shared.clock.now().secs);
        let keep = name.as_bytes().len().min(NAME_LEN_MAX.saturating_sub(suffix.len()));
        let beside = [&name.as_bytes()[..keep], suffix.as_bytes()].concat();
        Ok(Name::new(beside).map_err(crate::record::corrupt)?)
    }
}
