//! The moment between a move in the under file system and its record.
//!
//! A directory or file that was renamed here is brought to its new key by a task; when the UFS has moved it and
//! the outcome is not recorded yet, the key that the records tell has nothing. An absent answer from there is
//! therefore not believed while such a task is out: it is asked again once the record has followed.

use crate::namespace::Namespace;
use crate::table::Inode;
use forebay_types::{FsResult, Ino, MountId, Name, UfsKey};
use futures_timer::Delay;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;

/// Where nothing renames in one step a move takes long, but nothing is missing before its end: an answer that
/// stays absent for so long is believed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What an absent answer is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absence {
    /// There is nothing.
    Real,
    /// The records have moved on: ask again.
    Overtaken,
    /// A move is still under way.
    Uncertain,
}

impl Namespace {
    /// What it is worth that the UFS has nothing in, or at, the directory `dir`, which was to be at `key`.
    pub(crate) async fn absence(&self, dir: &Inode, key: &UfsKey) -> FsResult<Absence> {
        let still = self.await_move(dir.record().mount, key).await;
        if self.ufs_key(&dir.record()).await?.as_ref() != Some(key) {
            return Ok(Absence::Overtaken);
        }
        Ok(if still { Absence::Uncertain } else { Absence::Real })
    }

    /// Waits a while for a move of `key`, or of anything above it, to be recorded. Yields whether it is still
    /// under way.
    pub(crate) async fn await_move(&self, mount: MountId, key: &UfsKey) -> bool {
        let queue = &self.shared.queue;
        let mut patience = Delay::new(PATIENCE);
        loop {
            let mut changed = pin!(queue.changed.notified());
            changed.as_mut().enable();
            if !queue.is_moving(mount, key) {
                return false;
            }
            match select(changed, patience).await {
                Either::Left(((), left)) => patience = left,
                Either::Right(_) => return queue.is_moving(mount, key),
            }
        }
    }
}

/// The name under which an inode waits in the UFS while others take its place.
pub(crate) fn name_aside(ino: Ino) -> Name {
    let name = format!(".forebay-move-{:016x}", ino.0);
    Name::new(name.into_bytes()).expect("a short name of letters, digits, '-' and '.' is a name")
}
