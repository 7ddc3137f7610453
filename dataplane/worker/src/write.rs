//! Writing: into the extent, nowhere else.
//!
//! **Owns** what goes before and after the store's own write: the extent loses its clean identity before the first
//! byte, and a page that is absent and changed in part is fetched first.
//!
//! **Never does** tell the name space: what a write did to the size and times of a file is read from the extent
//! by whoever asks ([`Worker::adopt`]).

use crate::Worker;
use crate::counters::add;
use crate::later::{Taken, Unsettled};
use crate::place::{BUSY_LOOKS, BUSY_PAUSE, content_of};
use crate::sessions::Session;
use forebay_shard::{Allocate, Frame};
use forebay_store::{Authority, Extent, ExtentSpec, Hold, Reservation, StoreError};
use forebay_types::{
    ContentKey, ContentLocation, ExtentId, FileTimes, FsError, FsErrorKind, FsResult, PageChecksum, PageIndex,
};
use forebay_wire::{AllocateMode, Reply};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long a removal waits for its space on a tier that is nearly full.
const UNLINK_WAIT: Duration = Duration::from_secs(5);

impl Worker {
    /// An empty extent for a new file.
    pub(crate) async fn create(&self) -> FsResult<ExtentId> {
        let promised = self.room_to_write(self.config.reserve.as_u64()).await?;
        let extent = self.store.create(ExtentSpec::BORN_HERE).await?;
        extent.note_writer();
        let begun = (Vec::new(), extent.writers());
        let session = Session::new(extent.hold(Hold::Dirty)?, begun, None, promised);
        self.sessions.begin(extent.id(), session);
        Ok(extent.id())
    }

    /// Gives a file a writable extent. When this returns, its bytes are found by the extent's id only.
    pub(crate) async fn begin_write(&self, at: &ContentLocation) -> FsResult<ExtentId> {
        let mut promised = self.room_to_write(self.config.reserve.as_u64()).await?;
        for _ in 0..BUSY_LOOKS {
            match self.try_begin_write(at, &mut promised).await {
                // It is being moved or evicted in this moment; it, or what takes its place, is ours the next.
                Err(StoreError::Busy { .. } | StoreError::Gone(_)) => forebay_shard::sleep(BUSY_PAUSE).await,
                other => return other?,
            }
        }
        Err(FsError::new(FsErrorKind::Busy, "the file's extent was in use for too long"))
    }

    /// The outer errors are those of the store that may pass; the inner are for the caller.
    async fn try_begin_write(
        &self,
        at: &ContentLocation,
        promised: &mut Reservation,
    ) -> Result<FsResult<ExtentId>, StoreError> {
        let extent = match self.find_extent(at) {
            Ok(Some(extent)) => extent,
            Ok(None) => self.extent_to_write(at).await?,
            Err(error) => return Ok(Err(error)),
        };
        let id = extent.id();
        let _turn = match self.sessions.turn(id, self.config.turn_within).await {
            Ok(turn) => turn,
            Err(error) => return Ok(Err(error)),
        };
        if self.sessions.get(id).is_some() {
            return Ok(Ok(id));
        }
        let mut keys = extent.keys();
        keys.extend(self.sessions.take_returning(id));
        keys.extend(self.carried_as(at, &extent));
        if extent.authority() == Authority::Origin {
            self.store.unbind_all(id).await?;
        }
        // Looked up again: it may have been moved to where it can be written.
        let extent = self.store.get(id).ok_or(StoreError::Gone(id))?;
        let held = extent.hold(Hold::Dirty)?;
        let kept_since = if extent.is_complete() { None } else { Some(extent.stat()?.mtime) };
        extent.note_writer();
        let promised = promised.split(promised.len()).expect("a whole has a part of its length");
        let begun = (keys, extent.writers());
        self.sessions.begin(id, Session::new(held, begun, kept_since, promised));
        Ok(Ok(id))
    }

    /// The bytes that an extent had when `writers` had begun on it are those of `content`: it is clean by that, unless
    /// somebody has written since. The one writer who has it open, alone since, may still give them back.
    pub(crate) async fn settle(
        &self,
        id: ExtentId,
        content: ContentKey,
        (checksums, writers): (&[PageChecksum], u64),
    ) -> FsResult<()> {
        let _turn = self.sessions.turn(id, self.config.turn_within).await?;
        let (extent, session) = (self.extent(id)?, self.sessions.get(id));
        if session.is_some_and(|session| session.carried(content, writers, || extent.writers())) {
            return Ok(());
        }
        // Nobody writes, and whoever ended until now has counted himself out before.
        if extent.writers() == writers {
            self.store.settle(id, content, checksums).await?;
        } else {
            tracing::debug!(extent = %id, "it was written again before it was bound: it stays ours");
        }
        Ok(())
    }

