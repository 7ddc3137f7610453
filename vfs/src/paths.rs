//! Where an inode is, for people.

use crate::Vfs;
use forebay_types::Ino;

impl Vfs {
    /// The path of an inode from the root, with a slash before each name; empty for the root itself. `None` for what
    /// has no name, or no longer is.
    pub async fn path_of(&self, ino: Ino) -> Option<Vec<u8>> {
        self.names.path(ino).await.ok().flatten()
    }
}
