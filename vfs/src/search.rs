//! Finding bytes again that are no longer where an open file was told they are.
//!
//! **Why this shape:** between the moment at which a task of ours changes what the under file system has (a new
//! version, another key, another time) and the one at which that is recorded, the name space tells of a version that
//! can be had no more. Nobody else's hand is in that, so whoever needs those bytes waits for the record. Only what
//! changed while no task of ours was at it was changed by others, and is stale.

use crate::Vfs;
use crate::table::InodeRef;
use forebay_types::{ContentLocation, FsError, FsErrorKind, FsResult};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long apart two looks at a file are that is being carried.
const PAUSE: Duration = Duration::from_millis(5);

/// What one operation does about bytes that it did not find.
pub(crate) struct Search<'v> {
    vfs: &'v Vfs,
    inode: &'v InodeRef,
    /// When it gives up; told from the first time on that something was not found.
    until: Option<Instant>,
}

impl<'v> Search<'v> {
    pub(crate) fn new(vfs: &'v Vfs, inode: &'v InodeRef) -> Self {
        Self { vfs, inode, until: None }
    }

    /// Where to look next, after `error` told that the bytes are not at `known`.
    ///
    /// # Errors
    /// `error` if nothing of ours explains it; `TimedOut` if what we do ourselves does not come to its end.
    pub(crate) async fn next(
        &mut self,
        known: &Arc<ContentLocation>,
        error: FsError,
    ) -> FsResult<Arc<ContentLocation>> {
        let wait_max = self.vfs.config.inode_wait_max;
        let until = *self.until.get_or_insert_with(|| Instant::now() + wait_max);
        loop {
            // In this order: a task that ends between the two questions shows in the answer to the second.
            let is_carried = self.vfs.names.is_being_carried(self.inode.ino).await?;
            let moved = self.vfs.relocate(self.inode, known).await?;
            if moved.is_none() && !is_carried {
                return Err(error);
            }
            if Instant::now() >= until {
                let why = format!("it is being carried, and no end of that was found within {wait_max:?}");
                return Err(FsError::new(FsErrorKind::TimedOut, why));
            }
            if let Some(moved) = moved {
                return Ok(moved);
            }
            forebay_shard::sleep(PAUSE).await;
        }
    }
}

impl Vfs {
    /// Asks the name space again where the bytes are: they may have been persisted and evicted since the
    /// handle was opened, or a directory above them was renamed. `None` if they are where they were.
    async fn relocate(
        &self,
        inode: &InodeRef,
        known: &Arc<ContentLocation>,
    ) -> FsResult<Option<Arc<ContentLocation>>> {
        let state = self.turn(inode).await?;
        let told = inode.location()?;
        if *told != **known {
            // A writer has come, or somebody else has asked before.
            return Ok(Some(told));
        }
        let now = self.names.content(inode.ino).await?;
        // A writer's extent stays what it is; what he has not got yet may be elsewhere.
        let now =
            if state.writing.is_some() { ContentLocation { ufs: now.ufs, ..(*told).clone() } } else { now };
        Ok((now != **known).then(|| inode.set_location(now)))
    }
}