    /// As [`Self::settle`], for what was taken to be settled. It is told of until that is done.
    pub(crate) async fn settle_taken(&self, taken: Taken) -> FsResult<()> {
        let Unsettled { content, id, checksums, writers, .. } = taken.one();
        let settled = self.settle(*id, *content, (checksums, *writers)).await;
        match settled.as_ref().map_err(FsError::kind) {
            // It waits again.
            Err(FsErrorKind::Overloaded | FsErrorKind::Busy) => return settled,
            Ok(()) | Err(FsErrorKind::Stale) => {}
            Err(_) => self.give_up(*id, *writers).await,
        }
        taken.done();
        settled
    }

    /// What cannot be settled is taken away: the under file system has it, and where nothing finds it, it takes room for nobody.
    async fn give_up(&self, id: ExtentId, writers: u64) {
        let Ok(_turn) = self.sessions.turn(id, self.config.turn_within).await else { return };
        let Ok(extent) = self.extent(id) else { return };
        let in_use = self.sessions.get(id).is_some() || extent.held(Hold::OpenPassthrough) > 0;
        if !in_use && extent.writers() == writers {
            // It may be gone in this moment, which is as well.
            let _ = self.store.remove(id).await;
        }
    }

    /// Settles what was to be settled later as `content`, if there is such.
    pub(crate) async fn settle_now(&self, content: ContentKey) -> FsResult<()> {
        match self.later.take(content, |_| true) {
            Some(taken) => self.settle_taken(taken).await,
            None => Ok(()),
        }
    }

    /// Whether nobody minds that an extent is not settled: a daemon that takes over knows those that are open by what the store says
    /// of them.
    pub(crate) fn may_wait(&self, one: &Unsettled) -> bool {
        let is_open = |extent: Arc<Extent>| extent.held(Hold::OpenPassthrough) > 0;
        self.sessions.get(one.id).is_none() && !self.store.get(one.id).is_some_and(is_open)
    }

    /// The content that an extent has without being settled, as long as nobody has written to it since: if its next writer, whose
    /// turn it is, changes nothing, it has that again.
    fn carried_as(&self, at: &ContentLocation, extent: &Arc<Extent>) -> Option<ContentKey> {
        let is_it = |one: &Unsettled| one.id == extent.id() && one.writers == extent.writers();
        let taken = self.later.take(content_of(at)?, is_it)?;
        let content = taken.one().content;
        taken.done();
        Some(content)
    }

    /// What is found by `known` is found by `also` as well. Nothing happens if it is not found any more: somebody
    /// writes to it, or it was evicted.
    pub(crate) async fn bind_also(&self, known: ContentKey, also: ContentKey) -> FsResult<()> {
        self.settle_now(known).await?;
        let Some(id) = self.store.find(&known).map(|extent| extent.id()) else { return Ok(()) };
        let _turn = self.sessions.turn(id, self.config.turn_within).await?;
        // Looked up again: a writer takes the keys away in its turn, before its first byte.
        let still = self.store.find(&known).is_some_and(|extent| extent.id() == id);
        if still && self.sessions.get(id).is_none() {
            self.store.bind(id, also).await?;
        }
        Ok(())
    }

    /// A new extent for a file that has none: as long as the file, and nothing of it here.
    async fn extent_to_write(&self, at: &ContentLocation) -> Result<Arc<Extent>, StoreError> {
        if let Some(content) = content_of(at) {
            return self.store.create(ExtentSpec::fetched(content, at.size)).await;
        }
        let extent = self.store.create(ExtentSpec::BORN_HERE).await?;
        if at.size > 0 {
            extent.set_len(at.size).await?;
        }
        Ok(extent)
    }

    /// The extent of a location that is open for write.
    fn written(&self, at: &ContentLocation) -> FsResult<Arc<Extent>> {
        let unwritable = || FsError::new(FsErrorKind::Invalid, "the location has no writable extent");
        self.extent(at.extent.ok_or_else(unwritable)?)
    }

    pub(crate) fn note_change(&self, extent: ExtentId) {
        if let Some(session) = self.sessions.get(extent) {
            session.changed();
            session.renew();
        }
    }

