//! The data path as a front door sees it: read, write and keep the bytes of a file, wherever they are.
//!
//! **Owns** the choice of the worker that holds the bytes, the deadline of every call, and read-ahead.
//!
//! **Never does** file I/O, never speaks to an under file system, never imports the worker: it knows endpoints
//! and messages only.
//!
//! **In and out:** a [`forebay_types::ContentLocation`] from the name space says whose bytes are meant; bytes come and go as
//! arena frames. On a node alone every location's worker is the one in this process, called on the core on
//! which the request arrived.
//!
//! **Why this shape:** front doors stay the same when peers come; then [`Client`] gets a ring in place of its
//! one endpoint. Read-ahead stands here and not in the worker, because only the side where a reader's requests
//! arrive sees their order, while the pages it wants may lie on several workers.
#![forbid(unsafe_code)]

mod calls;
mod config;
mod progress;
mod readahead;
mod streams;

pub use config::ClientConfig;
pub use forebay_net::Backing;
pub use forebay_wire::{AllocateMode, ReadPolicy, SeekTo};
pub use progress::Progress;
pub use readahead::{ReadAheadConfig, ReadAheadCounters};

use arc_swap::ArcSwap;
use forebay_net::{Endpoint, Local};
use forebay_types::{ContentLocation, FsError, FsErrorKind, FsResult, Ino, MountId};
use forebay_wire::{Epoch, Op, Reply, Request};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Release};
use std::time::Duration;

/// Reaches the workers. Shared by all front doors; its calls are polled on a shard.
pub struct Client {
    config: ClientConfig,
    /// The worker of this process. It is every location's home as long as there are no peers.
    here: Arc<dyn Endpoint>,
    streams: streams::StreamTable,
    /// Looked at by every read, and hardly ever changed: replaced as a whole.
    policies: ArcSwap<HashMap<MountId, ReadPolicy>>,
    /// Of open files that a prefix of their mount treats otherwise.
    file_policies: RwLock<HashMap<Ino, ReadPolicy>>,
    /// How many those are: usually none, and then nobody takes the lock.
    file_policies_len: AtomicUsize,
}

impl Client {
    /// A client of one worker.
    pub fn new(config: ClientConfig, here: Arc<dyn Endpoint>) -> Arc<Self> {
        let streams = streams::StreamTable::new(config.read_ahead);
        Arc::new(Self {
            config,
            here,
            streams,
            policies: ArcSwap::default(),
            file_policies: RwLock::default(),
            file_policies_len: AtomicUsize::new(0),
        })
    }

    /// Says how the bytes of a mount are to be treated by reads from now on.
    pub fn set_read_policy(&self, mount: MountId, policy: ReadPolicy) {
        self.policies.rcu(|known| {
            let mut policies = HashMap::clone(known);
            policies.insert(mount, policy);
            policies
        });
    }

    /// Says how the bytes of one file are to be treated by reads, until it is taken back: `None` leaves it to its mount.
    pub fn set_file_read_policy(&self, file: Ino, policy: Option<ReadPolicy>) {
        // Hardly any file has one: the look is cheaper than the write lock.
        if policy.is_none() && self.file_policy(file).is_none() {
            return;
        }
        let mut policies = self.file_policies.write();
        match policy {
            Some(policy) => policies.insert(file, policy),
            None => policies.remove(&file),
        };
        self.file_policies_len.store(policies.len(), Release);
    }

    /// What read-ahead did since the start.
    pub fn read_ahead_counters(&self) -> ReadAheadCounters {
        self.streams.counters()
    }

    fn read_policy(&self, at: &ContentLocation) -> ReadPolicy {
        let of_mount = || self.policies.load().get(&at.mount).copied();
        self.file_policy(at.ino).or_else(of_mount).unwrap_or_default()
    }

    fn file_policy(&self, file: Ino) -> Option<ReadPolicy> {
        if self.file_policies_len.load(Acquire) == 0 {
            return None;
        }
        self.file_policies.read().get(&file).copied()
    }

    async fn call(&self, op: Op<'_>, within: Duration) -> FsResult<Reply> {
        let request = Request { epoch: Epoch::ALONE, op };
        self.here.call(request, within).await.map_err(FsError::from)
    }

    fn local(&self) -> FsResult<&dyn Local> {
        self.here.local().ok_or_else(|| FsErrorKind::Unsupported.into())
    }
}

/// A worker answered with a reply of another operation: a fault of the program, told rather than panicked on,
/// because one day the worker is another process.
fn unexpected(reply: &Reply) -> FsError {
    FsError::new(FsErrorKind::Io, format!("the worker sent a reply of another operation: {reply:?}"))
}
