//! What the kernel is told: one [`Reply`] a request, and the [`Responder`] that carries it.
//!
//! **Owns** the answers in Forebay's own words. **Never does** any encoding: that is the channel's.
//!
//! **In and out:** the dispatch fills a `Reply` and hands it to the responder that came with the request. Directory
//! entries go to the responder before, one by one, because only the channel knows how many fit its buffer and an
//! entry that did not fit must not count as a lookup.

use crate::channel::BackingId;
use forebay_shard::Frame;
use forebay_types::{Attr, HandleId};
use forebay_vfs::{Listed, SpaceUsage};
use rustix::io::Errno;
use std::time::Duration;

/// How long the kernel may believe what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// That the name leads to this inode.
    pub entry: Duration,
    /// That the inode has these attributes.
    pub attr: Duration,
}

/// A name's inode, as the kernel is to keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryReply {
    /// Inode and attributes.
    pub attr: Attr,
    /// Tells uses of one inode number apart; numbers are never reused here, so it only has to be constant.
    pub generation: u64,
    /// For how long.
    pub valid: Validity,
}

/// How the kernel is to do I/O on an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// By itself, on the registered backing file.
    Passthrough(BackingId),
    /// By requests, through its page cache.
    Cached {
        /// What it has cached of the inode is still right.
        keep_cache: bool,
    },
}

/// An open file, as the kernel is to treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReply {
    /// Comes back in every later request on the open file.
    pub handle: HandleId,
    /// How its bytes flow.
    pub mode: OpenMode,
    /// Whether `close` is to be told (FLUSH); it need not be where nothing can have been written.
    pub flush: bool,
}

/// An answer.
#[derive(Debug)]
pub enum Reply {
    /// It is done, and there is nothing to say.
    Done,
    /// It failed.
    Error(Errno),
    /// The name's inode.
    Entry(EntryReply),
    /// There is no such name, and the kernel may believe that for a while.
    NoEntry(Duration),
    /// Attributes, and for how long.
    Attr(Attr, Duration),
    /// Bytes of a file.
    Data(Frame),
    /// Bytes of a link target, an attribute or a list of attributes.
    Bytes(Box<[u8]>),
    /// An open file.
    Opened(OpenReply),
    /// An open directory.
    OpenedDir(HandleId),
    /// A new file, open.
    Created(EntryReply, OpenReply),
    /// So many bytes were written or copied.
    Written(u32),
    /// Space.
    Space(SpaceUsage),
    /// The length of an attribute or of a list of attributes, which was all that was asked.
    Len(u32),
    /// A position in a file.
    Offset(u64),
    /// The directory entries taken before are all.
    Entries,
}

/// Whether a directory entry found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an entry that found no room must be listed again"]
pub enum Room {
    /// It is in the reply.
    Taken,
    /// It is not, and nothing after it will be.
    Full,
}

/// Carries the answer of one request to the kernel; made by the channel together with the request.
///
/// A responder that is dropped unanswered answers with an I/O error, so that no caller waits for ever.
pub trait Responder: 'static {
    /// Whether an entry of a listing with attributes may come without them, and is no lookup then.
    fn takes_bare_entries(&self) -> bool;

    /// About how many entries whose names have this length still find room.
    fn entries_left(&self, name_len: usize) -> usize;

    /// Puts one entry into the reply of a directory listing. `valid` is for an entry with attributes.
    fn add_entry(&mut self, entry: &Listed<'_>, valid: Validity) -> Room;

    /// Sends the answer. Failing to is the channel's to log: the kernel no longer waits for it then.
    fn send(self, reply: Reply);
}
