//! Our replies in fuser's words.

use super::convert::{bare_attr, file_attr, file_type};
use crate::channel::BackingId;
use crate::reply::{EntryReply, OpenMode, OpenReply, Reply, Responder, Room, Validity};
use forebay_types::limits::NAME_LEN_MAX;
use forebay_types::{FileKind, Ino};
use forebay_vfs::{Listed, SpaceUsage};
use fuser::{Errno, FileHandle, FopenFlags, Generation, INodeNo};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// The unit in which statfs(2) counts space.
const SPACE_BLOCK_LEN: u32 = 4096;

/// How many entries are offered at a time: fuser does not tell how large the kernel's buffer is.
const ENTRIES_LEFT: usize = 128;

/// fuser's reply object of one request, by what may be said with it.
pub(super) enum FuserResponder {
    /// FORGET has no reply.
    Silent,
    Empty(fuser::ReplyEmpty),
    Entry(fuser::ReplyEntry),
    Attr(fuser::ReplyAttr),
    Data(fuser::ReplyData),
    Open(fuser::ReplyOpen),
    Create(fuser::ReplyCreate),
    Write(fuser::ReplyWrite),
    Space(fuser::ReplyStatfs),
    Xattr(fuser::ReplyXattr),
    Seek(fuser::ReplyLseek),
    Dir(fuser::ReplyDirectory),
    DirPlus(fuser::ReplyDirectoryPlus),
}

impl Responder for FuserResponder {
    fn add_entry(&mut self, entry: &Listed<'_>, valid: Validity) -> Room {
        let (node, name) = (INodeNo(entry.ino.0), OsStr::from_bytes(entry.name));
        let full = match self {
            Self::Dir(reply) => reply.add(node, entry.next_offset, file_type(entry.kind), name),
            Self::DirPlus(reply) => {
                let (attr, generation) = match &entry.entry {
                    Some(entry) => (file_attr(entry.attr), entry.generation),
                    None => (bare_attr(entry.ino, entry.kind), 0),
                };
                let ttl = valid.entry.min(valid.attr);
                reply.add(node, entry.next_offset, name, &ttl, &attr, Generation(generation))
            }
            _ => true,
        };
        if full { Room::Full } else { Room::Taken }
    }

    fn takes_bare_entries(&self) -> bool {
        // It knows one number for what the kernel is to look up and for what a program is shown.
        false
    }

    fn entries_left(&self, _name_len: usize) -> usize {
        ENTRIES_LEFT
    }

    fn send(self, reply: Reply) {
        match (self, reply) {
            (Self::Silent, _) => {}
            (Self::Empty(to), Reply::Done) => to.ok(),
            (Self::Entry(to), Reply::Entry(entry)) => send_entry(to, &entry),
            (Self::Entry(to), Reply::NoEntry(ttl)) => send_no_entry(to, ttl),
            (Self::Attr(to), Reply::Attr(attr, ttl)) => to.attr(&ttl, &file_attr(&attr)),
            (Self::Data(to), Reply::Data(frame)) => to.data(&frame),
            (Self::Data(to), Reply::Bytes(bytes)) => to.data(&bytes),
            (Self::Xattr(to), Reply::Bytes(bytes)) => to.data(&bytes),
            (Self::Xattr(to), Reply::Len(len)) => to.size(len),
            (Self::Open(to), Reply::Opened(opened)) => send_opened(to, opened),
            (Self::Open(to), Reply::OpenedDir(handle)) => {
                to.opened(FileHandle(handle.0), FopenFlags::empty())
            }
            (Self::Create(to), Reply::Created(entry, opened)) => send_created(to, &entry, opened),
            (Self::Write(to), Reply::Written(count)) => to.written(count),
            (Self::Space(to), Reply::Space(space)) => send_space(to, space),
            (Self::Seek(to), Reply::Offset(offset)) => to.offset(offset.cast_signed()),
            (Self::Dir(to), Reply::Entries) => to.ok(),
            (Self::DirPlus(to), Reply::Entries) => to.ok(),
            (to, Reply::Error(errno)) => to.fail(Errno::from_i32(errno.raw_os_error())),
            (to, reply) => {
                debug_assert!(false, "{reply:?} is no answer to this request");
                tracing::error!(?reply, "an answer of the wrong kind");
                to.fail(Errno::EIO);
            }
        }
    }
}

