//! Opening and closing a name space, and the calls that need no resolving.

use crate::absent::Absent;
use crate::ahead::Ahead;
use crate::commit::Committer;
use crate::error::NamespaceError;
use crate::flights::Flights;
use crate::home::Home;
use crate::inode::Inode;
use crate::mounts::MountSpec;
use crate::ops::attrs::{RESERVED_PREFIX, XattrMode};
use crate::ops::create::NewInode;
use crate::ops::rename::RenameMode;
use crate::ops::unlink::Unlinked;
use crate::ops::{self};
use crate::readers::Readers;
use crate::record::{InodeRecord, UfsAt};
use crate::shared::Shared;
use crate::sync::Syncer;
use crate::txn::{OpResult, Refusal, Txn};
use forebay_meta::MetaStore;
use forebay_types::{
    Attr, Caller, Clock, ContentLocation, ExtentId, FileKind, FileTimes, FsError, FsErrorKind, FsResult, Ino,
    InodeMemo, InodeState, Name, NodeId, SetAttr, SystemClock, TimeSpec, UfsKey, UfsMeta,
};
use futures_timer::Delay;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the kernel may keep what only we can change.
const NATIVE_TTL: Duration = Duration::from_secs(3600);
/// How often a mutation is repeated because a name it needs was forgotten again in between.
const RESOLVE_TRIES: usize = 8;
/// How long it is tried again after that, and the pause before each try: names of a directory that is being emptied may be
/// carried away faster than it is looked at.
const RESOLVE_WITHIN: Duration = Duration::from_secs(20);
const RESOLVE_PAUSE: Duration = Duration::from_millis(20);
/// How long a clean end waits for the engine to take everything.
const CLOSE_DEADLINE: Duration = Duration::from_secs(60);

/// How a name space is opened.
#[derive(Clone)]
pub struct NamespaceConfig {
    /// The directory of the home's log.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What stands at `/`. An empty source is a root without UFS.
    pub root: MountSpec,
    /// Owner and group of what the UFS gives none.
    pub owner: (u32, u32),
    /// The most inodes in memory that nobody refers to; those in use come on top.
    pub inodes_max: usize,
    /// The most names in memory.
    pub names_max: usize,
    /// The most mutations that wait for the home.
    pub queue_len: usize,
    /// How long a mutation waits for a place in the queue.
    pub queue_deadline: Duration,
    /// How long a question to the UFS may take.
    pub ufs_deadline: Duration,
    /// How long changes gather before the engine gets them.
    pub commit_gather: Duration,
    /// The most bytes of changes that wait for the engine.
    pub commit_bytes_max: usize,
    /// The length at which the log goes on in a new segment, in bytes.
    pub log_segment_max: u64,
    /// Threads that read the engine.
    pub readers: usize,
    /// Where what the kernel was told of is left for the next process, if it is to go on with this one's mount.
    pub memo: Option<Arc<dyn InodeMemo>>,
    /// What the last process left there.
    pub former: Vec<(Ino, Box<[u8]>)>,
}

impl NamespaceConfig {
    /// A name space in `dir` with the machine's clock and limits for one host.
    pub fn new(dir: impl Into<PathBuf>, node: NodeId, root: MountSpec) -> Self {
        Self {
            dir: dir.into(),
            node,
            clock: Arc::new(SystemClock),
            root,
            owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
            inodes_max: 1 << 20,
            names_max: 1 << 20,
            queue_len: 4096,
            queue_deadline: Duration::from_secs(30),
            ufs_deadline: Duration::from_secs(60),
            commit_gather: Duration::from_millis(20),
            commit_bytes_max: 64 << 20,
            log_segment_max: 16 << 20,
            readers: 2,
            memo: None,
            former: Vec::new(),
        }
    }
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode's attributes.
    pub attr: Attr,
    /// How long the name may be believed.
    pub entry_ttl: Duration,
    /// How long the attributes may be believed.
    pub attr_ttl: Duration,
    /// Tells two inodes of one number apart; always 0, because numbers are not reused.
    pub generation: u64,
}

/// What the last process left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Inodes without a name whose bytes only an open handle kept. Each is to be given to
    /// [`Namespace::release_orphan`] after its bytes.
    pub orphans: Vec<(Ino, Option<ExtentId>)>,
    /// Inodes that were open for write: their extent files know more than their records. Each is to be given
    /// to [`Namespace::write_closed`].
    pub write_open: Vec<ContentLocation>,
    /// Mutations that the log had and the engine did not.
    pub replayed: u64,
    /// Bytes at the log's end that were no whole record: cut off.
    pub torn_bytes: u64,
}

