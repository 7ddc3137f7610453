//! The reference: a plain in-memory POSIX file system, as simple as can be, and the meaning of every operation in it.
//!
//! Owns inodes, names and open files. Never touches a file system, never does anything clever: a file is a vector of
//! bytes. Runs as the superuser does, so permissions never refuse. Errors are errno values, since they are part of
//! what is compared. Path resolution follows symbolic links as path_resolution(7) says.
//!
//! Here are the inodes, the tree and the ways through it; the operations by what they change are in [`names`],
//! [`bytes`] and [`attrs`].

mod attrs;
mod bytes;
mod names;

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::op::OpenHow;

/// Most links followed in one resolution (`MAXSYMLINKS` of the kernel).
const LINKS_FOLLOWED_MAX: u32 = 40;
/// The longest file of the model; a longer one is refused before it gets here.
pub(crate) const LEN_MAX: u64 = 3 << 20;

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its names.
    Dir(BTreeMap<String, usize>),
    /// Its bytes.
    File(Vec<u8>),
    /// Its target.
    Link(String),
    /// A pipe with a name.
    Fifo,
}

/// An inode.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    /// Kind and content.
    pub(crate) kind: Kind,
    /// Lowest twelve bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Names, and for a directory itself and its children, as stat counts.
    pub(crate) links: u32,
    /// `user.` attributes.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// Times in seconds, when they were set and nothing changed them since.
    pub(crate) atime: Option<i64>,
    /// See `atime`.
    pub(crate) mtime: Option<i64>,
    parent: usize,
}

impl Inode {
    fn new(kind: Kind, mode: u32, parent: usize) -> Self {
        let links = if matches!(kind, Kind::Dir(_)) { 2 } else { 1 };
        let (uid, gid, xattrs, atime, mtime) = Default::default();
        Self { kind, mode, uid, gid, links, xattrs, atime, mtime, parent }
    }

    /// The length stat shows; `None` where file systems differ.
    pub(crate) fn len(&self) -> Option<u64> {
        match &self.kind {
            Kind::File(data) => Some(data.len() as u64),
            Kind::Link(target) => Some(target.len() as u64),
            Kind::Dir(_) | Kind::Fifo => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    inode: usize,
    how: OpenHow,
}

/// A whole file system.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    inodes: Vec<Inode>,
    slots: BTreeMap<usize, Open>,
}

const ROOT: usize = 0;
/// A directory with this bit hands its group, and a directory in it the bit as well, to what is made in it.
const SET_GID: u32 = 0o2000;

type Answer<T> = Result<T, Errno>;

/// Where a path leads: the directory of its last part, that part, and what stands there.
struct Place {
    dir: usize,
    name: String,
    inode: Option<usize>,
}

impl Reference {
    /// An empty file system.
    pub(crate) fn new() -> Self {
        Self { inodes: vec![Inode::new(Kind::Dir(BTreeMap::new()), 0o755, ROOT)], slots: BTreeMap::new() }
    }

    fn children(&self, dir: usize) -> Answer<&BTreeMap<String, usize>> {
        match &self.inodes[dir].kind {
            Kind::Dir(children) => Ok(children),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn children_mut(&mut self, dir: usize) -> &mut BTreeMap<String, usize> {
        self.inodes[dir].mtime = None;
        match &mut self.inodes[dir].kind {
            Kind::Dir(children) => children,
            _ => unreachable!("resolution gives directories only"),
        }
    }

    /// Resolves all but the last part; follows a link there only if `follow`.
    fn place(&self, path: &str, follow: bool) -> Answer<Place> {
        self.walk(ROOT, path, follow, &mut 0)
    }

    fn walk(&self, start: usize, path: &str, follow: bool, followed: &mut u32) -> Answer<Place> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (last, dirs) = parts.split_last().ok_or(Errno::BUSY)?;
        let mut dir = start;
        for part in dirs {
            dir = self.enter(dir, part, followed)?;
        }
        if *last == ".." {
            let inode = self.enter(dir, last, followed)?;
            return Ok(Place { dir, name: (*last).to_owned(), inode: Some(inode) });
        }
        let inode = self.children(dir)?.get(*last).copied();
        if let (true, Some(Kind::Link(target))) = (follow, inode.map(|inode| &self.inodes[inode].kind)) {
            *followed += 1;
            if *followed > LINKS_FOLLOWED_MAX {
                return Err(Errno::LOOP);
            }
            return self.walk(dir, target, true, followed);
        }
        Ok(Place { dir, name: (*last).to_owned(), inode })
    }

    fn enter(&self, dir: usize, part: &str, followed: &mut u32) -> Answer<usize> {
        let children = self.children(dir)?;
        if part == ".." {
            return Ok(self.inodes[dir].parent);
        }
        let inode = *children.get(part).ok_or(Errno::NOENT)?;
        let Kind::Link(target) = &self.inodes[inode].kind else {
            return self.children(inode).map(|_| inode);
        };
        *followed += 1;
        if *followed > LINKS_FOLLOWED_MAX {
            return Err(Errno::LOOP);
        }
        let inode = self.walk(dir, target, true, followed)?.inode.ok_or(Errno::NOENT)?;
        self.children(inode).map(|_| inode)
    }

    fn find(&self, path: &str, follow: bool) -> Answer<usize> {
        self.place(path, follow)?.inode.ok_or(Errno::NOENT)
    }

    /// What a path stands for, a link itself unless `follow`.
    pub(crate) fn stat(&self, path: &str, follow: bool) -> Answer<&Inode> {
        self.find(path, follow).map(|inode| &self.inodes[inode])
    }

    /// All names, depth first, without the root.
    pub(crate) fn tree(&self) -> Vec<(String, &Inode)> {
        let mut all = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((prefix, dir)) = open.pop() {
            for (name, inode) in self.children(dir).into_iter().flatten() {
                let path = format!("{prefix}{name}");
                if matches!(self.inodes[*inode].kind, Kind::Dir(_)) {
                    open.push((format!("{path}/"), *inode));
                }
                all.push((path, &self.inodes[*inode]));
            }
        }
        all
    }

    /// Names of a directory.
    pub(crate) fn list(&self, path: &str) -> Answer<Vec<String>> {
        let dir = if path.is_empty() { ROOT } else { self.find(path, true)? };
        Ok(self.children(dir)?.keys().cloned().collect())
    }

    fn add(&mut self, place: &Place, kind: Kind, mode: u32) -> usize {
        if matches!(kind, Kind::Dir(_)) {
            self.inodes[place.dir].links += 1;
        }
        let dir = &self.inodes[place.dir];
        let (inherits, gid) = (dir.mode & SET_GID != 0, dir.gid);
        let mut inode = Inode::new(kind, mode, place.dir);
        if inherits {
            inode.gid = gid;
            inode.mode |= if matches!(inode.kind, Kind::Dir(_)) { SET_GID } else { 0 };
        }
        self.inodes.push(inode);
        let inode = self.inodes.len() - 1;
        self.children_mut(place.dir).insert(place.name.clone(), inode);
        inode
    }

    fn add_new(&mut self, path: &str, kind: Kind, mode: u32) -> Answer<()> {
        let place = self.place(path, false)?;
        if place.inode.is_some() {
            return Err(Errno::EXIST);
        }
        self.add(&place, kind, mode);
        Ok(())
    }
}
