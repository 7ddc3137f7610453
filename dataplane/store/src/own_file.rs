//! The file that holds an extent's bytes: opened when it is needed, closed when it is not, and what it takes of the tier.
//!
//! **Owns** the open file, the place in a segment of an extent that has no file of its own, and the counting of its
//! space. **Never does** more I/O than one `open` or `fstat`, which wait for no disk once the inode is in memory.

use crate::error::StoreError;
use crate::extent::{Authority, Extent};
use crate::segment::Packed;
use arc_swap::{ArcSwapOption, Guard};
use forebay_shard::File;
use forebay_types::TimeSpec;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What `fstat` says of an extent file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Length in bytes.
    pub len: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks_512: u64,
    /// Last read.
    pub atime: TimeSpec,
    /// Last change of content.
    pub mtime: TimeSpec,
    /// Last change of anything.
    pub ctime: TimeSpec,
}

/// The slot of the open file. Whoever reads takes no lock, so that readers of one file do not wait for each other's
/// cache line; opening and closing take turns.
#[derive(Debug)]
pub(crate) struct OwnFile {
    file: ArcSwapOption<File>,
    turn: Mutex<()>,
}

impl OwnFile {
    pub(crate) fn new(file: Option<File>) -> Self {
        Self { file: ArcSwapOption::from_pointee(file), turn: Mutex::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.load().is_some()
    }

    /// The file, if it is open, for a moment.
    pub(crate) fn peek(&self) -> Guard<Option<Arc<File>>> {
        self.file.load()
    }

    fn get(&self) -> Option<File> {
        self.file.load().as_deref().cloned()
    }

    /// Puts a file here; says whether there was none.
    fn put(&self, file: File) -> bool {
        let _turn = self.turn.lock();
        self.file.swap(Some(Arc::new(file))).is_none()
    }

    /// Closes the file; says whether there was one.
    fn take(&self) -> bool {
        let _turn = self.turn.lock();
        self.file.swap(None).is_some()
    }
}

impl Extent {
    pub(crate) fn packed(&self) -> Option<Arc<Packed>> {
        self.packed.load_full()
    }

    pub(crate) fn set_packed(&self, packed: Option<Arc<Packed>>) {
        self.packed.store(packed);
    }

    pub(crate) fn set_file(&self, file: File) {
        if self.file.put(file) {
            self.tier().opened.opened(self);
        }
    }

    pub(crate) fn forget_file(&self) {
        self.forget_direct();
        if self.file.take() {
            self.tier().opened.closed();
        }
    }

    /// The file that holds the bytes, and the offset of the first one in it.
    pub(crate) fn place(&self) -> Result<(File, u64), StoreError> {
        let in_segment = || self.packed().map(|packed| (packed.segment.file.clone(), packed.data_at));
        if let Some(place) = in_segment() {
            return Ok(place);
        }
        match self.own_file() {
            Ok(file) => Ok((file, 0)),
            // It may have been packed between the two looks.
            Err(error) => in_segment().ok_or(error),
        }
    }

    /// The extent file, opened on first use.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a packed extent, which has no file of its own. [`StoreError::Gone`] if it was
    /// removed before it was ever opened. [`StoreError::Io`].
    pub fn file(&self) -> Result<File, StoreError> {
        self.mark_used();
        self.own_file()
    }

    /// The file was asked for by somebody other than housekeeping.
    pub(crate) fn mark_used(&self) {
        if !self.recently_used.load(Ordering::Relaxed) {
            self.recently_used.store(true, Ordering::Relaxed);
        }
    }

    fn own_file(&self) -> Result<File, StoreError> {
        if self.is_packed() {
            return Err(StoreError::Invalid("a packed extent has no file of its own"));
        }
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = {
            let _turn = self.file.turn.lock();
            if let Some(file) = self.file.get() {
                return Ok(file);
            }
            let opened = self.open_own_file()?;
            self.tier().opened.opened(self);
            self.file.file.store(Some(Arc::new(opened.clone())));
            opened
        };
        self.tier().close_some_idle();
        Ok(file)
    }

