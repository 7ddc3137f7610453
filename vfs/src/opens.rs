//! The table of open inodes, and the steps of open and close.
//!
//! **Owns** which inodes are open and in which mode, and the transitions: the first open chooses, every later
//! one repeats, the last close ends it; the first writer makes the inode `write-open` in the home's log before
//! it gets its handle, the last writer's close settles size and times.
//!
//! **Why this shape:** mixed modes on one inode give EIO and closed backing ids give EIO, so a choice may depend
//! on nothing but this table. An entry lives exactly as long as somebody refers to it ([`InodeRef`]).

use crate::Vfs;
use crate::open_inode::{Mode, OpenInode, OpenState, Writing};
use crate::types::{IoMode, OpenFlags};
use forebay_types::{ContentLocation, FsErrorKind, FsResult, Generation, Ino};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Spreads the table's locks; a power of two well above the number of cores.
const TABLE_SLICES: usize = 64;
const _: () = assert!(TABLE_SLICES.is_power_of_two());

type Slice = Mutex<HashMap<Ino, Arc<OpenInode>>>;

/// The inodes somebody has open or is busy with.
pub(crate) struct OpenTable {
    slices: Box<[Slice]>,
    passthrough: AtomicU64,
    cached: AtomicU64,
    open_now: AtomicU64,
}

impl Default for OpenTable {
    fn default() -> Self {
        let slices = (0..TABLE_SLICES).map(|_| Slice::default()).collect();
        Self { slices, passthrough: 0.into(), cached: 0.into(), open_now: 0.into() }
    }
}

/// Opens since start by mode, and handles open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenCounts {
    /// Opens answered with passthrough.
    pub passthrough: u64,
    /// Opens answered with the cached mode.
    pub cached: u64,
    /// Handles open now.
    pub open_now: u64,
}

/// Keeps an inode in the table. Not `Clone`: only the table makes one, under the slice's lock, so that the last
/// one to go is recognised.
pub(crate) struct InodeRef<'t> {
    table: &'t OpenTable,
    inode: Arc<OpenInode>,
}

impl OpenTable {
    fn slice(&self, ino: Ino) -> &Slice {
        // The low bits of allocated numbers count up and those of derived ones are a hash: both spread.
        &self.slices[ino.0 as usize & (TABLE_SLICES - 1)]
    }

    /// The entry of `ino`, made if there is none.
    pub(crate) fn enter(&self, ino: Ino) -> InodeRef<'_> {
        let mut slice = self.slice(ino).lock();
        let inode = slice.entry(ino).or_insert_with(|| Arc::new(OpenInode::new(ino)));
        InodeRef { table: self, inode: Arc::clone(inode) }
    }

    /// The entry of `ino` if somebody has it open.
    pub(crate) fn peek(&self, ino: Ino) -> Option<InodeRef<'_>> {
        let slice = self.slice(ino).lock();
        slice.get(&ino).map(|inode| InodeRef { table: self, inode: Arc::clone(inode) })
    }

    fn leave(&self, inode: &Arc<OpenInode>) {
        let mut slice = self.slice(inode.ino).lock();
        // The table's own reference, and the one that is going.
        if Arc::strong_count(inode) == 2 {
            slice.remove(&inode.ino);
        }
    }

    pub(crate) fn count(&self, mode: &IoMode) {
        match mode {
            IoMode::Passthrough(_) => self.passthrough.fetch_add(1, Relaxed),
            IoMode::Cached { .. } | IoMode::Direct => self.cached.fetch_add(1, Relaxed),
        };
        self.open_now.fetch_add(1, Relaxed);
    }

    pub(crate) fn counts(&self) -> OpenCounts {
        OpenCounts {
            passthrough: self.passthrough.load(Relaxed),
            cached: self.cached.load(Relaxed),
            open_now: self.open_now.load(Relaxed),
        }
    }
}

impl Deref for InodeRef<'_> {
    type Target = OpenInode;
    fn deref(&self) -> &OpenInode {
        &self.inode
    }
}

impl Drop for InodeRef<'_> {
    fn drop(&mut self) {
        self.table.leave(&self.inode);
    }
}

impl InodeRef<'_> {
    /// The inode for a handle to keep; [`Vfs::drop_inode`] gives it back.
    pub(crate) fn keep(self) -> Arc<OpenInode> {
        Arc::clone(&self.inode)
    }
}

impl Vfs {
    /// Opens `ino`: counts the handle, chooses or repeats the mode, makes the inode write-open for a writer.
    pub(crate) async fn open_inode(&self, ino: Ino, flags: OpenFlags) -> FsResult<(Arc<OpenInode>, IoMode)> {
        let inode = self.opens.enter(ino);
        let mut state = inode.lock(self.config.inode_wait_max).await?;
        if state.handles == 0 {
            inode.set_location(self.names.content(ino).await?);
        }
        if flags.write && state.writing.is_none() {
            self.begin_writing(&inode, &mut state).await?;
        }
        if flags.write && flags.truncate {
            self.client.truncate(&*inode.location()?, 0).await?;
        }
        let mode = self.choose_mode(&inode, &mut state)?;
        state.handles += 1;
        state.writers += u32::from(flags.write);
        self.opens.count(&mode);
        drop(state);
        self.names.hold(ino);
        Ok((inode.keep(), mode))
    }

