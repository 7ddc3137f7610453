//! Write modes that promise the under file system: `through` and `cache-through`.
//!
//! **Owns** what a flush and an `fsync` mean there: they return when the under file system has the bytes, or say why
//! not. The name space carries only what nobody has open for write, while whoever flushes still has the file open. So
//! the file is *published*. One whose writes all come through the daemon counts as closed for as long as it is carried,
//! and then it is open for write again: whoever writes meanwhile opens it first. One that the kernel writes stays open
//! for write in the log all the time, and is carried all the same ([`Published`]).
//!
//! **Why this shape:** the kernel asks nobody before it writes. What it writes after the last look at the bytes that are
//! carried shows only in the extent file, which a start looks at for what the log has as open for write alone. So such
//! a file must not pass for closed at any time before its last close, whatever the under file system has of it.

use crate::Vfs;
use crate::open_inode::{Mode, OpenState};
use crate::opens::{FILE_TIME_TICK, Unsettled, is_within_tick};
use crate::table::InodeRef;
use forebay_namespace::Published;
use forebay_types::{Clock, FsErrorKind, FsResult, InodeState, SystemClock, WriteMode};
use std::sync::Weak;
use std::time::{Duration, Instant};

/// How long a file is published again because it was opened or written before all of it was carried, and the pauses.
const PUBLISH_WITHIN: Duration = Duration::from_secs(30);
const PUBLISH_PAUSE: Duration = Duration::from_millis(20);
/// How often, and how far apart, the eviction of a file is tried after its last close.
const EVICT_TRIES: usize = 50;
const EVICT_PAUSE: Duration = Duration::from_millis(20);

/// How a file is carried while whoever asked for that has it open.
enum Publishing {
    /// The under file system has all of it already.
    NotNeeded,
    /// It counts as closed.
    Closed,
    /// It stays open for write.
    Open { _while_kept: Published },
}

impl Vfs {
    /// Waits until the under file system has what was written to a file, if its write mode promises that.
    ///
    /// # Errors
    /// `Unavailable` with the reason if it could not be carried: it stays dirty and is tried again behind the scenes;
    /// `Unsupported` if the under file system cannot hold it; `Busy` if it is opened, closed or written all the time.
    pub(crate) async fn carry_through(&self, inode: &InodeRef) -> FsResult<()> {
        let mode = self.names.policy(inode.ino).await?.write_mode;
        match mode {
            WriteMode::Through | WriteMode::CacheThrough => Box::pin(self.carry_now(inode)).await,
            WriteMode::WriteBack | WriteMode::Transient => Ok(()),
        }
    }

    async fn carry_now(&self, inode: &InodeRef) -> FsResult<()> {
        let unsettled = Unsettled::new(self, inode);
        let carried = self.publish_until_carried(inode).await?;
        let mut state = self.turn(inode).await?;
        self.settle_in_turn(inode, &mut state).await?;
        unsettled.settled();
        carried
    }

    /// The outer error says that it could not be published, the inner that it was not carried.
    async fn publish_until_carried(&self, inode: &InodeRef) -> FsResult<FsResult<()>> {
        let until = Instant::now() + PUBLISH_WITHIN;
        loop {
            let publishing = self.publish(inode).await?;
            if matches!(publishing, Publishing::NotNeeded) {
                return Ok(Ok(()));
            }
            let carried = self.names.persist_now(inode.ino).await;
            drop(publishing);
            let busy = carried.as_ref().is_err_and(|error| error.kind() == FsErrorKind::Busy);
            if !busy || Instant::now() > until {
                return Ok(carried);
            }
            forebay_shard::sleep(PUBLISH_PAUSE).await;
        }
    }

    /// Has what was written to an inode carried, for as long as what it yields is kept.
    async fn publish(&self, inode: &InodeRef) -> FsResult<Publishing> {
        let mut state = self.turn(inode).await?;
        let by_kernel = matches!(state.mode, Mode::Passthrough(_));
        if by_kernel {
            // An open that failed halfway may have left its writers without what they need.
            self.settle_in_turn(inode, &mut state).await?;
        }
        self.wait_out_tick(&state).await?;
        self.fold(inode, &mut state).await?;
        let (attr, _) = self.names.attr(inode.ino).await?;
        let changed = state.writing.as_ref().is_some_and(|writing| writing.changed);
        if attr.nlink == 0 || (attr.state != InodeState::Dirty && !changed) {
            return Ok(Publishing::NotNeeded);
        }
        if by_kernel && state.is_write_open() {
            return self.publish_open(inode, &mut state).await;
        }
        self.end_writing(inode, &mut state).await?;
        inode.set_published(true);
        Ok(Publishing::Closed)
    }

    /// Publishes what the kernel writes. It stays open for write in the log, so a start believes the extent file, and
    /// puts what it finds there over what is carried now: that is durable first.
    async fn publish_open(&self, inode: &InodeRef, state: &mut OpenState) -> FsResult<Publishing> {
        self.client.sync(&*inode.location()?).await?;
        let Some(writing) = &mut state.writing else { return Ok(Publishing::NotNeeded) };
        let Some(baseline) = writing.baseline else { return Ok(Publishing::NotNeeded) };
        let published = Published::begin(&self.names, inode.ino);
        self.client.publish(writing.extent, writing.changed);
        published.tell(writing.changed).await?;
        let grown =
            i64::try_from(baseline.len).unwrap_or(i64::MAX).saturating_sub_unsigned(writing.first_len);
        (writing.changed, writing.first_len) = (false, baseline.len);
        writing.ambiguous = is_within_tick(baseline.ctime, SystemClock.now());
        self.charge_quota(inode.ino, grown).await;
        Ok(Publishing::Open { _while_kept: published })
    }

    /// Lets the tick of the last change pass, so that a change after it is sure to show.
    async fn wait_out_tick(&self, state: &OpenState) -> FsResult<()> {
        let Some(writing) = &state.writing else { return Ok(()) };
        let now = self.client.adopt(writing.extent).await?;
        if is_within_tick(now.ctime, SystemClock.now()) {
            forebay_shard::sleep(FILE_TIME_TICK).await;
        }
        Ok(())
    }

    /// After the last close of a file whose bytes are not to be kept here, they go behind the scenes.
    pub(crate) async fn let_go(&self, inode: InodeRef) -> FsResult<()> {
        if self.names.policy(inode.ino).await?.write_mode == WriteMode::Through {
            let vfs = Weak::clone(&self.this);
            forebay_shard::spawn(async move { evict_soon(vfs, &inode).await });
        }
        Ok(())
    }
}

/// Evicts what nobody has open. What was just carried takes a moment to be known as clean.
async fn evict_soon(vfs: Weak<Vfs>, inode: &InodeRef) {
    for _ in 0..EVICT_TRIES {
        forebay_shard::sleep(EVICT_PAUSE).await;
        let (Some(vfs), Ok(location)) = (vfs.upgrade(), inode.location()) else { return };
        if inode.users().handles > 0 || matches!(vfs.client.evict(&location).await, Ok(1..)) {
            return;
        }
    }
    tracing::debug!(ino = %inode.ino, "a file that is not to be kept here stays until room is needed");
}
