//! A name space over a real directory, and short words for the tests.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

pub mod carrier;

use forebay_meta::{Batch, LmdbOptions, LmdbStore, MetaError, MetaStore};
use forebay_namespace::{
    Attributes, Entry, Lent, Listed, MountSpec, Namespace, NamespaceConfig, NewInode, Recovery, RenameMode,
    Taken, Unlinked,
};
use forebay_types::{
    Attr, BoxFuture, Caller, DirPage, DirPageEntry, FileKind, FsErrorKind, FsResult, HumanDuration, Ino,
    ManualClock, MountId, Name, NodeId, PageToken, TimeSpec, Told, UfsAttr, UfsKey, UfsMeta, UfsVersion,
};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const ROOT_CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// A directory of this machine as an under file system: what stands in it can be asked and listed.
#[derive(Default)]
pub struct DirUfs {
    mounts: Mutex<HashMap<MountId, PathBuf>>,
    pub stats: AtomicU64,
    pub lists: AtomicU64,
    /// Every question fails.
    pub down: AtomicBool,
    /// The n-th next listing fails; 0: none.
    pub fail_list: AtomicU64,
    /// Listings tell kinds, sizes and versions alone and leave open what is empty, as an object store's do.
    pub bare_lists: AtomicBool,
    /// All that is empty, and each link, has one and the same version, as by an object store's checksum.
    pub one_version: AtomicBool,
    /// Questions about what a listing left open.
    pub kinds: AtomicU64,
    /// The n-th next of them fails; 0: none.
    pub fail_kind: AtomicU64,
    /// How many of them are on their way, and were at most.
    pub kinds_now: AtomicU64,
    pub kinds_at_once: AtomicU64,
    /// How long a stat takes, in milliseconds.
    pub stat_takes: AtomicU64,
    /// How long a page of a listing is on its way back, in milliseconds.
    pub list_takes: AtomicU64,
}

impl DirUfs {
    pub fn new(root: &Path) -> Arc<Self> {
        let ufs = Self::default();
        ufs.mounts.lock().unwrap().insert(MountId::ROOT, root.into());
        Arc::new(ufs)
    }

    pub fn mount(&self, id: MountId, root: &Path) {
        self.mounts.lock().unwrap().insert(id, root.into());
    }

    pub fn path(&self, mount: MountId, key: &UfsKey) -> PathBuf {
        self.mounts.lock().unwrap()[&mount].join(OsStr::from_bytes(key.as_bytes()))
    }

    fn check(&self) -> FsResult<()> {
        if self.down.load(SeqCst) { Err(FsErrorKind::Unavailable.into()) } else { Ok(()) }
    }

    fn listed(&self, name: Name, attr: UfsAttr) -> DirPageEntry {
        if !self.bare_lists.load(SeqCst) {
            return DirPageEntry { name, told: Told::All(attr) };
        }
        let is_empty = attr.kind == FileKind::Regular && attr.size == 0;
        if is_empty || attr.kind == FileKind::Symlink {
            return DirPageEntry { name, told: Told::FileOrLink(attr.version) };
        }
        let mtime = TimeSpec { secs: 1, nanos: 0 };
        DirPageEntry { name, told: Told::Content(UfsAttr { mode: None, owner: None, mtime, ..attr }) }
    }

    fn look(&self, path: &Path) -> FsResult<Option<UfsAttr>> {
        let mut found = attr_of(path)?;
        if let Some(attr) = &mut found
            && self.one_version.load(SeqCst)
            && (attr.kind == FileKind::Symlink || (attr.kind, attr.size) == (FileKind::Regular, 0))
        {
            attr.version = UfsVersion::new(*b"empty");
        }
        Ok(found)
    }

    /// The n-th question about what a listing left open fails, counted down by each.
    fn fails_kind(&self) -> bool {
        self.fail_kind.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)) == Ok(1)
    }

    fn list_now(
        &self,
        mount: MountId,
        key: &UfsKey,
        from: Option<PageToken>,
        limit: usize,
    ) -> FsResult<DirPage> {
        self.check()?;
        self.lists.fetch_add(1, SeqCst);
        let due = self.fail_list.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
        if due == Ok(1) {
            return Err(FsErrorKind::Unavailable.into());
        }
        let mut names: Vec<Vec<u8>> = std::fs::read_dir(self.path(mount, key))?
            .map(|entry| entry.map(|entry| entry.file_name().into_vec()))
            .collect::<Result<_, _>>()?;
        names.sort();
        let after = from.map(|token| token.0);
        let mut left =
            names.into_iter().filter(|name| after.as_ref().is_none_or(|after| name[..] > after[..]));
        let page: Vec<Vec<u8>> = left.by_ref().take(limit).collect();
        let next = left.next().and(page.last().map(|last| PageToken(last.clone().into())));
        let mut entries = Vec::new();
        for name in page {
            let name = Name::new(name).unwrap();
            if let Some(attr) = self.look(&self.path(mount, &key.child(&name)))? {
                entries.push(self.listed(name, attr));
            }
        }
        Ok(DirPage { entries, next })
    }
}

