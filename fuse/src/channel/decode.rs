//! From the bytes of a request to an [`Op`]: pure, and safe on any bytes.
//!
//! **Owns** which request has which parts, and what is refused without asking anybody: a name that is too long, a flag
//! that nobody knows, a message that is too short. **Never does** any I/O, and never copies the payload of a write.
//!
//! **In and out:** a channel gives the header, the first argument and the rest ([`Message`]); it gets what to do
//! ([`Incoming`]) and in which form the answer goes back ([`Form`]).

use super::abi::{self, opcode};
use super::flags::{allocate_mode, kind_of_mode, open_flags, permissions, rename_flags, whence, xattr_mode};
use crate::op::{CopyEnd, Op, Place, RequestId};
use forebay_types::{Caller, HandleId, Ino, InvalidName, Name, SetAttr, SetTime, TimeSpec};
use forebay_vfs::NewNode;
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, KnownLayout};

const NANOS_PER_SEC: u32 = 1_000_000_000;

/// A request as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) header: &'a abi::InHeader,
    /// The first argument: at least [`abi::head_len`] bytes if the message is whole.
    pub(super) head: &'a [u8],
    /// The arguments after it. Of a write nothing: its payload goes another way.
    pub(super) tail: &'a [u8],
}

/// What a request wants.
#[derive(Debug)]
pub(super) enum Incoming {
    /// To be served.
    Ask(Op, Form),
    /// To be served with a payload of this many bytes, which the channel has.
    Write(WriteAsk),
    /// Whoever waits for this request would rather not any more. Has no reply.
    Interrupt(RequestId),
    /// Has no reply and needs nothing done.
    Nothing,
    /// Cannot be served.
    Refuse(Errno),
}

/// A write without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteAsk {
    pub(super) handle: HandleId,
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) clear_privileges: bool,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// There is none (FORGET).
    Silent,
    /// Done, or an errno.
    Done,
    Entry,
    Attr,
    /// At most so many bytes.
    Bytes(usize),
    Open,
    Create,
    Written,
    /// As written, in 64 bits.
    Copied,
    Space,
    Xattr,
    Offset,
    /// Directory entries, as far as they fit.
    Listing {
        plus: bool,
        room: usize,
    },
}

/// Who asks.
pub(super) fn caller(header: &abi::InHeader) -> Caller {
    Caller { uid: header.uid, gid: header.gid, pid: header.pid }
}

/// The kernel's number for the request, which its answer repeats bit by bit.
pub(super) fn request_id(header: &abi::InHeader) -> RequestId {
    RequestId(header.unique)
}

/// Reads a request.
pub(super) fn decode(message: Message<'_>) -> Incoming {
    let decoded = match message.header.opcode {
        opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT | opcode::DESTROY => {
            return without_reply(message);
        }
        opcode::WRITE => return write(message).unwrap_or_else(Incoming::Refuse),
        opcode::LOOKUP..=opcode::LINK | opcode::CREATE | opcode::RENAME2 => of_names(message),
        opcode::SETXATTR..=opcode::REMOVEXATTR => of_xattrs(message),
        opcode::OPENDIR..=opcode::FSYNCDIR | opcode::READDIRPLUS => of_directories(message),
        _ => of_files(message),
    };
    decoded.map_or_else(Incoming::Refuse, |(op, form)| Incoming::Ask(op, form))
}

type Decoded = Result<(Op, Form), Errno>;

/// The first argument.
fn head<T: FromBytes + KnownLayout + Immutable>(message: Message<'_>) -> Result<T, Errno> {
    T::read_from_prefix(message.head).map(|(value, _)| value).map_err(|_| Errno::IO)
}

/// Messages that the kernel expects no reply to, well-formed or not.
fn without_reply(message: Message<'_>) -> Incoming {
    let ino = Ino(message.header.nodeid);
    let forget = |inodes: Vec<(Ino, u64)>| Incoming::Ask(Op::Forget(inodes), Form::Silent);
    match message.header.opcode {
        opcode::FORGET => head::<abi::ForgetIn>(message)
            .map_or(Incoming::Nothing, |forgotten| forget(vec![(ino, forgotten.nlookup)])),
        opcode::BATCH_FORGET => forget(batch(message)),
        opcode::INTERRUPT => head::<abi::InterruptIn>(message)
            .map_or(Incoming::Nothing, |stopped| Incoming::Interrupt(RequestId(stopped.unique))),
        _ => Incoming::Nothing,
    }
}

/// The count is the kernel's claim; the bytes are what is there.
fn batch(message: Message<'_>) -> Vec<(Ino, u64)> {
    let count = head::<abi::BatchForgetIn>(message).map_or(0, |batch| batch.count as usize);
    let one = |bytes: &[u8]| abi::ForgetOne::read_from_bytes(bytes).ok();
    let all = message.tail.chunks_exact(size_of::<abi::ForgetOne>()).take(count).filter_map(one);
    all.map(|one| (Ino(one.nodeid), one.nlookup)).collect()
}

