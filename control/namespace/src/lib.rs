//! The name space: inodes, names and mounts, and the home's log that orders their changes.
//!
//! **Owns** who is the authority for every inode (the UFS: clean; we, until it is carried: dirty; we, for
//! good: native), what every name leads to, and the durable order of mutations. [`Namespace`] is its whole
//! surface.
//!
//! **Never does** I/O on file bytes (the caller changes bytes and tells the record), never reaches the UFS
//! itself (it asks through [`forebay_types::UfsMeta`]), never checks permission bits (the kernel does, with
//! `default_permissions`), never knows an errno.
//!
//! **How data comes in and leaves.** Reads come from the inode table and the cache of names, on any core and
//! without asking anybody; what is not there is read from the overlay and the engine by a few threads that may
//! block, and then from the UFS. Mutations go to the home, one thread that executes them in order, writes
//! their records to its log and shows them to readers before it answers; a committing thread carries them to
//! the engine in batches. A dead daemon loses nothing that was answered, because the log is written by then;
//! [`Namespace::sync`] is what survives a power loss. Futures are `Send` and run on any executor.
//!
//! **Why this shape:** a directory of a UFS may hold ten million files that nobody changes: nothing of them
//! is stored, and what is in memory is a bounded cache with numbers derived from what the UFS says. Only what
//! is ours has a record. A name that is ours hides what the UFS has at the same name, and remembers what that
//! is (its shadow), so that what is to be carried to the UFS is at any time the difference between the two,
//! not a journal to be replayed.
#![forbid(unsafe_code)]

mod absent;
mod ahead;
mod alone;
mod authored;
mod calls;
mod commit;
mod config;
mod drawing;
mod empty;
mod error;
mod fault;
mod flights;
mod generations;
mod home;
mod images;
mod inode;
mod inspect;
mod keys;
mod list;
mod listings;
mod log;
mod mounting;
mod mounts;
mod moving;
mod names;
mod namespace;
mod open;
mod ops;
mod overlay;
mod pages;
mod persist;
mod policy;
mod proto;
mod published;
mod readers;
mod record;
mod resolve;
mod shared;
mod sizes;
mod sync;
mod table;
mod txn;
mod view;

pub use calls::FileState;
pub use config::NamespaceConfig;
pub use error::NamespaceError;
pub use inspect::QueuedName;
pub use list::{Attributes, DirEntry, DirPlace, DirStream, Listed, Taken};
pub use mounts::{Mount, MountSpec};
pub use namespace::{Entry, Lent, Namespace};
pub use open::Recovery;
pub use ops::attrs::XattrMode;
pub use ops::create::NewInode;
pub use ops::rename::RenameMode;
pub use ops::unlink::Unlinked;
pub use persist::{BarrierReport, DirtyStats};
pub use policy::{Policy, PolicyChange};
pub use published::Published;
pub use sizes::{CHANGE_COPIES, INODE_WEIGHT, NAME_WEIGHT, QUEUED_WEIGHT, TableSizes};
