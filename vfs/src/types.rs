//! What front doors say to the file system and hear from it.

use forebay_types::{FileKind, HandleId, Ino};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

pub use forebay_namespace::{Entry, Lent, Listed, Taken};

/// What an open asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// Reads will come.
    pub read: bool,
    /// Writes will come.
    pub write: bool,
    /// Every write goes to the end: the front door, which orders the writes, says where that is.
    pub append: bool,
    /// The file is to be emptied; only where the front door has no separate truncate.
    pub truncate: bool,
    /// Fail if the name exists (create only).
    pub exclusive: bool,
    /// Every write is to be durable when it returns (`O_SYNC`, `O_DSYNC`).
    pub sync: bool,
}

/// How the bytes of an open inode reach its readers. One mode an inode, while any handle of it is open.
#[derive(Clone, Debug)]
pub enum IoMode {
    /// The kernel reads and writes this file itself. Every open of the inode gets the same file.
    Passthrough(Arc<File>),
    /// Through the daemon and the kernel's page cache.
    Cached {
        /// What the page cache holds of the inode is still right.
        keep_cache: bool,
    },
}

/// What `mknod` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u16,
    /// Device number of a device node, else 0.
    pub rdev: u32,
}

/// An open file.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Names it in later calls.
    pub handle: HandleId,
    /// How its bytes flow.
    pub mode: IoMode,
}

/// What a rename does with an existing target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameFlags {
    /// Replaces it.
    #[default]
    Replace,
    /// Fails.
    NoReplace,
    /// Swaps the two.
    Exchange,
}

/// What `fallocate` does with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateMode {
    /// Reserves space; the file grows to hold the range.
    Grow,
    /// Reserves space; the length stays.
    KeepSize,
    /// Frees the range, which then reads as zeros; the length stays.
    PunchHole,
    /// The range reads as zeros; the file grows to hold it.
    ZeroRange,
    /// The range reads as zeros; the length stays.
    ZeroRangeKeepSize,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The next byte that is data.
    Data,
    /// The next byte that is a hole; the end of the file is one.
    Hole,
}

/// Whether an extended attribute may or must exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrSetMode {
    /// Creates or replaces.
    #[default]
    Any,
    /// Must not exist.
    Create,
    /// Must exist.
    Replace,
}

/// One entry of a directory as a front door shows it.
#[derive(Clone, Debug)]
pub struct DirEntryOut {
    /// Its name; `.` and `..` come as their bytes.
    pub name: Box<[u8]>,
    /// Its inode.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Where a listing goes on after it.
    pub next_offset: u64,
    /// Where it came with attributes: an entry that counts as a lookup once the front door takes it.
    pub entry: Option<Entry>,
}

impl DirEntryOut {
    /// The same, lent.
    pub fn listed(&self) -> Listed<'_> {
        let Self { name, ino, kind, next_offset, entry } = self;
        let entry = entry.as_ref().map(Entry::lent);
        Listed { name, ino: *ino, kind: *kind, next_offset: *next_offset, entry }
    }
}

/// Space, as `statfs(2)` shows it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceUsage {
    /// All there is.
    pub total_bytes: u64,
    /// What new data may take: free, or held by what may be evicted.
    pub available_bytes: u64,
}

/// What the operator may set.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// Whether the front door can do passthrough at all (kernel, rights, tier), found out at start.
    pub passthrough: bool,
    /// `close` of a written file waits until it is durable, as `fsync` does, whatever its policy says.
    pub sync_on_close: bool,
    /// How long an operation may wait for another one on the same inode.
    pub inode_wait_max: Duration,
    /// How long unlinked files gather before one sync of the log lets the bytes of all of them go.
    pub discard_gather: Duration,
}

impl Default for VfsConfig {
    fn default() -> Self {
        Self {
            passthrough: true,
            sync_on_close: false,
            inode_wait_max: Duration::from_secs(60),
            discard_gather: Duration::from_millis(100),
        }
    }
}
