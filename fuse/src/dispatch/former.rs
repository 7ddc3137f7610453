//! Going on with what a process before this one had open.
//!
//! Every entry of its roll becomes an open file or directory again, under the number that the kernel knows. One that
//! cannot be is left out: requests on it fail, as if the file had been replaced.

use super::Dispatch;
use crate::roll::{Entry, OpenedDir, OpenedFile, Place, Roll};
use forebay_types::FsResult;
use forebay_vfs::{FormerFile, IoMode};
use std::sync::Arc;

impl Dispatch {
    /// Enters what is open into a roll from now on.
    pub(crate) fn keep_roll(&self, roll: Arc<Roll>) {
        self.open_files.keep_roll(roll);
    }

    /// Opens again what stands in the roll; says how much could not be. Runs on a shard, before the first request.
    pub(crate) async fn adopt(&self, entries: Vec<(Place, Entry)>) -> usize {
        let mut lost = 0;
        for (place, entry) in entries {
            let adopted = match entry {
                Entry::File(file) => self.adopt_file(file, place).await,
                Entry::Dir(dir) => self.adopt_dir(dir, place).await,
                Entry::Exchange { asked, ino } => {
                    self.former.note_exchange(asked, ino);
                    self.expire(place);
                    Ok(())
                }
                Entry::Inode { .. } | Entry::Incomplete => Ok(()),
            };
            if let Err(error) = adopted {
                tracing::error!(%error, "what was open is not any more");
                self.strike(place);
                lost += 1;
            }
        }
        lost
    }

    fn strike(&self, place: Place) {
        if let Some(roll) = self.open_files.roll() {
            roll.clear(place);
        }
    }

    async fn adopt_file(&self, opened: OpenedFile, place: Place) -> FsResult<()> {
        let OpenedFile { handle, ino, flags, backing, asked } = opened;
        let former = FormerFile { handle, ino, flags, passthrough: backing.is_some() };
        let file = match self.vfs.adopt_file(&former).await? {
            IoMode::Passthrough(file) => Some(file),
            IoMode::Cached { .. } => None,
        };
        self.open_files.adopt(&opened, place, file);
        self.former.note_file(asked, handle);
        Ok(())
    }

    async fn adopt_dir(&self, dir: OpenedDir, place: Place) -> FsResult<()> {
        self.vfs.adopt_dir(dir.handle, dir.ino, dir.place.clone()).await?;
        self.former.note_dir(dir.asked, dir.handle);
        self.open_files.adopt_dir(dir, place);
        Ok(())
    }
}
