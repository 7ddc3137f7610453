//! Listing directories.

use super::Dispatch;
use crate::reply::{Reply, Responder, Room, Validity};
use forebay_types::{FsErrorKind, FsResult, HandleId};
use forebay_vfs::{DirEntryOut, Entry};
use std::time::Duration;

/// Entries asked for at first, and at most: a page of the kernel's smallest buffer holds about 20 entries with
/// attributes, its largest some thousands.
const BATCH_MIN: usize = 32;
const BATCH_MAX: usize = 512;

/// Nothing is to be kept of an entry without attributes.
const UNKEPT: Validity = Validity { entry: Duration::ZERO, attr: Duration::ZERO };

impl Dispatch {
    /// Fills the responder until it is full or the directory ends. An entry counts as a lookup only when it was
    /// taken, for the kernel will forget exactly those.
    pub(super) async fn readdir<R: Responder>(
        &self,
        handle: HandleId,
        offset: u64,
        plus: bool,
        to: &mut R,
    ) -> FsResult<Reply> {
        let (mut at, mut batch) = (offset, BATCH_MIN);
        loop {
            let entries = match self.vfs.readdir(handle, at, batch, plus).await {
                Ok(entries) => entries,
                // What was taken so far is told; the error comes with the next request.
                Err(_) if at != offset => return Ok(Reply::Entries),
                Err(error) => return Err(error),
            };
            let Some(last) = entries.last() else { return Ok(Reply::Entries) };
            at = last.next_offset;
            for entry in entries {
                if self.put(entry, plus, to).await? == Room::Full {
                    return Ok(Reply::Entries);
                }
            }
            batch = (batch * 2).min(BATCH_MAX);
        }
    }

    async fn put<R: Responder>(&self, mut listed: DirEntryOut, plus: bool, to: &mut R) -> FsResult<Room> {
        if !plus || is_dot(&listed.name) {
            listed.entry = None;
            return Ok(to.add_entry(&listed, UNKEPT));
        }
        if listed.entry.is_none() && !self.complete(&mut listed).await? {
            return Ok(Room::Taken);
        }
        let valid = listed.entry.as_ref().map_or(UNKEPT, |entry| self.timeouts.entry(entry));
        let room = to.add_entry(&listed, valid);
        if room == Room::Taken {
            self.vfs.take_entry(listed.ino);
        }
        Ok(room)
    }

    /// Adds the attributes that the listing did not bring; `false` if the inode is gone meanwhile.
    async fn complete(&self, listed: &mut DirEntryOut) -> FsResult<bool> {
        match self.vfs.getattr(listed.ino).await {
            Ok(found) => {
                // The name may be another's by the next request: it is not to be kept.
                let entry_ttl = Duration::ZERO;
                listed.entry =
                    Some(Entry { attr: found.attr, generation: 0, attr_ttl: found.ttl, entry_ttl });
                Ok(true)
            }
            Err(error) if matches!(error.kind(), FsErrorKind::NotFound | FsErrorKind::Stale) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
