//! One open inode: who has it open, its I/O mode, and where its bytes are.
//!
//! Three locks, for three kinds of callers. Opens, closes, truncates and attribute reads of an inode take turns
//! ([`OpenInode::turn`]), because they wait for the data path in the middle. How many handles there are stands
//! apart, behind a lock that nobody waits under: a close is counted whether or not its turn ever comes, so no
//! failure can leave a file open for good. Reads and writes must not queue behind each other, so where the bytes
//! are stands apart as well.

use crate::types::IoMode;
use arc_swap::{ArcSwapOption, Guard};
use forebay_client::Backing;
use forebay_types::{Attr, ContentLocation, ExtentId, FileTimes, FsError, FsErrorKind, FsResult, Ino};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long after the close of a descriptor the handle is released, if it was the last: the kernel sends the one before
/// the close returns and the other right after, and a busy daemon gets to it later.
const RELEASED_WITHIN: Duration = Duration::from_secs(3);

/// An inode that is open, or that an operation is busy with.
pub(crate) struct OpenInode {
    pub(crate) ino: Ino,
    users: Mutex<Users>,
    state: tokio::sync::Mutex<OpenState>,
    location: ArcSwapOption<ContentLocation>,
    /// The daemon itself changed bytes since the last look at the extent file.
    touched: AtomicBool,
    /// The kernel may be changing bytes behind our back.
    kernel_writes: AtomicBool,
    /// The log says that it is open for write.
    is_writing: AtomicBool,
    /// Its writers count as closed for a while ([`crate::through`]).
    is_published: AtomicBool,
    /// A task is at work that settles the inode, now or in a while.
    settling: AtomicBool,
}

/// Who has an inode open.
#[derive(Clone, Copy, Default)]
pub(crate) struct Users {
    pub(crate) handles: u32,
    pub(crate) writers: u32,
    /// Writers who had a descriptor closed and have not written through us since.
    pub(crate) flushed: u32,
    /// When the last of them did that.
    pub(crate) flushed_at: Option<Instant>,
    /// The last name is gone; the bytes go with the last handle.
    pub(crate) unlinked: bool,
    /// The inode was made open for write with this extent, and nobody has looked at it since.
    pub(crate) born: Option<ExtentId>,
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

/// An inode that is open for write, or in the middle of becoming so.
pub(crate) struct Writing {
    pub(crate) extent: ExtentId,
    /// What the extent file looked like when the record was last brought up to date. `None`: the inode is on its
    /// way to being open for write, and nobody can have changed it yet.
    pub(crate) baseline: Option<FileTimes>,
    /// The length with which the first writer found it.
    pub(crate) first_len: u64,
    /// Something was changed since the first writer came.
    pub(crate) changed: bool,
    /// The baseline is so young that a write right after it may bear the same time.
    pub(crate) ambiguous: bool,
}

/// What opens and closes of one inode decide about.
#[derive(Default)]
pub(crate) struct OpenState {
    pub(crate) mode: Mode,
    /// From the first writer's open to the last writer's close.
    pub(crate) writing: Option<Writing>,
}

impl OpenInode {
    pub(crate) fn new(ino: Ino) -> Self {
        Self {
            ino,
            users: Mutex::default(),
            state: tokio::sync::Mutex::default(),
            location: ArcSwapOption::empty(),
            touched: AtomicBool::new(false),
            kernel_writes: AtomicBool::new(false),
            is_writing: AtomicBool::new(false),
            is_published: AtomicBool::new(false),
            settling: AtomicBool::new(false),
        }
    }

    /// The turn of one open, close, truncate or attribute read.
    ///
    /// # Errors
    /// `TimedOut` if the operation before it does not end within `wait_max`.
    pub(crate) async fn turn(&self, wait_max: Duration) -> FsResult<tokio::sync::MutexGuard<'_, OpenState>> {
        if let Some(free) = self.turn_now() {
            return Ok(free);
        }
        forebay_shard::timeout(wait_max, self.state.lock()).await.map_err(|_| {
            let waited = wait_max.as_secs();
            FsError::new(FsErrorKind::TimedOut, format!("inode {} was busy for {waited} s", self.ino))
        })
    }

