//! The calls of a front door, each one message to the worker that holds the bytes.

use crate::readahead::Ahead;
use crate::{Backing, Client, Progress, unexpected};
use forebay_net::Local;
use forebay_shard::Frame;
use forebay_types::limits::IO_LEN_MAX;
use forebay_types::{ContentLocation, ExtentId, FileTimes, FsError, FsResult};
use forebay_wire::{AllocateMode, Op, ReadPolicy, Reply, SeekTo};
use futures_util::stream::{self, StreamExt, TryStreamExt};

/// One call of [`Client::complete`] to a worker: long enough to keep the way to the under file system full,
/// short enough for progress to show and for its deadline to mean something.
const COMPLETE_SLICE: u64 = 64 << 20;
/// Slices of one file under way, so that the way stays full over the border of two.
const COMPLETE_SLICES_AT_ONCE: usize = 2;

/// Waits for the reply of one operation; any other is a fault.
macro_rules! expect_reply {
    ($reply:expr, $pattern:pat => $value:expr) => {
        match $reply {
            $pattern => Ok($value),
            other => Err(unexpected(&other)),
        }
    };
}

impl Client {
    /// Reads up to `len` bytes, at most [`IO_LEN_MAX`]; fewer only at the end of the file. Reads ahead.
    ///
    /// # Errors
    /// `Stale` if the under file system has another version by now, or the extent of the location was carried
    /// there and evicted meanwhile: look the location up again. `Unavailable`, `TimedOut`, `Overloaded` may pass.
    pub async fn read(&self, at: &ContentLocation, offset: u64, len: usize) -> FsResult<Frame> {
        self.read_into(at, offset, len, None).await
    }

    /// As [`Client::read`]; the bytes come in the frame `into` where that can be without a copy of its own, else in
    /// another one.
    ///
    /// # Errors
    /// Those of [`Client::read`]; the frame is lost.
    pub async fn read_into(
        &self,
        at: &ContentLocation,
        offset: u64,
        len: usize,
        into: Option<Frame>,
    ) -> FsResult<Frame> {
        let len = len.min(IO_LEN_MAX.as_usize());
        let policy = self.read_policy(at);
        let read = self.call(Op::Read { at, offset, len, policy, into }, self.config.io_within);
        // What was born here has no under file system to read ahead from.
        let ahead = at.ufs.as_ref().and_then(|_| {
            let end = offset.saturating_add(len as u64).min(at.size);
            self.streams.on_read(at.ino, offset.min(end)..end, at.size)
        });
        let reply = match ahead {
            None => read.await?,
            // The read goes first: it is polled first, so that its pages are asked for before those ahead of it.
            Some(ahead) => futures_util::join!(read, self.prefetch(at, ahead, policy)).0?,
        };
        expect_reply!(reply, Reply::Bytes(frame) => frame)
    }

    /// As [`Client::read_into`], if all of it is in the memory of this host: nothing is waited for.
    ///
    /// # Errors
    /// The frame, of any length: the read is to be made by [`Client::read_into`].
    pub fn read_now(&self, at: &ContentLocation, offset: u64, frame: Frame) -> Result<Frame, Frame> {
        match self.here.local() {
            Some(local) => local.read_now(at, offset, self.read_policy(at).priority, frame),
            None => Err(frame),
        }
    }

    /// A prefetch that fails is no failure of the read beside it: whoever needs the bytes will be told.
    async fn prefetch(&self, at: &ContentLocation, ahead: Ahead, policy: ReadPolicy) {
        let Ahead { range, window } = ahead;
        let op = Op::Prefetch { at, range: range.clone(), window, policy };
        let (started, covered_to) = match self.call(op, self.config.io_within).await {
            Ok(Reply::Prefetch { started, covered_to }) => (started, covered_to),
            _ => (0, range.start),
        };
        self.streams.on_answer(at.ino, &range, started, covered_to);
    }

