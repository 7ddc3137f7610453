//! What the kernel asks: one [`Op`] for each FUSE request, in Forebay's own words.
//!
//! **Owns** the vocabulary between the channels and the dispatch. An `Op` is owned data that may move to another
//! thread: names are checked [`Name`]s, flags are typed, the payload of a write lies in an arena frame.
//!
//! **Never does** anything: no channel, no errno, no I/O. What a channel cannot turn into an `Op` it refuses
//! itself, so the dispatch sees well-formed requests only.
//!
//! **In and out:** a channel builds a [`Request`] and a [`Responder`](crate::reply::Responder); the dispatch takes
//! both apart again. Requests that need no answer (FORGET) come with a responder that says nothing.
//!
//! **Why this shape:** FUSE over io_uring or a raw `/dev/fuse` reads the same requests from other memory. Were the
//! dispatch written against fuser's trait, each of them would need it written again.

use forebay_shard::Frame;
use forebay_types::{Caller, HandleId, Ino, Name, SetAttr};
use forebay_vfs::{AllocateMode, NewNode, OpenFlags, RenameFlags, Whence, XattrSetMode};
use std::time::Instant;

/// The kernel's number of a request; unique while the request is unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// The kernel sets this bit (`FUSE_UNIQUE_RESEND`) when it sends a request for the second time.
const SENT_AGAIN: u64 = 1 << 63;

impl RequestId {
    /// Whether the kernel sent the request before, to somebody who did not answer it.
    pub fn is_sent_again(self) -> bool {
        self.0 & SENT_AGAIN != 0
    }

    /// The number that it had when it was sent first.
    #[must_use]
    pub fn at_first(self) -> Self {
        Self(self.0 & !SENT_AGAIN)
    }
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// The kernel's number for it.
    pub unique: RequestId,
    /// Who asks.
    pub caller: Caller,
    /// When the channel read it: latencies count from here, waiting for a shard included.
    pub arrived: Instant,
    /// What is asked.
    pub op: Op,
}

/// A place in the tree: a directory and a name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub parent: Ino,
    /// The name.
    pub name: Name,
}

/// One end of a `copy_file_range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyEnd {
    /// The open file.
    pub handle: HandleId,
    /// Where in it, in bytes.
    pub offset: u64,
}