    /// The same if it is free.
    pub(crate) fn turn_now(&self) -> Option<tokio::sync::MutexGuard<'_, OpenState>> {
        self.state.try_lock().ok()
    }

    /// Who has it open just now.
    pub(crate) fn users(&self) -> Users {
        *self.users.lock()
    }

    /// One handle more.
    pub(crate) fn count_in(&self, writer: bool) {
        let mut users = self.users.lock();
        users.handles += 1;
        users.writers += u32::from(writer);
    }

    /// One handle fewer.
    pub(crate) fn count_out(&self, writer: bool, flushed: bool) {
        let mut users = self.users.lock();
        users.handles -= 1;
        users.writers -= u32::from(writer);
        users.flushed -= u32::from(flushed);
    }

    /// A writer was flushed, or has written again.
    pub(crate) fn count_flushed(&self, is: bool) {
        let mut users = self.users.lock();
        users.flushed = if is { users.flushed + 1 } else { users.flushed - 1 };
    }

    /// A descriptor was closed just now.
    pub(crate) fn note_flush(&self) {
        self.users.lock().flushed_at = Some(Instant::now());
    }

    /// Whether all who had it open for write seem to have closed it, and the log does not know yet.
    pub(crate) fn is_closing(&self) -> bool {
        let users = self.users();
        let just_now = users.flushed_at.is_some_and(|at| at.elapsed() < RELEASED_WITHIN);
        self.is_writing.load(SeqCst) && users.flushed == users.writers && (users.writers == 0 || just_now)
    }

    pub(crate) fn set_writing(&self, is: bool) {
        self.is_writing.store(is, SeqCst);
    }

    /// The last name is gone, or the bytes that went with it are.
    pub(crate) fn set_unlinked(&self, unlinked: bool) {
        self.users.lock().unlinked = unlinked;
    }

    /// The inode was made, open for write.
    pub(crate) fn set_born(&self, extent: ExtentId) {
        self.users.lock().born = Some(extent);
    }

    /// What [`OpenInode::set_born`] said, to the first who asks.
    pub(crate) fn take_born(&self) -> Option<ExtentId> {
        self.users.lock().born.take()
    }

    /// The daemon changed bytes.
    pub(crate) fn touch(&self) {
        self.touched.store(true, SeqCst);
    }

    /// Whether the daemon changed bytes since the last one who asked so.
    pub(crate) fn take_touched(&self) -> bool {
        self.touched.swap(false, SeqCst)
    }

    /// Whether the kernel may be changing bytes behind our back.
    pub(crate) fn has_kernel_writes(&self) -> bool {
        self.kernel_writes.load(SeqCst)
    }

    pub(crate) fn set_kernel_writes(&self, may: bool) {
        self.kernel_writes.store(may, SeqCst);
    }

    /// Whether its writers count as closed for a while.
    pub(crate) fn is_published(&self) -> bool {
        self.is_published.load(SeqCst)
    }

    pub(crate) fn set_published(&self, is: bool) {
        self.is_published.store(is, SeqCst);
    }

    /// Whether nobody else settles the inode behind the scenes: then the caller must, until
    /// [`OpenInode::end_settling`].
    pub(crate) fn begin_settling(&self) -> bool {
        !self.settling.swap(true, SeqCst)
    }

    pub(crate) fn end_settling(&self) {
        self.settling.store(false, SeqCst);
    }

    /// Where the bytes are.
    ///
    /// # Errors
    /// `Stale` if no open has told yet, which no front door can bring about with a valid handle.
    pub(crate) fn location(&self) -> FsResult<Arc<ContentLocation>> {
        self.location.load_full().ok_or_else(|| FsErrorKind::Stale.into())
    }

    /// As [`Self::location`], for a moment, and without a count that all readers of the file would change.
    pub(crate) fn peek_location(&self) -> Guard<Option<Arc<ContentLocation>>> {
        self.location.load()
    }

    /// Tells reads and writes where the bytes are from now on. Only in one's turn.
    pub(crate) fn set_location(&self, location: ContentLocation) -> Arc<ContentLocation> {
        let location = Arc::new(location);
        self.location.store(Some(Arc::clone(&location)));
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

    /// Whether the extent file is the authority for size and times.
    pub(crate) fn is_write_open(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| writing.baseline.is_some())
    }
}

impl Writing {
    /// An inode on its way to being open for write.
    pub(crate) fn beginning(extent: ExtentId) -> Self {
        Self { extent, baseline: None, first_len: 0, changed: false, ambiguous: false }
    }

    /// Whether the extent file was changed since the record was brought up to date.
    pub(crate) fn differs(&self, now: &FileTimes) -> bool {
        self.baseline.is_some_and(|baseline| baseline != *now)
    }

    /// Whether it was written since: space that comes or goes later is no change of the bytes.
    fn was_written(&self, now: &FileTimes) -> bool {
        self.baseline.is_some_and(|baseline| (baseline.mtime, baseline.len) != (now.mtime, now.len))
    }

    /// Puts what the extent file says over the record's attributes.
    pub(crate) fn overlay(&self, attr: &mut Attr, now: &FileTimes) {
        attr.size = now.len;
        attr.blocks_512 = now.blocks_512;
        if self.was_written(now) {
            attr.mtime = now.mtime;
            attr.ctime = attr.ctime.max(now.ctime);
        }
    }
}