    /// Writes the whole frame; hands it back if the rest of a page could not be had.
    pub(crate) async fn write(&self, at: &ContentLocation, offset: u64, frame: Frame) -> FsResult<Reply> {
        let (extent, len) = (self.written(at)?, frame.len() as u64);
        let end = offset.checked_add(len).ok_or(FsErrorKind::FileTooLarge)?;
        if len == 0 {
            return Ok(Reply::Len(0));
        }
        if let Err(error) = self.bring_edges(at, &extent, offset..end).await {
            return Ok(Reply::Unwritten { error, frame });
        }
        // The store counts the bytes themselves from here on.
        drop(self.room_for(extent.id(), len).await?);
        self.write_frame(&extent, frame, offset).await?;
        self.note_change(extent.id());
        add(&self.counters.written_bytes, len);
        Ok(Reply::Len(len))
    }

    /// Has the absent pages that `range` covers in part put into the extent.
    async fn bring_edges(
        &self,
        at: &ContentLocation,
        extent: &Arc<Extent>,
        range: Range<u64>,
    ) -> FsResult<()> {
        let edges = absent_edges(extent, &range);
        if edges.is_empty() {
            return Ok(());
        }
        self.bring_for_write(at, &edges).await?;
        if absent_edges(extent, &range).is_empty() {
            return Ok(());
        }
        Err(FsError::new(FsErrorKind::NoSpace, "the rest of a page cannot be kept: the tiers are full"))
    }

    /// Sets the length. What is cut of the under file system's bytes is never fetched again.
    pub(crate) async fn truncate(&self, at: &ContentLocation, len: u64) -> FsResult<()> {
        let extent = self.written(at)?;
        extent.set_len(len).await?;
        self.note_change(extent.id());
        Ok(())
    }

    /// Reserves, frees or zeroes a range.
    pub(crate) async fn allocate(
        &self,
        at: &ContentLocation,
        mode: AllocateMode,
        range: Range<u64>,
    ) -> FsResult<()> {
        let extent = self.written(at)?;
        if range.is_empty() {
            return Err(FsErrorKind::Invalid.into());
        }
        if mode.zeroes() {
            self.bring_edges(at, &extent, range.start..range.end.min(extent.len())).await?;
        }
        let mode = match mode {
            AllocateMode::Grow => Allocate::Reserve { keep_size: false },
            AllocateMode::KeepSize => Allocate::Reserve { keep_size: true },
            AllocateMode::PunchHole => Allocate::PunchHole,
            AllocateMode::ZeroRange => Allocate::ZeroRange { keep_size: false },
            AllocateMode::ZeroRangeKeepSize => Allocate::ZeroRange { keep_size: true },
        };
        extent.allocate(mode, range.start, range.end - range.start).await?;
        self.note_change(extent.id());
        Ok(())
    }

    /// Makes all that was written durable.
    pub(crate) async fn sync(&self, at: &ContentLocation) -> FsResult<()> {
        match at.extent {
            Some(id) => {
                let _syncing = self.sessions.get(id).map(Session::begin_sync);
                Ok(self.extent(id)?.sync().await?)
            }
            None => Ok(()),
        }
    }

    /// Length, times and blocks of an extent that is or was open for write.
    pub(crate) fn adopt(&self, id: ExtentId) -> FsResult<FileTimes> {
        let extent = self.extent(id)?;
        if let Some(times) = self.sessions.get(id).and_then(|session| session.times(extent.len())) {
            return Ok(times);
        }
        let stat = if extent.authority() == Authority::Here { extent.adopt()? } else { extent.stat()? };
        Ok(FileTimes { len: stat.len, mtime: stat.mtime, ctime: stat.ctime, blocks_512: stat.blocks_512 })
    }

    /// Frees an extent.
    pub(crate) async fn discard(&self, id: ExtentId) -> FsResult<()> {
        self.sessions.end(id);
        let room_is_short = !self.has_room();
        match self.store.remove(id).await {
            Ok(()) | Err(StoreError::Gone(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if room_is_short {
            // Whoever freed it is about to write something else there.
            self.store.wait_unlinked(UNLINK_WAIT).await;
        }
        Ok(())
    }
}

/// The absent pages that `range` changes in part: only the first and the last can be such.
fn absent_edges(extent: &Arc<Extent>, range: &Range<u64>) -> Vec<PageIndex> {
    if range.is_empty() {
        return Vec::new();
    }
    let size = extent.page_size();
    let mut edges = vec![size.page_of(range.start), size.page_of(range.end - 1)];
    edges.dedup();
    edges.retain(|page| {
        let start = size.start_of(*page);
        let end = start + size.len_of(*page, extent.origin_len());
        let in_part = range.start > start || range.end < end;
        in_part && !extent.is_resident(start..start + 1)
    });
    edges
}