/// What is asked; the variants carry the names of the protocol (`FUSE_LOOKUP` and so on, linux/fuse.h).
#[derive(Debug)]
pub enum Op {
    /// Finds a name.
    Lookup(Place),
    /// The kernel drops references it was given by lookups: inode and how many.
    Forget(Vec<(Ino, u64)>),
    /// Attributes.
    GetAttr {
        /// Of this inode.
        ino: Ino,
        /// Through this open file, when the call was on a descriptor.
        handle: Option<HandleId>,
    },
    /// Changes attributes.
    SetAttr {
        /// Of this inode.
        ino: Ino,
        /// Through this open file, when the call was on a descriptor.
        handle: Option<HandleId>,
        /// To these.
        set: SetAttr,
    },
    /// The target of a symbolic link.
    ReadLink(Ino),
    /// Makes a file, pipe, socket or device node, without opening it.
    MkNod {
        /// Where.
        at: Place,
        /// What; the umask is applied to its mode, and its device number is in the kernel's 32-bit encoding.
        node: NewNode,
    },
    /// Makes a directory.
    MkDir {
        /// Where.
        at: Place,
        /// Permission bits, the umask applied.
        mode: u16,
    },
    /// Takes a name of a file away.
    Unlink(Place),
    /// Takes an empty directory away.
    RmDir(Place),
    /// Makes a symbolic link.
    SymLink {
        /// Where.
        at: Place,
        /// To what.
        target: Box<[u8]>,
    },
    /// Moves a name.
    Rename {
        /// From here.
        from: Place,
        /// To there.
        to: Place,
        /// What becomes of an existing target.
        flags: RenameFlags,
    },
    /// Gives an inode another name.
    Link {
        /// The inode.
        ino: Ino,
        /// The new name.
        to: Place,
    },
    /// Opens a file.
    Open {
        /// The file.
        ino: Ino,
        /// What for.
        flags: OpenFlags,
    },
    /// Makes a file and opens it.
    Create {
        /// Where.
        at: Place,
        /// Permission bits, the umask applied.
        mode: u16,
        /// What for.
        flags: OpenFlags,
    },
    /// Reads bytes.
    Read {
        /// The open file.
        handle: HandleId,
        /// From here, in bytes.
        offset: u64,
        /// At most so many.
        len: usize,
        /// Where the channel wants the bytes, if it matters to it. The answer may be another frame.
        into: Option<Frame>,
    },
    /// Writes bytes.
    Write {
        /// The open file.
        handle: HandleId,
        /// From here, in bytes.
        offset: u64,
        /// These.
        data: Frame,
        /// The writer may not keep the file setuid or setgid (FUSE_WRITE_KILL_SUIDGID).
        clear_privileges: bool,
    },
    /// A descriptor of the open file was closed; there may be others.
    Flush(HandleId),
    /// The last use of an open file ended.
    Release {
        /// Its inode.
        ino: Ino,
        /// The open file.
        handle: HandleId,
    },
    /// Makes a file durable.
    FSync {
        /// The open file.
        handle: HandleId,
        /// Its bytes and length suffice (`fdatasync`).
        data_only: bool,
    },
    /// Opens a directory.
    OpenDir(Ino),
    /// Lists a directory; the entries go to the responder one by one, as far as they fit.
    ReadDir {
        /// The open directory.
        handle: HandleId,
        /// Where to go on: 0, or what came with an entry of an earlier reply.
        offset: u64,
        /// With attributes, each entry counting as a lookup (READDIRPLUS).
        plus: bool,
    },
    /// The last use of an open directory ended.
    ReleaseDir(HandleId),
    /// Makes a directory's names durable.
    FSyncDir(HandleId),
    /// Space.
    StatFs(Ino),
    /// Sets an extended attribute.
    SetXattr {
        /// Of this inode.
        ino: Ino,
        /// By this name.
        name: Box<[u8]>,
        /// To this.
        value: Box<[u8]>,
        /// Whether it may or must exist.
        mode: XattrSetMode,
    },
    /// Reads an extended attribute.
    GetXattr {
        /// Of this inode.
        ino: Ino,
        /// By this name.
        name: Box<[u8]>,
        /// The caller's buffer in bytes; 0 asks for the length only.
        room: u32,
    },
    /// Lists the names of extended attributes.
    ListXattr {
        /// Of this inode.
        ino: Ino,
        /// The caller's buffer in bytes; 0 asks for the length only.
        room: u32,
    },
    /// Takes an extended attribute away.
    RemoveXattr {
        /// Of this inode.
        ino: Ino,
        /// By this name.
        name: Box<[u8]>,
    },
    /// Reserves, frees or zeroes a range.
    FAllocate {
        /// The open file.
        handle: HandleId,
        /// Which of them.
        mode: AllocateMode,
        /// From here, in bytes.
        offset: u64,
        /// So many bytes.
        len: u64,
    },
    /// Finds the next data or hole.
    LSeek {
        /// The open file.
        handle: HandleId,
        /// From here, in bytes.
        offset: u64,
        /// Which of them.
        whence: Whence,
    },
    /// Copies bytes between open files.
    CopyFileRange {
        /// From here.
        from: CopyEnd,
        /// To there.
        to: CopyEnd,
        /// At most so many bytes.
        len: u64,
    },
}

/// Which request it is, for counters and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
#[allow(missing_docs, reason = "the names are those of Op, which are described there")]
pub enum OpKind {
    Lookup,
    Forget,
    GetAttr,
    SetAttr,
    ReadLink,
    MkNod,
    MkDir,
    Unlink,
    RmDir,
    SymLink,
    Rename,
    Link,
    Open,
    Create,
    Read,
    Write,
    Flush,
    Release,
    FSync,
    OpenDir,
    ReadDir,
    ReadDirPlus,
    ReleaseDir,
    FSyncDir,
    StatFs,
    SetXattr,
    GetXattr,
    ListXattr,
    RemoveXattr,
    FAllocate,
    LSeek,
    CopyFileRange,
}

