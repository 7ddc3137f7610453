//! Names in the reference: made, linked, renamed, removed.

use super::{Answer, Kind, Place, ROOT, Reference};
use crate::model::op::Replace;
use rustix::io::Errno;
use std::collections::BTreeMap;

impl Reference {
    /// `mkdir`, which cannot set the setuid and setgid bits.
    pub(crate) fn mkdir(&mut self, path: &str, mode: u32) -> Answer<()> {
        self.add_new(path, Kind::Dir(BTreeMap::new()), mode & 0o1777)
    }

    /// `mkfifo`.
    pub(crate) fn fifo(&mut self, path: &str, mode: u32) -> Answer<()> {
        self.add_new(path, Kind::Fifo, mode)
    }

    /// `symlink`.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Answer<()> {
        self.add_new(path, Kind::Link(target.to_owned()), 0o777)
    }

    /// `link`, which does not follow a link at its first path.
    pub(crate) fn link(&mut self, from: &str, to: &str) -> Answer<()> {
        let inode = self.find(from, false)?;
        let place = self.place(to, false)?;
        if place.inode.is_some() {
            return Err(Errno::EXIST);
        }
        if matches!(self.inodes[inode].kind, Kind::Dir(_)) {
            return Err(Errno::PERM);
        }
        self.inodes[inode].links += 1;
        self.children_mut(place.dir).insert(place.name, inode);
        Ok(())
    }

    pub(super) fn drop_name(&mut self, place: &Place, inode: usize) {
        self.children_mut(place.dir).remove(&place.name);
        if matches!(self.inodes[inode].kind, Kind::Dir(_)) {
            self.inodes[place.dir].links -= 1;
            self.inodes[inode].links = 0;
        } else {
            self.inodes[inode].links -= 1;
        }
    }

    /// `unlink`.
    pub(crate) fn unlink(&mut self, path: &str) -> Answer<()> {
        let place = self.place(path, false)?;
        let inode = place.inode.ok_or(Errno::NOENT)?;
        if matches!(self.inodes[inode].kind, Kind::Dir(_)) {
            return Err(Errno::ISDIR);
        }
        self.drop_name(&place, inode);
        Ok(())
    }

    /// `rmdir`.
    pub(crate) fn rmdir(&mut self, path: &str) -> Answer<()> {
        let place = self.place(path, false)?;
        let inode = place.inode.ok_or(Errno::NOENT)?;
        if !self.children(inode)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.drop_name(&place, inode);
        Ok(())
    }

    fn is_below(&self, mut inode: usize, top: usize) -> bool {
        loop {
            if inode == top {
                return true;
            }
            if inode == ROOT {
                return false;
            }
            inode = self.inodes[inode].parent;
        }
    }

    /// `renameat2`. The order of the checks is the kernel's (`do_renameat2`, `vfs_rename`, then the file system).
    pub(crate) fn rename(&mut self, from: &str, to: &str, replace: Replace) -> Answer<()> {
        let (old, new) = (self.place(from, false)?, self.place(to, false)?);
        let moved = old.inode.ok_or(Errno::NOENT)?;
        if replace == Replace::Refuse && new.inode.is_some() {
            return Err(Errno::EXIST);
        }
        if replace == Replace::Exchange && new.inode.is_none() {
            return Err(Errno::NOENT);
        }
        let is_dir = |inode: usize| matches!(self.inodes[inode].kind, Kind::Dir(_));
        if is_dir(moved) && self.is_below(new.dir, moved) {
            return Err(Errno::INVAL);
        }
        if new.inode.is_some_and(|there| self.is_below(old.dir, there)) {
            return Err(if replace == Replace::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if new.inode == Some(moved) {
            return Ok(());
        }
        if let (Some(there), Replace::Plain) = (new.inode, replace) {
            match (is_dir(moved), is_dir(there)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.children(there)?.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        self.carry_out_rename(&old, &new, moved, replace);
        Ok(())
    }

    fn carry_out_rename(&mut self, old: &Place, new: &Place, moved: usize, replace: Replace) {
        match (new.inode, replace) {
            (Some(there), Replace::Exchange) => {
                self.children_mut(old.dir).insert(old.name.clone(), there);
                self.children_mut(new.dir).insert(new.name.clone(), moved);
                self.settle_parent(there, new.dir, old.dir);
            }
            (there, _) => {
                if let Some(there) = there {
                    self.drop_name(new, there);
                }
                self.children_mut(old.dir).remove(&old.name);
                self.children_mut(new.dir).insert(new.name.clone(), moved);
            }
        }
        self.settle_parent(moved, old.dir, new.dir);
    }

    fn settle_parent(&mut self, inode: usize, old: usize, new: usize) {
        if matches!(self.inodes[inode].kind, Kind::Dir(_)) {
            self.inodes[old].links -= 1;
            self.inodes[new].links += 1;
            self.inodes[inode].parent = new;
        }
    }

    /// `readlink`.
    pub(crate) fn read_link(&self, path: &str) -> Answer<String> {
        match &self.stat(path, false)?.kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }
}
