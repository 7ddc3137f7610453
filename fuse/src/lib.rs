//! The front door of programs: FUSE.
//!
//! **Owns** mounting and unmounting, the channels to the kernel, the translation of requests into calls of
//! [`Vfs`](forebay_vfs::Vfs), errno, and what the kernel is told about how to do I/O. **Never does** decide about
//! files: which mode an open gets, who is the authority for a length, what `fsync` means are the `Vfs`'s.
//!
//! **In and out:** [`FuseMount::start`] puts a `Vfs` under a mount point. From there requests go
//! `channel` (reads) -> `front` (hands to a shard) -> `dispatch` (serves) -> `channel` (writes), as
//! [`Request`](op::Request) with [`Op`](op::Op) and [`Reply`](reply::Reply).
//!
//! **Why this shape:** three channels, one dispatch: FUSE over io_uring, our own reader of `/dev/fuse`, and fuser. What
//! is the same for all (dispatch, errno, backing ids, mounting) knows none of them. Letting fuser's trait be the
//! interface was refused: it would have to be imitated by channels that have nothing to do with fuser.
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "ioctls of /dev/fuse, and backing ids given to fuser")]
mod channel;
mod dispatch;
mod error;
mod front;
mod inherited;
mod mount;
mod mounting;
mod notify;
mod park;
mod probe;
mod roll;
mod stats;
mod witness;

pub mod op;
mod options;
pub mod reply;

pub use channel::{BackingId, BadChannel, ChannelChoice, ChannelKind, Picked, probe_channel};
pub use error::{Holder, Holders, MountError};
pub use inherited::{ESTATE_FDS_MAX, Estate, Inherited, NotTakenOver, estate_format};
pub use mount::{FuseMount, SessionEnd};
pub use mounting::{
    MountEntry, MountSpec, check_mount_point, clear_dead, mount_of, mounted_from, mounts_of_type, remount,
    users_of,
};
pub use notify::{Notice, Notifier, PRUNE_MAX};
pub use op::OpKind;
pub use options::{MountOptions, OptionError};
pub use probe::{NoPassthrough, probe_passthrough};
pub use roll::Roll;
pub use stats::{BUCKETS, OpStats, StatsSnapshot, bucket_end_us};
pub use witness::{Witness, Witnessed};
