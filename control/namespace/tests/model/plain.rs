//! The plain model: a file system of which every operation is as short as POSIX tells it, with nothing below it and
//! nothing to recover.

use crate::common;
use crate::ops::{Op, Path, mode_of};
use forebay_namespace::RenameMode;
use forebay_types::{FileKind, FsErrorKind, TimeSpec};
use std::collections::BTreeMap;

/// The model's inode.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: FileKind,
    pub(crate) mode: u16,
    pub(crate) size: u64,
    pub(crate) xattrs: BTreeMap<u8, u8>,
    pub(crate) children: BTreeMap<&'static str, usize>,
    pub(crate) mtime: Option<TimeSpec>,
    pub(crate) ctime: Option<TimeSpec>,
    pub(crate) born_here: bool,
}

/// A plain file system in memory.
pub(crate) struct Model {
    pub(crate) nodes: Vec<Node>,
}

pub(crate) const ROOT: usize = 0;

impl Model {
    pub(crate) fn new() -> Self {
        let mut model = Self { nodes: Vec::new() };
        model.add(FileKind::Directory, 0o755, false);
        model
    }

    pub(crate) fn add(&mut self, kind: FileKind, mode: u16, born_here: bool) -> usize {
        let (xattrs, children) = (BTreeMap::new(), BTreeMap::new());
        self.nodes.push(Node { kind, mode, size: 0, xattrs, children, mtime: None, ctime: None, born_here });
        self.nodes.len() - 1
    }

    pub(crate) fn is_dir(&self, node: usize) -> bool {
        self.nodes[node].kind == FileKind::Directory
    }

    fn walk(&self, path: &[&'static str]) -> Result<usize, FsErrorKind> {
        let mut at = ROOT;
        for part in path {
            if !self.is_dir(at) {
                return Err(FsErrorKind::NotADirectory);
            }
            at = *self.nodes[at].children.get(part).ok_or(FsErrorKind::NotFound)?;
        }
        Ok(at)
    }

    pub(crate) fn parent(&self, path: &Path) -> Result<(usize, &'static str), FsErrorKind> {
        let (last, above) = path.split_last().unwrap();
        let dir = self.walk(above)?;
        if self.is_dir(dir) { Ok((dir, last)) } else { Err(FsErrorKind::NotADirectory) }
    }

    pub(crate) fn nlink(&self, node: usize) -> u32 {
        let subdirs = || self.nodes[node].children.values().filter(|child| self.is_dir(**child)).count();
        if self.is_dir(node) {
            return 2 + subdirs() as u32;
        }
        self.nodes.iter().flat_map(|n| n.children.values()).filter(|child| **child == node).count() as u32
    }

    fn touch(&mut self, dir: usize, now: TimeSpec) {
        self.nodes[dir].mtime = Some(now);
        self.nodes[dir].ctime = Some(now);
    }

    fn is_within(&self, node: usize, top: usize) -> bool {
        node == top || self.nodes[top].children.values().any(|child| self.is_within(node, *child))
    }

    pub(crate) fn apply(&mut self, op: &Op, now: TimeSpec) -> Result<(), FsErrorKind> {
        match op {
            Op::Create(path, kind) => {
                let (dir, last) = self.parent(path)?;
                if self.nodes[dir].children.contains_key(last) {
                    return Err(FsErrorKind::Exists);
                }
                let setgid = if *kind == FileKind::Directory { self.nodes[dir].mode & 0o2000 } else { 0 };
                let node = self.add(*kind, mode_of(*kind) | setgid, true);
                if *kind == FileKind::Symlink {
                    self.nodes[node].size = 6;
                }
                self.touch(node, now);
                self.nodes[dir].children.insert(last, node);
                self.touch(dir, now);
            }
            Op::Link(from, to) => {
                let node = self.walk(from)?;
                let (dir, last) = self.parent(to)?;
                if self.is_dir(node) {
                    return Err(FsErrorKind::NotPermitted);
                }
                if self.nodes[dir].children.contains_key(last) {
                    return Err(FsErrorKind::Exists);
                }
                self.nodes[dir].children.insert(last, node);
                self.nodes[node].ctime = Some(now);
                self.touch(dir, now);
            }
            Op::Unlink(path) => {
                let (dir, last) = self.parent(path)?;
                let node = *self.nodes[dir].children.get(last).ok_or(FsErrorKind::NotFound)?;
                if self.is_dir(node) {
                    return Err(FsErrorKind::IsADirectory);
                }
                self.nodes[dir].children.remove(last);
                self.nodes[node].ctime = Some(now);
                self.touch(dir, now);
            }
            Op::Rmdir(path) => {
                let (dir, last) = self.parent(path)?;
                let node = *self.nodes[dir].children.get(last).ok_or(FsErrorKind::NotFound)?;
                if !self.is_dir(node) {
                    return Err(FsErrorKind::NotADirectory);
                }
                if !self.nodes[node].children.is_empty() {
                    return Err(FsErrorKind::NotEmpty);
                }
                self.nodes[dir].children.remove(last);
                self.touch(dir, now);
            }
            Op::Rename(from, to, mode) => self.rename(from, to, *mode, now)?,
            Op::Chmod(path, mode) => {
                let node = self.walk(path)?;
                self.nodes[node].mode = *mode;
                self.nodes[node].ctime = Some(now);
            }
            Op::SetXattr(path, value) => {
                let node = self.walk(path)?;
                self.nodes[node].xattrs.insert(value % 4, *value);
                self.nodes[node].ctime = Some(now);
            }
            Op::RemoveXattr(path, value) => {
                let node = self.walk(path)?;
                self.nodes[node].xattrs.remove(&(value % 4)).ok_or(FsErrorKind::NoAttribute)?;
                self.nodes[node].ctime = Some(now);
            }
            Op::Write(path, len) => {
                let node = self.regular(path)?;
                if let Some(len) = len {
                    self.nodes[node].size = u64::from(*len);
                    self.touch(node, now);
                }
            }
            Op::Truncate(path, len) => {
                let node = self.regular(path)?;
                self.nodes[node].size = u64::from(*len);
                self.touch(node, now);
            }
            Op::Sync | Op::Flush | Op::Expire | Op::Crash | Op::Carry(_) => {}
            Op::Take | Op::Do(_) | Op::Tell(..) => {}
        }
        Ok(())
    }

    /// Demands that the directory `at` of the UFS has what `dir` has, as far as a UFS can.
    pub(crate) fn compare_ufs(&self, dir: usize, at: &std::path::Path) {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            found.insert(entry.file_name().into_string().unwrap(), entry.path());
        }
        for (child, node) in &self.nodes[dir].children {
            let wanted = &self.nodes[*node];
            if wanted.kind == FileKind::Fifo {
                assert!(!found.contains_key(*child), "a pipe in the UFS");
                continue;
            }
            let path = found.remove(*child).unwrap_or_else(|| panic!("{child} is not in {}", at.display()));
            let attr = common::attr_of(&path).unwrap().unwrap();
            let size = if wanted.kind == FileKind::Directory { 0 } else { wanted.size };
            assert_eq!((attr.kind, attr.size), (wanted.kind, size), "{}", path.display());
            if wanted.kind == FileKind::Directory {
                self.compare_ufs(*node, &path);
            }
        }
        assert!(found.is_empty(), "too much in the UFS: {found:?}");
    }

