//! The real name space behind the same operations, and the comparison of what it shows with what the plain one has.

use crate::common::carrier::{carry, carry_some, settle_begun, take};
use crate::common::{ROOT_CALLER, World, name};
use crate::ops::{NAMES, Op, Path, Tell, mode_of};
use crate::plain::Model;
use forebay_namespace::{NewInode, XattrMode};
use forebay_types::{
    Attr, ExtentId, FileKind, FileTimes, FsErrorKind, FsResult, Ino, PersistLog, PersistOutcome, PersistTask,
    SetAttr, TimeSpec,
};
use std::collections::HashMap;

/// The real one, driven as the kernel drives it: what is looked up is given back at the end of a call.
pub(crate) struct Real {
    pub(crate) world: World,
    pub(crate) looked_up: Vec<Ino>,
    pub(crate) carried: bool,
    /// Tasks that are out, and what came of those that were carried.
    pub(crate) taken: Vec<(PersistTask, Option<PersistOutcome>)>,
}

impl Real {
    async fn walk(&mut self, path: &[&'static str]) -> FsResult<Attr> {
        let mut attr = self.world.names().attr(Ino::ROOT).await?.0;
        for part in path {
            attr = self.world.names().lookup(attr.ino, &name(part)).await?.attr;
            self.looked_up.push(attr.ino);
        }
        Ok(attr)
    }

    async fn parent(&mut self, path: &Path) -> FsResult<(Ino, &'static str)> {
        let (last, above) = path.split_last().unwrap();
        let dir = self.walk(above).await?;
        if dir.kind == FileKind::Directory {
            Ok((dir.ino, last))
        } else {
            Err(FsErrorKind::NotADirectory.into())
        }
    }

    async fn tell(&self, task: &PersistTask, outcome: Option<PersistOutcome>, tell: Tell) -> FsResult<()> {
        let outcome = match tell {
            Tell::Truth => outcome.unwrap_or_else(|| carry(&self.world.ufs, task)),
            Tell::Failed => PersistOutcome::Failed("no answer".into()),
        };
        self.world.names().finish(task, outcome).await.map(drop)
    }

    pub(crate) fn forget(&mut self) {
        for ino in self.looked_up.drain(..) {
            self.world.names().forget(ino, 1);
        }
    }

    pub(crate) async fn apply(&mut self, op: &Op, now: TimeSpec) -> FsResult<()> {
        match op {
            Op::Create(path, kind) => {
                let (dir, last) = self.parent(path).await?;
                let mut new = NewInode::of(*kind, mode_of(*kind));
                if *kind == FileKind::Symlink {
                    new.link_target = Some((*b"target").into());
                }
                let entry = self.world.names().create(&ROOT_CALLER, dir, &name(last), new).await?;
                self.looked_up.push(entry.attr.ino);
            }
            Op::Link(from, to) => {
                let ino = self.walk(from).await?.ino;
                let (dir, last) = self.parent(to).await?;
                let entry = self.world.names().link(&ROOT_CALLER, ino, dir, &name(last)).await?;
                self.looked_up.push(entry.attr.ino);
            }
            Op::Unlink(path) => {
                let (dir, last) = self.parent(path).await?;
                let unlinked = self.world.names().unlink(&ROOT_CALLER, dir, &name(last)).await?;
                if unlinked.nlink == 0 {
                    self.world.names().release_orphan(unlinked.ino).await?;
                }
            }
            Op::Rmdir(path) => {
                let (dir, last) = self.parent(path).await?;
                self.world.names().rmdir(&ROOT_CALLER, dir, &name(last)).await?;
            }
            Op::Rename(from, to, mode) => {
                let (from, to) = (self.parent(from).await?, self.parent(to).await?);
                if let Some(replaced) = self.world.rename(from, to, *mode).await?
                    && replaced.nlink == 0
                {
                    self.world.names().release_orphan(replaced.ino).await?;
                }
            }
            Op::Chmod(path, mode) => {
                let ino = self.walk(path).await?.ino;
                let change = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                self.world.names().set_attr(&ROOT_CALLER, ino, change).await?;
            }
            Op::SetXattr(path, value) => {
                let ino = self.walk(path).await?.ino;
                let key = [b'u', value % 4];
                self.world.names().set_xattr(ino, &key, &[*value], XattrMode::Any).await?;
            }
            Op::RemoveXattr(path, value) => {
                let ino = self.walk(path).await?.ino;
                self.world.names().remove_xattr(ino, &[b'u', value % 4]).await?;
            }
            Op::Write(path, len) => {
                let attr = self.walk(path).await?;
                let names = self.world.names();
                names.write_opened(attr.ino, Some(ExtentId(attr.ino.0)), None).await?;
                let len_now = len.map_or(attr.size, u64::from);
                let times = FileTimes { len: len_now, mtime: now, ctime: now, blocks_512: 8 };
                if len.is_some() {
                    names.update_written(attr.ino, times).await?;
                }
                names.write_closed(attr.ino, times, len.is_some()).await?;
            }
            Op::Truncate(path, len) => {
                let ino = self.walk(path).await?.ino;
                let change = SetAttr { size: Some(u64::from(*len)), ..SetAttr::default() };
                self.world.names().set_attr(&ROOT_CALLER, ino, change).await?;
            }
            Op::Sync => self.world.names().sync().await?,
            Op::Flush => self.world.names().flush()?,
            Op::Expire => self.world.expire(),
            Op::Take => {
                self.world.expire();
                self.carried = true;
                self.taken.extend(take(&self.world).await.map(|task| (task, None)));
            }
            Op::Do(n) => {
                let n = usize::from(*n) % self.taken.len().max(1);
                if let Some((task, outcome)) = self.taken.get_mut(n) {
                    outcome.get_or_insert_with(|| carry(&self.world.ufs, task));
                }
            }
            Op::Tell(n, tell) => {
                let n = usize::from(*n) % self.taken.len().max(1);
                if n < self.taken.len() {
                    let (task, outcome) = self.taken.remove(n);
                    self.tell(&task, outcome, *tell).await?;
                }
            }
            Op::Carry(max) => {
                self.world.expire();
                self.carried = true;
                for (task, outcome) in std::mem::take(&mut self.taken) {
                    self.tell(&task, outcome, Tell::Truth).await?;
                }
                carry_some(&self.world, max.map_or(usize::MAX, usize::from)).await?;
            }
            Op::Crash => {
                let recovery = self.world.crash();
                assert_eq!((recovery.torn_bytes, recovery.orphans.len()), (0, 0));
                assert!(recovery.write_open.is_empty());
                self.taken.clear();
                settle_begun(&self.world).await;
            }
        }
        Ok(())
    }

    /// Demands that the directory `ino` shows what `dir` of the model has; `known` pairs their inodes.
    pub(crate) async fn compare(
        &mut self,
        model: &Model,
        dir: usize,
        ino: Ino,
        known: &mut HashMap<usize, Ino>,
    ) {
        let mut listed = self.world.list_by(ino, 3).await.unwrap();
        listed.sort();
        let wanted: Vec<&str> = model.nodes[dir].children.keys().copied().collect();
        assert_eq!(listed, wanted, "names of a directory");
        for (child, node) in &model.nodes[dir].children {
            let entry = self.world.names().lookup(ino, &name(child)).await.unwrap();
            let attr = entry.attr;
            self.compare_inode(model, *node, attr).await;
            let before = *known.entry(*node).or_insert(attr.ino);
            // A clean file's number comes from its key, which changes when a directory above it is moved in
            // the UFS; what is not in memory then gets a new one.
            if !(self.carried && before.is_derived()) {
                assert_eq!(before, attr.ino, "{child} is another inode");
            }
            known.insert(*node, attr.ino);
            if model.is_dir(*node) {
                Box::pin(self.compare(model, *node, attr.ino, known)).await;
            }
            self.world.names().forget(attr.ino, 1);
        }
        for absent in NAMES.iter().filter(|name| !wanted.contains(name)) {
            let found = self.world.names().lookup(ino, &name(absent)).await;
            assert_eq!(found.unwrap_err().kind(), FsErrorKind::NotFound);
        }
    }

    async fn compare_inode(&self, model: &Model, node: usize, attr: Attr) {
        let wanted = &model.nodes[node];
        assert_eq!((attr.kind, attr.mode, attr.size), (wanted.kind, wanted.mode, wanted.size));
        if wanted.kind != FileKind::Directory || wanted.born_here {
            assert_eq!(attr.nlink, model.nlink(node), "links of {wanted:?}");
        }
        if let Some(mtime) = wanted.mtime {
            assert_eq!(attr.mtime, mtime, "mtime of {wanted:?}");
        }
        if let Some(ctime) = wanted.ctime {
            assert_eq!(attr.ctime, ctime, "ctime of {wanted:?}");
        }
        for key in 0..4 {
            let value = self.world.names().get_xattr(attr.ino, &[b'u', key]).await.ok();
            assert_eq!(value.map(|value| value[0]), wanted.xattrs.get(&key).copied());
        }
    }
}
