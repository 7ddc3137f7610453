//! One operation on the reference or on the directory under test, and what came of it, in words that compare.

use rustix::io::Errno;

use super::op::Op;
use super::real::{Looks, Real};
use super::reference::{Inode, Kind, Reference};
use crate::pattern;
use crate::rng::mix;

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Bytes(Vec<u8>),
    Names(Vec<String>),
    Count(u64),
    Looks(Box<Looks>),
    Holes(Vec<(u64, u64)>),
    /// Answered by the runner, not here.
    Elsewhere,
    Failed(Errno),
}

fn outcome<T>(result: Result<T, Errno>, how: impl FnOnce(T) -> Outcome) -> Outcome {
    match result {
        Ok(value) => how(value),
        Err(errno) => Outcome::Failed(errno),
    }
}

fn done(result: Result<(), Errno>) -> Outcome {
    outcome(result, |()| Outcome::Done)
}

/// The bytes that the operation at `place` of a run writes at `offset`.
pub(crate) fn written(place: u64, offset: u64, len: u64) -> Vec<u8> {
    pattern::bytes(mix(place), offset, len as usize)
}

/// The name of a model attribute.
pub(crate) fn xattr(name: u8) -> String {
    format!("{}{name}", super::XATTR_PREFIX)
}

/// How an inode of the reference looks. A length or time nobody can know is that of `like`.
pub(crate) fn looks(inode: &Inode, like: Option<&Looks>) -> Looks {
    let kind = match inode.kind {
        Kind::Dir(_) => 'd',
        Kind::File(_) => 'f',
        Kind::Link(_) => 'l',
        Kind::Fifo => 'p',
    };
    Looks {
        kind,
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        links: u64::from(inode.links),
        len: inode.len().or(like.map(|like| like.len)).unwrap_or(0),
        mtime: inode.mtime.or(like.map(|like| like.mtime)).unwrap_or(0),
    }
}

fn looks_of(result: Result<&Inode, Errno>) -> Outcome {
    outcome(result, |inode| Outcome::Looks(Box::new(looks(inode, None))))
}

/// Carries the operation out on the reference.
pub(crate) fn apply(on: &mut Reference, op: &Op, place: u64) -> Outcome {
    match op {
        Op::Open { slot, path, how, mode } => {
            on.close(*slot);
            done(on.open(*slot, path, *how, *mode))
        }
        Op::Close { slot } => {
            on.close(*slot);
            Outcome::Done
        }
        Op::Read { slot, offset, len } => outcome(on.read(*slot, *offset, *len), Outcome::Bytes),
        Op::Write { slot, offset, len } => done(on.write(*slot, *offset, &written(place, *offset, *len))),
        Op::SetLen { slot, len } => done(on.set_len(*slot, *len)),
        Op::Allocate { slot, space, offset, len } => done(on.allocate(*slot, *space, *offset, *len)),
        Op::MapRead { slot, offset, len } => {
            let len = on.within(*slot, *offset, *len);
            outcome(on.map_read(*slot, *offset, len), Outcome::Bytes)
        }
        Op::MapWrite { slot, offset, len } => {
            let len = on.within(*slot, *offset, *len);
            done(on.map_write(*slot, *offset, &written(place, *offset, len)))
        }
        Op::CopyRange { from, from_offset, to, to_offset, len } => {
            outcome(on.copy_range((*from, *from_offset), (*to, *to_offset), *len), Outcome::Count)
        }
        Op::SeekHoles { .. } | Op::Act(_) | Op::Outside(_) => Outcome::Elsewhere,
        Op::Sync { slot, .. } => done(on.slot_inode(*slot).map(|_| ())),
        Op::HandleStat { slot } => looks_of(on.slot_inode(*slot)),
        _ => apply_to_names(on, op, place),
    }
}

