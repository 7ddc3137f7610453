//! From a [`Reply`] to the bytes that the kernel reads: pure.
//!
//! **Owns** the layout of the answers. **Never does** any I/O, and copies no bytes of a file: a frame stays one.
//!
//! An answer that does not fit its request would be an error of ours; the program then sees EIO, not another's bytes.

use super::abi::{self, fopen};
use super::decode::Form;
use super::listing::Listing;
use crate::channel::BackingId;
use crate::reply::{EntryReply, OpenMode, OpenReply, Reply, Validity};
use forebay_shard::Frame;
use forebay_types::limits::NAME_LEN_MAX;
use forebay_types::{Attr, FileKind, TimeSpec};
use forebay_vfs::SpaceUsage;
use rustix::io::Errno;
use std::time::Duration;
use zerocopy::{Immutable, IntoBytes};

/// The block size that `stat` shows; programs take it for the size of their buffers, so it is the usual one.
const STAT_BLOCK_LEN: u32 = 4096;
/// The unit in which statfs(2) counts space.
const SPACE_BLOCK_LEN: u32 = 4096;
/// The longest answer of fixed size: to a CREATE.
const SMALL_LEN_MAX: usize = size_of::<abi::EntryOut>() + size_of::<abi::OpenOut>();

/// An answer, ready for the kernel.
#[derive(Debug)]
pub(super) struct Encoded {
    /// 0 or a negative errno.
    pub(super) error: i32,
    pub(super) body: Body,
}

/// The bytes after the header of an answer.
#[derive(Debug)]
pub(super) enum Body {
    Small(Small),
    Bytes(Box<[u8]>),
    Listing(Listing),
    Frame(Frame),
}

impl Body {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(small) => &small.bytes[..small.len],
            Self::Bytes(bytes) => bytes,
            Self::Listing(listing) => listing.bytes(),
            Self::Frame(frame) => frame,
        }
    }
}

/// A few structures one after the other, without memory of their own.
#[derive(Debug)]
pub(super) struct Small {
    bytes: [u8; SMALL_LEN_MAX],
    len: usize,
}

impl Small {
    const EMPTY: Self = Self { bytes: [0; SMALL_LEN_MAX], len: 0 };

    fn and(mut self, part: &(impl IntoBytes + Immutable)) -> Self {
        let end = self.len + size_of_val(part);
        self.bytes[self.len..end].copy_from_slice(part.as_bytes());
        self.len = end;
        self
    }
}

fn small(part: &(impl IntoBytes + Immutable)) -> Body {
    Body::Small(Small::EMPTY.and(part))
}

/// An answer that says only that it failed.
pub(super) fn failure(errno: Errno) -> Encoded {
    Encoded { error: -errno.raw_os_error(), body: Body::Small(Small::EMPTY) }
}

/// The answer to a write of nothing.
pub(super) fn nothing_written() -> Encoded {
    encode(Form::Written, Reply::Written(0), Listing::default())
}

