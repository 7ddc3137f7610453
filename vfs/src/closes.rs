//! Settling: bringing an inode to what its handles say.
//!
//! **Owns** the one way in which an inode stops being open: no handle, no mode; no writer, no longer write-open in the
//! log; no name and no handle, no bytes. Closes, failed opens, truncates and unlinks all end here.
//!
//! **Why this shape:** each of these may fail halfway (a full log, a sick tier), and then nobody comes back to try
//! again: the kernel forgets a handle whatever RELEASE answers. So settling is idempotent, looks only at what is
//! there, and a settling that failed is repeated behind the scenes until it succeeds or the daemon stops. What a
//! daemon that stops leaves is what [`crate::recovery`] finds.

use crate::Vfs;
use crate::discards::Doomed;
use crate::open_inode::{Mode, OpenInode, OpenState, Writing};
use crate::table::InodeRef;
use forebay_types::{ExtentId, FileTimes, FsErrorKind, FsResult, Ino};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::Weak;
use std::time::Duration;

/// The pause before a settling that failed is repeated; doubled each time up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const _: () = assert!(PAUSE_FIRST.as_millis() < PAUSE_MAX.as_millis());

impl Vfs {
    /// Settles an inode, or has it done behind the scenes if that fails now.
    ///
    /// # Errors
    /// Why not now.
    pub(crate) async fn settle(&self, inode: InodeRef) -> FsResult<()> {
        let unsettled = crate::opens::Unsettled::new(self, &inode);
        let mut state = self.turn(&inode).await?;
        self.settle_in_turn(&inode, &mut state).await?;
        unsettled.settled();
        Ok(())
    }

    /// The files that were closed and of which the log does not know it yet: a front door tells of a close a moment
    /// after it returned to whoever closed (FLUSH comes before, RELEASE after). A file of which one descriptor was
    /// closed and another is still open looks the same for a few seconds, also where the other is that of a process
    /// which has just started a child.
    pub fn closing(&self) -> Vec<Ino> {
        self.opens.inos(OpenInode::is_closing)
    }

    /// Whether that is still so of one of them.
    pub fn is_closing(&self, ino: Ino) -> bool {
        self.opens.peek(ino).is_some_and(|inode| inode.is_closing())
    }

    /// Settles an inode in its turn.
    pub(crate) async fn settle_in_turn(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let users = inode.users();
        if state.writing.is_none() {
            state.writing = inode.take_born().map(Writing::beginning);
        }
        if users.handles == 0 {
            state.mode = Mode::Idle;
            self.client.set_file_read_policy(inode.ino, None);
        }
        match users.handles {
            0 if users.unlinked => self.discard_unlinked(inode, state).await,
            _ if users.writers == 0 => self.end_writing(inode, state).await,
            _ => self.resume_writing(inode, state).await,
        }
    }

    /// The last writer is gone: the record takes over from the extent file again.
    pub(crate) async fn end_writing(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let Some(writing) = &mut state.writing else { return Ok(()) };
        let (times, changed) = match self.outcome(inode, writing).await {
            // Without its extent there is nothing to be learnt: what the record says stays.
            Err(error) if error.kind() == FsErrorKind::Stale => (FileTimes::default(), false),
            outcome => outcome?,
        };
        match self.names.write_closed(inode.ino, times, changed).await {
            // Without its record there is nobody to be told.
            Err(error) if error.kind() == FsErrorKind::Stale => {}
            closed => closed?,
        }
        if let Ok(policy) = self.names.policy(inode.ino).await {
            // Counts once the bytes can be had again from the under file system.
            self.client.rank(writing.extent, policy.priority);
        }
        self.client.end_write(writing.extent, changed);
        let grown = i64::try_from(times.len).unwrap_or(i64::MAX).saturating_sub_unsigned(writing.first_len);
        inode.set_kernel_writes(false);
        state.writing = None;
        inode.set_writing(false);
        if changed {
            self.charge_quota(inode.ino, grown).await;
        }
        Ok(())
    }

    /// Writers who were taken for closed for a while are writers again.
    async fn resume_writing(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        if state.is_write_open() {
            return Ok(());
        }
        self.begin_writing(inode, state).await?;
        inode.set_kernel_writes(matches!(state.mode, Mode::Passthrough(_)));
        Ok(())
    }

    /// What the record is to say after a write, and whether anything was changed.
    async fn outcome(&self, inode: &OpenInode, writing: &mut Writing) -> FsResult<(FileTimes, bool)> {
        if writing.baseline.is_none() {
            return Ok((FileTimes::default(), false));
        }
        let now = self.client.adopt(writing.extent).await?;
        writing.changed |= inode.take_touched() | writing.differs(&now);
        Ok((now, writing.changed || (inode.has_kernel_writes() && writing.ambiguous)))
    }

    /// An inode has lost its last name: its bytes go, at once or with its last handle.
    pub(crate) async fn reap(&self, ino: Ino) {
        let inode = self.opens.enter(ino);
        inode.set_unlinked(true);
        if let Err(error) = self.settle(inode).await {
            tracing::warn!(%ino, %error, "an unlinked file could not be settled yet");
        }
        self.room_from_discards().await;
    }

    async fn discard_unlinked(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let extent = self.extent_of(inode, state).await?;
        self.doom(Doomed { ino: inode.ino, extent });
        state.writing = None;
        inode.set_writing(false);
        inode.set_unlinked(false);
        Ok(())
    }

    async fn extent_of(&self, inode: &OpenInode, state: &OpenState) -> FsResult<Option<ExtentId>> {
        if let Some(writing) = &state.writing {
            return Ok(Some(writing.extent));
        }
        let recorded = match self.names.content(inode.ino).await {
            Err(error) if error.kind() == FsErrorKind::Stale => None,
            location => location?.extent,
        };
        Ok(recorded.or_else(|| inode.location().ok()?.extent))
    }

    /// Settles an inode behind the scenes, for as long as it takes. One task an inode does.
    pub(crate) fn settle_behind(&self, inode: InodeRef) {
        // Off the shards the process is at its end, and the next start settles what is left.
        if forebay_shard::current().is_none() || !inode.begin_settling() {
            return;
        }
        let vfs = Weak::clone(&self.this);
        forebay_shard::spawn(async move {
            let attempts = pin!(settle_repeatedly(vfs, &inode));
            if let Either::Right(_) = select(attempts, forebay_shard::stop_requested()).await {
                tracing::warn!(ino = %inode.ino, "a file is left to the next start to settle");
            }
        });
    }
}

async fn settle_repeatedly(vfs: Weak<Vfs>, inode: &InodeRef) {
    let mut pause = PAUSE_FIRST;
    loop {
        let Some(vfs) = vfs.upgrade() else { return };
        // Whoever fails from here on may start a task of its own: nobody is to rely on one that is about to end.
        inode.end_settling();
        let settled = async {
            let mut state = vfs.turn(inode).await?;
            vfs.settle_in_turn(inode, &mut state).await
        };
        let Err(error) = settled.await else { return };
        tracing::warn!(ino = %inode.ino, %error, "a file cannot be settled yet");
        if !inode.begin_settling() {
            return;
        }
        drop(vfs);
        forebay_shard::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
