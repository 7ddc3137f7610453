//! Listing directories.

use super::{Dispatch, done};
use crate::op::RequestId;
use crate::reply::{Reply, Responder, Room, Validity};
use forebay_types::{FsResult, HandleId, Ino, Name};
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
        let tells = match plus {
            false => Attributes::None,
            true if to.takes_bare_entries() => Attributes::AtHand,
            true => Attributes::All,
        };
        let (mut at, mut taken, mut seen) = (offset, None, Seen::default());
        loop {
            let left = to.entries_left(seen.name_len());
            if seen.names > 0 && left <= seen.names / SCRAP_SHARE {
                return Ok(taken);
            }
            let wanted = left.clamp(1, BATCH_MAX);
            let entries = match self.vfs.readdir(handle, at, wanted, tells).await {
                Ok(entries) => entries,
                // What was taken so far is told; the error comes with the next request.
                Err(_) if at != offset => return Ok(taken),
                Err(error) => return Err(error),
            };
            let Some(last) = entries.last() else { return Ok(taken) };
            at = last.next_offset;
            let ends = entries.len() < wanted;
            for mut entry in entries {
                if self.put(&mut entry, tells, to) == Room::Full {
                    return Ok(taken);
                }
                seen.add(&entry.name);
                taken = Some((entry.next_offset, entry.name));
            }
            if ends {
                return Ok(taken);
            }
        }
    }

    fn put<R: Responder>(&self, listed: &mut DirEntryOut, tells: Attributes, to: &mut R) -> Room {
        if tells == Attributes::AtHand {
            let kept = |entry: &Entry| !self.timeouts.entry(entry).entry.is_zero();
            listed.entry = listed.entry.take().filter(kept);
        }
        let Some(entry) = &listed.entry else { return to.add_entry(listed, UNKEPT) };
        let room = to.add_entry(listed, self.timeouts.entry(entry));
        if room == Room::Taken {
            self.vfs.take_entry(listed.ino);
        }
        room
    }
}