    /// Repeats the mode of an open inode, or chooses one: passthrough if the file is wholly here.
    pub(crate) fn choose_mode(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<IoMode> {
        if let Some(mode) = state.io_mode() {
            return Ok(mode);
        }
        let location = inode.location()?;
        let backing = if self.config.passthrough { self.client.backing(&location) } else { None };
        state.mode = match backing {
            Some(backing) => Mode::Passthrough(backing),
            // Bytes that never changed here are still what the page cache has of this inode: another version
            // would be another inode.
            None => Mode::Cached { keep_cache: location.generation == Generation(0) },
        };
        state.io_mode().ok_or_else(|| FsErrorKind::Stale.into())
    }

    /// Makes the inode write-open: a writable extent first, then the home's log, then nobody is told anything
    /// else. From here to [`Vfs::end_writing`] the extent file is the authority for size and times.
    pub(crate) async fn begin_writing(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let here = self.names.content(inode.ino).await?;
        let target = self.client.begin_write(&here).await?;
        let location = self.names.write_opened(inode.ino, Some(target)).await?;
        self.start_writing(inode, state, location).await
    }

    /// Takes the baseline of an inode that the log says is write-open.
    pub(crate) async fn start_writing(
        &self,
        inode: &OpenInode,
        state: &mut OpenState,
        location: ContentLocation,
    ) -> FsResult<()> {
        let extent = location.extent.ok_or(FsErrorKind::Stale)?;
        let baseline = self.client.adopt(extent).await?;
        inode.set_location(location);
        state.writing = Some(Writing { extent, baseline, changed: false });
        Ok(())
    }

    /// Brings the record up to date with the extent file, if it differs.
    pub(crate) async fn fold(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let Some(writing) = &mut state.writing else { return Ok(()) };
        let now = self.client.adopt(writing.extent).await?;
        if writing.differs(&now) {
            self.names.update_written(inode.ino, now).await?;
            writing.baseline = now;
            writing.changed = true;
        }
        Ok(())
    }

    /// The last writer is gone: the record takes over from the extent file again.
    pub(crate) async fn end_writing(&self, inode: &OpenInode, state: &mut OpenState) -> FsResult<()> {
        let Some(writing) = state.writing.take() else { return Ok(()) };
        let now = self.client.adopt(writing.extent).await?;
        let changed = writing.changed || writing.differs(&now);
        if changed && writing.differs(&now) {
            self.names.update_written(inode.ino, now).await?;
        }
        self.names.write_closed(inode.ino, now, changed).await?;
        self.client.end_write(writing.extent, changed);
        Ok(())
    }

    /// Closes one handle of an inode.
    pub(crate) async fn close_inode(&self, inode: Arc<OpenInode>, was_writer: bool) -> FsResult<()> {
        let result = self.close_steps(&inode, was_writer).await;
        self.names.unhold(inode.ino);
        self.opens.open_now.fetch_sub(1, Relaxed);
        self.drop_inode(inode);
        result
    }

    async fn close_steps(&self, inode: &OpenInode, was_writer: bool) -> FsResult<()> {
        let mut state = inode.lock(self.config.inode_wait_max).await?;
        state.handles -= 1;
        state.writers -= u32::from(was_writer);
        let unlinked_for_good = state.unlinked && state.handles == 0;
        if state.writers == 0 && !unlinked_for_good {
            self.end_writing(inode, &mut state).await?;
        }
        if state.handles == 0 {
            state.mode = Mode::Idle;
        }
        if unlinked_for_good {
            state.writing = None;
            self.discard_unlinked(inode).await?;
        }
        Ok(())
    }

    /// Gives back what [`InodeRef::keep`] gave out.
    pub(crate) fn drop_inode(&self, inode: Arc<OpenInode>) {
        drop(InodeRef { table: &self.opens, inode });
    }

    /// Frees the bytes of an inode that lost its last name; at once, or with its last handle.
    pub(crate) async fn reap(&self, ino: Ino) -> FsResult<()> {
        let inode = self.opens.enter(ino);
        let mut state = inode.lock(self.config.inode_wait_max).await?;
        if state.handles > 0 {
            state.unlinked = true;
            return Ok(());
        }
        if let Ok(location) = self.names.content(ino).await {
            inode.set_location(location);
        }
        self.discard_unlinked(&inode).await
    }

    async fn discard_unlinked(&self, inode: &OpenInode) -> FsResult<()> {
        // The bytes go first: a crash in between leaves an orphan record, which recovery finds and repeats.
        if let Some(extent) = inode.location().ok().and_then(|location| location.extent) {
            self.client.discard(extent).await?;
        }
        self.names.release_orphan(inode.ino).await
    }
}
