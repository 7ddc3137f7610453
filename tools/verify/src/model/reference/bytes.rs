//! Open files in the reference, and their bytes.

use super::{Answer, Inode, Kind, Open, Reference};
use crate::model::op::{OpenHow, Space};
use rustix::io::Errno;

impl Reference {
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