    fn open_own_file(&self) -> Result<File, StoreError> {
        let path = self.tier().path_of(self.id());
        let open = || std::fs::File::options().read(true).write(true).open(&path);
        let opened = open().or_else(|error| match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE) => {
                self.tier().close_at_the_limit();
                open()
            }
            _ => Err(error),
        });
        opened.map(File::new).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => StoreError::Gone(self.id()),
            _ => StoreError::io(format!("opening {}", path.display()), error),
        })
    }

    /// Whether the file was asked for since the last call.
    pub(crate) fn take_recently_used(&self) -> bool {
        self.recently_used.swap(false, Ordering::Relaxed)
    }

    /// Whether its own file is open.
    pub(crate) fn has_open_file(&self) -> bool {
        self.file.is_open()
    }

    /// Closes the file if it is open and nobody holds the extent or is about to; says whether it did.
    pub(crate) fn close_idle(&self) -> bool {
        let Some(_turn) = self.file.turn.try_lock() else { return false };
        if self.guards().is_held() || self.guards().is_retired() {
            return false;
        }
        let was_direct = self.forget_direct();
        if self.file.file.swap(None).is_none() {
            return was_direct;
        }
        self.tier().opened.closed();
        self.sidecar.close();
        true
    }

    /// What the file system says of the file now; counts its space. A packed extent's times are its segment's.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn stat(&self) -> Result<FileStat, StoreError> {
        let packed = self.packed();
        let file = packed.as_ref().map_or_else(|| self.file(), |packed| Ok(packed.segment.file.clone()))?;
        let meta = file.std().metadata();
        let meta = meta.map_err(|e| StoreError::io(format!("fstat of extent {}", self.id()), e))?;
        if packed.is_none() {
            self.recharge(meta.blocks() * 512);
        }
        let time = |secs, nanos: i64| TimeSpec { secs, nanos: nanos as u32 };
        Ok(FileStat {
            len: if packed.is_some() { self.len() } else { meta.len() },
            blocks_512: if packed.is_some() { self.len().div_ceil(512) } else { meta.blocks() },
            atime: time(meta.atime(), meta.atime_nsec()),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Takes the file's own length after the kernel wrote to it behind our back.
    ///
    /// # Errors
    /// As [`Self::file`]; [`StoreError::Invalid`] unless `begin_write` went before.
    pub fn adopt(&self) -> Result<FileStat, StoreError> {
        if self.authority() == Authority::Origin {
            return Err(StoreError::Invalid("adopting an extent that was not opened for writing"));
        }
        let stat = self.stat()?;
        self.store_len(stat.len);
        Ok(stat)
    }

    /// Counts the extent's allocated bytes against its tier.
    pub(crate) fn recharge(&self, bytes: u64) {
        if self.guards().is_retired() {
            return;
        }
        let before = self.charged_bytes.swap(bytes, Ordering::AcqRel);
        self.tier().charge(before, bytes);
        self.recount_authored();
    }

    pub(crate) fn recount_authored(&self) {
        let ours = self.authority() == Authority::Here && !self.guards().is_retired();
        let now = if ours { self.charged() } else { 0 };
        let before = self.charged_authored.swap(now, Ordering::AcqRel);
        self.tier().charge_authored(before, now);
    }

    /// Allocated bytes, as last counted.
    pub(crate) fn charged(&self) -> u64 {
        self.charged_bytes.load(Ordering::Acquire)
    }

    /// Gives the counted space back, once, when the extent ends.
    pub(crate) fn discharge(&self) {
        let before = self.charged_bytes.swap(0, Ordering::AcqRel);
        self.tier().charge(before, 0);
        self.recount_authored();
        self.tier().extents.fetch_sub(1, Ordering::AcqRel);
    }
}
