//! The engine's keys: one letter for what it is, then numbers big endian so that they sort, then names.
//!
//! | key | value |
//! |---|---|
//! | `d` directory name | dentry |
//! | `i` inode | inode record |
//! | `l` inode directory name | empty: a further name of the inode; one byte: a name it has lost and the UFS still has |
//! | `o` inode | empty: it has lost its last name and is kept for whoever has it open |
//! | `w` inode | empty: it is open for write |
//! | `q` directory name | the name is to be carried to the UFS |
//! | `b` directory name | the task that was begun for the name and has no recorded end |
//! | `m` mount | mount record |
//! | `c` counter | 8 bytes, big endian |

use forebay_types::limits::NAME_LEN_MAX;
use forebay_types::{Ino, MountId, Name};

const _: () = assert!(1 + 8 + 8 + NAME_LEN_MAX <= forebay_meta::KEY_LEN_MAX);

pub(crate) const DENTRY: u8 = b'd';
pub(crate) const INODE: u8 = b'i';
pub(crate) const LINK: u8 = b'l';
pub(crate) const ORPHAN: u8 = b'o';
pub(crate) const WRITE_OPEN: u8 = b'w';
pub(crate) const QUEUE: u8 = b'q';
pub(crate) const BEGUN: u8 = b'b';
pub(crate) const MOUNT: u8 = b'm';

/// The last log record the engine has.
pub(crate) const COMMITTED: &[u8] = b"c/committed";
/// The next range of inode numbers.
pub(crate) const NEXT_INO: &[u8] = b"c/ino";
/// The next mount's number.
pub(crate) const NEXT_MOUNT: &[u8] = b"c/mount";
/// The layout of everything here.
pub(crate) const FORMAT: &[u8] = b"c/format";

pub(crate) type Key = Box<[u8]>;

fn numbered(tag: u8, number: u64) -> Key {
    let mut key = Vec::with_capacity(9);
    key.push(tag);
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

fn named(tag: u8, dir: Ino, name: &[u8]) -> Key {
    let mut key = Vec::with_capacity(9 + name.len());
    key.push(tag);
    key.extend_from_slice(&dir.0.to_be_bytes());
    key.extend_from_slice(name);
    key.into()
}

pub(crate) fn dentry(dir: Ino, name: &Name) -> Key {
    named(DENTRY, dir, name.as_bytes())
}

pub(crate) fn queue(dir: Ino, name: &Name) -> Key {
    named(QUEUE, dir, name.as_bytes())
}

pub(crate) fn begun(dir: Ino, name: &Name) -> Key {
    named(BEGUN, dir, name.as_bytes())
}

pub(crate) fn inode(ino: Ino) -> Key {
    numbered(INODE, ino.0)
}

pub(crate) fn orphan(ino: Ino) -> Key {
    numbered(ORPHAN, ino.0)
}

pub(crate) fn write_open(ino: Ino) -> Key {
    numbered(WRITE_OPEN, ino.0)
}

pub(crate) fn mount(id: MountId) -> Key {
    let mut key = vec![MOUNT];
    key.extend_from_slice(&id.0.to_be_bytes());
    key.into()
}

pub(crate) fn link(ino: Ino, dir: Ino, name: &Name) -> Key {
    let mut key = Vec::with_capacity(17 + name.as_bytes().len());
    key.push(LINK);
    key.extend_from_slice(&ino.0.to_be_bytes());
    key.extend_from_slice(&dir.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key.into()
}

/// All keys of one kind.
pub(crate) fn all(tag: u8) -> (Key, Key) {
    ([tag].into(), [tag + 1].into())
}

/// All keys of `tag` with `number` first: the names of a directory, the further names of an inode.
pub(crate) fn of(tag: u8, number: Ino) -> (Key, Key) {
    let until = match number.0.checked_add(1) {
        Some(next) => numbered(tag, next),
        None => [tag + 1].into(),
    };
    (numbered(tag, number.0), until)
}

/// The number in a key of one of the numbered kinds.
pub(crate) fn number(key: &[u8]) -> Option<Ino> {
    Some(Ino(u64::from_be_bytes(*key.get(1..)?.first_chunk()?)))
}

/// The directory and the name in a key of [`DENTRY`], [`QUEUE`] or [`BEGUN`].
pub(crate) fn slot(key: &[u8]) -> Option<(Ino, Name)> {
    Some((number(key)?, Name::new(key.get(9..)?).ok()?))
}

/// The directory and the name in a key of [`LINK`].
pub(crate) fn link_slot(key: &[u8]) -> Option<(Ino, Name)> {
    let dir = u64::from_be_bytes(*key.get(9..)?.first_chunk()?);
    Some((Ino(dir), Name::new(key.get(17..)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_what_they_were_made_of() {
        let name = Name::new(*b"\xff\x01").unwrap();
        for ino in [Ino(0), Ino(1), Ino(u64::MAX)] {
            assert_eq!(slot(&dentry(ino, &name)), Some((ino, name.clone())));
            assert_eq!(link_slot(&link(Ino(7), ino, &name)), Some((ino, name.clone())));
            assert_eq!(number(&inode(ino)), Some(ino));
            let (from, until) = of(DENTRY, ino);
            assert!(from < dentry(ino, &name) && dentry(ino, &name) < until);
        }
        assert_eq!(slot(b"d123"), None);
        assert_eq!(link_slot(b"l"), None);
    }
}
