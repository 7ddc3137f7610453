//! What stands in the roll, as bytes. A process of another version reads them only if the version of the whole agrees
//! ([`super::FORMAT`]), so they carry none of their own.

use crate::channel::BackingId;
use crate::op::RequestId;
use forebay_types::{HandleId, Ino, Name};
use forebay_vfs::{DirPlace, OpenFlags};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Something could not be entered: the roll is not to be relied upon.
    Incomplete,
    /// An open file.
    File(OpenedFile),
    /// An open directory.
    Dir(OpenedDir),
    /// An inode that only the name space's memory has.
    Inode {
        /// Its number.
        ino: Ino,
        /// Its record.
        record: Box<[u8]>,
    },
    /// Two names are about to be exchanged, and the first of them leads to this inode before that.
    Exchange {
        /// By this request.
        asked: RequestId,
        /// To this inode.
        ino: Ino,
    },
}

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenedFile {
    pub(crate) handle: HandleId,
    pub(crate) ino: Ino,
    pub(crate) flags: OpenFlags,
    /// What the kernel works on by itself.
    pub(crate) backing: Option<BackingId>,
    /// The request that opened it.
    pub(crate) asked: RequestId,
}

/// An open directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenedDir {
    pub(crate) handle: HandleId,
    pub(crate) ino: Ino,
    pub(crate) asked: RequestId,
    pub(crate) place: DirPlace,
}

const INCOMPLETE: u8 = 1;
const FILE: u8 = 2;
const DIR: u8 = 3;
const INODE: u8 = 4;
const EXCHANGE: u8 = 5;

/// The flags of an open file, one bit each.
const READ: u8 = 1;
const WRITE: u8 = 2;
const APPEND: u8 = 4;
const SYNC: u8 = 8;
/// No backing file; the kernel's numbers begin with 1.
const NO_BACKING: u32 = 0;

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Incomplete => vec![INCOMPLETE],
            Self::File(file) => {
                let flags = bits_of(file.flags);
                let backing = file.backing.map_or(NO_BACKING, |id| id.0);
                let numbers = [file.handle.0, file.ino.0, file.asked.0];
                [&[FILE, flags][..], &backing.to_le_bytes(), &bytes_of(&numbers)].concat()
            }
            Self::Dir(dir) => {
                let (shown, name) =
                    dir.place.last.as_ref().map_or((0, &[][..]), |(at, name)| (*at, name.as_bytes()));
                let numbers = [dir.handle.0, dir.ino.0, dir.asked.0, dir.place.began, shown];
                [&[DIR][..], &bytes_of(&numbers), name].concat()
            }
            Self::Inode { ino, record } => [&[INODE][..], &bytes_of(&[ino.0]), record].concat(),
            Self::Exchange { asked, ino } => [&[EXCHANGE][..], &bytes_of(&[asked.0, ino.0])].concat(),
        }
    }

    /// `None`: these bytes are no entry.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(match *kind {
            INCOMPLETE => Self::Incomplete,
            FILE => {
                let (flags, rest) = rest.split_first()?;
                let (backing, rest) = rest.split_first_chunk()?;
                let ([handle, ino, asked], _) = numbers(rest)?;
                let backing = Some(u32::from_le_bytes(*backing)).filter(|id| *id != NO_BACKING);
                Self::File(OpenedFile {
                    handle: HandleId(handle),
                    ino: Ino(ino),
                    flags: flags_of(*flags),
                    backing: backing.map(BackingId),
                    asked: RequestId(asked),
                })
            }
            DIR => {
                let ([handle, ino, asked, began, shown], name) = numbers(rest)?;
                let last = if shown == 0 { None } else { Some((shown, Name::new(name).ok()?)) };
                let place = DirPlace { began, last };
                let (handle, ino, asked) = (HandleId(handle), Ino(ino), RequestId(asked));
                Self::Dir(OpenedDir { handle, ino, asked, place })
            }
            INODE => {
                let ([ino], record) = numbers(rest)?;
                Self::Inode { ino: Ino(ino), record: record.into() }
            }
            EXCHANGE => {
                let ([asked, ino], _) = numbers(rest)?;
                Self::Exchange { asked: RequestId(asked), ino: Ino(ino) }
            }
            _ => return None,
        })
    }
}

fn bytes_of(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn numbers<const N: usize>(mut bytes: &[u8]) -> Option<([u64; N], &[u8])> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let (first, rest) = bytes.split_first_chunk()?;
        (*number, bytes) = (u64::from_le_bytes(*first), rest);
    }
    Some((numbers, bytes))
}

fn bits_of(flags: OpenFlags) -> u8 {
    let bits = [(flags.read, READ), (flags.write, WRITE), (flags.append, APPEND), (flags.sync, SYNC)];
    bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit)
}

fn flags_of(bits: u8) -> OpenFlags {
    let has = |bit| bits & bit != 0;
    OpenFlags {
        read: has(READ),
        write: has(WRITE),
        append: has(APPEND),
        sync: has(SYNC),
        ..OpenFlags::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_entry_survives_its_bytes() {
        let (handle, ino, asked) = (HandleId(7), Ino(u64::MAX), RequestId(9));
        let flags = OpenFlags { write: true, sync: true, ..OpenFlags::default() };
        let name = Name::new(*b"a name").unwrap();
        let place = DirPlace { began: 3, last: Some((2, name)) };
        let entries = [
            Entry::Incomplete,
            Entry::File(OpenedFile { handle, ino, flags, backing: Some(BackingId(3)), asked }),
            Entry::File(OpenedFile { handle, ino, flags: OpenFlags::default(), backing: None, asked }),
            Entry::Dir(OpenedDir { handle, ino, asked, place }),
            Entry::Dir(OpenedDir { handle, ino, asked, place: DirPlace::default() }),
            Entry::Inode { ino, record: Box::new([1, 2, 3]) },
            Entry::Exchange { asked, ino },
        ];
        for entry in entries {
            assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Entry::decode(&bytes);
        }
    }
}