fn write(message: Message<'_>) -> Result<Incoming, Errno> {
    let ask: abi::WriteIn = head(message)?;
    Ok(Incoming::Write(WriteAsk {
        handle: HandleId(ask.fh),
        offset: ask.offset,
        len: ask.size as usize,
        clear_privileges: ask.write_flags & abi::WRITE_KILL_SUIDGID != 0,
    }))
}

/// Names and inodes.
fn of_names(message: Message<'_>) -> Decoded {
    let ino = Ino(message.header.nodeid);
    let mut tail = Tail(message.tail);
    let mut at = || Ok(Place { parent: ino, name: tail.name()? });
    match message.header.opcode {
        opcode::LOOKUP => Ok((Op::Lookup(at()?), Form::Entry)),
        opcode::UNLINK => Ok((Op::Unlink(at()?), Form::Done)),
        opcode::RMDIR => Ok((Op::RmDir(at()?), Form::Done)),
        opcode::READLINK => Ok((Op::ReadLink(ino), Form::Bytes(usize::MAX))),
        opcode::SYMLINK => {
            let at = at()?;
            Ok((Op::SymLink { at, target: tail.text()?.into() }, Form::Entry))
        }
        opcode::MKNOD => {
            let ask: abi::MknodIn = head(message)?;
            let kind = kind_of_mode(ask.mode).ok_or(Errno::INVAL)?;
            let node = NewNode { kind, mode: permissions(ask.mode), rdev: ask.rdev };
            Ok((Op::MkNod { at: at()?, node }, Form::Entry))
        }
        opcode::MKDIR => {
            let ask: abi::MkdirIn = head(message)?;
            Ok((Op::MkDir { at: at()?, mode: permissions(ask.mode) }, Form::Entry))
        }
        opcode::LINK => {
            let ask: abi::LinkIn = head(message)?;
            Ok((Op::Link { ino: Ino(ask.oldnodeid), to: at()? }, Form::Entry))
        }
        opcode::CREATE => {
            let ask: abi::CreateIn = head(message)?;
            let flags = open_flags(ask.flags.cast_signed());
            Ok((Op::Create { at: at()?, mode: permissions(ask.mode), flags }, Form::Create))
        }
        opcode::RENAME => {
            let ask: abi::RenameIn = head(message)?;
            rename(ino, ask.newdir, 0, tail)
        }
        opcode::RENAME2 => {
            let ask: abi::Rename2In = head(message)?;
            rename(ino, ask.newdir, ask.flags, tail)
        }
        opcode::GETATTR => {
            let ask: abi::GetattrIn = head(message)?;
            let handle = (ask.getattr_flags & abi::GETATTR_FH != 0).then_some(HandleId(ask.fh));
            Ok((Op::GetAttr { ino, handle }, Form::Attr))
        }
        opcode::SETATTR => set_attr(ino, &head(message)?),
        _ => Err(Errno::NOSYS),
    }
}

fn rename(parent: Ino, new_parent: u64, flags: u32, mut tail: Tail<'_>) -> Decoded {
    let from = Place { parent, name: tail.name()? };
    let to = Place { parent: Ino(new_parent), name: tail.name()? };
    let flags = rename_flags(flags).ok_or(Errno::INVAL)?;
    Ok((Op::Rename { from, to, flags }, Form::Done))
}

fn set_attr(ino: Ino, ask: &abi::SetattrIn) -> Decoded {
    use abi::fattr;
    let has = |flag: u32| ask.valid & flag != 0;
    let time = |given: u32, now: u32, secs: u64, nanos: u32| match (has(given), has(now)) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(SetTime::Now)),
        (true, false) if nanos < NANOS_PER_SEC => {
            Ok(Some(SetTime::To(TimeSpec { secs: secs.cast_signed(), nanos })))
        }
        (true, false) => Err(Errno::INVAL),
    };
    let set = SetAttr {
        mode: has(fattr::MODE).then_some(permissions(ask.mode)),
        uid: has(fattr::UID).then_some(ask.uid),
        gid: has(fattr::GID).then_some(ask.gid),
        size: has(fattr::SIZE).then_some(ask.size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, ask.atime, ask.atimensec)?,
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, ask.mtime, ask.mtimensec)?,
    };
    let handle = has(fattr::FH).then_some(HandleId(ask.fh));
    Ok((Op::SetAttr { ino, handle, set }, Form::Attr))
}

fn of_xattrs(message: Message<'_>) -> Decoded {
    let ino = Ino(message.header.nodeid);
    let mut tail = Tail(message.tail);
    match message.header.opcode {
        opcode::SETXATTR => {
            let ask: abi::SetxattrIn = head(message)?;
            let name = tail.text()?.into();
            let value = tail.0.get(..ask.size as usize).ok_or(Errno::IO)?.into();
            let mode = xattr_mode(ask.flags.cast_signed()).ok_or(Errno::INVAL)?;
            Ok((Op::SetXattr { ino, name, value, mode }, Form::Done))
        }
        opcode::GETXATTR => {
            let ask: abi::GetxattrIn = head(message)?;
            Ok((Op::GetXattr { ino, name: tail.text()?.into(), room: ask.size }, Form::Xattr))
        }
        opcode::LISTXATTR => {
            let ask: abi::GetxattrIn = head(message)?;
            Ok((Op::ListXattr { ino, room: ask.size }, Form::Xattr))
        }
        _ => Ok((Op::RemoveXattr { ino, name: tail.text()?.into() }, Form::Done)),
    }
}

