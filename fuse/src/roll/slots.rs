//! Slots of one size in a file of shared memory: each holds one entry or none.
//!
//! An entry is written by one system call, so a process that is killed leaves either all of it or what was there before.
//! What was written is in the kernel's memory and stays as long as somebody holds the descriptor.

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// In front of each entry: its length and one; 0 is an empty slot.
const PREFIX_LEN: usize = 2;

/// The slots that are not empty, and what is in them.
pub(super) type Found = Vec<(u64, Vec<u8>)>;

/// The slots of one file.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    slot_len: usize,
    most: u64,
    unused: Mutex<Unused>,
}

#[derive(Debug, Default)]
struct Unused {
    /// Below this all have been used once.
    next: u64,
    given_back: Vec<u64>,
}

impl Slots {
    /// At most `most` slots of `slot_len` bytes, all empty.
    pub(super) fn new(slot_len: usize, most: u64) -> io::Result<Self> {
        let file = File::from(memfd_create("forebay-roll", MemfdFlags::CLOEXEC)?);
        Ok(Self { file, slot_len, most, unused: Mutex::default() })
    }

    /// The slots that another process left, and what is in them.
    pub(super) fn open(fd: OwnedFd, slot_len: usize, most: u64) -> io::Result<(Self, Found)> {
        let file = File::from(fd);
        let next = file.metadata()?.len().div_ceil(slot_len as u64);
        let slots = Self { file, slot_len, most, unused: Mutex::default() };
        let mut found = Vec::new();
        let mut given_back = Vec::new();
        for index in 0..next {
            match slots.read(index)? {
                Some(entry) => found.push((index, entry)),
                None => given_back.push(index),
            }
        }
        *slots.unused.lock() = Unused { next, given_back };
        Ok((slots, found))
    }

    /// The longest entry.
    pub(super) fn entry_max(&self) -> usize {
        self.slot_len - PREFIX_LEN
    }

    pub(super) fn fd(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    fn read(&self, index: u64) -> io::Result<Option<Vec<u8>>> {
        let mut slot = vec![0; self.slot_len];
        self.file.read_at(&mut slot, index * self.slot_len as u64)?;
        let len = usize::from(u16::from_le_bytes([slot[0], slot[1]]));
        Ok(len.checked_sub(1).and_then(|len| slot.get(PREFIX_LEN..PREFIX_LEN + len)).map(<[u8]>::to_vec))
    }

    /// Puts an entry into an empty slot and says which; `None` if there is none.
    pub(super) fn put(&self, entry: &[u8]) -> Option<u64> {
        let index = self.take_unused()?;
        if self.set(index, entry) {
            return Some(index);
        }
        self.unused.lock().given_back.push(index);
        None
    }

    fn take_unused(&self) -> Option<u64> {
        let mut unused = self.unused.lock();
        if let Some(index) = unused.given_back.pop() {
            return Some(index);
        }
        let index = unused.next;
        unused.next += u64::from(index < self.most);
        (index < self.most).then_some(index)
    }

    /// Puts another entry into a slot; `false` if it cannot be.
    pub(super) fn set(&self, index: u64, entry: &[u8]) -> bool {
        assert!(entry.len() <= self.entry_max(), "an entry is put where it fits");
        let mut slot = Vec::with_capacity(PREFIX_LEN + entry.len());
        slot.extend_from_slice(&(entry.len() as u16 + 1).to_le_bytes());
        slot.extend_from_slice(entry);
        let written = self.file.write_at(&slot, index * self.slot_len as u64);
        written.is_ok_and(|len| len == slot.len())
    }

    /// Empties a slot.
    pub(super) fn clear(&self, index: u64) {
        match self.file.write_at(&0_u16.to_le_bytes(), index * self.slot_len as u64) {
            Ok(_) => self.unused.lock().given_back.push(index),
            Err(error) => tracing::error!(%error, "an entry of the roll stays though it is over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_finds_what_was_not_cleared() {
        let slots = Slots::new(64, 3).unwrap();
        let [a, b, c] = [&b"a"[..], b"", &[7; 62]].map(|entry| slots.put(entry).unwrap());
        assert!(slots.put(b"full").is_none());
        slots.clear(a);
        let (next, mut found) = Slots::open(slots.fd().unwrap(), 64, 3).unwrap();
        found.sort();
        assert_eq!(found, [(b, vec![]), (c, vec![7; 62])]);
        assert_eq!(next.put(b"again"), Some(a));
        assert!(next.put(b"full").is_none());
    }
}
