//! Opening: which mode an inode gets, and how it becomes open for write.
//!
//! **Owns** the steps of an open. The first open of an inode chooses its mode, every later one repeats it. The first
//! writer makes the inode `write-open` in the home's log before anybody gets a handle; from then on its extent file
//! is the authority for size and times.
//!
//! **Why this shape:** an open may fail, or be given up, between any two steps. It leaves a mark of each step in the
//! inode *before* the next one ([`Writing::beginning`]), and holds an [`Unsettled`] that has the inode settled
//! ([`crate::closes`]) unless the open came to its end. So a failure needs no undoing of its own at each step.

use crate::Vfs;
use crate::handles::{FileHandle, HeldInode};
use crate::open_inode::{Mode, OpenInode, OpenState, Writing};
use crate::table::InodeRef;
use crate::types::{IoMode, OpenFlags, Opened};
use forebay_client::ReadPolicy;
use forebay_types::{
    Attr, Clock, ContentLocation, FileKind, FileTimes, FsErrorKind, FsResult, Generation, Ino, SystemClock,
    TimeSpec,
};
use std::time::Duration;

/// The longest tick of the clock that file times are taken from (a kernel of 100 Hz, doubled). Two writes within one
/// may leave the same time.
pub(crate) const FILE_TIME_TICK: Duration = Duration::from_millis(20);

/// Has an inode settled when it is dropped, unless told that there is no need.
pub(crate) struct Unsettled<'v> {
    vfs: &'v Vfs,
    inode: Option<InodeRef>,
}

impl<'v> Unsettled<'v> {
    pub(crate) fn new(vfs: &'v Vfs, inode: &InodeRef) -> Self {
        Self { vfs, inode: Some(inode.clone()) }
    }

    /// The operation came to its end: the inode is as its handles say.
    pub(crate) fn settled(mut self) {
        self.inode = None;
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(inode) = self.inode.take() {
            self.vfs.settle_behind(inode);
        }
    }
}

impl Vfs {
    /// Opens `inode` and gives out a handle.
    pub(crate) async fn open_inode(&self, inode: InodeRef, flags: OpenFlags) -> FsResult<Opened> {
        let unsettled = flags.write.then(|| Unsettled::new(self, &inode));
        let mut state = self.turn(&inode).await?;
        if inode.users().handles == 0 {
            self.open_idle(&inode, &mut state).await?;
        }
        if flags.write {
            self.begin_writing(&inode, &mut state).await?;
            if flags.truncate {
                inode.touch();
                self.client.truncate(&*inode.location()?, 0).await?;
            }
        }
        let held = HeldInode::take(self, inode.ino).await?;
        self.sync_begun(&inode, flags).await?;
        let opened = self.hand_out(&inode, &mut state, flags, held)?;
        if let Some(unsettled) = unsettled {
            unsettled.settled();
        }
        Ok(opened)
    }

    /// Opens what was just made, open for write in the log already: whatever the caller asked for, the handle counts
    /// as a writer's, so that the bytes are found again if the daemon dies before the first close.
    pub(crate) async fn open_born(
        &self,
        inode: InodeRef,
        baseline: FileTimes,
        flags: OpenFlags,
    ) -> FsResult<Opened> {
        let unsettled = Unsettled::new(self, &inode);
        let mut state = self.turn(&inode).await?;
        if !state.is_write_open() && self.is_write_open_in_log(inode.ino).await? {
            let location = self.names.content(inode.ino).await?;
            inode.take_born();
            start_writing(&inode, &mut state, location, baseline)?;
        }
        // Somebody else may have opened and closed it since it got its name.
        self.begin_writing(&inode, &mut state).await?;
        let held = HeldInode::take(self, inode.ino).await?;
        self.sync_begun(&inode, flags).await?;
        let opened = self.hand_out(&inode, &mut state, OpenFlags { write: true, ..flags }, held)?;
        unsettled.settled();
        Ok(opened)
    }

    /// Through a handle of `O_SYNC` or `O_DSYNC` the kernel may write and sync the extent file without asking: its entry,
    /// the name, and that the file is open for write are on disk before anybody has the handle.
    async fn sync_begun(&self, inode: &OpenInode, flags: OpenFlags) -> FsResult<()> {
        if !(flags.sync && flags.write) {
            return Ok(());
        }
        self.client.sync(&*inode.location()?).await?;
        self.names.sync().await
    }

    /// Whether the log surely has an inode as open for write: nothing else makes its attributes expire at once on a
    /// mount where they are believed for a while.
    async fn is_write_open_in_log(&self, ino: Ino) -> FsResult<bool> {
        let (_, ttl) = self.names.attr(ino).await?;
        Ok(ttl.is_zero() && !self.names.policy(ino).await?.metadata_ttl.0.is_zero())
    }

    /// Chooses the mode and makes the handle. Nothing waits here, so a handle is counted if and only if it is given
    /// out.
    fn hand_out(
        &self,
        inode: &InodeRef,
        state: &mut OpenState,
        flags: OpenFlags,
        held: HeldInode,
    ) -> FsResult<Opened> {
        let mode = self.choose_mode(inode, state)?;
        if flags.write && matches!(mode, IoMode::Passthrough(_)) {
            inode.set_kernel_writes(true);
        }
        self.opens.opened(&mode, inode.location().map_or(0, |location| location.size));
        let handle = self.handles.add_file(FileHandle::new(self, inode.clone(), flags, held));
        Ok(Opened { handle, mode })
    }

