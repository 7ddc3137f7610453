//! The messages themselves. What each promises is said here, once; the worker keeps it, the client relies on it.

use forebay_shard::Frame;
use forebay_types::{
    Admission, ByteSize, ContentLocation, ExtentId, FileTimes, FsError, FsErrorKind, ReadMode,
};
use std::fmt;
use std::ops::Range;

/// Counts the views of the cluster. A request made under an older view than the worker's is refused with the
/// newer number, so that the client looks again for who holds the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The only view a node without a cluster ever has.
    pub const ALONE: Self = Self(1);
}

/// How the bytes of a read are to be treated: the mount's policy, carried by the handle that reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadPolicy {
    /// Whether what is read is kept.
    pub mode: ReadMode,
    /// Which cold data may enter the cache.
    pub admission: Admission,
    /// What goes first when room is wanted, the lower before the higher; `None` leaves it as it is.
    pub priority: Option<i32>,
}

/// What [`Op::Allocate`] does with its range, as the flags of `fallocate(2)` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateMode {
    /// Reserves space and lengthens the file if the range ends past it.
    Grow,
    /// Reserves space and leaves the length.
    KeepSize,
    /// Frees the range, which then reads as zeros; leaves the length.
    PunchHole,
    /// Makes the range read as zeros; lengthens the file if the range ends past it.
    ZeroRange,
    /// Makes the range read as zeros and leaves the length.
    ZeroRangeKeepSize,
}

impl AllocateMode {
    /// Whether bytes that were there read as zeros afterwards.
    pub const fn zeroes(self) -> bool {
        matches!(self, Self::PunchHole | Self::ZeroRange | Self::ZeroRangeKeepSize)
    }

    /// Whether the length may grow.
    pub const fn lengthens(self) -> bool {
        matches!(self, Self::Grow | Self::ZeroRange)
    }
}

/// What [`Op::Seek`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The next byte that is data.
    Data,
    /// The next byte in a hole; the end of the file is one.
    Hole,
}

/// One request and the view under which it was made.
#[derive(Debug)]
pub struct Request<'a> {
    /// The client's view.
    pub epoch: Epoch,
    /// What is asked.
    pub op: Op<'a>,
}

