//! The entries of a directory as the kernel reads them: READDIR and READDIRPLUS.
//!
//! **Owns** the layout of an entry, and how many find room. **Never does** any I/O, and knows no directory.
//!
//! **Why words:** the structures are written where they stay. One that is built elsewhere and copied is read back in other pieces
//! than it was written in, and the processor then waits until all that was written before is in its cache.

use super::abi;
use super::encode::{entry_out, kind_bits};
use crate::reply::{Room, Validity};
use forebay_vfs::Listed;
use zerocopy::{FromBytes, IntoBytes};

/// How much of a listing is usually asked for: the buffer of a C library.
const LEN_USUAL: usize = 32 << 10;
const WORD: usize = size_of::<u64>();
const _: () = assert!(abi::DIRENT_ALIGN == WORD);

/// Entries, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Listing {
    words: Vec<u64>,
}

/// The bytes of an entry.
fn entry_len(plus: bool, name_len: usize) -> usize {
    let head = size_of::<abi::Dirent>() + if plus { size_of::<abi::EntryOut>() } else { 0 };
    (head + name_len).next_multiple_of(abi::DIRENT_ALIGN)
}

impl Listing {
    pub(super) fn bytes(&self) -> &[u8] {
        self.words.as_bytes()
    }

    fn len(&self) -> usize {
        self.words.len() * WORD
    }

    /// How many entries whose names have this length find room, if it may grow to `room` bytes.
    pub(super) fn entries_left(&self, room: usize, plus: bool, name_len: usize) -> usize {
        room.saturating_sub(self.len()) / entry_len(plus, name_len)
    }

    /// Puts an entry in, if it may grow to `room` bytes.
    pub(super) fn add(&mut self, room: usize, plus: bool, entry: &Listed<'_>, valid: Validity) -> Room {
        let len = entry_len(plus, entry.name.len());
        if self.len() + len > room {
            return Room::Full;
        }
        let mut rest = self.grow(len, room).as_mut_bytes();
        if plus {
            let out;
            (out, rest) = abi::EntryOut::mut_from_prefix(rest).expect(ROOM);
            // With node 0 the kernel takes the name only, and counts no lookup.
            if let Some(entry) = &entry.entry {
                *out = entry_out(entry.attr, entry.generation, valid);
            }
        }
        let (dirent, rest) = abi::Dirent::mut_from_prefix(rest).expect(ROOM);
        *dirent = abi::Dirent {
            ino: entry.ino.0,
            off: entry.next_offset,
            namelen: entry.name.len() as u32,
            kind: kind_bits(entry.kind) >> 12,
        };
        rest[..entry.name.len()].copy_from_slice(entry.name);
        Room::Taken
    }

    /// So many more bytes, all zero.
    fn grow(&mut self, len: usize, room: usize) -> &mut [u64] {
        if self.words.is_empty() {
            // Else it would grow by moving all that is in it, again and again.
            self.words.reserve_exact(room.min(LEN_USUAL).max(len) / WORD);
        }
        let at = self.words.len();
        self.words.resize(at + len / WORD, 0);
        &mut self.words[at..]
    }
}

/// Why the structures find their place.
const ROOM: &str = "an entry is as long as its parts and begins at a word";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::encode::tests::{attr, validity};
    use forebay_types::{FileKind, Ino};
    use forebay_vfs::Entry;
    use proptest::prelude::*;
    use std::time::Duration;

    /// Puts an entry of this name in, with attributes or without.
    fn add(listing: &mut Listing, room: usize, plus: bool, name: &[u8], with_attributes: bool) -> Room {
        let entry =
            Entry { attr: attr(), generation: 0, entry_ttl: Duration::ZERO, attr_ttl: Duration::ZERO };
        let (ino, kind, next_offset) = (Ino(42), FileKind::Directory, 77);
        let entry = with_attributes.then(|| entry.lent());
        listing.add(room, plus, &Listed { name, ino, kind, next_offset, entry }, validity())
    }

    /// Reads a listing as the kernel does (`parse_dirfile` and `parse_dirplusfile` of fs/fuse/readdir.c).
    fn names_in(mut listing: &[u8], plus: bool) -> Vec<(u64, Vec<u8>)> {
        let mut names = Vec::new();
        while !listing.is_empty() {
            let mut at = 0;
            let mut node = 0;
            if plus {
                node = abi::EntryOut::read_from_prefix(listing).unwrap().0.nodeid;
                at = size_of::<abi::EntryOut>();
            }
            let (dirent, rest) = abi::Dirent::read_from_prefix(&listing[at..]).unwrap();
            assert_eq!((dirent.off, dirent.kind), (77, 4));
            let len = dirent.namelen as usize;
            names.push((node, rest[..len].to_vec()));
            at = (at + size_of::<abi::Dirent>() + len).next_multiple_of(8);
            listing = &listing[at..];
        }
        names
    }

    #[test]
    fn a_listed_entry_without_attributes_is_no_lookup() {
        let mut listing = Listing::default();
        assert_eq!(add(&mut listing, 4096, true, b".", false), Room::Taken);
        assert_eq!(add(&mut listing, 4096, true, b"dir", true), Room::Taken);
        assert_eq!(names_in(listing.bytes(), true), [(0, b".".to_vec()), (42, b"dir".to_vec())]);
    }

    #[test]
    fn as_many_names_of_a_length_find_room_as_is_told() {
        for (plus, len) in [(false, 1), (false, 24), (true, 24), (true, 255)] {
            let (mut listing, name) = (Listing::default(), vec![b'n'; len]);
            let left = listing.entries_left(5000, plus, len);
            for n in 0..left {
                assert_eq!(listing.entries_left(5000, plus, len), left - n);
                assert_eq!(add(&mut listing, 5000, plus, &name, plus), Room::Taken);
            }
            assert_eq!(add(&mut listing, 5000, plus, &name, plus), Room::Full);
        }
    }

    proptest! {
        #[test]
        fn a_listing_never_outgrows_its_room_and_reads_back(
            names in prop::collection::vec(prop::collection::vec(1_u8..=255, 1..=255), 0..40),
            room in 0_usize..8192,
            plus: bool,
        ) {
            let mut listing = Listing::default();
            let mut taken = Vec::new();
            for name in &names {
                if add(&mut listing, room, plus, name, plus) == Room::Full {
                    break;
                }
                taken.push(name.clone());
            }
            prop_assert!(listing.bytes().len() <= room);
            let found: Vec<Vec<u8>> = names_in(listing.bytes(), plus).into_iter().map(|(_, name)| name).collect();
            prop_assert_eq!(found, taken);
        }
    }
}
