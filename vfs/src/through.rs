//! Write modes that promise the under file system: `through` and `cache-through`.
//!
//! **Owns** what a flush and an `fsync` mean there: they return when the under file system has the bytes, or say why
//! not. The name space carries only what nobody has open for write, while whoever flushes still has the file open. So
//! the file is *published*: for as long as it is carried it counts as closed, and then it is open for write again.
//!
//! **Why this shape:** carrying a file under a writer's hands would need a second notion of "complete" beside the one
//! that a close gives. What a passthrough writer does to a published file shows when it is open for write again: its
//! extent file differs from what was published.

use crate::Vfs;
use crate::open_inode::OpenState;
use crate::opens::{FILE_TIME_TICK, Unsettled, is_within_tick};
use crate::table::InodeRef;
use forebay_types::{Clock, FsErrorKind, FsResult, InodeState, SystemClock, WriteMode};
use std::sync::Weak;
use std::time::Duration;

/// How often a file is published again because another writer opened it before it was carried.
const PUBLISH_TRIES: usize = 8;
/// How often, and how far apart, the eviction of a file is tried after its last close.
const EVICT_TRIES: usize = 50;
const EVICT_PAUSE: Duration = Duration::from_millis(20);

impl Vfs {
    /// Waits until the under file system has what was written to a file, if its write mode promises that.
    ///
    /// # Errors
    /// `Unavailable` with the reason if it could not be carried: it stays dirty and is tried again behind the scenes;
    /// `Unsupported` if the under file system cannot hold it; `Busy` if others open and close it all the time.
    pub(crate) async fn carry_through(&self, inode: &InodeRef) -> FsResult<()> {
        let mode = self.names.policy(inode.ino).await?.write_mode;
        if !matches!(mode, WriteMode::Through | WriteMode::CacheThrough) {
            return Ok(());
        }
        let unsettled = Unsettled::new(self, inode);
        let mut carried = Ok(());
        for _ in 0..PUBLISH_TRIES {
            if !self.publish(inode).await? {
                break;
            }
            carried = self.names.persist_now(inode.ino).await;
            if !carried.as_ref().is_err_and(|error| error.kind() == FsErrorKind::Busy) {
                break;
            }
        }
        let mut state = self.turn(inode).await?;
        self.settle_in_turn(inode, &mut state).await?;
        unsettled.settled();
        carried
    }

    /// Ends the writing of an inode for now. False if the under file system has all of it already.
    async fn publish(&self, inode: &InodeRef) -> FsResult<bool> {
        let mut state = self.turn(inode).await?;
        self.wait_out_tick(&state).await?;
        self.fold(inode, &mut state).await?;
        let (attr, _) = self.names.attr(inode.ino).await?;
        let changed = state.writing.as_ref().is_some_and(|writing| writing.changed);
        if attr.nlink == 0 || (attr.state != InodeState::Dirty && !changed) {
            return Ok(false);
        }
        let published = state.writing.as_ref().and_then(|writing| Some((writing.extent, writing.baseline?)));
        self.end_writing(inode, &mut state).await?;
        state.published = published.or(state.published);
        inode.set_published(true);
        Ok(true)
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