impl OpKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 32] = [
        Self::Lookup,
        Self::Forget,
        Self::GetAttr,
        Self::SetAttr,
        Self::ReadLink,
        Self::MkNod,
        Self::MkDir,
        Self::Unlink,
        Self::RmDir,
        Self::SymLink,
        Self::Rename,
        Self::Link,
        Self::Open,
        Self::Create,
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Release,
        Self::FSync,
        Self::OpenDir,
        Self::ReadDir,
        Self::ReadDirPlus,
        Self::ReleaseDir,
        Self::FSyncDir,
        Self::StatFs,
        Self::SetXattr,
        Self::GetXattr,
        Self::ListXattr,
        Self::RemoveXattr,
        Self::FAllocate,
        Self::LSeek,
        Self::CopyFileRange,
    ];

    /// The name in metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Forget => "forget",
            Self::GetAttr => "getattr",
            Self::SetAttr => "setattr",
            Self::ReadLink => "readlink",
            Self::MkNod => "mknod",
            Self::MkDir => "mkdir",
            Self::Unlink => "unlink",
            Self::RmDir => "rmdir",
            Self::SymLink => "symlink",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Release => "release",
            Self::FSync => "fsync",
            Self::OpenDir => "opendir",
            Self::ReadDir => "readdir",
            Self::ReadDirPlus => "readdirplus",
            Self::ReleaseDir => "releasedir",
            Self::FSyncDir => "fsyncdir",
            Self::StatFs => "statfs",
            Self::SetXattr => "setxattr",
            Self::GetXattr => "getxattr",
            Self::ListXattr => "listxattr",
            Self::RemoveXattr => "removexattr",
            Self::FAllocate => "fallocate",
            Self::LSeek => "lseek",
            Self::CopyFileRange => "copy_file_range",
        }
    }

    /// Whether losing the request would leave something behind for good (a handle, a reference): it must reach a
    /// shard however long that takes.
    pub const fn must_arrive(self) -> bool {
        matches!(self, Self::Forget | Self::Release | Self::ReleaseDir)
    }
}

impl Op {
    /// Which request it is.
    pub const fn kind(&self) -> OpKind {
        match self {
            Self::Lookup(_) => OpKind::Lookup,
            Self::Forget(_) => OpKind::Forget,
            Self::GetAttr { .. } => OpKind::GetAttr,
            Self::SetAttr { .. } => OpKind::SetAttr,
            Self::ReadLink(_) => OpKind::ReadLink,
            Self::MkNod { .. } => OpKind::MkNod,
            Self::MkDir { .. } => OpKind::MkDir,
            Self::Unlink(_) => OpKind::Unlink,
            Self::RmDir(_) => OpKind::RmDir,
            Self::SymLink { .. } => OpKind::SymLink,
            Self::Rename { .. } => OpKind::Rename,
            Self::Link { .. } => OpKind::Link,
            Self::Open { .. } => OpKind::Open,
            Self::Create { .. } => OpKind::Create,
            Self::Read { .. } => OpKind::Read,
            Self::Write { .. } => OpKind::Write,
            Self::Flush(_) => OpKind::Flush,
            Self::Release { .. } => OpKind::Release,
            Self::FSync { .. } => OpKind::FSync,
            Self::OpenDir(_) => OpKind::OpenDir,
            Self::ReadDir { plus: false, .. } => OpKind::ReadDir,
            Self::ReadDir { plus: true, .. } => OpKind::ReadDirPlus,
            Self::ReleaseDir(_) => OpKind::ReleaseDir,
            Self::FSyncDir(_) => OpKind::FSyncDir,
            Self::StatFs(_) => OpKind::StatFs,
            Self::SetXattr { .. } => OpKind::SetXattr,
            Self::GetXattr { .. } => OpKind::GetXattr,
            Self::ListXattr { .. } => OpKind::ListXattr,
            Self::RemoveXattr { .. } => OpKind::RemoveXattr,
            Self::FAllocate { .. } => OpKind::FAllocate,
            Self::LSeek { .. } => OpKind::LSeek,
            Self::CopyFileRange { .. } => OpKind::CopyFileRange,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_own_number_and_name() {
        let names: HashSet<_> = OpKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), OpKind::ALL.len());
        for (number, kind) in OpKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number, "{kind:?} is out of place in ALL");
        }
    }
}