    /// Looks at an inode that nobody has open.
    async fn open_idle(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let (attr, _) = self.names.attr(inode.ino).await?;
        openable(&attr)?;
        let reads = self.names.prefixed_reads(inode.ino).await?;
        let reads =
            reads.map(|(mode, admission, priority)| ReadPolicy { mode, admission, priority: Some(priority) });
        self.client.set_file_read_policy(inode.ino, reads);
        state.mode = Mode::Idle;
        if state.writing.is_none() {
            inode.set_location(self.names.content(inode.ino).await?);
        }
        Ok(())
    }

    /// Repeats the mode of an open inode, or chooses one: passthrough if the file is wholly here.
    fn choose_mode(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<IoMode> {
        if let Some(mode) = state.io_mode() {
            return Ok(mode);
        }
        let location = inode.location()?;
        let backing = if self.config.passthrough { self.client.backing(&location) } else { None };
        state.mode = match backing {
            Some(backing) => Mode::Passthrough(backing),
            // Bytes that never changed here are still what the page cache has of this inode: another version
            // would be another inode.
            None => {
                Mode::Cached { keep_cache: location.generation == Generation(0) && state.writing.is_none() }
            }
        };
        state.io_mode().ok_or_else(|| FsErrorKind::Stale.into())
    }

    /// Makes the inode write-open: a writable extent first, then the home's log, then nobody is told anything
    /// else. From here to its settling the extent file is the authority for size and times.
    pub(crate) async fn begin_writing(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        if state.is_write_open() {
            return Ok(());
        }
        let mut here = self.names.content(inode.ino).await?;
        if let Mode::Passthrough(backing) = &state.mode {
            // What the kernel has open is what will be written, also if it was carried to the UFS a moment ago and is
            // just changing from what is ours to what is found by its content.
            here.extent = Some(backing.extent());
        }
        let extent = match self.with_room(async || self.client.begin_write(&here).await).await {
            Err(error) if error.kind() == FsErrorKind::Stale => {
                // It was carried to the UFS and evicted between the two calls, or it is lost.
                let moved = self.names.content(inode.ino).await?;
                if moved == here {
                    return Err(error);
                }
                self.client.begin_write(&moved).await?
            }
            begun => begun?,
        };
        inode.take_born();
        state.writing = Some(Writing::beginning(extent));
        let baseline = self.client.adopt(extent).await?;
        if inode.has_kernel_writes() {
            // What was written to it from before our time until now is not in the record yet.
            self.names.update_written(inode.ino, baseline).await?;
            inode.touch();
        }
        let location = self.names.write_opened(inode.ino, Some(extent), Some(baseline.mtime)).await?;
        start_writing(inode, state, location, baseline)
    }

    /// Brings the record up to date with the extent file, if it differs.
    pub(crate) async fn fold(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let Some(writing) = state.writing.as_mut().filter(|writing| writing.baseline.is_some()) else {
            return Ok(());
        };
        let now = self.client.adopt(writing.extent).await?;
        writing.changed |= inode.take_touched();
        if writing.differs(&now) {
            writing.changed = true;
            self.names.update_written(inode.ino, now).await?;
            writing.baseline = Some(now);
        }
        Ok(())
    }
}

/// Notes that the log says an inode is open for write. What the page cache has of it may be kept no longer than
/// the handles that are open now.
pub(crate) fn start_writing(
    inode: &OpenInode,
    state: &mut OpenState,
    location: ContentLocation,
    baseline: FileTimes,
) -> FsResult<()> {
    let extent = location.extent.ok_or(FsErrorKind::Stale)?;
    inode.set_location(location);
    let changed = inode.take_touched();
    inode.set_published(false);
    let ambiguous = is_within_tick(baseline.ctime, SystemClock.now());
    let first_len = baseline.len;
    state.writing = Some(Writing {
        baseline: Some(baseline),
        first_len,
        changed,
        ambiguous,
        ..Writing::beginning(extent)
    });
    inode.set_writing(true);
    if let Mode::Cached { keep_cache } = &mut state.mode {
        *keep_cache = false;
    }
    Ok(())
}

/// Whether a change at `now` could bear the time `then`.
pub(crate) fn is_within_tick(then: TimeSpec, now: TimeSpec) -> bool {
    let nanos = |at: TimeSpec| i128::from(at.secs) * 1_000_000_000 + i128::from(at.nanos);
    nanos(now) - nanos(then) < FILE_TIME_TICK.as_nanos() as i128
}

/// Refuses what has no bytes to open, and an inode that went with its last name while nobody had it open.
fn openable(attr: &Attr) -> FsResult<()> {
    match attr.kind {
        FileKind::Regular if attr.nlink > 0 => Ok(()),
        FileKind::Regular => Err(FsErrorKind::Stale.into()),
        FileKind::Directory => Err(FsErrorKind::IsADirectory.into()),
        _ => Err(FsErrorKind::Invalid.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_this_tick_is_ambiguous_and_an_older_one_is_not() {
        let at = |secs, nanos| TimeSpec { secs, nanos };
        assert!(is_within_tick(at(10, 0), at(10, 19_999_999)));
        assert!(!is_within_tick(at(10, 0), at(10, 20_000_000)));
        assert!(is_within_tick(at(9, 999_999_999), at(10, 1)));
        assert!(is_within_tick(at(11, 0), at(10, 0)), "a clock that was set back proves nothing");
    }
}
