//! Calls about the bytes of an inode: where they are, who writes them, whether they are carried and durable.

use crate::namespace::Namespace;
use crate::ops;
use crate::record::UfsAt;
use forebay_types::{ContentLocation, ExtentId, FileTimes, FsResult, Ino, InodeState, TimeSpec};
use std::fmt;

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

impl Namespace {
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
}
