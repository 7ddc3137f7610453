//! The reference: a plain in-memory POSIX file system, as simple as can be, and the meaning of every operation in it.
//!
//! Owns inodes, names and open files. Never touches a file system, never does anything clever: a file is a vector of
//! bytes. Runs as the superuser does, so permissions never refuse. Errors are errno values, since they are part of
//! what is compared. Path resolution follows symbolic links as path_resolution(7) says.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::op::{OpenHow, Replace, Space};

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

    fn drop_name(&mut self, place: &Place, inode: usize) {
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

    /// `open` into a slot, which is empty. `O_EXCL` does not follow a link at the end, `O_CREAT` through one creates
    /// its target.
    pub(crate) fn open(&mut self, slot: usize, path: &str, how: OpenHow, mode: u32) -> Answer<()> {
        let place = self.place(path, !(how.create && how.exclusive))?;
        let inode = match place.inode {
            Some(_) if how.create && how.exclusive => return Err(Errno::EXIST),
            Some(inode) => inode,
            None if how.create => self.add(&place, Kind::File(Vec::new()), mode),
            None => return Err(Errno::NOENT),
        };
        match &self.inodes[inode].kind {
            Kind::Dir(_) if how.write || how.create => return Err(Errno::ISDIR),
            // The generator opens no directory and no pipe for data; the driver refuses them in the same words.
            Kind::Dir(_) | Kind::Fifo => return Err(Errno::ISDIR),
            Kind::Link(_) => return Err(Errno::LOOP),
            Kind::File(_) => {}
        }
        if how.truncate && how.write {
            self.change_inode(inode, Vec::clear);
        }
        self.slots.insert(slot, Open { inode, how });
        Ok(())
    }

    /// Whether a slot is open.
    pub(crate) fn is_open(&self, slot: usize) -> bool {
        self.slots.contains_key(&slot)
    }

    /// Closes a slot.
    pub(crate) fn close(&mut self, slot: usize) {
        self.slots.remove(&slot);
    }

    /// Closes every slot.
    pub(crate) fn close_all(&mut self) {
        self.slots.clear();
    }

    /// The slots open for writing.
    pub(crate) fn writers(&self) -> Vec<usize> {
        self.slots.iter().filter(|(_, open)| open.how.write).map(|(slot, _)| *slot).collect()
    }

    fn reader(&self, slot: usize) -> Answer<&Vec<u8>> {
        let open = self.slots.get(&slot).filter(|open| open.how.read).ok_or(Errno::BADF)?;
        match &self.inodes[open.inode].kind {
            Kind::File(data) => Ok(data),
            _ => Err(Errno::ISDIR),
        }
    }

    fn writer(&self, slot: usize) -> Answer<Open> {
        self.slots.get(&slot).copied().filter(|open| open.how.write).ok_or(Errno::BADF)
    }

    fn change_inode(&mut self, inode: usize, how: impl FnOnce(&mut Vec<u8>)) {
        let inode = &mut self.inodes[inode];
        inode.mtime = None;
        if let Kind::File(data) = &mut inode.kind {
            how(data);
        }
    }

    /// The inode behind a slot.
    pub(crate) fn slot_inode(&self, slot: usize) -> Answer<&Inode> {
        self.slots.get(&slot).map(|open| &self.inodes[open.inode]).ok_or(Errno::BADF)
    }

    /// `pread`.
    pub(crate) fn read(&self, slot: usize, offset: u64, len: u64) -> Answer<Vec<u8>> {
        let data = self.reader(slot)?;
        let start = (offset as usize).min(data.len());
        Ok(data[start..(start + len as usize).min(data.len())].to_vec())
    }

    /// `pwrite`, or a write at the end of an `O_APPEND` slot. Gives where it went.
    pub(crate) fn write(&mut self, slot: usize, offset: u64, bytes: &[u8]) -> Answer<()> {
        let open = self.writer(slot)?;
        self.change_inode(open.inode, |data| {
            let at = if open.how.append { data.len() } else { offset as usize };
            put(data, at, bytes);
        });
        Ok(())
    }

    /// A store through a shared mapping; it needs a slot for reading and writing and never makes a file longer.
    pub(crate) fn map_write(&mut self, slot: usize, offset: u64, bytes: &[u8]) -> Answer<()> {
        let open = self.slots.get(&slot).copied().ok_or(Errno::BADF)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if !(open.how.read && open.how.write) {
            return Err(Errno::ACCESS);
        }
        self.change_inode(open.inode, |data| put(data, offset as usize, bytes));
        Ok(())
    }

    /// A load through a shared mapping, of bytes within the file only.
    pub(crate) fn map_read(&self, slot: usize, offset: u64, len: u64) -> Answer<Vec<u8>> {
        let open = self.slots.get(&slot).ok_or(Errno::BADF)?;
        if len > 0 && !open.how.read {
            return Err(Errno::ACCESS);
        }
        if len > 0 { self.read(slot, offset, len) } else { Ok(Vec::new()) }
    }

    /// How many of `len` bytes at `offset` lie within the slot's file.
    pub(crate) fn within(&self, slot: usize, offset: u64, len: u64) -> u64 {
        let end = self.slot_inode(slot).ok().and_then(Inode::len).unwrap_or(0);
        end.saturating_sub(offset).min(len)
    }

    /// `ftruncate`.
    pub(crate) fn set_len(&mut self, slot: usize, len: u64) -> Answer<()> {
        let open = self.slots.get(&slot).copied().ok_or(Errno::BADF)?;
        if !open.how.write {
            return Err(Errno::INVAL);
        }
        self.change_inode(open.inode, |data| data.resize(len as usize, 0));
        Ok(())
    }

    /// `truncate`.
    pub(crate) fn truncate(&mut self, path: &str, len: u64) -> Answer<()> {
        let inode = self.find(path, true)?;
        match self.inodes[inode].kind {
            Kind::Dir(_) => return Err(Errno::ISDIR),
            Kind::File(_) => {}
            _ => return Err(Errno::INVAL),
        }
        self.change_inode(inode, |data| data.resize(len as usize, 0));
        Ok(())
    }

    /// `fallocate`.
    pub(crate) fn allocate(&mut self, slot: usize, space: Space, offset: u64, len: u64) -> Answer<()> {
        let open = self.writer(slot)?;
        let (start, end) = (offset as usize, (offset + len) as usize);
        self.change_inode(open.inode, |data| {
            if matches!(space, Space::Grow | Space::Zero) && data.len() < end {
                data.resize(end, 0);
            }
            if matches!(space, Space::Punch | Space::Zero | Space::ZeroKeep) {
                let end = end.min(data.len());
                data[start.min(end)..end].fill(0);
            }
        });
        Ok(())
    }

    /// `copy_file_range`, whole or not at all. Gives how many bytes it copies.
    pub(crate) fn copy_range(&mut self, from: (usize, u64), to: (usize, u64), len: u64) -> Answer<u64> {
        let target = self.writer(to.0)?;
        let bytes = self.read(from.0, from.1, len)?;
        if target.how.append {
            return Err(Errno::BADF);
        }
        let source = self.slots.get(&from.0).map(|open| open.inode);
        // The kernel cuts the length at the source's end before it looks for an overlap.
        let copied = bytes.len() as u64;
        let overlap = to.1 + copied > from.1 && to.1 < from.1 + copied;
        if source == Some(target.inode) && overlap {
            return Err(Errno::INVAL);
        }
        if !bytes.is_empty() {
            self.change_inode(target.inode, |data| put(data, to.1 as usize, &bytes));
        }
        Ok(bytes.len() as u64)
    }

    fn attributes(&mut self, path: &str) -> Answer<&mut Inode> {
        let inode = self.find(path, true)?;
        Ok(&mut self.inodes[inode])
    }

    /// `chmod`, which follows links.
    pub(crate) fn chmod(&mut self, path: &str, mode: u32) -> Answer<()> {
        self.attributes(path)?.mode = mode;
        Ok(())
    }

    /// `lchown` by the superuser: takes the setuid bit, and the setgid bit where the group may execute, from files.
    pub(crate) fn chown(&mut self, path: &str, uid: u32, gid: u32) -> Answer<()> {
        let inode = self.find(path, false)?;
        let inode = &mut self.inodes[inode];
        (inode.uid, inode.gid) = (uid, gid);
        if !matches!(inode.kind, Kind::Dir(_)) && !matches!(inode.kind, Kind::Link(_)) {
            inode.mode &= if inode.mode & 0o010 == 0 { !0o4000 } else { !0o6000 };
        }
        Ok(())
    }

    /// `utimensat`, which follows links.
    pub(crate) fn set_times(&mut self, path: &str, atime: i64, mtime: i64) -> Answer<()> {
        let inode = self.attributes(path)?;
        (inode.atime, inode.mtime) = (Some(atime), Some(mtime));
        Ok(())
    }

    /// `setxattr`, which follows links; `user.` names are refused on what is neither file nor directory.
    pub(crate) fn set_xattr(
        &mut self,
        path: &str,
        name: &str,
        value: &[u8],
        only: (bool, bool),
    ) -> Answer<()> {
        let inode = self.attributes(path)?;
        if !matches!(inode.kind, Kind::Dir(_) | Kind::File(_)) {
            return Err(Errno::PERM);
        }
        match (inode.xattrs.contains_key(name), only) {
            (true, (true, _)) => return Err(Errno::EXIST),
            (false, (_, true)) => return Err(Errno::NODATA),
            _ => {}
        }
        inode.xattrs.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    /// `removexattr`.
    pub(crate) fn remove_xattr(&mut self, path: &str, name: &str) -> Answer<()> {
        let inode = self.attributes(path)?;
        if !matches!(inode.kind, Kind::Dir(_) | Kind::File(_)) {
            return Err(Errno::PERM);
        }
        inode.xattrs.remove(name).map(drop).ok_or(Errno::NODATA)
    }

    /// The under file system got a new file under the name, with nothing of the old one's.
    pub(crate) fn replace_outside(&mut self, path: &str, data: Vec<u8>, mode: u32) -> Answer<()> {
        let place = self.place(path, false)?;
        if let Some(there) = place.inode {
            if matches!(self.inodes[there].kind, Kind::Dir(_)) {
                return Err(Errno::ISDIR);
            }
            self.drop_name(&place, there);
        }
        self.add(&place, Kind::File(data), mode);
        Ok(())
    }
}

fn put(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if data.len() < at + bytes.len() {
        data.resize(at + bytes.len(), 0);
    }
    data[at..at + bytes.len()].copy_from_slice(bytes);
}
