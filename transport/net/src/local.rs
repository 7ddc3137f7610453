//! What a worker in the same process gives beyond messages: open files.

use forebay_shard::Frame;
use forebay_types::{ContentLocation, ExtentId};
use std::any::Any;
use std::sync::Arc;

/// What only a worker in this process can give.
pub trait Local: Send + Sync {
    /// The file behind a location, if every byte of it is here and its tier permits passthrough. Does no I/O.
    fn backing(&self, at: &ContentLocation) -> Option<Backing>;

    /// Reads at `offset` into the frame, up to its length or the end of the file, if all of that is here and in memory.
    /// A `priority` becomes that of its extent, as by [`Self::rank`]. Waits for no disk; polled on a shard.
    ///
    /// # Errors
    /// The frame, of any length: the read is to be sent as a message, which says what came of it.
    fn read_now(
        &self,
        at: &ContentLocation,
        offset: u64,
        priority: Option<i32>,
        frame: Frame,
    ) -> Result<Frame, Frame>;

    /// Ends what `BeginWrite` or `Create` began: the last writer of the extent closed it. `changed` is false if
    /// its bytes are still those it had then. Polled on a shard; does not wait.
    fn end_write(&self, extent: ExtentId, changed: bool);

    /// What was written so far is about to be carried, while its writers go on: from here on it is found by nothing that
    /// it was found by before, if it is `changed` since the last such call or since the first writer came.
    fn publish(&self, extent: ExtentId, changed: bool);

    /// Says what goes first when room is wanted: extents of a lower priority before those of a higher one.
    fn rank(&self, extent: ExtentId, priority: i32);

    /// The space of the tiers that hold what is written here. Does no I/O.
    fn space(&self) -> Space;
}

/// The space of the tiers, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What they may hold together.
    pub total: u64,
    /// What can still be written, counting what eviction could free.
    pub available: u64,
}

/// An extent file that the kernel may read and write in our stead. While it lives its extent is neither
/// evicted nor moved nor punched.
pub struct Backing {
    /// The extent.
    extent: ExtentId,
    file: Arc<std::fs::File>,
    /// Keeps the extent where it is. Opaque: what a guard is only its store knows.
    _guard: Box<dyn Any + Send + Sync>,
}

impl Backing {
    /// Joins an extent's file with the guard that keeps it in place.
    pub fn new(extent: ExtentId, file: Arc<std::fs::File>, guard: impl Any + Send + Sync) -> Self {
        Self { extent, file, _guard: Box::new(guard) }
    }

    /// The extent.
    pub fn extent(&self) -> ExtentId {
        self.extent
    }

    /// Its file: the same open file for as long as the extent is open anywhere.
    pub fn file(&self) -> Arc<std::fs::File> {
        Arc::clone(&self.file)
    }
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backing")
            .field("extent", &self.extent)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
