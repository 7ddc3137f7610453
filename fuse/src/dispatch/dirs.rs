//! Listing directories.

use super::{Dispatch, done};
use crate::op::RequestId;
use crate::reply::{Reply, Responder, Room, Validity};
use forebay_types::{FsResult, HandleId, Ino, Name};
use forebay_vfs::{Attributes, DirPlace, Listed, Taken};
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

/// The last entry that a reply has taken: where the listing goes on after it, and its name.
#[derive(Default)]
struct Last {
    offset: u64,
    name: Vec<u8>,
}

impl Last {
    fn is(&mut self, listed: &Listed<'_>) {
        self.offset = listed.next_offset;
        self.name.clear();
        self.name.extend_from_slice(listed.name);
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
            let last = last.and_then(|last| Some((last.offset, Name::new(last.name).ok()?)));
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
    ) -> FsResult<Option<Last>> {
        let tells = match plus {
            false => Attributes::None,
            true if to.takes_bare_entries() => Attributes::AtHand,
            true => Attributes::All,
        };
        if !to.takes_bare_entries() {
            return self.list_batches(handle, offset, tells, to).await;
        }
        let mut last = None::<Last>;
        let shown = self
            .vfs
            .show_dir(handle, offset, tells, |listed| {
                let taken = self.put(listed, tells, to);
                if taken != Taken::Not {
                    last.get_or_insert_default().is(listed);
                }
                taken
            })
            .await;
        match shown {
            Ok(false) => self.list_batches(handle, offset, tells, to).await,
            // What was taken is told; the error comes with the next request.
            Err(error) if last.is_none() => Err(error),
            Ok(true) | Err(_) => Ok(last),
        }
    }

    /// The same for a directory whose entries may have to be asked for.
    async fn list_batches<R: Responder>(
        &self,
        handle: HandleId,
        offset: u64,
        tells: Attributes,
        to: &mut R,
    ) -> FsResult<Option<Last>> {
        let (mut at, mut last, mut seen) = (offset, None::<Last>, Seen::default());
        loop {
            let left = to.entries_left(seen.name_len());
            if seen.names > 0 && left <= seen.names / SCRAP_SHARE {
                return Ok(last);
            }
            let wanted = left.clamp(1, BATCH_MAX);
            let entries = match self.vfs.readdir(handle, at, wanted, tells).await {
                Ok(entries) => entries,
                Err(_) if at != offset => return Ok(last),
                Err(error) => return Err(error),
            };
            let ends = entries.len() < wanted;
            for entry in &entries {
                let listed = entry.listed();
                match self.put(&listed, tells, to) {
                    Taken::Not => return Ok(last),
                    Taken::Name => {}
                    Taken::Entry => self.vfs.take_entry(entry.ino),
                }
                seen.add(&entry.name);
                last.get_or_insert_default().is(&listed);
                at = entry.next_offset;
            }
            if ends {
                return Ok(last);
            }
        }
    }

    fn put<R: Responder>(&self, listed: &Listed<'_>, tells: Attributes, to: &mut R) -> Taken {
        let valid = listed.entry.map(|entry| self.timeouts.entry(entry));
        let (room, taken) = match valid {
            Some(valid) if tells == Attributes::All || !valid.entry.is_zero() => {
                (to.add_entry(listed, valid), Taken::Entry)
            }
            _ => (to.add_entry(&Listed { entry: None, ..*listed }, UNKEPT), Taken::Name),
        };
        if room == Room::Full { Taken::Not } else { taken }
    }
}
