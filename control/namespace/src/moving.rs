//! The moment between a move in the under file system and its record.
//!
//! A directory or file that was renamed here is brought to its new key by a task; when the UFS has moved it and
//! the outcome is not recorded yet, the key that the records tell has nothing. An absent answer from there is
//! therefore not believed while such a task is out: it is asked again once the record has followed.

use crate::namespace::Namespace;
use crate::record::InodeRecord;
use forebay_types::{FsResult, MountId, UfsKey};
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
    /// What it is worth that `key`, where `record` was to be, has nothing.
    pub(crate) async fn absence(&self, record: &InodeRecord, key: &UfsKey) -> FsResult<Absence> {
        let still = self.await_move(record.mount, key).await;
        if self.ufs_key(record).await?.as_ref() != Some(key) {
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
