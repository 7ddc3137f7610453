//! A whole node, mounted: real shards, store, metadata engine and a real directory as the under file system.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

pub mod actor;

use forebay_client::{Client, ClientConfig};
use forebay_fuse::{FuseMount, MountOptions, MountSpec, probe_passthrough};
use forebay_meta::{LmdbOptions, LmdbStore};
use forebay_namespace::{Namespace, NamespaceConfig};
use forebay_net::InProcess;
use forebay_shard::{Shards, ShardsConfig};
use forebay_store::{Store, StoreConfig, TierConfig, TierKind};
use forebay_types::{ByteSize, Ino, MountId, NodeId, PageSize, UfsMeta};
use forebay_ufs::UfsOptions;
use forebay_vfs::{OpenCounts, Vfs, VfsConfig};
use forebay_worker::{UfsTable, Worker, WorkerConfig};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What `findmnt` shows as the source.
pub const SOURCE: &str = "file:///a source, with all kinds";
pub const PAGE: u64 = 64 << 10;
/// Longer than a machine takes that does ten other things.
pub const LONG: Duration = Duration::from_secs(120);

/// The mount option for the channel that the tests are to go over.
pub fn channel() -> String {
    let channel = std::env::var("FOREBAY_TEST_CHANNEL");
    channel.map(|name| format!("channel={name}")).unwrap_or_default()
}

/// How a node is set up.
pub struct Setup<'a> {
    pub options: &'a str,
    /// Bytes a second that the under file system gives.
    pub ufs_bandwidth: Option<ByteSize>,
    pub passthrough: bool,
    /// Places in a shard's mailbox.
    pub mailbox_len: usize,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            options: "suid,dev",
            ufs_bandwidth: None,
            passthrough: true,
            mailbox_len: ShardsConfig::default().mailbox_len,
        }
    }
}

/// The parts below the mount.
struct Parts {
    vfs: Arc<Vfs>,
    names: Arc<Namespace>,
    store: Arc<Store>,
    shards: Shards,
    control: tokio::runtime::Runtime,
}

pub struct Node {
    pub mount: Option<Arc<FuseMount>>,
    parts: Parts,
    pub dirs: Dirs,
}

/// Where a node keeps its things.
pub struct Dirs {
    pub base: Base,
}

/// A temporary directory of ours, or one that somebody else made and takes away.
pub enum Base {
    Ours(tempfile::TempDir),
    Given(PathBuf),
}

impl Base {
    pub fn path(&self) -> &Path {
        match self {
            Self::Ours(dir) => dir.path(),
            Self::Given(dir) => dir,
        }
    }
}

impl Dirs {
    pub fn new() -> Self {
        Self::below(Base::Ours(tempfile::tempdir().unwrap()))
    }

    pub fn below(base: Base) -> Self {
        let dirs = Self { base };
        for dir in
            [dirs.mnt(), dirs.ufs(), dirs.tier(), dirs.base.path().join("meta"), dirs.base.path().join("log")]
        {
            std::fs::create_dir(dir).unwrap();
        }
        dirs
    }

    pub fn mnt(&self) -> PathBuf {
        self.base.path().join("mnt")
    }

    pub fn ufs(&self) -> PathBuf {
        self.base.path().join("ufs")
    }

    pub fn tier(&self) -> PathBuf {
        self.base.path().join("tier")
    }
}

impl Default for Dirs {
    fn default() -> Self {
        Self::new()
    }
}

/// A mounted node with an empty under file system.
pub fn node() -> Node {
    Node::start(&Setup::default(), Dirs::new())
}

impl Node {
    pub fn start(setup: &Setup<'_>, dirs: Dirs) -> Self {
        Self::try_start(setup, dirs).unwrap()
    }

    pub fn try_start(setup: &Setup<'_>, dirs: Dirs) -> Result<Self, forebay_fuse::MountError> {
        let mut node = Self { mount: None, parts: parts(setup, &dirs), dirs };
        let mount = node.try_mount(&node.spec(setup.options))?;
        node.mount = Some(Arc::new(mount));
        assert_eq!(
            fs_type(&node.mnt()),
            "fuse.forebay",
            "the mount is not there; nothing below would be tested"
        );
        Ok(node)
    }

    /// A node that is not mounted yet.
    pub fn unmounted(dirs: Dirs) -> Self {
        Self { mount: None, parts: parts(&Setup::default(), &dirs), dirs }
    }

