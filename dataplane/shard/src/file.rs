//! Files on the ring: positioned reads and writes of whole frames, and the calls that make them durable.
//!
//! A [`File`] says nothing about paths, modes or roles; who opened it chose the flags (`O_DIRECT` or not).
//! Opening, closing, renaming and unlinking are not here: on a ring they are slower than as plain calls, and
//! they belong into [`crate::blocking()`].

use crate::arena::Frame;
use crate::core;
use crate::driver::{Op, Span};
use crate::fault;
use crate::ops::{self, Held, Memory};
use rustix::io::ReadWriteFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// An open file. Clones share the descriptor, which is closed when the last clone and the last operation on
/// it are gone.
#[derive(Debug, Clone)]
pub struct File(pub(crate) Arc<std::fs::File>);

/// What [`File::allocate`] does with a range (fallocate(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserves space; the file grows to the end of the range unless its size is to be kept.
    Reserve {
        /// `FALLOC_FL_KEEP_SIZE`.
        keep_size: bool,
    },
    /// Frees the space; the range reads as zeros and the size stays.
    PunchHole,
    /// Makes the range read as zeros, with its space reserved.
    ZeroRange {
        /// `FALLOC_FL_KEEP_SIZE`.
        keep_size: bool,
    },
    /// Takes the range out; what follows moves down. In units of the file system's blocks.
    CollapseRange,
    /// Makes room; what follows moves up. In units of the file system's blocks.
    InsertRange,
}