/// What a file is to its user: who is the authority, and what is still to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// The UFS has it.
    Clean,
    /// It is to be carried to the UFS.
    Dirty,
    /// It stays here for good.
    Native,
    /// The UFS cannot hold it, and why.
    Unpersistable(String),
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("clean"),
            Self::Dirty => f.write_str("dirty"),
            Self::Native => f.write_str("native"),
            Self::Unpersistable(_) => f.write_str("unpersistable"),
        }
    }
}

/// The name space of one partition.
pub struct Namespace {
    pub(crate) shared: Arc<Shared>,
    pub(crate) readers: Readers,
    pub(crate) flights: Flights,
    pub(crate) ahead: Ahead,
    pub(crate) absent: Absent,
    pub(crate) committer: Arc<Committer>,
    /// Held while a task is worked out.
    pub(crate) deriving: tokio::sync::Mutex<()>,
    home: Home,
    syncer: Syncer,
    commit_thread: Option<JoinHandle<()>>,
    /// Held locked while the name space is open.
    _lock: File,
}

impl Namespace {
    /// Opens the name space, replays the log of a process that died, and says what it left behind. Blocks;
    /// meant for the start.
    ///
    /// # Errors
    /// [`NamespaceError`] says what to do.
    pub fn open(
        config: NamespaceConfig,
        engine: Arc<dyn MetaStore>,
        ufs: Arc<dyn UfsMeta>,
    ) -> Result<(Arc<Self>, Recovery), NamespaceError> {
        let crate::open::Opened { shared, log, lock, inos, next_seq, recovery } =
            crate::open::open(&config, engine, Arc::clone(&ufs))?;
        let started =
            |source| NamespaceError::Storage { attempt: "start a thread", dir: config.dir.clone(), source };
        let shared = Arc::new(shared);
        let gather = config.commit_gather;
        let committer = Arc::new(Committer::new(next_seq - 1, config.commit_bytes_max, gather));
        let commit_thread = crate::commit::start(Arc::clone(&committer), Arc::clone(&shared), log.files());
        let commit_thread = commit_thread.map_err(started)?;
        let syncer = Syncer::start(log.files(), Arc::clone(&committer)).map_err(started)?;
        let readers =
            Readers::start(config.readers, config.queue_len, config.queue_deadline).map_err(started)?;
        let queue = crate::home::Queue { len: config.queue_len, deadline: config.queue_deadline };
        let state = crate::home::Start { inos, next_seq, log };
        let home = Home::start(Arc::clone(&shared), Arc::clone(&committer), state, queue).map_err(started)?;
        let flights = Flights::new(ufs, config.ufs_deadline);
        let commit_thread = Some(commit_thread);
        let names = Self {
            shared,
            readers,
            flights,
            ahead: Ahead::default(),
            absent: Absent::default(),
            committer,
            deriving: tokio::sync::Mutex::default(),
            home,
            syncer,
            commit_thread,
            _lock: lock,
        };
        Ok((Arc::new(names), recovery))
    }

    /// Lets the engine take everything, so that the next start has nothing to replay. Mutations after it are
    /// still taken. Blocks up to a minute.
    ///
    /// # Errors
    /// `TimedOut`, or what the engine said.
    pub fn flush(&self) -> FsResult<()> {
        self.committer.flush(Instant::now() + CLOSE_DEADLINE)
    }