/// What a client may ask of a worker.
///
/// A location is borrowed: it is the caller's, and outlives the call.
#[derive(Debug)]
pub enum Op<'a> {
    /// Bytes of a file; answered by [`Reply::Bytes`], short only at the end of the file.
    Read {
        /// The file.
        at: &'a ContentLocation,
        /// The first byte.
        offset: u64,
        /// How many bytes; at most [`forebay_types::limits::IO_LEN_MAX`].
        len: usize,
        /// What becomes of fetched bytes.
        policy: ReadPolicy,
        /// Where the bytes are wanted, if somewhere in particular. Who serves the read uses it if it can, and answers
        /// with another frame if not.
        into: Option<Frame>,
    },
    /// Begins to fetch what is absent of a range and does not wait for it; [`Reply::Prefetch`].
    Prefetch {
        /// The file.
        at: &'a ContentLocation,
        /// The bytes that will be wanted.
        range: Range<u64>,
        /// How far its reader has the file read ahead in all, in bytes. The range may be a small piece of that; requests
        /// to the under file system are as long as all of it would have them.
        window: ByteSize,
        /// What becomes of them.
        policy: ReadPolicy,
    },
    /// Fetches all that is absent of a range into the cache and waits for it; [`Reply::Fetched`].
    Complete {
        /// The file.
        at: &'a ContentLocation,
        /// The bytes that must be here afterwards.
        range: Range<u64>,
    },
    /// Gives the file an extent that may be written, whose clean identity is durably gone: from the reply on
    /// its bytes are found through `at.extent` only. [`Reply::Extent`].
    BeginWrite {
        /// The file.
        at: &'a ContentLocation,
    },
    /// Takes an empty extent for a new file; [`Reply::Extent`].
    Create {
        /// How long the file is expected to become; 0 if nobody knows.
        expected_len: u64,
    },
    /// Writes the frame's bytes into the extent of the location; [`Reply::Len`].
    Write {
        /// The file; its extent came from `BeginWrite` or `Create`.
        at: &'a ContentLocation,
        /// Where the first byte goes.
        offset: u64,
        /// The bytes.
        frame: Frame,
    },
    /// Makes every byte written before durable, with the directory entry of a new extent; [`Reply::Done`].
    Sync {
        /// The file.
        at: &'a ContentLocation,
    },
    /// Sets the length; [`Reply::Done`].
    Truncate {
        /// The file.
        at: &'a ContentLocation,
        /// The new length in bytes.
        len: u64,
    },
    /// Reserves, frees or zeroes a range; [`Reply::Done`].
    Allocate {
        /// The file.
        at: &'a ContentLocation,
        /// What to do.
        mode: AllocateMode,
        /// The bytes.
        range: Range<u64>,
    },
    /// Finds data or a hole at or after an offset; [`Reply::Offset`].
    Seek {
        /// The file.
        at: &'a ContentLocation,
        /// Where to begin.
        offset: u64,
        /// What to look for.
        to: SeekTo,
    },
    /// Copies bytes from one file to another within the worker, where both are wholly here; [`Reply::Len`].
    CopyRange {
        /// The source.
        from: &'a ContentLocation,
        /// Its first byte.
        from_offset: u64,
        /// The destination; writable.
        to: &'a ContentLocation,
        /// Where the first byte goes.
        to_offset: u64,
        /// How many bytes at most.
        len: u64,
    },
    /// Length, times and blocks of an extent that is open for write, taking over what the kernel wrote into it
    /// through a passthrough handle; [`Reply::Times`].
    Adopt {
        /// The extent.
        extent: ExtentId,
    },
    /// How many bytes of a file are here; [`Reply::Len`].
    Resident {
        /// The file.
        at: &'a ContentLocation,
    },
    /// Evicts a file: what is dirty, pinned, open or being filled stays. [`Reply::Len`]: bytes freed.
    Evict {
        /// The file.
        at: &'a ContentLocation,
    },
    /// Frees an extent that no file refers to any more; [`Reply::Done`].
    Discard {
        /// The extent.
        extent: ExtentId,
    },
}

/// What a worker answers; each [`Op`] says which.
#[derive(Debug)]
pub enum Reply {
    /// Bytes of a file.
    Bytes(Frame),
    /// How a prefetch went.
    Prefetch {
        /// Bytes now on their way that were not before.
        started: u64,
        /// The end of what is here or on its way: before the end of the range if memory for bodies in flight is
        /// short, and read-ahead should shrink to that.
        covered_to: u64,
    },
    /// Bytes brought from the under file system for this call.
    Fetched(u64),
    /// An extent that may be written.
    Extent(ExtentId),
    /// A number of bytes; each operation says of what.
    Len(u64),
    /// A write that did not begin, since the rest of a page could not be had: the bytes come back, so that it can be
    /// tried again with another location.
    Unwritten {
        /// Why not.
        error: FsError,
        /// The bytes.
        frame: Frame,
    },
    /// Where it was found.
    Offset(u64),
    /// What the local file system says about an extent file.
    Times(FileTimes),
    /// It is done and there is nothing to say.
    Done,
}

/// Why a worker did not do it.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// The operation failed.
    Failed(FsError),
    /// The worker's view is newer: route again under this epoch.
    StaleEpoch(Epoch),
}

impl From<FsError> for Refusal {
    fn from(error: FsError) -> Self {
        Self::Failed(error)
    }
}

impl From<FsErrorKind> for Refusal {
    fn from(kind: FsErrorKind) -> Self {
        Self::Failed(kind.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "{error}"),
            Self::StaleEpoch(epoch) => write!(f, "the view is stale, the worker is at epoch {}", epoch.0),
        }
    }
}

impl std::error::Error for Refusal {}