fn of_directories(message: Message<'_>) -> Decoded {
    match message.header.opcode {
        opcode::OPENDIR => Ok((Op::OpenDir(Ino(message.header.nodeid)), Form::Open)),
        opcode::READDIR | opcode::READDIRPLUS => {
            let ask: abi::ReadIn = head(message)?;
            let plus = message.header.opcode == opcode::READDIRPLUS;
            let form = Form::Listing { plus, room: ask.size as usize };
            Ok((Op::ReadDir { handle: HandleId(ask.fh), offset: ask.offset, plus }, form))
        }
        opcode::RELEASEDIR => {
            let ask: abi::ReleaseIn = head(message)?;
            Ok((Op::ReleaseDir(HandleId(ask.fh)), Form::Done))
        }
        _ => {
            let ask: abi::FsyncIn = head(message)?;
            Ok((Op::FSyncDir(HandleId(ask.fh)), Form::Done))
        }
    }
}

/// Open files, and what is asked of no inode in particular.
fn of_files(message: Message<'_>) -> Decoded {
    let ino = Ino(message.header.nodeid);
    match message.header.opcode {
        opcode::OPEN => {
            let ask: abi::OpenIn = head(message)?;
            Ok((Op::Open { ino, flags: open_flags(ask.flags.cast_signed()) }, Form::Open))
        }
        opcode::READ => {
            let ask: abi::ReadIn = head(message)?;
            let (handle, len) = (HandleId(ask.fh), ask.size as usize);
            Ok((Op::Read { handle, offset: ask.offset, len, into: None }, Form::Bytes(len)))
        }
        opcode::FLUSH => {
            let ask: abi::FlushIn = head(message)?;
            Ok((Op::Flush(HandleId(ask.fh)), Form::Done))
        }
        opcode::RELEASE => {
            let ask: abi::ReleaseIn = head(message)?;
            Ok((Op::Release { ino, handle: HandleId(ask.fh) }, Form::Done))
        }
        opcode::FSYNC => {
            let ask: abi::FsyncIn = head(message)?;
            let data_only = ask.fsync_flags & abi::FSYNC_FDATASYNC != 0;
            Ok((Op::FSync { handle: HandleId(ask.fh), data_only }, Form::Done))
        }
        opcode::STATFS => Ok((Op::StatFs(ino), Form::Space)),
        opcode::FALLOCATE => {
            let ask: abi::FallocateIn = head(message)?;
            let mode = allocate_mode(ask.mode.cast_signed()).ok_or(Errno::OPNOTSUPP)?;
            let (handle, offset, len) = (HandleId(ask.fh), ask.offset, ask.length);
            Ok((Op::FAllocate { handle, mode, offset, len }, Form::Done))
        }
        opcode::LSEEK => seek(&head(message)?),
        opcode::COPY_FILE_RANGE => Ok((copy(&head(message)?), Form::Written)),
        opcode::COPY_FILE_RANGE_64 => Ok((copy(&head(message)?), Form::Copied)),
        // Among them IOCTL and POLL, which the kernel then answers as for a local file; locks, which it keeps itself.
        _ => Err(Errno::NOSYS),
    }
}

/// A search from before the beginning finds nothing, as one from past the end (lseek(2)).
fn seek(ask: &abi::LseekIn) -> Decoded {
    let whence = whence(ask.whence.cast_signed()).ok_or(Errno::INVAL)?;
    let offset = u64::try_from(ask.offset.cast_signed()).map_err(|_| Errno::NXIO)?;
    Ok((Op::LSeek { handle: HandleId(ask.fh), offset, whence }, Form::Offset))
}

fn copy(ask: &abi::CopyFileRangeIn) -> Op {
    let from = CopyEnd { handle: HandleId(ask.fh_in), offset: ask.off_in };
    let to = CopyEnd { handle: HandleId(ask.fh_out), offset: ask.off_out };
    Op::CopyFileRange { from, to, len: ask.len }
}

/// Texts that end with a NUL, one after the other.
#[derive(Clone, Copy, Debug)]
struct Tail<'a>(&'a [u8]);

impl<'a> Tail<'a> {
    fn text(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::IO)?;
        let text = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    /// A checked name; the kernel itself lets names of up to 1,024 bytes through.
    fn name(&mut self) -> Result<Name, Errno> {
        Name::new(self.text()?).map_err(|invalid| match invalid {
            InvalidName::TooLong => Errno::NAMETOOLONG,
            InvalidName::Malformed => Errno::INVAL,
        })
    }
}

#[cfg(test)]
mod tests;