impl FuserResponder {
    /// Answers with an errno.
    pub(super) fn fail(self, errno: Errno) {
        match self {
            Self::Silent => {}
            Self::Empty(to) => to.error(errno),
            Self::Entry(to) => to.error(errno),
            Self::Attr(to) => to.error(errno),
            Self::Data(to) => to.error(errno),
            Self::Open(to) => to.error(errno),
            Self::Create(to) => to.error(errno),
            Self::Write(to) => to.error(errno),
            Self::Space(to) => to.error(errno),
            Self::Xattr(to) => to.error(errno),
            Self::Seek(to) => to.error(errno),
            Self::Dir(to) => to.error(errno),
            Self::DirPlus(to) => to.error(errno),
        }
    }
}

fn send_entry(to: fuser::ReplyEntry, entry: &EntryReply) {
    let EntryReply { attr, generation, valid } = entry;
    to.entry_with_ttls(&valid.attr, &valid.entry, &file_attr(attr), Generation(*generation));
}

/// An entry with inode 0 is a name that is not there, and may be kept as such.
fn send_no_entry(to: fuser::ReplyEntry, ttl: Duration) {
    to.entry(&ttl, &bare_attr(Ino(0), FileKind::Regular), Generation(0));
}

fn send_opened(to: fuser::ReplyOpen, opened: OpenReply) {
    let (handle, flags) = (FileHandle(opened.handle.0), open_flags(opened));
    match opened.mode {
        OpenMode::Passthrough(BackingId(id)) => {
            // SAFETY: the id was registered on this session and is closed by its owner, the table of open files, only
            // after this handle is released; `into_raw` below keeps fuser from closing it.
            let backing = unsafe { to.wrap_backing(id) };
            to.opened_passthrough(handle, flags, &backing);
            backing.into_raw();
        }
        OpenMode::Cached { .. } => to.opened(handle, flags),
    }
}

fn send_created(to: fuser::ReplyCreate, entry: &EntryReply, opened: OpenReply) {
    let (handle, flags) = (FileHandle(opened.handle.0), open_flags(opened));
    let (attr, generation) = (file_attr(&entry.attr), Generation(entry.generation));
    let ttl = entry.valid.entry.min(entry.valid.attr);
    match opened.mode {
        OpenMode::Passthrough(BackingId(id)) => {
            // SAFETY: as in `send_opened`.
            let backing = unsafe { to.wrap_backing(id) };
            to.created_passthrough(&ttl, &attr, generation, handle, flags, &backing);
            backing.into_raw();
        }
        OpenMode::Cached { .. } => to.created(&ttl, &attr, generation, handle, flags),
    }
}

/// The flags of an open reply; fuser adds FOPEN_PASSTHROUGH itself.
fn open_flags(opened: OpenReply) -> FopenFlags {
    let mut flags = match opened.mode {
        OpenMode::Passthrough(_) | OpenMode::Cached { keep_cache: false } => FopenFlags::empty(),
        OpenMode::Cached { keep_cache: true } => FopenFlags::FOPEN_KEEP_CACHE,
    };
    flags.set(FopenFlags::FOPEN_NOFLUSH, !opened.flush);
    flags
}

fn send_space(to: fuser::ReplyStatfs, space: SpaceUsage) {
    let blocks = |bytes: u64| bytes / u64::from(SPACE_BLOCK_LEN);
    let (total, available) = (blocks(space.total_bytes), blocks(space.available_bytes));
    // There is no fixed number of inodes: 0 of 0, as btrfs has it, which `df -i` shows as "-".
    let inodes = 0;
    to.statfs(
        total,
        available,
        available,
        inodes,
        inodes,
        SPACE_BLOCK_LEN,
        NAME_LEN_MAX as u32,
        SPACE_BLOCK_LEN,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::HandleId;

    #[test]
    fn each_mode_has_the_flags_of_the_protocol() {
        let flags = |mode, flush| open_flags(OpenReply { handle: HandleId(1), mode, flush });
        assert_eq!(flags(OpenMode::Passthrough(BackingId(3)), true), FopenFlags::empty());
        assert_eq!(flags(OpenMode::Cached { keep_cache: false }, false), FopenFlags::FOPEN_NOFLUSH);
        assert_eq!(flags(OpenMode::Cached { keep_cache: true }, true), FopenFlags::FOPEN_KEEP_CACHE);
    }
}