pub fn attr_of(path: &Path) -> FsResult<Option<UfsAttr>> {
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    };
    let kind = match meta.file_type() {
        t if t.is_dir() => FileKind::Directory,
        t if t.is_symlink() => FileKind::Symlink,
        _ => FileKind::Regular,
    };
    let link_target = (kind == FileKind::Symlink)
        .then(|| std::fs::read_link(path).map(|target| target.into_os_string().into_vec().into()));
    let version = format!("{}.{}.{}.{}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    Ok(Some(UfsAttr {
        kind,
        size: if kind == FileKind::Directory { 0 } else { meta.size() },
        mtime: TimeSpec { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 },
        version: UfsVersion::new(if kind == FileKind::Directory { String::new() } else { version }),
        mode: Some((meta.mode() & 0o7777) as u16),
        owner: Some((meta.uid(), meta.gid())),
        link_target: link_target.transpose()?,
        links: Some(meta.nlink() as u32),
    }))
}

impl UfsMeta for DirUfs {
    fn stat<'a>(&'a self, mount: MountId, key: &'a UfsKey) -> BoxFuture<'a, FsResult<Option<UfsAttr>>> {
        Box::pin(async move {
            self.check()?;
            self.stats.fetch_add(1, SeqCst);
            takes(&self.stat_takes).await;
            self.look(&self.path(mount, key))
        })
    }

    fn stat_listed<'a>(
        &'a self,
        mount: MountId,
        key: &'a UfsKey,
    ) -> BoxFuture<'a, FsResult<Option<UfsAttr>>> {
        Box::pin(async move {
            self.check()?;
            self.kinds.fetch_add(1, SeqCst);
            let now = self.kinds_now.fetch_add(1, SeqCst) + 1;
            self.kinds_at_once.fetch_max(now, SeqCst);
            takes(&self.stat_takes).await;
            self.kinds_now.fetch_sub(1, SeqCst);
            if self.fails_kind() {
                return Err(FsErrorKind::Unavailable.into());
            }
            self.look(&self.path(mount, key))
        })
    }

    fn list<'a>(
        &'a self,
        mount: MountId,
        key: &'a UfsKey,
        from: Option<PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, FsResult<DirPage>> {
        Box::pin(async move {
            let page = self.list_now(mount, key, from, limit);
            takes(&self.list_takes).await;
            page
        })
    }

    fn lists_attrs(&self, _: MountId) -> bool {
        !self.bare_lists.load(SeqCst)
    }
}

