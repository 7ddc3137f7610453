//! The worker: serves the bytes of files from the store and, where they are absent, from the under file system.
//!
//! **Owns** the data path below the messages: finding the extent of a location, fetching absent pages once for all
//! who want them, writing into extents, and the bounds of memory, requests and time under which that happens. It
//! alone reaches the under file systems.
//!
//! **Never does** names (it is told locations), never knows who asks (a front door here, a peer), and never imports
//! the client.
//!
//! **In and out:** requests come through [`forebay_net::Service`], polled on a shard; bytes leave as arena frames.
//! The name space's questions come through `types::UfsMeta`, awaited anywhere.
//!
//! **Why this shape:** a hit touches nothing but the extent: no lock, no table of the worker, no other thread. A
//! miss costs milliseconds whatever we do, so it may afford the table of flights and the crossing to the control
//! runtime. Fetches are tasks of their own, not parts of the request that began them: that request may be
//! cancelled, and the others who wait for the same page must not notice.
#![forbid(unsafe_code)]

mod admit;
mod body;
mod busy;
mod config;
mod counters;
mod fetch;
mod flight;
mod here;
mod later;
mod local;
mod meta;
mod persist;
mod place;
mod plan;
mod pressure;
mod ranges;
mod read;
mod serve;
mod sessions;
mod transit;
mod ufs_table;
mod write;

pub use config::WorkerConfig;
pub use counters::WorkerCounters;
pub use persist::{PersistConfig, PersistCounters, Persister, ReadyPersister};
pub use ufs_table::UfsTable;

use forebay_store::Store;
use forebay_types::ExtentId;
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Serves one node's bytes. Shared by all shards.
pub struct Worker {
    config: WorkerConfig,
    store: Arc<Store>,
    ufs: UfsTable,
    control: Handle,
    fetch: Arc<fetch::Fetcher>,
    admit: admit::Admit,
    pressure: pressure::Pressure,
    busy: busy::Busy,
    sessions: Arc<sessions::Sessions>,
    later: Arc<later::Later>,
    /// Extents that are being compared with their checksums.
    verifying: Arc<Mutex<HashSet<ExtentId>>>,
    counters: Arc<counters::Counters>,
}

impl Worker {
    /// A worker over `store` and the under file systems in `ufs`, whose calls run on the control runtime.
    pub fn new(config: WorkerConfig, store: Arc<Store>, ufs: UfsTable, control: Handle) -> Arc<Self> {
        let counters = Arc::new(counters::Counters::default());
        let fetch = fetch::Fetcher::new(config.clone(), control.clone(), Arc::clone(&counters));
        Arc::new(Self {
            config,
            store,
            ufs,
            control,
            fetch,
            admit: admit::Admit::default(),
            pressure: pressure::Pressure::default(),
            busy: busy::Busy::default(),
            sessions: Arc::default(),
            later: Arc::default(),
            verifying: Arc::default(),
            counters,
        })
    }

    /// What it did since it was made.
    pub fn counters(&self) -> WorkerCounters {
        self.counters.snapshot()
    }

    /// Memory that fetched bytes take just now, in bytes, and the most they may take.
    pub fn fetch_memory(&self) -> (u64, u64) {
        (self.fetch.budget.used(), self.fetch.budget.total())
    }

    /// What the ranged reads that are under way just now may hold beside the arena, in bytes: each as much as it asks for
    /// at the most.
    pub fn transfer_memory(&self) -> u64 {
        self.fetch.gets_under_way() as u64 * self.config.get_len.as_u64()
    }
}
