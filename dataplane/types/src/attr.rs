//! File attributes, and who asks.

use crate::ids::Ino;
use serde::{Deserialize, Serialize};

/// A point in time as POSIX counts it; negative seconds lie before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeSpec {
    /// Whole seconds since 1970.
    pub secs: i64,
    /// Nanoseconds within the second, below 10^9.
    pub nanos: u32,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// A path to follow.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device; never persisted.
    CharDevice,
    /// A block device; never persisted.
    BlockDevice,
}

/// Who is the authority for an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InodeState {
    /// The UFS: what we hold is a cache of it.
    Clean,
    /// We are, until it is persisted.
    Dirty,
    /// We are, for good (transient mounts, and kinds the UFS cannot hold).
    Native,
}

/// The attributes of an inode, as `stat(2)` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u16,
    /// Number of names. A directory's counts its subdirectories only where we know them; else it is 2.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Length in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks_512: u64,
    /// Last read.
    pub atime: TimeSpec,
    /// Last change of content.
    pub mtime: TimeSpec,
    /// Last change of anything.
    pub ctime: TimeSpec,
    /// Who is the authority.
    pub state: InodeState,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// A given time.
    To(TimeSpec),
}

/// A change of attributes; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// New permission bits.
    pub mode: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New length.
    pub size: Option<u64>,
    /// New time of last read.
    pub atime: Option<SetTime>,
    /// New time of last change of content.
    pub mtime: Option<SetTime>,
}

/// Who asks for an operation. The kernel has checked the mode bits (`default_permissions`) before FUSE asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process, for messages that name who holds a file.
    pub pid: u32,
}

impl Caller {
    /// The daemon itself.
    pub const DAEMON: Self = Self { uid: 0, gid: 0, pid: 0 };
}

/// What the local file system says about an extent file: the authority for an inode while it is open for write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileTimes {
    /// Length in bytes.
    pub len: u64,
    /// Last change of content.
    pub mtime: TimeSpec,
    /// Last change of anything.
    pub ctime: TimeSpec,
    /// Space taken, in units of 512 bytes.
    pub blocks_512: u64,
}
