//! The two ports by which the control path and the data path meet without importing each other.
//!
//! [`UfsMeta`]: the name space asks about the under file system; the worker, which alone reaches it, answers.
//! [`PersistLog`]: the worker asks what is dirty and reports what it carried; the name space, which alone
//! knows, answers. Both are joined in `tools/cli`. Calls are rare (a miss, a persisted file), so boxed
//! futures cost nothing that counts.
//!
//! A third one, [`InodeMemo`], lets the name space leave with the front door what its next process will be asked about
//! and could not know.

use crate::attr::{FileKind, TimeSpec};
use crate::error::FsResult;
use crate::ids::{ExtentId, Generation, Ino, MountId};
use crate::key::UfsKey;
use crate::name::Name;
use crate::version::UfsVersion;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an under file system says about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UfsAttr {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes; 0 for a directory.
    pub size: u64,
    /// Last change of content.
    pub mtime: TimeSpec,
    /// Tells this content from any other of the key. A directory's may be empty.
    pub version: UfsVersion,
    /// Permission bits, where the UFS holds them.
    pub mode: Option<u16>,
    /// Owner and group, where the UFS holds them.
    pub owner: Option<(u32, u32)>,
    /// The target of a symbolic link.
    pub link_target: Option<Box<[u8]>>,
    /// How many links there are to it, where the UFS counts them: of a directory 2 and one for each in it.
    pub links: Option<u32>,
}

/// Where a listing goes on; made by the adapter, opaque to everyone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub Box<[u8]>);

/// How much a listing told of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// All that a stat tells.
    All(UfsAttr),
    /// Kind, size and version; nothing else in it is the file's own.
    Content(UfsAttr),
    /// It has no bytes and this version, and is a file or a symbolic link: [`UfsMeta::stat_listed`] tells which.
    FileOrLink(UfsVersion),
}

impl Told {
    /// What it is; `None` if that has to be asked for.
    pub fn attr(&self) -> Option<&UfsAttr> {
        match self {
            Self::All(attr) | Self::Content(attr) => Some(attr),
            Self::FileOrLink(_) => None,
        }
    }

    /// Its version.
    pub fn version(&self) -> &UfsVersion {
        match self {
            Self::All(attr) | Self::Content(attr) => &attr.version,
            Self::FileOrLink(version) => version,
        }
    }

    /// Whether it is a directory, which is never left open.
    pub fn is_dir(&self) -> bool {
        self.attr().is_some_and(|attr| attr.kind == FileKind::Directory)
    }
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirPageEntry {
    /// Its name in the directory.
    pub name: Name,
    /// What is known of it.
    pub told: Told,
}

/// A page of a listing. A listing that failed or stopped short is an error, never a short page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirPage {
    /// The entries, each name once, in the adapter's own order.
    pub entries: Vec<DirPageEntry>,
    /// Where to go on; `None` after the last page.
    pub next: Option<PageToken>,
}

/// What the name space may ask about the under file systems.
pub trait UfsMeta: Send + Sync + 'static {
    /// What `key` is; `None` if there is nothing.
    fn stat<'a>(&'a self, mount: MountId, key: &'a UfsKey) -> BoxFuture<'a, FsResult<Option<UfsAttr>>>;

    /// What is at a key that a listing has just shown as [`Told::FileOrLink`]; `None` if nothing is any more.
    fn stat_listed<'a>(
        &'a self,
        mount: MountId,
        key: &'a UfsKey,
    ) -> BoxFuture<'a, FsResult<Option<UfsAttr>>> {
        self.stat(mount, key)
    }

    /// A page of the directory `key`, at most `limit` entries.
    fn list<'a>(
        &'a self,
        mount: MountId,
        key: &'a UfsKey,
        from: Option<PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, FsResult<DirPage>>;

    /// Whether directories have a time of last change there, which every name that comes or goes in them moves and
    /// which can be set.
    fn keeps_dir_times(&self, mount: MountId) -> bool {
        let _ = mount;
        true
    }

    /// Whether a listing there tells all that a stat does, and costs so little that what others do may show at once. Where
    /// it does not, each page is a request that is waited and paid for.
    fn lists_attrs(&self, mount: MountId) -> bool {
        let _ = mount;
        true
    }
}

/// Where the bytes of a file are, as the name space knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentLocation {
    /// The inode.
    pub ino: Ino,
    /// The mount it belongs to.
    pub mount: MountId,
    /// Where the UFS has its content just now, and which version; `None` if the UFS has none.
    pub ufs: Option<(UfsKey, UfsVersion)>,
    /// The extent that holds what was written here.
    pub extent: Option<ExtentId>,
    /// Length in bytes.
    pub size: u64,
    /// The change this describes.
    pub generation: Generation,
}

/// One thing to carry to the under file system: made from the state of a name at the moment it is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistTask {
    /// Names the task between [`PersistLog::next`] and [`PersistLog::finish`].
    pub id: u64,
    /// The mount it concerns.
    pub mount: MountId,
    /// The inode it concerns; for a removal the one that had the name, if it is known.
    pub ino: Ino,
    /// The change that is carried.
    pub generation: Generation,
    /// It was handed out before and nobody knows how it ended: the connection broke, or the daemon died over it.
    /// First of all that is to be found out; [`PersistOutcome::NotDone`] if it did not take effect.
    pub again: bool,
    /// How long what was seen in the under file system may be believed while it is carried, other than what the work itself says
    /// should be there.
    pub believed: Duration,
    /// What to do.
    pub work: PersistWork,
}

