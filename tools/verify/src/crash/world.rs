//! What one thread's names and files should be: the operations of the crash load and what each of them does.
//!
//! Owns the vocabulary of the ledger. Never touches a file system: [`World::apply`] is the whole meaning of an
//! operation, and the load and the checker share it. Names are paths below the mount's root, `/` between parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::pattern;

/// One operation. Bytes written are those of [`pattern`] for the tag that belongs to the operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// A new empty file; its identity is the operation's tag.
    Create { path: String, mode: u32 },
    /// `pwrite` of an existing file, also beyond its end.
    Write { path: String, offset: u64, len: u64 },
    /// A new content for the whole file or more, by one write through a handle of its own with `O_SYNC`: promises what an
    /// [`Op::Fsync`] does.
    SyncWrite { path: String, len: u64 },
    /// A write by `O_APPEND`.
    Append { path: String, len: u64 },
    /// A store through a shared mapping by another process, which then waits for `msync`.
    MapWrite { path: String, offset: u64, len: u64 },
    /// To a shorter or longer length.
    Truncate { path: String, len: u64 },
    /// Moves a file or a directory, over what is there.
    Rename { from: String, to: String },
    /// A second name of a file.
    Link { from: String, to: String },
    /// A symbolic link.
    Symlink { path: String, target: String },
    /// Takes a name of a file or symbolic link away.
    Unlink { path: String },
    /// A new directory.
    Mkdir { path: String },
    /// Takes an empty directory away.
    Rmdir { path: String },
    /// Permission bits of a file.
    Chmod { path: String, mode: u32 },
    /// `fsync` of a file: promises its bytes and this name.
    Fsync { path: String },
    /// `fsync` of a directory: promises the names in it.
    FsyncDir { path: String },
}

impl Op {
    /// The file whose bytes it changes.
    pub(crate) fn writes_to(&self) -> Option<&str> {
        match self {
            Self::Create { path, .. }
            | Self::Write { path, .. }
            | Self::SyncWrite { path, .. }
            | Self::Append { path, .. }
            | Self::MapWrite { path, .. }
            | Self::Truncate { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Node {
    /// A directory.
    Dir,
    /// The file of this identity; two names of one identity are hard links.
    File(u64),
    /// A symbolic link and its target.
    Link(String),
}

/// Bytes and permission bits of a file at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    /// All bytes.
    pub(crate) data: Vec<u8>,
    /// The lowest twelve bits of the mode.
    pub(crate) mode: u32,
}

/// All names and files of one thread at one moment. Cheap to clone: unchanged files are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct World {
    /// Every name, by its path.
    pub(crate) names: BTreeMap<String, Node>,
    /// Every file that has a name.
    pub(crate) files: BTreeMap<u64, Arc<FileState>>,
}

impl World {
    /// The identity behind a name, if it is a file's.
    pub(crate) fn id_of(&self, path: &str) -> Option<u64> {
        match self.names.get(path) {
            Some(Node::File(id)) => Some(*id),
            _ => None,
        }
    }

    /// The file behind a name.
    pub(crate) fn file_at(&self, path: &str) -> Option<&FileState> {
        self.files.get(&self.id_of(path)?).map(Arc::as_ref)
    }

    /// How many names a file has.
    pub(crate) fn links(&self, id: u64) -> usize {
        self.names.values().filter(|node| **node == Node::File(id)).count()
    }

    /// Carries the operation out; `tag` gives the bytes it writes and the identity of what it creates. An
    /// operation whose precondition does not hold changes nothing (the load never issues one).
    pub(crate) fn apply(&mut self, op: &Op, tag: u64) {
        match op {
            Op::Create { path, mode } => {
                self.names.insert(path.clone(), Node::File(tag));
                self.files.insert(tag, Arc::new(FileState { data: Vec::new(), mode: *mode }));
            }
            Op::Write { path, offset, len } | Op::MapWrite { path, offset, len } => {
                self.change(path, |file| pattern::put(&mut file.data, tag, *offset, *len));
            }
            Op::SyncWrite { path, len } => {
                self.change(path, |file| pattern::put(&mut file.data, tag, 0, *len));
            }
            Op::Append { path, len } => {
                self.change(path, |file| {
                    let end = file.data.len() as u64;
                    pattern::put(&mut file.data, tag, end, *len);
                });
            }
            Op::Truncate { path, len } => self.change(path, |file| file.data.resize(*len as usize, 0)),
            Op::Chmod { path, mode } => self.change(path, |file| file.mode = *mode),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Link { from, to } => {
                if let Some(node) = self.names.get(from).cloned() {
                    self.names.insert(to.clone(), node);
                }
            }
            Op::Symlink { path, target } => {
                self.names.insert(path.clone(), Node::Link(target.clone()));
            }
            Op::Mkdir { path } => {
                self.names.insert(path.clone(), Node::Dir);
            }
            Op::Unlink { path } | Op::Rmdir { path } => self.remove(path),
            Op::Fsync { .. } | Op::FsyncDir { .. } => {}
        }
    }

    fn change(&mut self, path: &str, how: impl FnOnce(&mut FileState)) {
        if let Some(file) = self.id_of(path).and_then(|id| self.files.get_mut(&id)) {
            how(Arc::make_mut(file));
        }
    }

    fn remove(&mut self, path: &str) {
        if let Some(Node::File(id)) = self.names.remove(path)
            && self.links(id) == 0
        {
            self.files.remove(&id);
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        // POSIX: two names of one file stay as they are.
        let same = self.id_of(from).is_some() && self.id_of(from) == self.id_of(to);
        let Some(node) = self.names.get(from).cloned().filter(|_| !same && from != to) else { return };
        self.remove(to);
        let prefix = format!("{from}/");
        let below: Vec<String> =
            self.names.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        for old in below {
            if let Some(child) = self.names.remove(&old) {
                self.names.insert(format!("{to}/{}", &old[prefix.len()..]), child);
            }
        }
        self.names.remove(from);
        self.names.insert(to.to_owned(), node);
    }
}

/// The directory that holds a name; empty for a name at the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The directories above a name, nearest first, without the root.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(parent(path)), |dir| Some(parent(dir))).take_while(|dir| !dir.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(of: &str) -> String {
        of.to_owned()
    }

    #[test]
    fn a_directory_takes_its_children_along() {
        let mut world = World::default();
        world.apply(&Op::Mkdir { path: path("a") }, 1);
        world.apply(&Op::Create { path: path("a/f"), mode: 0o644 }, 2);
        world.apply(&Op::Rename { from: path("a"), to: path("b") }, 3);
        assert_eq!(world.names.keys().collect::<Vec<_>>(), ["b", "b/f"]);
        assert_eq!(world.id_of("b/f"), Some(2));
    }

    #[test]
    fn a_replaced_file_is_gone_when_its_last_name_is() {
        let mut world = World::default();
        for (tag, name) in [(1, "a"), (2, "b")] {
            world.apply(&Op::Create { path: path(name), mode: 0o644 }, tag);
        }
        world.apply(&Op::Link { from: path("b"), to: path("c") }, 3);
        world.apply(&Op::Rename { from: path("a"), to: path("b") }, 4);
        assert_eq!((world.id_of("b"), world.id_of("c"), world.files.len()), (Some(1), Some(2), 2));
        world.apply(&Op::Unlink { path: path("c") }, 5);
        assert_eq!(world.files.len(), 1);
    }

    #[test]
    fn ancestors_end_below_the_root() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(ancestors("a").count(), 0);
    }
}
