//! Opening and closing a name space, and what its calls are made of: changing it, and finding an inode, its key and
//! its times. The calls themselves are in `calls`, `resolve` and `list`.

use crate::absent::Absent;
use crate::ahead::Ahead;
use crate::alone::Alone;
use crate::commit::Committer;
use crate::config::NamespaceConfig;
use crate::error::NamespaceError;
use crate::flights::Flights;
use crate::home::Home;
use crate::inode::Inode;
use crate::open::Recovery;
use crate::pages::Pages;
use crate::readers::Readers;
use crate::record::{InodeRecord, UfsAt};
use crate::shared::Shared;
use crate::sync::Syncer;
use crate::txn::{OpResult, Refusal, Txn};
use forebay_meta::MetaStore;
use forebay_types::{Attr, FileKind, FsError, FsErrorKind, FsResult, Ino, InodeState, Name, UfsKey, UfsMeta};
use futures_timer::Delay;
use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the kernel may keep what only we can change.
pub(crate) const NATIVE_TTL: Duration = Duration::from_secs(3600);
/// How often a mutation is repeated because a name it needs was forgotten again in between.
const RESOLVE_TRIES: usize = 8;
/// How long it is tried again after that, and the pause before each try: names of a directory that is being emptied may be
/// carried away faster than it is looked at.
const RESOLVE_WITHIN: Duration = Duration::from_secs(20);
const RESOLVE_PAUSE: Duration = Duration::from_millis(20);
/// How long a clean end waits for the engine to take everything.
const CLOSE_DEADLINE: Duration = Duration::from_secs(60);

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

/// The same, lent.
#[derive(Clone, Copy, Debug)]
pub struct Lent<'e> {
    /// As [`Entry::attr`].
    pub attr: &'e Attr,
    /// As [`Entry::entry_ttl`].
    pub entry_ttl: Duration,
    /// As [`Entry::attr_ttl`].
    pub attr_ttl: Duration,
    /// As [`Entry::generation`].
    pub generation: u64,
}

impl Entry {
    /// Lends it.
    pub fn lent(&self) -> Lent<'_> {
        let Self { attr, entry_ttl, attr_ttl, generation } = self;
        Lent { attr, entry_ttl: *entry_ttl, attr_ttl: *attr_ttl, generation: *generation }
    }
}

/// The name space of one partition.
pub struct Namespace {
    pub(crate) shared: Arc<Shared>,
    pub(crate) readers: Readers,
    pub(crate) flights: Flights,
    pub(crate) ahead: Ahead,
    pub(crate) alone: Alone,
    pub(crate) absent: Absent,
    pub(crate) pages: Pages,
    pub(crate) committer: Arc<Committer>,
    /// Held while a task is worked out.
    pub(crate) deriving: tokio::sync::Mutex<()>,
    home: Home,
    pub(crate) syncer: Syncer,
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
            alone: Alone::default(),
            absent: Absent::default(),
            pages: Pages::default(),
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
        match self.home.execute(op.clone()).await {
            Ok(result) => Ok(result),
            Err(Refusal::Fs(error)) => Err(error),
            // Apart, since every request that changes a name would carry the room for it.
            Err(refusal) => Box::pin(self.mutate_again(op, refusal)).await,
        }
    }

    /// Finds out what a mutation was refused for, and executes it again, as often as it takes.
    async fn mutate_again<T, F>(&self, op: F, mut refusal: Refusal) -> FsResult<T>
    where
        T: Send + 'static,
        F: Fn(&mut Txn<'_>) -> OpResult<T> + Clone + Send + 'static,
    {
        let until = Instant::now() + RESOLVE_WITHIN;
        for tries in 1.. {
            match refusal {
                Refusal::Fs(error) => return Err(error),
                Refusal::Unresolved(dir, name) => {
                    let dir = self.inode(dir).await?;
                    self.resolve_anew(&dir, &name).await?;
                }
                Refusal::EmptinessUnknown(dir) => {
                    let dir = self.inode(dir).await?;
                    self.check_empty(&dir).await?;
                }
            }
            if tries >= RESOLVE_TRIES {
                if Instant::now() > until {
                    break;
                }
                Delay::new(RESOLVE_PAUSE).await;
            }
            refusal = match self.home.execute(op.clone()).await {
                Ok(result) => return Ok(result),
                Err(refusal) => refusal,
            };
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
        match self.shared.table.get(ino) {
            Some(inode) => Ok(inode),
            None => Box::pin(self.stored_inode(ino)).await,
        }
    }

    async fn stored_inode(&self, ino: Ino) -> FsResult<Arc<Inode>> {
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
