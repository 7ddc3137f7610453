//! Listing directories.

use super::{Dispatch, done};
use crate::op::RequestId;
use crate::reply::{Reply, Responder, Room, Validity};
use forebay_types::{FsErrorKind, FsResult, HandleId, Ino, Name};
use forebay_vfs::{Attributes, DirEntryOut, DirPlace, Entry};
use std::time::Duration;

/// The most entries that are asked for at a time.
const BATCH_MAX: usize = 1024;
/// How long a name is taken to be before any was seen.
const NAME_LEN_USUAL: usize = 24;
/// Room for less than this part of what was taken already is left empty: the next request has more.
const SCRAP_SHARE: usize = 16;

/// Nothing is to be kept of an entry without attributes.
const UNKEPT: Validity = Validity { entry: Duration::ZERO, attr: Duration::ZERO };

/// The names that a reply has taken.
#[derive(Default)]
struct Seen {
    names: usize,
    bytes: usize,
}

impl Seen {
    fn add(&mut self, name: &[u8]) {
        self.names += 1;
        self.bytes += name.len();
    }

    /// How long the next names are taken to be.
    fn name_len(&self) -> usize {
        self.bytes.checked_div(self.names).unwrap_or(NAME_LEN_USUAL)
    }
}

impl Dispatch {
    pub(super) async fn opendir(&self, asked: RequestId, ino: Ino) -> FsResult<Reply> {
        let handle = self.vfs.opendir(ino).await?;
        self.open_files.add_dir(ino, handle, asked);
        Ok(Reply::OpenedDir(handle))
    }

    pub(super) fn releasedir(&self, handle: HandleId) -> FsResult<Reply> {
        self.open_files.remove_dir(handle);
        done(self.vfs.releasedir(handle))
    }

    /// Lists, and notes how far that has come for whoever goes on with it.
    pub(super) async fn readdir<R: Responder>(
        &self,
        handle: HandleId,
        offset: u64,
        plus: bool,
        to: &mut R,
    ) -> FsResult<Reply> {
        let last = self.list(handle, offset, plus, to).await?;
        if self.open_files.roll().is_some() {
            let last = last.and_then(|(offset, name)| Some((offset, Name::new(name).ok()?)));
            self.open_files.listed(handle, DirPlace { began: self.vfs.dir_began(handle).await?, last });
        }
        Ok(Reply::Entries)
    }

    /// Fills the responder until it is full or the directory ends, and yields the last entry that was taken. One counts as
    /// a lookup only when it was taken, for the kernel will forget exactly those.
    async fn list<R: Responder>(
        &self,
        handle: HandleId,
        offset: u64,
        plus: bool,
        to: &mut R,
    ) -> FsResult<Option<(u64, Box<[u8]>)>> {
        let tells = if plus { Attributes::All } else { Attributes::None };
        let (mut at, mut taken, mut seen) = (offset, None, Seen::default());
        loop {
            let left = to.entries_left(seen.name_len());
            if seen.names > 0 && left <= seen.names / SCRAP_SHARE {
                return Ok(taken);
            }
            let entries = match self.vfs.readdir(handle, at, left.clamp(1, BATCH_MAX), tells).await {
                Ok(entries) => entries,
                // What was taken so far is told; the error comes with the next request.
                Err(_) if at != offset => return Ok(taken),
                Err(error) => return Err(error),
            };
            let Some(last) = entries.last() else { return Ok(taken) };
            at = last.next_offset;
            for mut entry in entries {
                if self.put(&mut entry, plus, to).await? == Room::Full {
                    return Ok(taken);
                }
                seen.add(&entry.name);
                taken = Some((entry.next_offset, entry.name));
            }
        }
    }

    async fn put<R: Responder>(&self, listed: &mut DirEntryOut, plus: bool, to: &mut R) -> FsResult<Room> {
        if !plus || is_dot(&listed.name) {
            listed.entry = None;
            return Ok(to.add_entry(listed, UNKEPT));
        }
        if listed.entry.is_none() && !self.complete(listed).await? {
            return Ok(Room::Taken);
        }
        let valid = listed.entry.as_ref().map_or(UNKEPT, |entry| self.timeouts.entry(entry));
        let room = to.add_entry(listed, valid);
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
