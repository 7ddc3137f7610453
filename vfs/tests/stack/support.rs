//! A node without a mount, which can be dropped as by a crash and started again on what it left.

pub use crate::faulty::Fault;
use crate::faulty::Faulty;
pub use crate::short::*;
use forebay_client::{Client, ClientConfig};
use forebay_meta::{LmdbOptions, LmdbStore};
use forebay_namespace::{MountSpec, Namespace, NamespaceConfig};
use forebay_net::InProcess;
use forebay_shard::{ShardHandle, Shards, ShardsConfig};
use forebay_store::{Store, StoreConfig, TierConfig, TierKind};
use forebay_types::{
    ByteSize, Caller, ExtentId, Ino, MountId, NodeId, PageSize, PersistLog, TimeSpec, UfsMeta,
};
use forebay_ufs::{Ufs, UfsOptions};
use forebay_vfs::{OpenFlags, Vfs, VfsConfig};
use forebay_worker::{PersistConfig, Persister, UfsTable, Worker, WorkerConfig};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PAGE: u64 = 64 << 10;
pub const ALICE: Caller = Caller { uid: 1000, gid: 1000, pid: 1 };
pub const READ: OpenFlags = flags(true, false);
pub const WRITE: OpenFlags = flags(false, true);
pub const BOTH: OpenFlags = flags(true, true);
pub const LONG_AGO: TimeSpec = TimeSpec { secs: 1_000_000_000, nanos: 7 };
/// Longer than anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

const fn flags(read: bool, write: bool) -> OpenFlags {
    OpenFlags { read, write, append: false, truncate: false, exclusive: false, sync: false }
}

/// What a test may set.
#[derive(Clone)]
pub struct Setup {
    pub passthrough: bool,
    pub quota: ByteSize,
    pub root: MountSpec,
    pub inode_wait_max: Duration,
    pub drain_within: Duration,
    pub persist: bool,
    pub discard_gather: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            passthrough: true,
            quota: ByteSize::gib(1),
            root: MountSpec::new("/", "file:///under"),
            inode_wait_max: Duration::from_secs(10),
            drain_within: Duration::from_millis(200),
            persist: false,
            discard_gather: Duration::from_millis(20),
        }
    }
}

pub struct Node {
    pub vfs: Arc<Vfs>,
    pub names: Arc<Namespace>,
    pub client: Arc<Client>,
    pub store: Arc<Store>,
    pub ufs: Arc<dyn Ufs>,
    faults: Arc<Mutex<Vec<Fault>>>,
    seen: Arc<Mutex<Vec<&'static str>>>,
    persister: Option<Persister>,
    control: tokio::runtime::Runtime,
    shards: Shards,
    dirs: Dirs,
    setup: Setup,
}

struct Dirs {
    cache: TempDir,
    under: TempDir,
}

/// The directories that hold the names.
const NAMES: [&str; 2] = ["meta", "log"];

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // The engine's lock belongs to the processes that have it open.
        if entry.file_name() != "lock.mdb" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

pub fn node() -> Node {
    Node::start(Setup::default())
}

impl Node {
    pub fn start(setup: Setup) -> Self {
        Self::start_in(
            Dirs { cache: tempfile::tempdir().unwrap(), under: tempfile::tempdir().unwrap() },
            setup,
        )
    }

    fn start_in(dirs: Dirs, setup: Setup) -> Self {
        let cores = ShardsConfig { cores: vec![0, 1], arena: ByteSize::mib(32), ..ShardsConfig::default() };
        let shards = Shards::start(&cores).unwrap();
        let store = open_store(dirs.cache.path(), &setup);
        let control =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let url = dirs.under.path().to_str().unwrap();
        let ufs = control.block_on(forebay_ufs::open(url, &UfsOptions::default())).unwrap();
        let table = UfsTable::default();
        table.insert(MountId::ROOT, Arc::clone(&ufs));
        let config = WorkerConfig {
            fetch_memory: ByteSize::mib(8),
            drain_within: setup.drain_within,
            reserve: ByteSize::kib(64),
            ..WorkerConfig::default()
        };
        let worker = Worker::new(config, Arc::clone(&store), table, control.handle().clone());
        let (faults, seen) = (Arc::default(), Arc::default());
        let endpoint = Faulty {
            inner: InProcess::new(Arc::clone(&worker)),
            faults: Arc::clone(&faults),
            seen: Arc::clone(&seen),
        };
        let client = Client::new(ClientConfig::default(), Arc::new(endpoint));
        let meta = dirs.cache.path().join("meta");
        std::fs::create_dir_all(&meta).unwrap();
        let engine = Arc::new(LmdbStore::open(&meta, &LmdbOptions::default()).unwrap());
        let log = dirs.cache.path().join("log");
        std::fs::create_dir_all(&log).unwrap();
        let config = NamespaceConfig::new(log, NodeId::new("test").unwrap(), setup.root.clone());
        let meta = Arc::clone(&worker) as Arc<dyn UfsMeta>;
        let (names, recovery) = Namespace::open(config, engine, meta).unwrap();
        let persister = setup.persist.then(|| {
            let config = PersistConfig::new(NodeId::new("test").unwrap());
            Persister::start(
                config,
                worker,
                Arc::clone(&names) as Arc<dyn PersistLog>,
                shards.handles().to_vec(),
            )
        });
        let config = VfsConfig {
            passthrough: setup.passthrough,
            inode_wait_max: setup.inode_wait_max,
            discard_gather: setup.discard_gather,
            ..VfsConfig::default()
        };
        let vfs = Vfs::new(Arc::clone(&names), Arc::clone(&client), config);
        let node =
            Self { vfs, names, client, store, ufs, faults, seen, persister, control, shards, dirs, setup };
        node.run(|vfs| async move { vfs.recover(recovery).await }).unwrap();
        node
    }