    /// Executes a mutation, resolving the names it needs.
    pub(crate) async fn mutate<T, F>(&self, op: F) -> FsResult<T>
    where
        T: Send + 'static,
        F: Fn(&mut Txn<'_>) -> OpResult<T> + Clone + Send + 'static,
    {
        let until = Instant::now() + RESOLVE_WITHIN;
        for tries in 1.. {
            if tries > RESOLVE_TRIES {
                if Instant::now() > until {
                    break;
                }
                Delay::new(RESOLVE_PAUSE).await;
            }
            match self.home.execute(op.clone()).await {
                Ok(result) => return Ok(result),
                Err(Refusal::Fs(error)) => return Err(error),
                Err(Refusal::Unresolved(dir, name)) => {
                    let dir = self.inode(dir).await?;
                    self.resolve_anew(&dir, &name).await?;
                }
                Err(Refusal::EmptinessUnknown(dir)) => {
                    let dir = self.inode(dir).await?;
                    self.check_empty(&dir).await?;
                }
            }
        }
        Err(FsError::new(FsErrorKind::Overloaded, "the names of a mutation were forgotten again and again"))
    }

    /// Executes a mutation that needs no name to be resolved.
    pub(crate) async fn mutate_own<T: Send + 'static>(
        &self,
        op: impl FnOnce(&mut Txn<'_>) -> OpResult<T> + Send + 'static,
    ) -> FsResult<T> {
        match self.home.execute_queued(op).await {
            Ok(result) => Ok(result),
            Err(Refusal::Fs(error)) => Err(error),
            Err(Refusal::Unresolved(..) | Refusal::EmptinessUnknown(_)) => {
                Err(FsErrorKind::Overloaded.into())
            }
        }
    }

    /// An inode, from the table or the engine.
    pub(crate) async fn inode(&self, ino: Ino) -> FsResult<Arc<Inode>> {
        if let Some(inode) = self.shared.table.get(ino) {
            return Ok(inode);
        }
        let shared = Arc::clone(&self.shared);
        let stored = self.readers.read(move || shared.view.inode(ino)).await?;
        match stored {
            Some(record) => Ok(self.shared.table.load(ino, record)),
            None => Err(FsErrorKind::Stale.into()),
        }
    }

    /// Where the UFS has an inode; `None` if it does not.
    pub(crate) async fn ufs_key(&self, record: &InodeRecord) -> FsResult<Option<UfsKey>> {
        let mut names: Vec<Name> = Vec::new();
        let mut parent = None::<Arc<InodeRecord>>;
        loop {
            let at = parent.as_deref().unwrap_or(record);
            let up = match (&at.ufs_at, &at.at) {
                (UfsAt::At(key), _) => {
                    return Ok(Some(names.iter().rev().fold(key.clone(), |key, name| key.child(name))));
                }
                (UfsAt::Inherit, Some((dir, name))) => {
                    names.push(name.clone());
                    *dir
                }
                (UfsAt::Nowhere, _) | (UfsAt::Inherit, None) => return Ok(None),
            };
            parent = Some(self.inode(up).await?.record());
        }
    }

    /// How long the kernel may keep a name and attributes.
    pub(crate) fn entry(&self, inode: &Inode) -> FsResult<Entry> {
        let record = inode.record();
        // What a listing left out comes with the lookup that the kernel makes before it uses the name.
        let ttl = if inode.is_whole() { self.ttl(&record)? } else { Duration::ZERO };
        let attr_ttl = if record.write_open { Duration::ZERO } else { ttl };
        Ok(Entry { attr: record.attr(inode.ino), entry_ttl: ttl, attr_ttl, generation: 0 })
    }

    fn ttl(&self, record: &InodeRecord) -> FsResult<Duration> {
        if record.state == InodeState::Native {
            return Ok(NATIVE_TTL);
        }
        self.shared.metadata_ttl(record)
    }

    async fn counted(&self, ino: Ino) -> FsResult<Entry> {
        let inode = self.inode(ino).await?;
        self.shared.table.count_lookups(&inode, 1);
        self.entry(&inode)
    }

    /// Finds `name` in a directory. The entry counts as one lookup, which [`Namespace::forget`] gives back.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `Stale`; `Unavailable` if the UFS had to be asked and did not answer.
    pub async fn lookup(&self, parent: Ino, name: &Name) -> FsResult<Entry> {
        let dir = self.inode(parent).await?;
        let found = self.resolve(&dir, name).await?.ok_or(FsErrorKind::NotFound)?;
        self.shared.table.count_lookups(&found, 1);
        self.entry(&found)
    }

    /// Gives back `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.shared.table.forget(ino, count);
    }

    /// Counts `count` lookups of an inode that a listing has shown.
    pub fn remember(&self, ino: Ino, count: u64) {
        if let Some(inode) = self.shared.table.get(ino) {
            self.shared.table.count_lookups(&inode, count);
        }
    }

    /// Keeps an inode in the table while it is open, until [`Namespace::unhold`].
    ///
    /// # Errors
    /// `Stale` if the inode is gone: it is not held then.
    pub async fn hold(&self, ino: Ino) -> FsResult<()> {
        // Whoever has the inode in hand keeps it from being forgotten before it is counted as held.
        self.shared.table.hold(&*self.inode(ino).await?);
        Ok(())
    }

    /// Ends one [`Namespace::hold`].
    pub fn unhold(&self, ino: Ino) {
        self.shared.table.unhold(ino);
    }

