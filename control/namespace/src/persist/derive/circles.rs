//! Names that wait for each other: two files, or more, that have changed places, also through a removed directory.
//!
//! **Owns** seeing that such a circle is closed, and its break: one of them goes to a name of its own first, which nobody is
//! to see.

use super::super::begun;
use super::{Look, Place, Verdict, is_removed_dir, task_of};
use crate::moving::name_aside;
use crate::record::{Dentry, InodeRecord, Slot, UfsAt};
use crate::txn::OpResult;
use forebay_types::{Ino, PersistWork, UfsKey};
use std::time::Duration;

/// How many steps a circle of names that wait for each other may have to be found.
const CIRCLE_MAX: usize = 64;

impl Look<'_, '_> {
    /// Whether names wait for each other from `first` on until it is our turn again.
    pub(super) fn closes_circle(&self, first: &Slot) -> OpResult<bool> {
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
            if self.out.iter().any(|out| out.footprint.inos.contains(&shadow.owner)) {
                // The circle may be about to be broken.
                return Ok(false);
            }
            let Ok(owner) = self.txn.inode(shadow.owner) else { return Ok(false) };
            let inside = if is_removed_dir(&owner) { self.first_inside(shadow.owner)? } else { None };
            match (&owner.ufs_at, owner.at.clone().or(inside)) {
                (UfsAt::At(_), Some(blocker)) if blocker != next => next = blocker,
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Where something goes that steps aside: beside the key where it is, or into the root of the mount if what it is
    /// in is a removed directory, which somebody waits for to go.
    fn room_aside(&self, at: &Place) -> OpResult<(Ino, UfsKey)> {
        if is_removed_dir(&*self.txn.inode(self.slot.0)?) {
            return Ok((self.txn.shared.mount(at.mount)?.root, UfsKey::root()));
        }
        let dir_key = at.key.split().map_or_else(UfsKey::root, |(dir_key, _)| dir_key);
        Ok((self.slot.0, dir_key))
    }

    /// Two or more files or directories have changed places: one goes to a name of its own first.
    pub(super) fn step_aside(&mut self, at: &Place, ino: Ino, record: &InodeRecord) -> OpResult<Verdict> {
        let name = name_aside(ino, self.txn.seq);
        let (dir, dir_key) = self.room_aside(at)?;
        let to = dir_key.child(&name);
        let slot = (dir, name);
        let work = PersistWork::Move {
            from: at.key.clone(),
            to,
            kind: record.kind,
            version: record.version.clone(),
            replaces: None,
        };
        let task = task_of(at.mount, ino, record.generation, work, Duration::ZERO);
        let out = begun::out(slot.clone(), Some(self.slot.clone()), &task);
        if let Some(wait) = self.busy(&out) {
            return Ok(wait);
        }
        self.txn.begin(&out, &task);
        // It hides what is about to stand at a name that nobody is to see.
        self.txn.reset_name(slot.0, &slot.1, Dentry { target: None, shadow: None, mount_point: false });
        Ok(Verdict::Task(Box::new((task, out))))
    }
}