    fn regular(&self, path: &Path) -> Result<usize, FsErrorKind> {
        let node = self.walk(path)?;
        match self.nodes[node].kind {
            FileKind::Regular => Ok(node),
            FileKind::Directory => Err(FsErrorKind::IsADirectory),
            _ => Err(FsErrorKind::Invalid),
        }
    }

    fn rename(&mut self, from: &Path, to: &Path, mode: RenameMode, now: TimeSpec) -> Result<(), FsErrorKind> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let node = *self.nodes[from_dir].children.get(from_name).ok_or(FsErrorKind::NotFound)?;
        let other = self.nodes[to_dir].children.get(to_name).copied();
        if self.is_dir(node) && self.is_within(to_dir, node) {
            return Err(FsErrorKind::Invalid);
        }
        match (other, mode) {
            (Some(_), RenameMode::NoReplace) => return Err(FsErrorKind::Exists),
            (None, RenameMode::Exchange) => return Err(FsErrorKind::NotFound),
            (Some(other), RenameMode::Exchange) if self.is_within(from_dir, other) => {
                return Err(FsErrorKind::Invalid);
            }
            (Some(other), RenameMode::Replace) if other != node => {
                match (self.is_dir(node), self.is_dir(other)) {
                    (true, false) => return Err(FsErrorKind::NotADirectory),
                    (false, true) => return Err(FsErrorKind::IsADirectory),
                    (true, true) if !self.nodes[other].children.is_empty() => {
                        return Err(FsErrorKind::NotEmpty);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if other == Some(node) {
            return Ok(());
        }
        self.nodes[from_dir].children.remove(from_name);
        self.nodes[to_dir].children.insert(to_name, node);
        if let Some(other) = other {
            self.nodes[other].ctime = Some(now);
            if mode == RenameMode::Exchange {
                self.nodes[from_dir].children.insert(from_name, other);
            }
        }
        self.nodes[node].ctime = Some(now);
        self.touch(from_dir, now);
        self.touch(to_dir, now);
        Ok(())
    }
}