    /// Writes all of `frame` into the extent of the location. Returns how many bytes that was.
    ///
    /// # Errors
    /// `NoSpace`; those of [`Client::read`] if a page that is written in part had to be fetched first.
    pub async fn write(&self, at: &ContentLocation, offset: u64, frame: Frame) -> FsResult<usize> {
        self.try_write(at, offset, frame).await.map_err(|(error, _)| error)
    }

    /// [`Client::write`] that hands the frame back if the write did not begin, so that it can be tried again.
    ///
    /// # Errors
    /// Those of [`Client::write`]; without a frame it is not known how far it came.
    pub async fn try_write(
        &self,
        at: &ContentLocation,
        offset: u64,
        frame: Frame,
    ) -> Result<usize, (FsError, Option<Frame>)> {
        match self.call(Op::Write { at, offset, frame }, self.config.io_within).await {
            Ok(Reply::Len(len)) => Ok(len as usize),
            Ok(Reply::Unwritten { error, frame }) => Err((error, Some(frame))),
            Ok(other) => Err((unexpected(&other), None)),
            Err(error) => Err((error, None)),
        }
    }

    /// Takes an empty extent for a new file, which is open for write from here on.
    ///
    /// # Errors
    /// `NoSpace` if no tier has room and nothing can be evicted.
    pub async fn create(&self, expected_len: u64) -> FsResult<ExtentId> {
        let reply = self.call(Op::Create { expected_len }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Extent(extent) => extent)
    }

    /// Gives the file a writable extent: the one it has, whose clean identity is durably gone when this returns,
    /// or a new one, whose absent pages are fetched from `at.ufs` when they are wanted. May be repeated.
    ///
    /// # Errors
    /// `NoSpace`; `Stale` if the extent of the location is gone.
    pub async fn begin_write(&self, at: &ContentLocation) -> FsResult<ExtentId> {
        let reply = self.call(Op::BeginWrite { at }, self.config.sync_within).await?;
        expect_reply!(reply, Reply::Extent(extent) => extent)
    }

    /// The last writer closed: ends what [`Client::begin_write`] or [`Client::create`] began. If nothing
    /// changed, the extent is found again under the clean identity that it had.
    pub fn end_write(&self, extent: ExtentId, changed: bool) {
        if let Ok(local) = self.local() {
            local.end_write(extent, changed);
        }
    }

    /// What was written so far is about to be carried, while its writers go on. What [`Client::end_write`] is told later
    /// is whether anything was changed since.
    pub fn publish(&self, extent: ExtentId, changed: bool) {
        if let Ok(local) = self.local() {
            local.publish(extent, changed);
        }
    }

    /// Length, times and blocks of an extent that is or was open for write, as they stand now, whoever wrote it:
    /// the kernel through passthrough, or we. Fetching an absent page never shows as a change.
    ///
    /// # Errors
    /// `Stale` if there is no such extent; `Io`.
    pub async fn adopt(&self, extent: ExtentId) -> FsResult<FileTimes> {
        let reply = self.call(Op::Adopt { extent }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Times(times) => times)
    }

    /// The file that the kernel may read and write itself: only if every byte is here and the tier permits it.
    pub fn backing(&self, at: &ContentLocation) -> Option<Backing> {
        let local = self.local().ok()?;
        let backing = local.backing(at)?;
        if let Some(priority) = self.read_policy(at).priority {
            local.rank(backing.extent(), priority);
        }
        Some(backing)
    }

    /// Says what goes first when room is wanted: extents of a lower priority before those of a higher one.
    pub fn rank(&self, extent: ExtentId, priority: i32) {
        if let Ok(local) = self.local() {
            local.rank(extent, priority);
        }
    }

    /// Makes all that was written durable, with the directory entry of a new extent.
    ///
    /// # Errors
    /// `Io` if the tier failed: nothing is promised then.
    pub async fn sync(&self, at: &ContentLocation) -> FsResult<()> {
        let reply = self.call(Op::Sync { at }, self.config.sync_within).await?;
        expect_reply!(reply, Reply::Done => ())
    }

    /// Sets the length of a file that is open for write.
    ///
    /// # Errors
    /// Those of [`Client::write`].
    pub async fn truncate(&self, at: &ContentLocation, len: u64) -> FsResult<()> {
        let reply = self.call(Op::Truncate { at, len }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Done => ())
    }

