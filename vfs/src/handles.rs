//! Handles: what a front door holds while a file or directory is open.

use crate::Vfs;
use crate::table::InodeRef;
use crate::types::OpenFlags;
use forebay_namespace::{DirStream, Namespace};
use forebay_types::{FsErrorKind, FsResult, HandleId, Ino};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};

/// An open regular file. It counts as open until its last user is gone: whoever still reads or writes when it is
/// closed ends first.
pub(crate) struct FileHandle {
    vfs: Weak<Vfs>,
    /// `None` once it has left.
    inode: Option<InodeRef>,
    pub(crate) writer: bool,
    /// Every write is durable when it returns.
    pub(crate) sync: bool,
    /// A descriptor of it was closed, and nothing was written through us since.
    flushed: AtomicBool,
    _held: HeldInode,
}

/// Keeps the name space from forgetting an inode.
pub(crate) struct HeldInode {
    names: Arc<Namespace>,
    ino: Ino,
}

impl HeldInode {
    /// Holds an inode.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub(crate) async fn take(vfs: &Vfs, ino: Ino) -> FsResult<Self> {
        vfs.names.hold(ino).await?;
        Ok(Self { names: Arc::clone(&vfs.names), ino })
    }
}

impl Drop for HeldInode {
    fn drop(&mut self) {
        self.names.unhold(self.ino);
    }
}

impl FileHandle {
    /// A handle of `inode`, counted.
    pub(crate) fn new(vfs: &Vfs, inode: InodeRef, flags: OpenFlags, held: HeldInode) -> Self {
        inode.count_in(flags.write);
        let vfs = Weak::clone(&vfs.this);
        let (writer, sync, flushed) = (flags.write, flags.sync, AtomicBool::new(false));
        Self { vfs, inode: Some(inode), writer, sync, flushed, _held: held }
    }

    /// A descriptor of it was closed (`is`), or more is written.
    pub(crate) fn set_flushed(&self, is: bool) {
        if is && self.writer {
            self.inode().note_flush();
        }
        if self.writer && self.flushed.load(SeqCst) != is && self.flushed.swap(is, SeqCst) != is {
            self.inode().count_flushed(is);
        }
    }

    /// The inode it is a handle of.
    pub(crate) fn inode(&self) -> &InodeRef {
        self.inode.as_ref().expect("a handle leaves its inode when nobody has it any more")
    }

    /// Ends it. The inode is still to be settled.
    pub(crate) fn leave(mut self, vfs: &Vfs) -> InodeRef {
        let inode = self.inode.take().expect("a handle leaves its inode once");
        self.count_out(vfs, &inode);
        inode
    }

    fn count_out(&self, vfs: &Vfs, inode: &InodeRef) {
        inode.count_out(self.writer, self.flushed.load(SeqCst));
        vfs.opens.closed();
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        let Some(inode) = self.inode.take() else { return };
        if let Some(vfs) = self.vfs.upgrade() {
            self.count_out(&vfs, &inode);
            vfs.settle_behind(inode);
        }
    }
}

/// An open directory. One listing at a time reads from it.
pub(crate) struct DirHandle {
    pub(crate) stream: tokio::sync::Mutex<DirStream>,
}

/// A part of the handles, in a line of the processor's cache of its own: who reads by one handle does not meet who reads by the
/// next.
#[repr(align(128))]
struct Slice<T>(RwLock<HashMap<HandleId, Arc<T>>>);

/// Spreads the locks. Numbers count up, so handles that were opened one after the other lie in different slices.
const SLICES: usize = 64;
const _: () = assert!(SLICES.is_power_of_two());

/// Handles by number. Numbers are never reused, so a stale one finds nothing.
pub(crate) struct Table<T>(Box<[Slice<T>]>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self((0..SLICES).map(|_| Slice(RwLock::default())).collect())
    }
}

impl<T> Table<T> {
    fn slice(&self, id: HandleId) -> &RwLock<HashMap<HandleId, Arc<T>>> {
        &self.0[id.0 as usize & (SLICES - 1)].0
    }

    fn insert(&self, id: HandleId, value: T) {
        self.slice(id).write().insert(id, Arc::new(value));
    }

    /// The handle's entry.
    ///
    /// # Errors
    /// `Stale` if there is no such handle.
    pub(crate) fn get(&self, id: HandleId) -> FsResult<Arc<T>> {
        self.slice(id).read().get(&id).cloned().ok_or_else(|| FsErrorKind::Stale.into())
    }

    /// Takes the handle out.
    pub(crate) fn remove(&self, id: HandleId) -> FsResult<Arc<T>> {
        self.slice(id).write().remove(&id).ok_or_else(|| FsErrorKind::Stale.into())
    }
}

/// All open handles.
#[derive(Default)]
pub(crate) struct HandleTable {
    last: AtomicU64,
    pub(crate) files: Table<FileHandle>,
    pub(crate) dirs: Table<DirHandle>,
}

impl HandleTable {
    fn next(&self) -> HandleId {
        HandleId(self.last.fetch_add(1, Relaxed) + 1)
    }

    pub(crate) fn add_file(&self, file: FileHandle) -> HandleId {
        let id = self.next();
        self.files.insert(id, file);
        id
    }

    pub(crate) fn add_dir(&self, stream: DirStream) -> HandleId {
        let id = self.next();
        self.dirs.insert(id, DirHandle { stream: tokio::sync::Mutex::new(stream) });
        id
    }

    /// New numbers are beyond this one, which a process before this one gave out.
    pub(crate) fn skip(&self, id: HandleId) {
        self.last.fetch_max(id.0, Relaxed);
    }

    /// A file under the number that a process before this one gave it.
    pub(crate) fn readd_file(&self, id: HandleId, file: FileHandle) {
        self.files.insert(id, file);
    }

    /// A directory, likewise.
    pub(crate) fn readd_dir(&self, id: HandleId, stream: DirStream) {
        self.dirs.insert(id, DirHandle { stream: tokio::sync::Mutex::new(stream) });
    }
}