impl Allocate {
    /// The mode bits of fallocate(2).
    pub fn bits(self) -> i32 {
        let keep = |keep_size: bool| if keep_size { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
        match self {
            Self::Reserve { keep_size } => keep(keep_size),
            Self::PunchHole => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Self::ZeroRange { keep_size } => libc::FALLOC_FL_ZERO_RANGE | keep(keep_size),
            Self::CollapseRange => libc::FALLOC_FL_COLLAPSE_RANGE,
            Self::InsertRange => libc::FALLOC_FL_INSERT_RANGE,
        }
    }
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// The longest read that is tried from the page cache before it is given to the ring: copying it takes the shard no
/// longer than the ring's own attempt would.
pub const READ_NOW_LEN_MAX: usize = 128 << 10;

/// A direct read that ends off this grid has reached the end of the file (the smallest logical block).
const SECTOR: usize = 512;

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        Self::new(file)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl File {
    /// Takes an open file.
    pub fn new(file: std::fs::File) -> Self {
        Self(Arc::new(file))
    }

    /// The file for plain, blocking calls: fstat, truncate, locks.
    pub fn std(&self) -> &std::fs::File {
        &self.0
    }

    /// The same for who keeps it: the descriptor stays open until then.
    pub fn shared(&self) -> Arc<std::fs::File> {
        Arc::clone(&self.0)
    }

    /// The descriptor, borrowed.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Reads at `offset` until `frame[..len]` is full or the file ends, and says how many bytes came. The
    /// frame comes back in every case; its length is left as it is.
    ///
    /// # Errors
    /// The system's; what was read before the error is in the frame. `Unsupported` off the shards.
    pub async fn read_at(&self, frame: Frame, offset: u64) -> (io::Result<usize>, Frame) {
        self.transfer(Way::In, frame, 0, offset).await
    }

    /// As [`Self::read_at`], behind `done` bytes that the frame has already.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    pub async fn read_rest_at(&self, frame: Frame, done: usize, offset: u64) -> (io::Result<usize>, Frame) {
        self.transfer(Way::In, frame, done, offset).await
    }

    /// Reads into a short frame what the page cache has at `offset`, which may be nothing, and waits for no disk; says how
    /// many bytes came. For a file that is not open with `O_DIRECT`: a turn of the ring would take longer than the read.
    pub fn read_now_at(&self, frame: &mut Frame, offset: u64) -> usize {
        let short = frame.len() <= READ_NOW_LEN_MAX;
        if !short || !core::with(|core| core.driver.borrow().reads_page_cache()).unwrap_or(false) {
            return 0;
        }
        let mut buffers = [io::IoSliceMut::new(frame)];
        // Whatever it cannot do so, the ring does or tells the reason of.
        rustix::io::preadv2(&*self.0, &mut buffers, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
    }

    /// Writes all of `frame[..len]` at `offset`.
    ///
    /// # Errors
    /// The system's; a part may have been written. `Unsupported` off the shards.
    pub async fn write_at(&self, frame: Frame, offset: u64) -> (io::Result<usize>, Frame) {
        self.transfer(Way::Out, frame, 0, offset).await
    }

    /// Makes the bytes durable, and of the metadata what is needed to read them (fdatasync(2)).
    ///
    /// # Errors
    /// The system's. After an error the kernel may have dropped dirty pages: do not merely try again.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    /// Makes bytes and metadata durable (fsync(2)).
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// Changes how space is allocated to a range (fallocate(2)).
    ///
    /// # Errors
    /// The system's.
    pub async fn allocate(&self, mode: Allocate, offset: u64, len: u64) -> io::Result<()> {
        self.plain(Op::Allocate { fd: self.raw(), mode: mode.bits(), offset, len }).await
    }

    pub(crate) fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        if fault::skip_fsync() {
            return Ok(());
        }
        self.plain(Op::Sync { fd: self.raw(), data_only }).await
    }

    /// An operation without memory.
    async fn plain(&self, op: Op) -> io::Result<()> {
        loop {
            let held = Held { _file: Arc::clone(&self.0), memory: Memory::None };
            let completion = ops::start(op, held).map_err(|_| off_shard())?;
            match checked(completion.await.0) {
                Err(error) if is_transient(&error) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Goes on behind the first `done` bytes.
    async fn transfer(
        &self,
        way: Way,
        mut frame: Frame,
        mut done: usize,
        offset: u64,
    ) -> (io::Result<usize>, Frame) {
        while done < frame.len() {
            let (result, back) = self.transfer_once(way, frame, done, offset).await;
            frame = back;
            match result {
                Ok(0) => return (at_end(way, done), frame),
                Ok(n) => done += n,
                Err(error) if is_transient(&error) => {}
                Err(error) => return (Err(error), frame),
            }
            if done < frame.len() && self.is_direct_end(way, done) {
                break;
            }
        }
        (Ok(done), frame)
    }

    async fn transfer_once(
        &self,
        way: Way,
        frame: Frame,
        done: usize,
        offset: u64,
    ) -> (io::Result<usize>, Frame) {
        let op = core::with(|core| self.operation(core, way, &frame, done, offset));
        let held = Held { _file: Arc::clone(&self.0), memory: Memory::Frame(frame) };
        let started = match op {
            Some(op) => ops::start(op, held),
            None => Err(held),
        };
        let (result, held) = match started {
            Ok(completion) => {
                let (result, held) = completion.await;
                (checked(result), held)
            }
            Err(held) => (Err(off_shard()), held),
        };
        let Memory::Frame(frame) = held.memory else {
            unreachable!("an operation gives back the frame it was given")
        };
        (result, frame)
    }

    fn operation(&self, core: &core::Core, way: Way, frame: &Frame, done: usize, offset: u64) -> Op {
        let registered = (core.registered && frame.arena().is(core.arena)).then(|| frame.registered_index());
        let address = frame.address().wrapping_add(done);
        let span = Span { address, len: (frame.len() - done) as u32, registered };
        let offset = offset + done as u64;
        match way {
            Way::In => Op::Read { fd: self.raw(), span, offset },
            Way::Out => Op::Write { fd: self.raw(), span, offset },
        }
    }

    /// Whether a short direct read ended at the end of the file. To go on from there would be refused, for
    /// the offset is not aligned.
    fn is_direct_end(&self, way: Way, done: usize) -> bool {
        way == Way::In && !done.is_multiple_of(SECTOR) && self.is_direct()
    }

    fn is_direct(&self) -> bool {
        let flags = rustix::fs::fcntl_getfl(&*self.0);
        flags.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::DIRECT))
    }
}

/// What no bytes at all means: the end of the file to a reader, a device that takes nothing to a writer.
fn at_end(way: Way, done: usize) -> io::Result<usize> {
    match way {
        Way::In => Ok(done),
        Way::Out => Err(io::Error::new(io::ErrorKind::WriteZero, "the file took no more bytes")),
    }
}

pub(crate) fn checked(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

pub(crate) fn off_shard() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "file operations run on a shard")
}
