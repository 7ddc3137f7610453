//! The operations of the model test. Each has a meaning in every state, if only an error, so that a failing run can be
//! made shorter by leaving operations out.

use serde::{Deserialize, Serialize};

/// How `Open` opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenHow {
    /// For reading.
    pub(crate) read: bool,
    /// For writing.
    pub(crate) write: bool,
    /// `O_APPEND`.
    pub(crate) append: bool,
    /// `O_TRUNC`.
    pub(crate) truncate: bool,
    /// `O_CREAT`.
    pub(crate) create: bool,
    /// `O_EXCL`.
    pub(crate) exclusive: bool,
}

/// `fallocate`'s modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Space {
    Grow,
    Keep,
    Punch,
    Zero,
    ZeroKeep,
}

/// `renameat2`'s flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Replace {
    Plain,
    Refuse,
    Exchange,
}

/// What is done to the mount as a whole, by commands the caller gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Carry all that is dirty to the under file system.
    Persist,
    /// Drop what is cached of everything.
    Evict,
    /// End the daemon in order and start it again; no file is open meanwhile.
    Restart,
    /// Kill the daemon and start it again; no file is open meanwhile.
    Kill,
    /// Drop the kernel's own caches.
    DropCaches,
}

/// What is done to the under file system behind the mount's back, after all was persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outside {
    /// A new file under the name, moved over what is there.
    Put { path: String, len: u64 },
    /// The file of that name is gone.
    Remove { path: String },
    /// A new directory.
    Mkdir { path: String },
    /// Other permission bits for a file or directory.
    Chmod { path: String, mode: u32 },
    /// Another owner of a file or directory.
    Chown { path: String, uid: u32, gid: u32 },
    /// Another time of last change of a directory.
    DirTime { path: String, mtime: i64 },
}

/// One operation. `slot` numbers an open file, `path` is below the root; bytes written follow from the operation's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    Open { slot: usize, path: String, how: OpenHow, mode: u32 },
    Close { slot: usize },
    Read { slot: usize, offset: u64, len: u64 },
    Write { slot: usize, offset: u64, len: u64 },
    SetLen { slot: usize, len: u64 },
    Allocate { slot: usize, space: Space, offset: u64, len: u64 },
    MapRead { slot: usize, offset: u64, len: u64 },
    MapWrite { slot: usize, offset: u64, len: u64 },
    CopyRange { from: usize, from_offset: u64, to: usize, to_offset: u64, len: u64 },
    SeekHoles { slot: usize },
    Sync { slot: usize, data_only: bool },
    HandleStat { slot: usize },
    Truncate { path: String, len: u64 },
    Mkdir { path: String, mode: u32 },
    Rmdir { path: String },
    Unlink { path: String },
    Rename { from: String, to: String, replace: Replace },
    Link { from: String, to: String },
    Symlink { path: String, target: String },
    Fifo { path: String, mode: u32 },
    ReadLink { path: String },
    List { path: String },
    SyncDir { path: String },
    Stat { path: String },
    Follow { path: String },
    Chmod { path: String, mode: u32 },
    Chown { path: String, uid: u32, gid: u32 },
    SetTimes { path: String, atime: i64, mtime: i64 },
    SetXattr { path: String, name: u8, len: usize, exclusive: bool, replace: bool },
    GetXattr { path: String, name: u8 },
    ListXattr { path: String },
    RemoveXattr { path: String, name: u8 },
    Act(Act),
    Outside(Outside),
}
