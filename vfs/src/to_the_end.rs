//! Work that goes on when whoever asked for it has gone away, and what it then does with its result.
//!
//! A change of names consists of steps in the name space and in the data path. A caller that is dropped between two of
//! them (a front door that shuts down, a connection that broke) must not leave the second undone: a file whose extent
//! was given away, or bytes that no name leads to.

use crate::Vfs;
use crate::types::{Entry, Opened};
use forebay_namespace::Namespace;
use forebay_types::{ExtentId, FileTimes, FsError, FsErrorKind, FsResult};
use std::future::Future;
use std::sync::{Arc, Weak};
use std::task::Poll;
use tokio::sync::oneshot;

impl Vfs {
    /// Runs `work` and waits for its result. If the waiting is given up, `work` goes on, and its result is dropped: what
    /// does not come to its end at once becomes a task of its own on this shard.
    pub(crate) async fn to_the_end<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> FsResult<T>
    where
        T: 'static,
        F: Future<Output = FsResult<T>> + 'static,
    {
        let mut work = Box::pin(work(self.this.upgrade().ok_or(FsErrorKind::ShuttingDown)?));
        // Nobody can give up the waiting before this returns.
        if let Poll::Ready(result) = futures_util::poll!(work.as_mut()) {
            return result;
        }
        let (tell, told) = oneshot::channel();
        // Nobody listening any more is no fault of the work.
        forebay_shard::spawn(async move { drop(tell.send(work.await)) });
        let ended =
            |_| FsError::new(FsErrorKind::ShuttingDown, "the operation was ended by a stop or a panic");
        told.await.map_err(ended)?
    }
}

/// An entry that counts as a lookup as soon as the front door gets it, and not before.
pub(crate) struct Looked {
    names: Arc<Namespace>,
    entry: Entry,
    given: bool,
}

impl Looked {
    /// Takes over an entry that the name space has counted.
    pub(crate) fn new(vfs: &Vfs, entry: Entry) -> Self {
        Self { names: Arc::clone(&vfs.names), entry, given: false }
    }

    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    /// The front door gets it, with newer attributes.
    pub(crate) fn give(mut self, fresh: Entry) -> Entry {
        self.given = true;
        fresh
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        if !self.given {
            self.names.forget(self.entry.attr.ino, 1);
        }
    }
}

/// A handle that stays open as soon as the front door gets it, and not before.
pub(crate) struct NewHandle {
    vfs: Weak<Vfs>,
    opened: Option<Opened>,
}

impl NewHandle {
    pub(crate) fn new(vfs: &Vfs, opened: Opened) -> Self {
        Self { vfs: Weak::clone(&vfs.this), opened: Some(opened) }
    }

    pub(crate) fn give(mut self) -> Opened {
        self.opened.take().expect("a handle is given out once")
    }
}

impl Drop for NewHandle {
    fn drop(&mut self) {
        if let (Some(opened), Some(vfs)) = (self.opened.take(), self.vfs.upgrade()) {
            // The handle settles its inode when its last user drops it, which is here.
            drop(vfs.handles.files.remove(opened.handle));
        }
    }
}

/// An empty extent that no file refers to yet.
pub(crate) struct NewExtent {
    vfs: Arc<Vfs>,
    id: ExtentId,
    pub(crate) times: FileTimes,
    named: bool,
}

impl NewExtent {
    /// Takes one from the pool.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) async fn take(vfs: &Arc<Vfs>) -> FsResult<Self> {
        let id = vfs.client.create(0).await?;
        let mut extent = Self { vfs: Arc::clone(vfs), id, times: FileTimes::default(), named: false };
        extent.times = vfs.client.adopt(id).await?;
        Ok(extent)
    }

    pub(crate) fn id(&self) -> ExtentId {
        self.id
    }

    /// A file refers to it now.
    pub(crate) fn named(mut self) -> FileTimes {
        self.named = true;
        self.times
    }
}

impl Drop for NewExtent {
    fn drop(&mut self) {
        if self.named || forebay_shard::current().is_none() {
            return;
        }
        let (vfs, id) = (Arc::clone(&self.vfs), self.id);
        forebay_shard::spawn(async move {
            if let Err(error) = vfs.client.discard(id).await {
                tracing::warn!(extent = %id, %error, "an extent that no file refers to is left behind");
            }
        });
    }
}