/// What is to be done to the under file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersistWork {
    /// Put the content of a regular file at `to`. Another version than `expect` there is a conflict.
    Put {
        /// What to put.
        content: ContentLocation,
        /// Where.
        to: UfsKey,
        /// What should be there before; `None`: nothing.
        expect: Option<UfsVersion>,
        /// Attributes to put with it.
        attr: UfsAttr,
    },
    /// Make a directory; one that is there already will do.
    MakeDir {
        /// Where.
        key: UfsKey,
        /// Attributes to put with it.
        attr: UfsAttr,
    },
    /// Make a symbolic link (the target stands in `attr`) or a pipe.
    MakeSpecial {
        /// Where.
        key: UfsKey,
        /// What should be there before; `None`: nothing.
        expect: Option<UfsVersion>,
        /// Kind, target and attributes.
        attr: UfsAttr,
    },
    /// Give the file at `existing` the further name `to`.
    Link {
        /// A name it has.
        existing: UfsKey,
        /// The name it gets.
        to: UfsKey,
        /// What should be at `to` before; `None`: nothing.
        expect: Option<UfsVersion>,
    },
    /// Bring a file or directory, unchanged, from one key to another.
    Move {
        /// Where it is.
        from: UfsKey,
        /// Where it goes.
        to: UfsKey,
        /// What it is.
        kind: FileKind,
        /// The version it should have; `None` for directories.
        version: Option<UfsVersion>,
        /// What should be at `to` before; `None`: nothing.
        replaces: Option<UfsVersion>,
    },
    /// Set mode, owner and times of what is there; those that `attr` does not tell stay.
    SetAttr {
        /// Where.
        key: UfsKey,
        /// What it is.
        kind: FileKind,
        /// What to set.
        attr: UfsAttr,
    },
    /// Take away what was deleted or replaced here.
    Remove {
        /// Where.
        key: UfsKey,
        /// What it is.
        kind: FileKind,
        /// What should be there: another version is a conflict and stays.
        expect: Option<UfsVersion>,
    },
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersistOutcome {
    /// Carried; what the UFS has now (`None` after a removal).
    Done(Option<UfsAttr>),
    /// The content changed while it was read; what was uploaded was thrown away.
    Changed,
    /// A task that was begun before has not taken effect, and left nothing behind.
    NotDone,
    /// The UFS had changed. Ours, if it had bytes, was put under this key; theirs keeps the name.
    Conflict(Option<UfsKey>),
    /// The UFS cannot hold it; not tried again until it changes.
    Unpersistable(String),
    /// It failed, and may have taken effect even so; the queue has that looked into, with back-off.
    Failed(String),
}

/// What an inode is after a task was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The UFS has what we have: the extent may be bound to the new version and be evicted.
    Clean,
    /// It changed meanwhile, or more is to be carried.
    StillDirty,
}

/// Files from this length on are large: they are put in parts, and what carrying them takes is felt by who writes.
pub const LARGE_LEN: u64 = 8 << 20;

/// Who knows how much programs write.
pub trait Writers: Send + Sync {
    /// Whether a large file is being written, or made durable, just now.
    fn are_busy(&self) -> bool;

    /// Whether there is so much room for what is written that carrying it may wait.
    fn have_room(&self) -> bool;
}

/// What the worker asks the name space about dirty inodes, and tells it.
pub trait PersistLog: Send + Sync + 'static {
    /// The next task that is due; waits until there is one. Tasks that could cross are never out together. That
    /// it was handed out is durable: whatever becomes of this process, the next one asks how it ended.
    fn next(&self) -> BoxFuture<'_, PersistTask>;

    /// What the last process had begun and did not report: to be settled before anybody sees the name space.
    fn begun(&self) -> Vec<PersistTask> {
        Vec::new()
    }

    /// Space is short: what waits for its delay is due now. Says whether there is anything to carry.
    fn hurry(&self) -> bool {
        false
    }

    /// Says who knows how much programs write: what is to be carried waits for them, for a bounded time.
    fn give_way_to(&self, _writers: std::sync::Weak<dyn Writers>) {}

    /// Records what came of a task, in one transaction that checks its generation.
    ///
    /// Where the answer is [`Settled::Clean`], the record is durable before it is given: from then on the local
    /// copy may be evicted, and a power loss must not bring back a record that says it is the only one.
    fn finish<'a>(
        &'a self,
        task: &'a PersistTask,
        outcome: PersistOutcome,
    ) -> BoxFuture<'a, FsResult<Settled>>;
}

/// Keeps what the kernel was told of and what stands in no engine, for the process that goes on after this one.
pub trait InodeMemo: Send + Sync + 'static {
    /// Keeps the record of an inode. Replaces one that is kept already.
    fn keep(&self, ino: Ino, record: &[u8]);

    /// Nobody will ask about the inode any more.
    fn forget(&self, ino: Ino);
}