fn apply_to_names(on: &mut Reference, op: &Op, place: u64) -> Outcome {
    match op {
        Op::Truncate { path, len } => done(on.truncate(path, *len)),
        Op::Mkdir { path, mode } => done(on.mkdir(path, *mode)),
        Op::Rmdir { path } => done(on.rmdir(path)),
        Op::Unlink { path } => done(on.unlink(path)),
        Op::Rename { from, to, replace } => done(on.rename(from, to, *replace)),
        Op::Link { from, to } => done(on.link(from, to)),
        Op::Symlink { path, target } => done(on.symlink(path, target)),
        Op::Fifo { path, mode } => done(on.fifo(path, *mode)),
        Op::ReadLink { path } => outcome(on.read_link(path), |target| Outcome::Names(vec![target])),
        Op::List { path } => outcome(on.list(path), Outcome::Names),
        Op::SyncDir { path } => match on.stat(path, true) {
            Ok(inode) if matches!(inode.kind, Kind::Dir(_)) => Outcome::Done,
            Ok(_) => Outcome::Failed(Errno::NOTDIR),
            Err(errno) => Outcome::Failed(errno),
        },
        Op::Stat { path } => looks_of(on.stat(path, false)),
        Op::Follow { path } => looks_of(on.stat(path, true)),
        Op::Chmod { path, mode } => done(on.chmod(path, *mode)),
        Op::Chown { path, uid, gid } => done(on.chown(path, *uid, *gid)),
        Op::SetTimes { path, atime, mtime } => done(on.set_times(path, *atime, *mtime)),
        Op::SetXattr { path, name, len, exclusive, replace } => {
            done(on.set_xattr(path, &xattr(*name), &written(place, 0, *len as u64), (*exclusive, *replace)))
        }
        Op::GetXattr { path, name } => {
            let value = |inode: &Inode| inode.xattrs.get(&xattr(*name)).cloned().ok_or(Errno::NODATA);
            outcome(on.stat(path, true).and_then(value), Outcome::Bytes)
        }
        Op::ListXattr { path } => {
            outcome(on.stat(path, true), |inode| Outcome::Names(inode.xattrs.keys().cloned().collect()))
        }
        Op::RemoveXattr { path, name } => done(on.remove_xattr(path, &xattr(*name))),
        _ => Outcome::Elsewhere,
    }
}

/// Carries the operation out on the directory under test. `within` is how much of a mapped or
/// copied range lies in the file.
pub(crate) fn perform(on: &mut Real, op: &Op, place: u64, within: u64) -> Outcome {
    match op {
        Op::Open { slot, path, how, mode } => {
            on.close(*slot);
            done(on.open(*slot, path, *how, *mode))
        }
        Op::Close { slot } => {
            on.close(*slot);
            Outcome::Done
        }
        Op::Read { slot, offset, len } => outcome(on.read(*slot, *offset, *len), Outcome::Bytes),
        Op::Write { slot, offset, len } => done(on.write(*slot, *offset, &written(place, *offset, *len))),
        Op::SetLen { slot, len } => done(on.set_len(*slot, *len)),
        Op::Allocate { slot, space, offset, len } => done(on.allocate(*slot, *space, *offset, *len)),
        Op::MapRead { slot, offset, .. } => outcome(on.map_read(*slot, *offset, within), Outcome::Bytes),
        Op::MapWrite { slot, offset, .. } => {
            done(on.map_write(*slot, *offset, &written(place, *offset, within)))
        }
        Op::CopyRange { from, from_offset, to, to_offset, len } => {
            outcome(on.copy_range((*from, *from_offset), (*to, *to_offset), *len, within), Outcome::Count)
        }
        Op::SeekHoles { slot } => outcome(on.holes(*slot), Outcome::Holes),
        Op::Sync { slot, data_only } => done(on.sync(*slot, *data_only)),
        Op::HandleStat { slot } => outcome(on.handle_stat(*slot), |looks| Outcome::Looks(Box::new(looks))),
        _ => perform_on_names(on, op, place),
    }
}

fn perform_on_names(on: &Real, op: &Op, place: u64) -> Outcome {
    let boxed = |looks| Outcome::Looks(Box::new(looks));
    match op {
        Op::Truncate { path, len } => done(on.truncate(path, *len)),
        Op::Mkdir { path, mode } => done(on.mkdir(path, *mode)),
        Op::Rmdir { path } => done(on.rmdir(path)),
        Op::Unlink { path } => done(on.unlink(path)),
        Op::Rename { from, to, replace } => done(on.rename(from, to, *replace)),
        Op::Link { from, to } => done(on.link(from, to)),
        Op::Symlink { path, target } => done(on.symlink(path, target)),
        Op::Fifo { path, mode } => done(on.fifo(path, *mode)),
        Op::ReadLink { path } => outcome(on.read_link(path), |target| Outcome::Names(vec![target])),
        Op::List { path } => outcome(on.list(path), Outcome::Names),
        Op::SyncDir { path } => done(on.sync_dir(path)),
        Op::Stat { path } => outcome(on.stat(path, false), boxed),
        Op::Follow { path } => outcome(on.stat(path, true), boxed),
        Op::Chmod { path, mode } => done(on.chmod(path, *mode)),
        Op::Chown { path, uid, gid } => done(on.chown(path, *uid, *gid)),
        Op::SetTimes { path, atime, mtime } => done(on.set_times(path, *atime, *mtime)),
        Op::SetXattr { path, name, len, exclusive, replace } => {
            done(on.set_xattr(path, &xattr(*name), &written(place, 0, *len as u64), (*exclusive, *replace)))
        }
        Op::GetXattr { path, name } => outcome(on.get_xattr(path, &xattr(*name)), Outcome::Bytes),
        Op::ListXattr { path } => outcome(on.list_xattr(path), Outcome::Names),
        Op::RemoveXattr { path, name } => done(on.remove_xattr(path, &xattr(*name))),
        _ => Outcome::Elsewhere,
    }
}
