//! Carrying what is open for write, where somebody waits for the under file system to have it.

use crate::namespace::Namespace;
use crate::ops;
use forebay_types::{FsResult, Ino};
use std::sync::Arc;

/// While it lives an inode is carried although it is open for write: as it was when [`Published::tell`] was called
/// last. Who waits for what is found to be written meanwhile hears `Busy`, and is to tell again. It
/// stays open for write in the log all the same, with its extent: what its writers do beside that is found by
/// the next start, if they do not come to close it.
pub struct Published {
    names: Arc<Namespace>,
    ino: Ino,
}

impl Published {
    /// Has an inode carried from now on.
    pub fn begin(names: &Arc<Namespace>, ino: Ino) -> Self {
        *names.shared.published.lock().entry(ino).or_default() += 1;
        Self { names: Arc::clone(names), ino }
    }

    /// Says that the record is up to date with what was written. If that has `changed` since it was last said, or
    /// since the first writer came, the inode is dirty with a new generation.
    ///
    /// # Errors
    /// `Stale` if it is gone.
    pub async fn tell(&self, changed: bool) -> FsResult<()> {
        let ino = self.ino;
        self.names.mutate(move |txn| ops::writing::write_published(txn, ino, changed)).await
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let mut published = self.names.shared.published.lock();
        if let Some(waiting) = published.get_mut(&self.ino) {
            *waiting -= 1;
            if *waiting == 0 {
                published.remove(&self.ino);
            }
        }
    }
}