    pub fn spec(&self, options: &str) -> MountSpec {
        MountSpec {
            source: SOURCE.into(),
            dir: self.dirs.mnt(),
            options: MountOptions::parse(&format!("{},{options}", channel())).unwrap(),
        }
    }

    pub fn try_mount(&self, spec: &MountSpec) -> Result<FuseMount, forebay_fuse::MountError> {
        FuseMount::start(self.vfs(), self.parts.shards.handles(), spec, None)
    }

    pub fn vfs(&self) -> Arc<Vfs> {
        Arc::clone(&self.parts.vfs)
    }

    pub fn mount(&self) -> &FuseMount {
        self.mount.as_ref().unwrap()
    }

    pub fn mnt(&self) -> PathBuf {
        self.dirs.mnt().canonicalize().unwrap()
    }

    /// A path in the mount.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dirs.mnt().join(name)
    }

    /// Has an image of a directory made, by which it is listed from then on.
    pub fn draw(&self, name: &str) {
        let ino = Ino(std::fs::metadata(self.at(name)).unwrap().ino());
        assert!(
            self.parts.control.block_on(self.parts.names.make_image(ino)).unwrap(),
            "{name} has no image"
        );
    }

    /// How many inodes the kernel has looked up and not given back, but for those in use.
    pub fn looked_up(&self) -> usize {
        self.parts.names.only_looked_up(1 << 20).len()
    }

    pub fn opens(&self) -> OpenCounts {
        self.parts.vfs.open_counts()
    }

    /// Unmounts, which must succeed.
    pub fn unmount(&self) {
        self.mount().unmount(LONG).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mount) = self.mount.take()
            && let Err(error) = mount.unmount(Duration::from_secs(5))
        {
            eprintln!("{error}");
            // A test that failed may have left children with files open; the machine must not keep the mount.
            let _ = rustix::mount::unmount(self.dirs.mnt(), rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn parts(setup: &Setup<'_>, dirs: &Dirs) -> Parts {
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mailbox_len = setup.mailbox_len;
    let shards =
        Shards::start(&ShardsConfig { arena: ByteSize::mib(64), mailbox_len, ..ShardsConfig::default() })
            .unwrap();
    let node = NodeId::new("test").unwrap();
    let tier =
        TierConfig { name: "cache".into(), dir: dirs.tier(), quota: ByteSize::gib(2), kind: TierKind::Nvme };
    let config = StoreConfig {
        page_size: PageSize::new(ByteSize::bytes(PAGE)).unwrap(),
        blanks: 16,
        ..StoreConfig::new(node.clone(), vec![tier])
    };
    let (store, _) = Store::open(config).unwrap();
    let options = UfsOptions { read_bandwidth: setup.ufs_bandwidth, ..UfsOptions::default() };
    let ufs = control.block_on(forebay_ufs::open(dirs.ufs().to_str().unwrap(), &options)).unwrap();
    let table = UfsTable::default();
    table.insert(MountId::ROOT, ufs);
    let config = WorkerConfig { fetch_memory: ByteSize::mib(32), ..WorkerConfig::default() };
    let worker = Worker::new(config, Arc::clone(&store), table, control.handle().clone());
    let client = Client::new(ClientConfig::default(), Arc::new(InProcess::new(Arc::clone(&worker))));
    let engine = LmdbStore::open(&dirs.base.path().join("meta"), &LmdbOptions::default()).unwrap();
    let root = forebay_namespace::MountSpec::new("/", SOURCE);
    let config = NamespaceConfig::new(dirs.base.path().join("log"), node, root);
    let (names, recovery) =
        Namespace::open(config, Arc::new(engine), Arc::clone(&worker) as Arc<dyn UfsMeta>).unwrap();
    let passthrough = setup.passthrough && probe_passthrough(&dirs.tier()).is_ok();
    let vfs = Vfs::new(Arc::clone(&names), client, VfsConfig { passthrough, ..VfsConfig::default() });
    let recovered = Arc::clone(&vfs);
    shards.handles()[0].block_on(move || async move { recovered.recover(recovery).await }).unwrap().unwrap();
    Parts { vfs, names, store, shards, control }
}

/// The type of the file system on which a path lies, as the kernel's table has it.
pub fn fs_type(path: &Path) -> String {
    forebay_fuse::mount_of(path).unwrap().fs_type
}

/// Waits until `done`.
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "it never came about that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes that differ from place to place.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
