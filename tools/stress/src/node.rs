//! A node without a mount, in this process: shards, a store on a real directory, the worker and the client over it. What the
//! data path does without the kernel in front of it is measured here.

use crate::engine::Lane;
use crate::error::{Error, Result};
use crate::store::Store as Under;
use forebay_client::{Client, ClientConfig};
use forebay_net::{Endpoint, InProcess};
use forebay_shard::{Frame, ShardHandle, Shards, ShardsConfig};
use forebay_store::{Store, StoreConfig, TierConfig, TierKind};
use forebay_types::{ByteSize, ContentLocation, FsError, FsErrorKind, FsResult, MountId, NodeId, PageSize};
use forebay_wire::{Epoch, Op, ReadPolicy, Reply, Request};
use forebay_worker::{UfsTable, Worker, WorkerConfig};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The share of the I/O memory that fetched bytes may take, as in the daemon.
const FETCH_SHARE: u64 = 2;
/// Room in the tier beside what is measured, so that nothing is evicted meanwhile.
const SPARE: ByteSize = ByteSize::gib(1);
/// How long a call to the worker may take.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// How long the shards may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The node.
pub(crate) struct Node {
    /// What front doors call.
    pub(crate) client: Arc<Client>,
    endpoint: Arc<dyn Endpoint>,
    store: Arc<Store>,
    shards: Shards,
}

/// How bytes are asked for.
#[derive(Clone)]
pub(crate) enum Way {
    /// As a front door does: routed, with read-ahead.
    Client(Arc<Client>),
    /// As a client asks a worker: just these bytes.
    Worker(Arc<dyn Endpoint>),
}

impl Node {
    /// Starts it on an empty directory, with room for `len` bytes of content.
    ///
    /// # Errors
    /// What a part needs and does not have.
    pub(crate) fn start(dir: &Path, page_size: PageSize, len: u64, under: &Under) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| Error::usage(error.to_string(), "see `forebay info`");
        let config = ShardsConfig::default();
        let fetch_memory = ByteSize::bytes(config.arena.as_u64() / FETCH_SHARE);
        let shards = Shards::start(&config).map_err(|error| failed(&error))?;
        let node = NodeId::new("bench").expect("a word is the name of a node");
        let quota = ByteSize::bytes(len.saturating_add(SPARE.as_u64()));
        let tier = TierConfig { name: "bench".to_owned(), dir: dir.to_owned(), quota, kind: TierKind::Nvme };
        let config = StoreConfig { page_size, ..StoreConfig::new(node, vec![tier]) };
        let (store, _) = Store::open(config).map_err(|error| failed(&error))?;
        let table = UfsTable::default();
        table.insert(MountId::ROOT, under.ufs());
        let config = WorkerConfig { fetch_memory, ..WorkerConfig::default() };
        let worker = Worker::new(config, Arc::clone(&store), table, under.handle());
        let endpoint: Arc<dyn Endpoint> = Arc::new(InProcess::new(worker));
        let client = Client::new(ClientConfig::default(), Arc::clone(&endpoint));
        Ok(Self { client, endpoint, store, shards })
    }

    /// Reads through the client.
    pub(crate) fn by_client(&self) -> Way {
        Way::Client(Arc::clone(&self.client))
    }

    /// Reads from the worker.
    pub(crate) fn by_worker(&self) -> Way {
        Way::Worker(Arc::clone(&self.endpoint))
    }

    /// Where lanes can run their loops.
    pub(crate) fn tasks(&self) -> Tasks {
        Tasks(self.shards.handles().to_vec())
    }

    /// Stops it; its directory can go then.
    ///
    /// # Errors
    /// The store could not be closed.
    pub(crate) fn stop(self) -> Result<()> {
        let Self { client, endpoint, store, shards } = self;
        let closed = store.close();
        drop((client, endpoint, store));
        shards.stop(STOP_WITHIN);
        closed.map_err(|error| Error::usage(error.to_string(), "see that the device of DIR works"))
    }
}

/// The shards, as lanes use them.
#[derive(Clone)]
pub(crate) struct Tasks(Vec<ShardHandle>);

impl Tasks {
    /// Runs the loop of a lane as a task of a shard, where it is on no other thread's way; the lane's thread sleeps.
    ///
    /// # Errors
    /// The task panicked.
    pub(crate) fn run<F>(&self, lane: &mut Lane, work: impl FnOnce(Lane) -> F + Send + 'static) -> Result<()>
    where
        F: Future<Output = Lane> + 'static,
    {
        let shard = &self.0[lane.index % self.0.len()];
        let lent = lane.lend();
        *lane = shard.block_on(move || work(lent)).map_err(|error| Error::Panicked(error.to_string()))?;
        Ok(())
    }
}

impl Way {
    /// Bytes of a file.
    pub(crate) async fn read(&self, at: &ContentLocation, offset: u64, len: usize) -> FsResult<Frame> {
        match self {
            Self::Client(client) => client.read(at, offset, len).await,
            Self::Worker(endpoint) => {
                let op = Op::Read { at, offset, len, policy: ReadPolicy::default(), into: None };
                match endpoint.call(Request { epoch: Epoch::ALONE, op }, CALL_WITHIN).await? {
                    Reply::Bytes(frame) => Ok(frame),
                    other => Err(FsError::new(FsErrorKind::Corrupt, format!("{other:?} to a read"))),
                }
            }
        }
    }
}
