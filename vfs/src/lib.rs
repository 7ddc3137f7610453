//! File-system semantics, the same for every front door.
//!
//! **Owns** what an open file is: handles, the one I/O mode an inode has while any handle of it is open, who is
//! the authority for its size and times meanwhile, what an unlinked open file is, and the order of steps that
//! makes `fsync` mean what it says.
//!
//! **Never does** I/O of its own on file bytes (that is `client`'s), never decides about names (that is
//! `namespace`'s), never knows an errno, a FUSE structure or a URL.
//!
//! **In and out:** a front door calls a method of [`Vfs`] with the [`Caller`](forebay_types::Caller) and typed
//! arguments, on a shard; it gets an [`FsResult`](forebay_types::FsResult). Names go to the name space's home,
//! bytes to the client, and the two are brought together here and nowhere else.
//!
//! **Why this shape:** the two hard rules of the kernel (one mode per open inode; no look at passthrough writes)
//! both concern *open inodes*, so there is exactly one place where an inode becomes open ([`opens`]) and one where
//! it stops being so ([`closes`]). Every other module is a thin walk over name space and client.
#![forbid(unsafe_code)]

mod adopting;
mod after_power_loss;
mod attrs;
mod bytes;
mod closes;
mod dirs;
mod discards;
mod durability;
mod handles;
mod names;
mod open_inode;
mod opens;
mod paths;
mod permits;
mod quotas;
mod recovery;
mod search;
mod table;
mod through;
mod to_the_end;
mod types;
mod xattrs;

pub use adopting::FormerFile;
pub use attrs::AttrOut;
pub use quotas::{QuotaUse, Quotas};
pub use table::OpenCounts;
pub use types::{
    AllocateMode, DirEntryOut, Entry, IoMode, Lent, Listed, NewNode, OpenFlags, Opened, RenameFlags,
    SpaceUsage, Taken, VfsConfig, Whence, XattrSetMode,
};

pub use forebay_namespace::{Attributes, DirPlace};

use forebay_client::Client;
use forebay_namespace::Namespace;
use forebay_types::FsResult;
use std::sync::{Arc, Weak};

/// The file system of one node, shared by its front doors.
pub struct Vfs {
    pub(crate) this: Weak<Self>,
    pub(crate) names: Arc<Namespace>,
    pub(crate) client: Arc<Client>,
    pub(crate) config: VfsConfig,
    pub(crate) opens: Arc<table::OpenTable>,
    pub(crate) quotas: Quotas,
    pub(crate) handles: handles::HandleTable,
    pub(crate) discards: discards::Discards,
}

impl Vfs {
    /// Puts the name space and the data path together. [`Vfs::recover`] must run before the first operation.
    pub fn new(names: Arc<Namespace>, client: Arc<Client>, config: VfsConfig) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            names,
            client,
            config,
            opens: Arc::default(),
            quotas: Quotas::default(),
            handles: handles::HandleTable::default(),
            discards: discards::Discards::default(),
        })
    }

    /// The turn of one operation on an inode.
    pub(crate) async fn turn<'i>(
        &self,
        inode: &'i open_inode::OpenInode,
    ) -> FsResult<tokio::sync::MutexGuard<'i, open_inode::OpenState>> {
        inode.turn(self.config.inode_wait_max).await
    }

    /// Opens by mode since start, and what is open now.
    pub fn open_counts(&self) -> OpenCounts {
        self.opens.counts()
    }

    /// Whether files may be handed to the kernel, to read and write them without us.
    pub fn permits_passthrough(&self) -> bool {
        self.config.passthrough
    }
}