    /// The attributes of an inode, and how long they may be believed.
    ///
    /// # Errors
    /// `Stale` if the inode is gone.
    pub async fn attr(&self, ino: Ino) -> FsResult<(Attr, Duration)> {
        let inode = self.inode(ino).await?;
        self.refresh_root(&inode).await?;
        let entry = self.entry(&inode)?;
        Ok((entry.attr, entry.attr_ttl))
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `Invalid` if it is none.
    pub async fn readlink(&self, ino: Ino) -> FsResult<Box<[u8]>> {
        let record = self.inode(ino).await?.record();
        record.link_target.clone().ok_or_else(|| FsErrorKind::Invalid.into())
    }

    /// Makes an inode with its first name. The entry counts as one lookup.
    ///
    /// # Errors
    /// `Exists`, `NotADirectory`, `ReadOnly`, `NameTooLong` for a link target; `NotFound` if the directory was
    /// removed.
    pub async fn create(&self, caller: &Caller, parent: Ino, name: &Name, new: NewInode) -> FsResult<Entry> {
        let (caller, name) = (*caller, name.clone());
        let ino =
            self.mutate(move |txn| ops::create::create(txn, caller, parent, &name, new.clone())).await?;
        self.counted(ino).await
    }

    /// Gives an inode a further name. The entry counts as one lookup.
    ///
    /// # Errors
    /// `Exists`, `TooManyLinks`, `CrossesMounts`; `NotPermitted` for a directory.
    pub async fn link(&self, _caller: &Caller, ino: Ino, parent: Ino, name: &Name) -> FsResult<Entry> {
        let name = name.clone();
        self.mutate(move |txn| ops::link::link(txn, ino, parent, &name)).await?;
        self.counted(ino).await
    }

    /// Takes a name away. When it was the last one of a regular file, its record stays until
    /// [`Namespace::release_orphan`].
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `ReadOnly`.
    pub async fn unlink(&self, _caller: &Caller, parent: Ino, name: &Name) -> FsResult<Unlinked> {
        let name = name.clone();
        self.mutate(move |txn| ops::unlink::unlink(txn, parent, &name)).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotADirectory`, `Busy` for a mount point.
    pub async fn rmdir(&self, _caller: &Caller, parent: Ino, name: &Name) -> FsResult<()> {
        let name = name.clone();
        self.mutate(move |txn| ops::unlink::rmdir(txn, parent, &name)).await
    }

    /// Renames; yields what was replaced.
    ///
    /// # Errors
    /// `Exists` with [`RenameMode::NoReplace`], `NotEmpty`, `IsADirectory`, `NotADirectory`, `CrossesMounts`;
    /// `Invalid` for a directory moved into itself; `Busy` for a mount point.
    pub async fn rename(
        &self,
        _caller: &Caller,
        from: (Ino, &Name),
        to: (Ino, &Name),
        mode: RenameMode,
    ) -> FsResult<Option<Unlinked>> {
        let from = (from.0, from.1.clone());
        let to = (to.0, to.1.clone());
        self.mutate(move |txn| ops::rename::rename(txn, from.clone(), to.clone(), mode)).await
    }

    /// Changes attributes. A new size changes the record only: the bytes are the caller's.
    ///
    /// # Errors
    /// `IsADirectory` or `Invalid` for the size of what has none, `FileTooLarge`, `ReadOnly`.
    pub async fn set_attr(&self, _caller: &Caller, ino: Ino, change: SetAttr) -> FsResult<Attr> {
        self.mutate(move |txn| ops::attrs::set_attr(txn, ino, change)).await?;
        Ok(self.inode(ino).await?.attr())
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `Exists` or `NoAttribute` as `mode` says; `OutOfRange` and `FileTooLarge` past the limits of Linux;
    /// `NotPermitted` for a name that is Forebay's own; `NoSpace` past 256 KiB for all of one inode.
    pub async fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> FsResult<()> {
        let (name, value): (Arc<[u8]>, Arc<[u8]>) = (name.into(), value.into());
        self.mutate(move |txn| ops::attrs::set_xattr(txn, ino, &name, &value, mode)).await
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`.
    pub async fn get_xattr(&self, ino: Ino, name: &[u8]) -> FsResult<Box<[u8]>> {
        let inode = self.inode(ino).await?;
        let record = inode.record();
        record.xattr(name).map(Into::into).ok_or_else(|| FsErrorKind::NoAttribute.into())
    }

    /// The names of all extended attributes that were set.
    ///
    /// # Errors
    /// `Stale` if the inode is gone.
    pub async fn list_xattr(&self, ino: Ino) -> FsResult<Vec<Box<[u8]>>> {
        let record = self.inode(ino).await?.record();
        let own = |name: &[u8]| !name.starts_with(RESERVED_PREFIX);
        Ok(record.xattrs.iter().map(|(name, _)| name.clone()).filter(|name| own(name)).collect())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `NotPermitted` for a name that is Forebay's own.
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8]) -> FsResult<()> {
        let name: Arc<[u8]> = name.into();
        self.mutate(move |txn| ops::attrs::remove_xattr(txn, ino, &name)).await
    }

    /// Where the bytes of an inode are, also of one that has lost its last name.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn content(&self, ino: Ino) -> FsResult<ContentLocation> {
        let inode = self.inode(ino).await?;
        let record = inode.record();
        let key = if record.version.is_some() { self.ufs_key(&record).await? } else { None };
        self.follow_move(ops::location(ino, &record, key)).await
    }