async fn takes(ms: &AtomicU64) {
    let time = Duration::from_millis(ms.load(SeqCst));
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// An engine that counts what is scanned in it.
struct Counted {
    store: LmdbStore,
    scanned: Arc<AtomicU64>,
}

impl MetaStore for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Box<[u8]>>, MetaError> {
        self.store.get(key)
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Box<[u8]>>>, MetaError> {
        self.store.get_many(keys)
    }

    fn visit(
        &self,
        from: &[u8],
        until: &[u8],
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), MetaError> {
        self.store.visit(from, until, limit, &mut |key, value| {
            self.scanned.fetch_add(1, SeqCst);
            each(key, value);
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), MetaError> {
        self.store.commit(batch)
    }
}

/// A name space with all it stands on.
pub struct World {
    pub ufs_dir: tempfile::TempDir,
    pub state_dir: tempfile::TempDir,
    pub ufs: Arc<DirUfs>,
    pub clock: Arc<ManualClock>,
    pub config: NamespaceConfig,
    pub names: Option<Arc<Namespace>>,
    /// How many entries of the engine were scanned.
    pub scanned: Arc<AtomicU64>,
}

pub fn root_spec(ttl: Duration) -> MountSpec {
    let mut spec = MountSpec::new("/", "file:///ufs");
    spec.policy.metadata_ttl = HumanDuration(ttl);
    spec
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut NamespaceConfig)) -> Self {
        let (ufs_dir, state_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ufs = DirUfs::new(ufs_dir.path());
        let clock = Arc::new(ManualClock::default());
        // Later than any file of the UFS.
        clock.advance(Duration::from_secs(4_000_000_000));
        let node = NodeId::new("node-a").unwrap();
        let spec = root_spec(Duration::from_secs(60));
        let mut config = NamespaceConfig::new(state_dir.path().join("log"), node, spec);
        config.clock = Arc::clone(&clock) as _;
        change(&mut config);
        let scanned = Arc::default();
        let mut world = Self { ufs_dir, state_dir, ufs, clock, config, names: None, scanned };
        world.open();
        world
    }

    pub fn open(&mut self) -> Recovery {
        let store = LmdbStore::open(&self.state_dir.path().join("meta"), &LmdbOptions::default()).unwrap();
        let engine = Counted { store, scanned: Arc::clone(&self.scanned) };
        let opened = Namespace::open(self.config.clone(), Arc::new(engine), Arc::clone(&self.ufs) as _);
        let (names, recovery) = opened.unwrap();
        self.names = Some(names);
        recovery
    }

    /// Ends it as a crash does, as far as the name space can tell, and opens it again.
    pub fn crash(&mut self) -> Recovery {
        self.names = None;
        self.open()
    }

    pub fn names(&self) -> &Arc<Namespace> {
        self.names.as_ref().unwrap()
    }

    pub fn ufs_path(&self, path: &str) -> PathBuf {
        self.ufs_dir.path().join(path)
    }

    pub fn put_ufs(&self, path: &str, bytes: &[u8]) {
        let path = self.ufs_path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn expire(&self) {
        self.clock.advance(Duration::from_secs(3600));
    }

    /// Walks a path from the root.
    pub async fn walk(&self, path: &str) -> FsResult<Entry> {
        let mut ino = Ino::ROOT;
        let mut entry = None;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let found = self.names().lookup(ino, &name(part)).await?;
            ino = found.attr.ino;
            entry = Some(found);
        }
        match entry {
            Some(entry) => Ok(entry),
            None => {
                let (attr, ttl) = self.names().attr(Ino::ROOT).await?;
                Ok(Entry { attr, entry_ttl: ttl, attr_ttl: ttl, generation: 0 })
            }
        }
    }

    pub async fn make(&self, parent: Ino, called: &str, kind: FileKind) -> FsResult<Ino> {
        let mut new = NewInode::of(kind, if kind == FileKind::Directory { 0o755 } else { 0o644 });
        if kind == FileKind::Symlink {
            new.link_target = Some((*b"target").into());
        }
        Ok(self.names().create(&ROOT_CALLER, parent, &name(called), new).await?.attr.ino)
    }

    pub async fn rename(
        &self,
        from: (Ino, &str),
        to: (Ino, &str),
        mode: RenameMode,
    ) -> FsResult<Option<Unlinked>> {
        let (from, to) = ((from.0, name(from.1)), (to.0, name(to.1)));
        self.names().rename(&ROOT_CALLER, (from.0, &from.1), (to.0, &to.1), mode).await
    }

    pub async fn list(&self, ino: Ino) -> FsResult<Vec<String>> {
        self.list_by(ino, 1000).await
    }

    /// Lists by the tables, and by images: by what there is of one from before, and by a new one. All tell the same.
    pub async fn list_by(&self, ino: Ino, limit: usize) -> FsResult<Vec<String>> {
        let names = self.list_by_tables(ino, limit).await?;
        // By the tables what is the UFS's comes first.
        let sorted = |names: &Vec<String>| names.iter().cloned().collect::<BTreeSet<_>>();
        for made in [None, Some(())] {
            if made.is_some() && !self.names().make_image(ino).await? {
                break;
            }
            let shown = self.list_by_image(ino, limit).await?;
            assert!(shown.is_some() || made.is_none(), "there is an image, and it is not used");
            if let Some(shown) = shown {
                assert_eq!(
                    (shown.len(), sorted(&shown)),
                    (names.len(), sorted(&names)),
                    "an image tells other names"
                );
            }
        }
        Ok(names)
    }

    /// What an image shows, if there is one, so many at a time; what it tells of each is what is to be told.
    pub async fn list_by_image(&self, ino: Ino, limit: usize) -> FsResult<Option<Vec<String>>> {
        let mut stream = self.names().open_dir(ino).await?;
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let mut shown = Vec::new();
            let take = |listed: &Listed<'_>| {
                if shown.len() == limit {
                    return Taken::Not;
                }
                let entry = listed.entry.map(owned);
                shown.push((listed.name.to_vec(), listed.ino, listed.next_offset, listed.kind, entry));
                Taken::Name
            };
            if !stream.show(offset, Attributes::AtHand, take).await? {
                return Ok(None);
            }
            let Some((_, _, next_offset, _, _)) = shown.last() else { break };
            offset = *next_offset;
            for (name, ino, _, kind, entry) in shown {
                if let Some(entry) = entry {
                    let (attr, ttl) = self.names().attr(ino).await?;
                    // Whether it was carried meanwhile an image does not tell.
                    assert_eq!((Attr { state: attr.state, ..entry.attr }, entry.attr.kind), (attr, kind));
                    assert!(entry.attr_ttl <= ttl && entry.entry_ttl == entry.attr_ttl, "{entry:?} {ttl:?}");
                }
                names.push(String::from_utf8_lossy(&name).into_owned());
            }
        }
        names.retain(|name| name != "." && name != "..");
        Ok(Some(names))
    }

    async fn list_by_tables(&self, ino: Ino, limit: usize) -> FsResult<Vec<String>> {
        let mut stream = self.names().open_dir(ino).await?;
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let entries = stream.read(offset, limit).await?;
            let Some(last) = entries.last() else { break };
            offset = last.next_offset;
            names.extend(entries.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()));
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// What was lent, to be kept.
pub fn owned(Lent { attr, entry_ttl, attr_ttl, generation }: Lent<'_>) -> Entry {
    Entry { attr: *attr, entry_ttl, attr_ttl, generation }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: FsResult<T>) -> FsErrorKind {
    result.expect_err("it should be refused").kind()
}
