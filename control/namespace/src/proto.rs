//! The prost forms of the records at rest. Field numbers are frozen: a field that is no longer used keeps its
//! number, a new one takes the next.

use prost::Message;

/// An inode, at `i` + number.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Inode {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) mode: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) nlink: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) uid: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) gid: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) rdev: u32,
    #[prost(uint64, tag = "7")]
    pub(crate) size: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) blocks_512: u64,
    #[prost(message, optional, tag = "9")]
    pub(crate) atime: Option<Time>,
    #[prost(message, optional, tag = "10")]
    pub(crate) mtime: Option<Time>,
    #[prost(message, optional, tag = "11")]
    pub(crate) ctime: Option<Time>,
    #[prost(uint32, tag = "12")]
    pub(crate) state: u32,
    #[prost(uint32, tag = "13")]
    pub(crate) mount: u32,
    #[prost(fixed64, optional, tag = "14")]
    pub(crate) parent: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "15")]
    pub(crate) name: Option<Vec<u8>>,
    #[prost(bool, tag = "16")]
    pub(crate) ufs_inherit: bool,
    #[prost(bytes = "vec", optional, tag = "17")]
    pub(crate) ufs_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "18")]
    pub(crate) version: Option<Vec<u8>>,
    #[prost(fixed64, optional, tag = "19")]
    pub(crate) extent: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "20")]
    pub(crate) link_target: Option<Vec<u8>>,
    #[prost(uint64, tag = "21")]
    pub(crate) generation: u64,
    #[prost(bool, tag = "22")]
    pub(crate) write_open: bool,
    #[prost(bool, tag = "23")]
    pub(crate) attrs_ours: bool,
    #[prost(message, repeated, tag = "24")]
    pub(crate) xattrs: Vec<Xattr>,
    #[prost(uint64, tag = "25")]
    pub(crate) turned_at: u64,
    #[prost(string, optional, tag = "26")]
    pub(crate) unpersistable: Option<String>,
    #[prost(fixed64, optional, tag = "27")]
    pub(crate) left_parent: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "28")]
    pub(crate) left_name: Option<Vec<u8>>,
    #[prost(bool, tag = "29")]
    pub(crate) mtime_due: bool,
    #[prost(message, optional, tag = "30")]
    pub(crate) extent_mtime: Option<Time>,
}

/// An extended attribute.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Xattr {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// A point in time.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Time {
    #[prost(sint64, tag = "1")]
    pub(crate) secs: i64,
    #[prost(uint32, tag = "2")]
    pub(crate) nanos: u32,
}

/// A name, at `d` + directory + name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dentry {
    #[prost(fixed64, optional, tag = "1")]
    pub(crate) ino: Option<u64>,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
    #[prost(message, optional, tag = "3")]
    pub(crate) shadow: Option<Shadow>,
    #[prost(bool, tag = "4")]
    pub(crate) mount_point: bool,
}

/// What a name leads to: a [`Dentry`] of which the rest is passed over.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DentryTarget {
    #[prost(fixed64, optional, tag = "1")]
    pub(crate) ino: Option<u64>,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
}

/// What the UFS is believed to have at a name's key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shadow {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) version: Option<Vec<u8>>,
    #[prost(fixed64, tag = "3")]
    pub(crate) owner: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) generation: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) since: u64,
    /// The permission bits, owner and group that the UFS showed.
    #[prost(uint32, optional, tag = "8")]
    pub(crate) mode: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub(crate) uid: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    pub(crate) gid: Option<u32>,
}

/// A task that was begun, at `b` + directory + name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Begun {
    #[prost(uint32, tag = "1")]
    pub(crate) work: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) mount: u32,
    #[prost(fixed64, tag = "3")]
    pub(crate) ino: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) generation: u64,
    /// Where it takes effect.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) key: Vec<u8>,
    /// Where what is moved or linked is.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub(crate) from: Option<Vec<u8>>,
    /// The version that should be at the key before.
    #[prost(bytes = "vec", optional, tag = "7")]
    pub(crate) expect: Option<Vec<u8>>,
    /// The version of what is moved.
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(crate) version: Option<Vec<u8>>,
    #[prost(uint32, tag = "9")]
    pub(crate) kind: u32,
    #[prost(message, optional, tag = "10")]
    pub(crate) attr: Option<UfsAttr>,
    #[prost(message, optional, tag = "11")]
    pub(crate) content: Option<Content>,
    /// The name at whose key the thing was that is moved.
    #[prost(fixed64, optional, tag = "12")]
    pub(crate) left_parent: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "13")]
    pub(crate) left_name: Option<Vec<u8>>,
}

/// The attributes that go with a task.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UfsAttr {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) size: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) mtime: Option<Time>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) version: Vec<u8>,
    #[prost(uint32, optional, tag = "5")]
    pub(crate) mode: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    pub(crate) uid: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub(crate) gid: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(crate) link_target: Option<Vec<u8>>,
}

/// Where the bytes are that a task puts.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Content {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(crate) ufs_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) ufs_version: Option<Vec<u8>>,
    #[prost(fixed64, optional, tag = "3")]
    pub(crate) extent: Option<u64>,
    #[prost(uint64, tag = "4")]
    pub(crate) size: u64,
}

/// A name that is to be carried, at `q` + directory + name.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Queued {
    /// The log record that queued it last: the order of the queue.
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) mount: u32,
    /// Bytes that would be put.
    #[prost(uint64, tag = "3")]
    pub(crate) bytes: u64,
}

/// A mount, at `m` + number.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Mount {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    #[prost(string, tag = "2")]
    pub(crate) source: String,
    #[prost(fixed64, tag = "3")]
    pub(crate) root: u64,
    /// The policies, as JSON: they are configuration, shown and edited as such.
    #[prost(string, tag = "4")]
    pub(crate) policies: String,
}