    /// Says that an inode is open for write, before the one who opened it is told. From then to
    /// [`Namespace::write_closed`] the extent file is the authority for size and times. `extent_mtime` is its time of
    /// last change: a later one tells of a write. `None` if it is the one that was learnt last.
    ///
    /// # Errors
    /// `ReadOnly`, `IsADirectory`, `Stale`.
    pub async fn write_opened(
        &self,
        ino: Ino,
        extent: Option<ExtentId>,
        extent_mtime: Option<TimeSpec>,
    ) -> FsResult<ContentLocation> {
        self.mutate(move |txn| ops::writing::write_opened(txn, ino, extent, extent_mtime)).await
    }

    /// Records what the extent file says of an inode that is open for write. A time that was set stays if nobody has
    /// written since.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn update_written(&self, ino: Ino, times: FileTimes) -> FsResult<()> {
        self.mutate(move |txn| ops::writing::update_written(txn, ino, times)).await
    }

    /// The last writer has closed. If anything was changed the inode is dirty with a new generation, else it
    /// is what it was.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn write_closed(&self, ino: Ino, times: FileTimes, changed: bool) -> FsResult<()> {
        self.mutate(move |txn| ops::writing::write_closed(txn, ino, times, changed)).await
    }

    /// As [`Namespace::write_closed`] with a change, for an inode whose writers went with their daemon.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn write_recovered(&self, ino: Ino, times: FileTimes) -> FsResult<()> {
        self.mutate(move |txn| ops::writing::write_recovered(txn, ino, times)).await
    }

    /// Lets go of an inode that has no name, after its bytes. Nothing happens if it has one.
    ///
    /// # Errors
    /// `ShuttingDown`, or what the log's disk said.
    pub async fn release_orphan(&self, ino: Ino) -> FsResult<()> {
        self.mutate(move |txn| ops::upkeep::release_orphan(txn, ino)).await
    }

    /// Makes durable all mutations that were acknowledged before the call.
    ///
    /// # Errors
    /// `Io` if neither the log nor the engine could be made durable: then nothing is promised.
    pub async fn sync(&self) -> FsResult<()> {
        self.syncer.sync().await
    }

    /// What an inode is to its user.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn state(&self, ino: Ino) -> FsResult<FileState> {
        let inode = self.inode(ino).await?;
        let record = inode.record();
        let moved = matches!(record.ufs_at, UfsAt::At(_)) && !self.is_mount_root(ino, &record);
        Ok(match record.state {
            InodeState::Native => FileState::Native,
            _ if record.unpersistable.is_some() => {
                FileState::Unpersistable(record.unpersistable.clone().unwrap_or_default())
            }
            InodeState::Clean if !moved && !record.write_open => FileState::Clean,
            InodeState::Clean | InodeState::Dirty => FileState::Dirty,
        })
    }

    pub(crate) fn is_mount_root(&self, ino: Ino, record: &InodeRecord) -> bool {
        record.kind == FileKind::Directory
            && self.shared.mounts.get(record.mount).is_some_and(|m| m.root == ino)
    }
}

impl Drop for Namespace {
    /// Ends the threads. What the engine does not have yet stays in the log, as after a crash.
    fn drop(&mut self) {
        self.home.stop();
        self.syncer.stop();
        self.committer.stop();
        if let Some(thread) = self.commit_thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committing thread panicked");
        }
    }
}
