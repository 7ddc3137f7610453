//! Where an inode is, for people.

use crate::Vfs;
use forebay_types::{HandleId, Ino};

impl Vfs {
    /// The path of an inode from the root, with a slash before each name; empty for the root itself. `None` for what
    /// has no name, or no longer is.
    pub async fn path_of(&self, ino: Ino) -> Option<Vec<u8>> {
        self.names.path(ino).await.ok().flatten()
    }

    /// The inode that an open file is of; `None` if it is closed.
    pub fn inode_behind(&self, handle: HandleId) -> Option<Ino> {
        self.handles.files.get(handle).ok().map(|file| file.inode().ino)
    }
}