    /// Drops everything as a process that died would, and starts again on what is left.
    pub fn crash(self) -> Self {
        let (dirs, setup) = self.stop();
        Self::start_in(dirs, setup)
    }

    /// As [`Node::crash`], with other settings.
    pub fn crash_with(self, setup: Setup) -> Self {
        Self::start_in(self.stop().0, setup)
    }

    /// As [`Node::crash`], with the extents gone that nobody synced.
    pub fn crash_losing_extents(self) -> Self {
        let (dirs, setup) = self.stop();
        std::fs::remove_dir_all(dirs.cache.path().join("tier")).unwrap();
        Self::start_in(dirs, setup)
    }

    /// The names as they would be found if the machine went down now and all of them had reached the disk.
    pub fn names_on_disk(&self) -> TempDir {
        self.names.flush().unwrap();
        let copy = tempfile::tempdir().unwrap();
        for part in NAMES {
            copy_dir(&self.dirs.cache.path().join(part), &copy.path().join(part));
        }
        copy
    }

    /// As [`Node::crash`], with names of an earlier moment and with the tier as it is: what a power cut leaves where
    /// the tier's file system had committed everything and the log was not synced since.
    pub fn crash_to_names(self, earlier: &TempDir) -> Self {
        let (dirs, setup) = self.stop();
        for part in NAMES {
            std::fs::remove_dir_all(dirs.cache.path().join(part)).unwrap();
            copy_dir(&earlier.path().join(part), &dirs.cache.path().join(part));
        }
        Self::start_in(dirs, setup)
    }

    fn stop(self) -> (Dirs, Setup) {
        let Self { vfs, names, client, store, ufs, persister, control, shards, dirs, setup, .. } = self;
        drop(persister);
        shards.stop(Duration::ZERO);
        drop((vfs, client, names, store, ufs));
        control.shutdown_timeout(Duration::from_secs(5));
        (dirs, setup)
    }

    pub fn shard(&self, at: usize) -> ShardHandle {
        self.shards.handles()[at % self.shards.handles().len()].clone()
    }

    /// Runs a piece of a test on the first shard.
    pub fn run<T, F>(&self, f: impl FnOnce(Arc<Vfs>) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let vfs = Arc::clone(&self.vfs);
        self.shard(0).block_on(move || f(vfs)).unwrap()
    }

    /// Runs what needs no shard on the control runtime.
    pub fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.control.block_on(future)
    }

    pub fn fault(&self, fault: Fault) {
        self.faults.lock().unwrap().push(fault);
    }

    /// Whether every fault that was asked for has come about.
    pub fn faults_left(&self) -> usize {
        self.faults.lock().unwrap().len()
    }

    /// The calls to the data path since the last look.
    pub fn take_seen(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Puts a file into the under file system.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.under().join(name), bytes).unwrap();
    }

    pub fn under(&self) -> PathBuf {
        self.dirs.under.path().to_owned()
    }

    /// Bytes that were read from the under file system.
    pub fn fetched(&self) -> u64 {
        self.ufs.stats().unwrap().snapshot().bytes_read
    }

    pub fn extents(&self) -> usize {
        self.store.len()
    }

    /// The extent of a file that was written here.
    pub fn extent_of(&self, ino: Ino) -> Option<ExtentId> {
        let names = Arc::clone(&self.names);
        self.run(move |_| async move { names.content(ino).await.unwrap().extent })
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !so() {
            assert!(Instant::now() < give_up, "it did not come about that {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until no inode is open or being worked on.
    pub fn until_idle(&self) {
        self.until("everything is closed", || {
            let now = self.vfs.open_counts();
            (now.open_now, now.inodes_now) == (0, 0)
        });
    }

    /// Whether the log has an inode as open for write.
    pub fn is_write_open(&self, ino: Ino) -> bool {
        self.run(move |vfs| async move { vfs.getattr(ino).await.unwrap().ttl.is_zero() })
    }
}

fn open_store(cache: &Path, setup: &Setup) -> Arc<Store> {
    let tier =
        TierConfig { name: "nvme".into(), dir: cache.join("tier"), quota: setup.quota, kind: TierKind::Nvme };
    let mut config = StoreConfig::new(NodeId::new("test").unwrap(), vec![tier]);
    config.page_size = PageSize::new(ByteSize::bytes(PAGE)).unwrap();
    config.blanks = 4;
    Store::open(config).unwrap().0
}
