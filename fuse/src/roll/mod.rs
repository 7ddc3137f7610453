//! The roll of a mount: what another process must know to go on with it.
//!
//! **Owns** the open files and directories, the backing file of each, the inodes that stand in no engine, and the
//! exchanges of names that are under way, each an [`Entry`] in shared memory that outlives the process. **Never does** I/O
//! on a disk, and never waits: it is written to by those who serve requests.
//!
//! **In and out:** the dispatch enters what it is about to tell the kernel and clears it before it lets go; the name space
//! does so by the port [`InodeMemo`]. The descriptors go to whoever keeps the mount while nobody serves it.
//!
//! **Why system calls and not mapped memory:** an entry is written in one, which a kill cannot cut in two, and no unsafe
//! code is needed. It costs half a microsecond an open.

mod entry;
mod slots;

pub(crate) use entry::{Entry, OpenedDir, OpenedFile};

use forebay_types::{Ino, InodeMemo};
use hashbrown::HashMap;
use parking_lot::Mutex;
use slots::Slots;
use std::io;
use std::os::fd::OwnedFd;

/// The version of all that one process leaves to another. Any other is refused.
pub(crate) const FORMAT: u32 = 1;
/// How many files of slots there are.
pub(crate) const FILES: usize = 3;
/// The size of the slots of each, and the most of them: so many open files; directories looked up; open directories
/// and what is longer than others.
const CLASSES: [(usize, u64); FILES] = [(64, 1 << 20), (256, 1 << 18), (1024, 1 << 16)];
/// An open directory's entry changes its length as it is listed.
const CLASS_OF_DIRS: usize = FILES - 1;
const _: () = assert!(CLASSES[CLASS_OF_DIRS].0 > 2 + 1 + 5 * 8 + 255);

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    class: usize,
    index: u64,
}

/// The roll of one mount.
#[derive(Debug)]
pub struct Roll {
    classes: [Slots; FILES],
    /// Taken at the beginning, so that there is room to say that there was none.
    incomplete: Place,
    inodes: Mutex<HashMap<Ino, Place>>,
}

impl Roll {
    /// An empty one.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> io::Result<Self> {
        let [a, b, c] = CLASSES.map(|(slot_len, most)| Slots::new(slot_len, most));
        let classes = [a?, b?, c?];
        let index = classes[0].put(&[]).ok_or_else(|| io::Error::other("no room in shared memory"))?;
        Ok(Self { classes, incomplete: Place { class: 0, index }, inodes: Mutex::default() })
    }

    /// The one that another process left, and what stands in it.
    pub(crate) fn open(fds: [OwnedFd; FILES]) -> io::Result<(Self, Vec<(Place, Entry)>)> {
        let mut entries = Vec::new();
        let mut classes = Vec::new();
        for ((class, fd), (slot_len, most)) in fds.into_iter().enumerate().zip(CLASSES) {
            let (slots, found) = Slots::open(fd, slot_len, most)?;
            let known =
                |(index, bytes): (u64, Vec<u8>)| Some((Place { class, index }, Entry::decode(&bytes)?));
            entries.extend(found.into_iter().filter_map(known));
            classes.push(slots);
        }
        let classes = <[Slots; FILES]>::try_from(classes).expect("each descriptor gives one");
        let inode = |(place, entry): &(Place, Entry)| match entry {
            Entry::Inode { ino, .. } => Some((*ino, *place)),
            _ => None,
        };
        let inodes = Mutex::new(entries.iter().filter_map(inode).collect());
        Ok((Self { classes, incomplete: Place { class: 0, index: 0 }, inodes }, entries))
    }

    /// Its descriptors, for whoever is to keep it.
    pub(crate) fn fds(&self) -> io::Result<Vec<OwnedFd>> {
        self.classes.iter().map(Slots::fd).collect()
    }

    /// Enters what another process must not miss. Without room for it the roll says that it is incomplete.
    pub(crate) fn enter(&self, entry: &Entry) -> Option<Place> {
        let place = self.put(entry);
        if place.is_none() {
            tracing::warn!("too much is open for another process to take this mount over");
            self.classes[0].set(self.incomplete.index, &Entry::Incomplete.encode());
        }
        place
    }

    fn put(&self, entry: &Entry) -> Option<Place> {
        let bytes = entry.encode();
        let is_dir = matches!(entry, Entry::Dir(_));
        let fits = |class: &usize| bytes.len() <= self.classes[*class].entry_max();
        let class = (if is_dir { CLASS_OF_DIRS } else { 0 }..FILES).find(fits)?;
        self.classes[class].put(&bytes).map(|index| Place { class, index })
    }

    /// Puts an open directory's entry in the place of what it was.
    pub(crate) fn update(&self, place: Place, dir: &OpenedDir) {
        self.classes[place.class].set(place.index, &Entry::Dir(dir.clone()).encode());
    }

    /// Takes an entry away.
    pub(crate) fn clear(&self, place: Place) {
        self.classes[place.class].clear(place.index);
    }
}

impl InodeMemo for Roll {
    /// One that finds no room is not missed before its name is looked up again.
    fn keep(&self, ino: Ino, record: &[u8]) {
        let mut inodes = self.inodes.lock();
        let before = inodes.remove(&ino);
        if let Some(place) = self.put(&Entry::Inode { ino, record: record.into() }) {
            inodes.insert(ino, place);
        }
        if let Some(place) = before {
            self.clear(place);
        }
    }

    fn forget(&self, ino: Ino) {
        if let Some(place) = self.inodes.lock().remove(&ino) {
            self.clear(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_vfs::DirPlace;

    fn reopened(roll: &Roll) -> (Roll, Vec<Entry>) {
        let fds = <[OwnedFd; FILES]>::try_from(roll.fds().unwrap()).unwrap();
        let (roll, entries) = Roll::open(fds).unwrap();
        (roll, entries.into_iter().map(|(_, entry)| entry).collect())
    }

    #[test]
    fn what_was_entered_and_not_cleared_is_found() {
        let roll = Roll::new().unwrap();
        let asked = crate::op::RequestId(4);
        let exchange = Entry::Exchange { asked, ino: Ino(9) };
        let place = roll.enter(&exchange).unwrap();
        let handle = forebay_types::HandleId(1);
        let mut dir = OpenedDir { handle, ino: Ino(2), asked, place: DirPlace::default() };
        let at = roll.enter(&Entry::Dir(dir.clone())).unwrap();
        dir.place.last = Some((3, forebay_types::Name::new([b'x'; 255]).unwrap()));
        roll.update(at, &dir);
        roll.keep(Ino(5), &[1; 300]);
        roll.keep(Ino(5), &[2; 20]);
        roll.keep(Ino(6), &[3]);
        roll.forget(Ino(6));
        let (next, entries) = reopened(&roll);
        let inode = Entry::Inode { ino: Ino(5), record: Box::new([2; 20]) };
        assert_eq!(entries, [exchange, inode, Entry::Dir(dir)]);
        next.clear(place);
        next.forget(Ino(5));
        assert_eq!(reopened(&next).1.len(), 1);
    }

    #[test]
    fn a_record_that_is_too_long_is_left_out_and_a_file_never_silently() {
        let roll = Roll::new().unwrap();
        roll.keep(Ino(5), &[1; 4096]);
        assert_eq!(reopened(&roll).1, []);
        assert!(roll.enter(&Entry::Inode { ino: Ino(5), record: vec![1; 4096].into() }).is_none());
        assert_eq!(reopened(&roll).1, [Entry::Incomplete]);
    }
}