    /// Reserves, frees or zeroes a range of a file that is open for write.
    ///
    /// # Errors
    /// `Unsupported` where the tier's file system cannot; those of [`Client::write`].
    pub async fn allocate(
        &self,
        at: &ContentLocation,
        mode: AllocateMode,
        offset: u64,
        len: u64,
    ) -> FsResult<()> {
        let range = offset..offset.saturating_add(len);
        let reply = self.call(Op::Allocate { at, mode, range }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Done => ())
    }

    /// The next data or hole at or after `offset`.
    ///
    /// # Errors
    /// `OutOfRange` past the end, and for data where there is none any more.
    pub async fn seek(&self, at: &ContentLocation, offset: u64, to: SeekTo) -> FsResult<u64> {
        let reply = self.call(Op::Seek { at, offset, to }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Offset(offset) => offset)
    }

    /// Copies up to `len` bytes between two files within the tier. Returns how many were copied.
    ///
    /// # Errors
    /// `Unsupported` unless both are wholly here: copy through memory then.
    pub async fn copy_range(
        &self,
        from: (&ContentLocation, u64),
        to: (&ContentLocation, u64),
        len: u64,
    ) -> FsResult<u64> {
        let op = Op::CopyRange { from: from.0, from_offset: from.1, to: to.0, to_offset: to.1, len };
        let reply = self.call(op, self.config.sync_within).await?;
        expect_reply!(reply, Reply::Len(len) => len)
    }

    /// Fetches all that is absent of a file.
    ///
    /// # Errors
    /// `NoSpace` if it does not fit; those of [`Client::read`].
    pub async fn complete(&self, at: &ContentLocation) -> FsResult<()> {
        self.complete_counting(at, &Progress::default()).await
    }

    /// [`Client::complete`], with counters that move while it runs.
    ///
    /// # Errors
    /// Those of [`Client::complete`].
    pub async fn complete_counting(&self, at: &ContentLocation, progress: &Progress) -> FsResult<()> {
        progress.add_total(at.size);
        let starts = (0..at.size).step_by(COMPLETE_SLICE as usize);
        let slices = starts.map(|start| self.complete_slice(at, start, progress));
        stream::iter(slices).buffer_unordered(COMPLETE_SLICES_AT_ONCE).try_collect().await
    }

    async fn complete_slice(&self, at: &ContentLocation, start: u64, progress: &Progress) -> FsResult<()> {
        let range = start..start.saturating_add(COMPLETE_SLICE).min(at.size);
        let len = range.end - range.start;
        let reply = self.call(Op::Complete { at, range }, self.config.complete_within).await?;
        let fetched = expect_reply!(reply, Reply::Fetched(bytes) => bytes)?;
        progress.add_done(len, fetched);
        Ok(())
    }

    /// How many bytes of a file are here.
    ///
    /// # Errors
    /// `Stale` as for [`Client::read`].
    pub async fn resident_bytes(&self, at: &ContentLocation) -> FsResult<u64> {
        let reply = self.call(Op::Resident { at }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Len(len) => len)
    }

    /// Evicts a file. Returns how many bytes that frees: 0 for one that is dirty, or not here.
    ///
    /// # Errors
    /// `Busy` if it is open, pinned or being filled.
    pub async fn evict(&self, at: &ContentLocation) -> FsResult<u64> {
        let reply = self.call(Op::Evict { at }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Len(len) => len)
    }

    /// Frees an extent that no file refers to any more.
    ///
    /// # Errors
    /// `Io`. An extent that is gone already is no error.
    pub async fn discard(&self, extent: ExtentId) -> FsResult<()> {
        let reply = self.call(Op::Discard { extent }, self.config.io_within).await?;
        expect_reply!(reply, Reply::Done => ())
    }

    /// The space of the tiers that hold what is written here, in bytes: all of it, and what is left.
    pub fn space(&self) -> (u64, u64) {
        let space = self.local().map(Local::space).unwrap_or_default();
        (space.total, space.available)
    }
}
