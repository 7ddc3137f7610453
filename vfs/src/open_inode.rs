//! One open inode: its I/O mode, who has it open, and where its bytes are.
//!
//! Two locks, for two kinds of callers. Opens, closes, truncates and attribute reads of an inode are ordered by
//! the async [`OpenInode::lock`], because they wait for the data path in the middle. Reads and writes must not
//! queue behind each other, so where the bytes are stands apart, behind a lock that is held for a copy only.

use crate::types::IoMode;
use forebay_client::Backing;
use forebay_types::{Attr, ContentLocation, ExtentId, FileTimes, FsError, FsErrorKind, FsResult, Ino};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;

/// An inode that is open, or that an operation is busy with.
pub(crate) struct OpenInode {
    pub(crate) ino: Ino,
    state: tokio::sync::Mutex<OpenState>,
    location: RwLock<Option<Arc<ContentLocation>>>,
}

/// The mode of an inode; chosen by the first open, left when the last handle closes.
#[derive(Default)]
pub(crate) enum Mode {
    /// No handle is open.
    #[default]
    Idle,
    /// The kernel works on the extent file itself. The backing keeps it from being evicted or moved.
    Passthrough(Backing),
    /// Through the daemon and the kernel's page cache.
    Cached { keep_cache: bool },
}

/// What the inode looked like in the extent file when its record was last brought up to date.
pub(crate) struct Writing {
    pub(crate) extent: ExtentId,
    pub(crate) baseline: FileTimes,
    /// Whether anything differed from a baseline since the first writer came.
    pub(crate) changed: bool,
}

/// What opens and closes of one inode decide about.
#[derive(Default)]
pub(crate) struct OpenState {
    pub(crate) mode: Mode,
    pub(crate) handles: u32,
    pub(crate) writers: u32,
    /// From the first writer's open to the last writer's close.
    pub(crate) writing: Option<Writing>,
    /// The last name is gone; the bytes go with the last handle.
    pub(crate) unlinked: bool,
}

impl OpenInode {
    pub(crate) fn new(ino: Ino) -> Self {
        Self { ino, state: tokio::sync::Mutex::default(), location: RwLock::default() }
    }

    /// The turn of one open, close, truncate or attribute read.
    ///
    /// # Errors
    /// `TimedOut` if the operation before it does not end within `wait_max`.
    pub(crate) async fn lock(&self, wait_max: Duration) -> FsResult<tokio::sync::MutexGuard<'_, OpenState>> {
        forebay_shard::timeout(wait_max, self.state.lock()).await.map_err(|_| {
            let waited = wait_max.as_secs();
            FsError::new(FsErrorKind::TimedOut, format!("inode {} was busy for {waited} s", self.ino))
        })
    }

    /// Where the bytes are.
    ///
    /// # Errors
    /// `Stale` if no open has told yet, which no front door can bring about with a valid handle.
    pub(crate) fn location(&self) -> FsResult<Arc<ContentLocation>> {
        self.location.read().clone().ok_or_else(|| FsErrorKind::Stale.into())
    }

    /// Tells reads and writes where the bytes are from now on.
    pub(crate) fn set_location(&self, location: ContentLocation) -> Arc<ContentLocation> {
        let location = Arc::new(location);
        *self.location.write() = Some(Arc::clone(&location));
        location
    }
}

impl OpenState {
    /// The mode as a front door needs it; `None` while nothing is open.
    pub(crate) fn io_mode(&self) -> Option<IoMode> {
        match &self.mode {
            Mode::Idle => None,
            Mode::Passthrough(backing) => Some(IoMode::Passthrough(backing.file())),
            Mode::Cached { keep_cache } => Some(IoMode::Cached { keep_cache: *keep_cache }),
        }
    }
}

impl Writing {
    /// Whether the extent file was changed since the record was brought up to date.
    pub(crate) fn differs(&self, now: &FileTimes) -> bool {
        self.baseline != *now
    }

    /// Puts what the extent file says over the record's attributes.
    pub(crate) fn overlay(&self, attr: &mut Attr, now: &FileTimes) {
        attr.size = now.len;
        attr.blocks_512 = now.blocks_512;
        if self.differs(now) {
            attr.mtime = now.mtime;
            attr.ctime = attr.ctime.max(now.ctime);
        }
    }
}