/// The answer to a request whose answer has this form; `listing` is what a listing took before.
pub(super) fn encode(form: Form, reply: Reply, listing: Listing) -> Encoded {
    let body = match (form, reply) {
        (_, Reply::Error(errno)) => return failure(errno),
        // Nobody will read it.
        (Form::Silent, _) | (Form::Done, Reply::Done) => Body::Small(Small::EMPTY),
        (Form::Entry, Reply::Entry(entry)) => small(&reply_out(&entry)),
        (Form::Entry, Reply::NoEntry(ttl)) => small(&no_entry_out(ttl)),
        (Form::Attr, Reply::Attr(attr, ttl)) => small(&abi::AttrOut {
            attr_valid: ttl.as_secs(),
            attr_valid_nsec: ttl.subsec_nanos(),
            dummy: 0,
            attr: attr_out(&attr),
        }),
        (Form::Bytes(max), Reply::Data(frame)) if frame.len() <= max => Body::Frame(frame),
        (Form::Bytes(max), Reply::Bytes(bytes)) if bytes.len() <= max => Body::Bytes(bytes),
        (Form::Open, Reply::Opened(opened)) => small(&open_out(opened)),
        (Form::Open, Reply::OpenedDir(handle)) => {
            small(&abi::OpenOut { fh: handle.0, ..abi::OpenOut::default() })
        }
        (Form::Create, Reply::Created(entry, opened)) => {
            Body::Small(Small::EMPTY.and(&reply_out(&entry)).and(&open_out(opened)))
        }
        (Form::Written, Reply::Written(size)) => small(&abi::WriteOut { size, padding: 0 }),
        (Form::Copied, Reply::Written(size)) => {
            small(&abi::CopyFileRangeOut { bytes_copied: u64::from(size) })
        }
        (Form::Space, Reply::Space(space)) => small(&space_out(space)),
        (Form::Xattr, Reply::Len(size)) => small(&abi::GetxattrOut { size, padding: 0 }),
        (Form::Xattr, Reply::Bytes(bytes)) => Body::Bytes(bytes),
        (Form::Offset, Reply::Offset(offset)) => small(&abi::LseekOut { offset }),
        (Form::Listing { .. }, Reply::Entries) => Body::Listing(listing),
        (form, reply) => {
            debug_assert!(false, "{reply:?} is no answer in the form {form:?}");
            tracing::error!(?form, ?reply, "an answer of the wrong kind");
            return failure(Errno::IO);
        }
    };
    Encoded { error: 0, body }
}

fn reply_out(entry: &EntryReply) -> abi::EntryOut {
    entry_out(&entry.attr, entry.generation, entry.valid)
}

pub(super) fn entry_out(attr: &Attr, generation: u64, valid: Validity) -> abi::EntryOut {
    abi::EntryOut {
        nodeid: attr.ino.0,
        generation,
        entry_valid: valid.entry.as_secs(),
        attr_valid: valid.attr.as_secs(),
        entry_valid_nsec: valid.entry.subsec_nanos(),
        attr_valid_nsec: valid.attr.subsec_nanos(),
        attr: attr_out(attr),
    }
}

/// An entry with node 0 is a name that is not there, and may be kept as such.
fn no_entry_out(ttl: Duration) -> abi::EntryOut {
    abi::EntryOut {
        entry_valid: ttl.as_secs(),
        entry_valid_nsec: ttl.subsec_nanos(),
        ..abi::EntryOut::default()
    }
}

fn attr_out(attr: &Attr) -> abi::Attr {
    let secs = |time: TimeSpec| time.secs.cast_unsigned();
    abi::Attr {
        ino: attr.ino.0,
        size: attr.size,
        blocks: attr.blocks_512,
        atime: secs(attr.atime),
        mtime: secs(attr.mtime),
        ctime: secs(attr.ctime),
        atimensec: attr.atime.nanos,
        mtimensec: attr.mtime.nanos,
        ctimensec: attr.ctime.nanos,
        mode: kind_bits(attr.kind) | u32::from(attr.mode),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: STAT_BLOCK_LEN,
        flags: 0,
    }
}

pub(super) fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

fn open_out(opened: OpenReply) -> abi::OpenOut {
    let (mode, backing_id) = match opened.mode {
        OpenMode::Passthrough(BackingId(id)) => (fopen::PASSTHROUGH, id.cast_signed()),
        OpenMode::Cached { keep_cache: false } => (0, 0),
        OpenMode::Cached { keep_cache: true } => (fopen::KEEP_CACHE, 0),
    };
    let flush = if opened.flush { 0 } else { fopen::NOFLUSH };
    abi::OpenOut { fh: opened.handle.0, open_flags: mode | flush, backing_id }
}

fn space_out(space: SpaceUsage) -> abi::StatfsOut {
    let blocks = |bytes: u64| bytes / u64::from(SPACE_BLOCK_LEN);
    let available = blocks(space.available_bytes);
    abi::StatfsOut {
        blocks: blocks(space.total_bytes),
        bfree: available,
        bavail: available,
        bsize: SPACE_BLOCK_LEN,
        namelen: NAME_LEN_MAX as u32,
        frsize: SPACE_BLOCK_LEN,
        // There is no fixed number of inodes: 0 of 0, as btrfs has it, which `df -i` shows as "-".
        ..abi::StatfsOut::default()
    }
}

#[cfg(test)]
pub(super) mod tests;
