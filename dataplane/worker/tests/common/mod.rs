//! A node in miniature: real shards, a real store and a real directory as the under file system, watched.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test file uses a part of it"
)]

pub mod watched;

pub use watched::{Rules, Watched};

use forebay_client::{Client, ClientConfig, ReadAheadConfig};
use forebay_net::InProcess;
use forebay_shard::{Frame, ShardHandle, Shards, ShardsConfig, arena};
use forebay_store::{Store, StoreConfig, TierConfig, TierKind};
use forebay_types::{
    ByteSize, ContentLocation, ExtentId, FsResult, Generation, Ino, MountId, NodeId, PageSize, UfsKey,
    UfsMeta,
};
use forebay_ufs::{Ufs, UfsOptions};
use forebay_worker::{UfsTable, Worker, WorkerConfig};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub const MOUNT: MountId = MountId(1);
pub const PAGE: u64 = 64 << 10;
pub const MIB: u64 = 1 << 20;

/// What a test may set.
pub struct Setup {
    pub quota: ByteSize,
    pub worker: WorkerConfig,
    pub client: ClientConfig,
    pub cores: Vec<usize>,
    /// Whether the under file system renames and copies; else what is moved goes through us.
    pub renames: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let worker = WorkerConfig {
            fetch_memory: ByteSize::mib(16),
            get_len: ByteSize::mib(1),
            get_within: Duration::from_secs(60),
            turn_within: Duration::from_secs(60),
            reserve: ByteSize::bytes(PAGE),
            ..WorkerConfig::default()
        };
        let read_ahead = ReadAheadConfig { window_min: ByteSize::bytes(0), window_max: ByteSize::bytes(0) };
        let client = ClientConfig { read_ahead, ..ClientConfig::default() };
        Self { quota: ByteSize::gib(1), worker, client, cores: vec![0, 1], renames: true }
    }
}

pub struct Node {
    pub client: Arc<Client>,
    pub worker: Arc<Worker>,
    pub store: Arc<Store>,
    pub ufs: Arc<Watched>,
    pub ufs_dir: PathBuf,
    pub control: tokio::runtime::Runtime,
    shards: Shards,
    _dirs: (tempfile::TempDir, tempfile::TempDir),
}

pub fn node() -> Node {
    Node::start(Setup::default())
}

impl Node {
    pub fn start(setup: Setup) -> Self {
        let (cache, under) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let shards = Shards::start(&ShardsConfig {
            cores: setup.cores.clone(),
            arena: ByteSize::mib(64),
            ..ShardsConfig::default()
        })
        .unwrap();
        let mut cfg = StoreConfig::new(NodeId::new("test").unwrap(), vec![tier(cache.path(), setup.quota)]);
        cfg.page_size = PageSize::new(ByteSize::bytes(PAGE)).unwrap();
        cfg.blanks = 8;
        let (store, _) = Store::open(cfg).unwrap();
        let control =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let url = under.path().to_str().unwrap();
        let plain: Arc<dyn Ufs> = control.block_on(forebay_ufs::open(url, &UfsOptions::default())).unwrap();
        let ufs = Arc::new(Watched::new(plain, setup.renames));
        let table = UfsTable::default();
        table.insert(MOUNT, Arc::clone(&ufs) as Arc<dyn Ufs>);
        let worker = Worker::new(setup.worker, Arc::clone(&store), table, control.handle().clone());
        let client = Client::new(setup.client, Arc::new(InProcess::new(Arc::clone(&worker))));
        let ufs_dir = under.path().to_owned();
        Self { client, worker, store, ufs, ufs_dir, control, shards, _dirs: (cache, under) }
    }

    pub fn shard(&self, at: usize) -> ShardHandle {
        self.shards.handles()[at % self.shards.handles().len()].clone()
    }

    /// Runs a future of the client on the first shard.
    pub fn on_shard<T, F>(&self, f: impl FnOnce(Arc<Client>) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let client = Arc::clone(&self.client);
        self.shard(0).block_on(move || f(client)).unwrap()
    }

    /// Puts a file into the under file system and says where it is.
    pub fn put(&self, name: &str, bytes: &[u8]) -> ContentLocation {
        std::fs::write(self.ufs_dir.join(name), bytes).unwrap();
        self.locate(name)
    }

    /// Where a file of the under file system is, as the name space would say.
    pub fn locate(&self, name: &str) -> ContentLocation {
        let key = UfsKey::new(name.as_bytes()).unwrap();
        let attr = self.control.block_on(self.worker.stat(MOUNT, &key)).unwrap().unwrap();
        ContentLocation {
            ino: Ino(1000 + name.len() as u64),
            mount: MOUNT,
            ufs: Some((key, attr.version)),
            extent: None,
            size: attr.size,
            generation: Generation(0),
        }
    }

    /// A file that only lives here.
    pub fn born(&self) -> ContentLocation {
        let extent = self.on_shard(|client| async move { client.create(0).await.unwrap() });
        born_at(extent)
    }

    pub fn read(&self, at: &ContentLocation, offset: u64, len: usize) -> FsResult<Vec<u8>> {
        let at = at.clone();
        self.on_shard(move |client| async move { read(&client, &at, offset, len).await })
    }

    pub fn write(&self, at: &ContentLocation, offset: u64, bytes: &[u8]) -> FsResult<usize> {
        let (at, bytes) = (at.clone(), bytes.to_vec());
        self.on_shard(move |client| async move { client.write(&at, offset, frame(&bytes).await).await })
    }

    /// Reads a file from its first byte to its last.
    pub fn read_all(&self, at: &ContentLocation) -> FsResult<Vec<u8>> {
        let at = at.clone();
        self.on_shard(move |client| async move {
            let mut all = Vec::new();
            loop {
                let piece = read(&client, &at, all.len() as u64, 128 << 10).await?;
                if piece.is_empty() {
                    return Ok(all);
                }
                all.extend(piece);
            }
        })
    }

    /// Makes a file writable, as an open for write does.
    pub fn begin_write(&self, at: &ContentLocation) -> ContentLocation {
        let asked = at.clone();
        let extent = self.on_shard(move |client| async move { client.begin_write(&asked).await.unwrap() });
        ContentLocation { extent: Some(extent), ..at.clone() }
    }
}

pub fn born_at(extent: ExtentId) -> ContentLocation {
    ContentLocation {
        ino: Ino(7),
        mount: MOUNT,
        ufs: None,
        extent: Some(extent),
        size: 0,
        generation: Generation(1),
    }
}

pub async fn read(client: &Client, at: &ContentLocation, offset: u64, len: usize) -> FsResult<Vec<u8>> {
    Ok(client.read(at, offset, len).await?.to_vec())
}

pub async fn frame(bytes: &[u8]) -> Frame {
    let mut frame = arena().frame(bytes.len()).await.unwrap();
    frame.copy_from_slice(bytes);
    frame
}

/// Asks again until it is so. The deadline is for a machine that does ten other things.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "it never came about that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that differ from page to page and file to file.
pub fn pattern(len: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..len.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len as usize).collect()
}

fn tier(dir: &Path, quota: ByteSize) -> TierConfig {
    TierConfig { name: "nvme".into(), dir: dir.join("tier"), quota, kind: TierKind::Nvme }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A write that a test left behind ends before its directory goes.
        std::thread::sleep(Duration::from_millis(1));
    }
}
