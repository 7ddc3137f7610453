//! Listing by an image ([`crate::images`]).
//!
//! **Owns** which entries are told as the image has them, and what is told of the others: an inode that has changed since is told by
//! its record, as long as no name of the directory has; else its name is looked up anew. So the names are those there were when
//! the listing began, without those that have gone since, and what is told of each is what it is now.
//!
//! **Never does** allocate for an entry: who takes it gets it lent, and says whether he has.

use super::{ALONE_BASE, Attributes, DirStream, Entry, OWN_BASE, UFS_BASE, own_index};
use crate::images::Image;
use crate::inode::Inode;
use crate::namespace::{Lent, NATIVE_TTL};
use forebay_types::{Attr, FileKind, FsResult, Ino, InodeState, Name};
use std::sync::Arc;
use std::time::Duration;

/// Entries whose inodes are fetched at one time, and how many of them may have changed before the image is drawn anew.
const AT_ONCE: usize = 16;
const WORN_MAX: usize = 8;

/// One entry of a listing, lent.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'e> {
    /// The name.
    pub name: &'e [u8],
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Where the listing goes on after this entry.
    pub next_offset: u64,
    /// Its attributes; `None` where they were not asked for, or are not known without waiting.
    pub entry: Option<Lent<'e>>,
}

/// What became of an entry that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There was no room for it.
    Not,
    /// The name alone: it is no lookup.
    Name,
    /// With its attributes: it is a lookup.
    Entry,
}

/// How a read of an image has ended.
enum Run {
    /// There is no more, or no more room.
    Ended,
    /// What the entry at this place leads to is to be looked up.
    Elsewhere(usize),
}

/// How long what is told may be believed.
struct Terms {
    tells: Attributes,
    /// What is left of it since the UFS was asked. An image does not know what was carried since: of what was not, it would be
    /// longer.
    ttl: Duration,
}

impl Terms {
    fn of<'a>(&self, attr: &'a Attr) -> Option<Lent<'a>> {
        let ttl = if attr.state == InodeState::Native { NATIVE_TTL } else { self.ttl };
        let told = self.tells != Attributes::None && !ttl.is_zero();
        told.then_some(Lent { attr, entry_ttl: ttl, attr_ttl: ttl, generation: 0 })
    }
}

impl DirStream {
    /// Shows `take` what there is from `offset` on (0, or a [`Listed::next_offset`]) until it takes no more: the names, and the
    /// attributes that are known just now if `tells` asks for them. What is taken with attributes counts as a lookup. Says
    /// whether there is an image to do so by; if not, nothing was shown, and [`Self::read_with`] has what there is.
    ///
    /// # Errors
    /// As [`Self::read_with`], also after entries were taken.
    pub async fn show(
        &mut self,
        offset: u64,
        tells: Attributes,
        mut take: impl FnMut(&Listed<'_>) -> Taken,
    ) -> FsResult<bool> {
        if tells == Attributes::All {
            return Ok(false);
        }
        self.begin_if_new(offset).await?;
        if offset == 0 {
            self.image = self.image_now();
        }
        let Some(image) = self.image.clone() else { return Ok(false) };
        self.is_new = false;
        let mut offset = offset;
        while offset < UFS_BASE {
            let (name, ino, next_offset) = self.dot(offset);
            if take(&Listed { name, ino, kind: FileKind::Directory, next_offset, entry: None }) == Taken::Not
            {
                return Ok(true);
            }
            offset = next_offset;
        }
        let terms = self.terms(tells);
        let mut at = own_index(offset) as usize;
        while let Run::Elsewhere(place) = self.run(&image, at, &terms, &mut take)? {
            if self.show_anew(&image, place, &terms, &mut take).await? == Taken::Not {
                break;
            }
            at = place + 1;
        }
        Ok(true)
    }

    /// Where not all of the mount is believed alike any more, nothing is told but names.
    fn terms(&self, tells: Attributes) -> Terms {
        let ttl = self.names.shared.metadata_ttl_everywhere(self.mount).unwrap_or_default();
        Terms { tells, ttl: ttl.saturating_sub(self.age()) }
    }

    /// Shows entries from a place on.
    fn run(
        &self,
        image: &Image,
        from: usize,
        terms: &Terms,
        take: &mut impl FnMut(&Listed<'_>) -> Taken,
    ) -> FsResult<Run> {
        for at in (from..image.len()).step_by(AT_ONCE) {
            let block = || image.entries(at, AT_ONCE).map(|(_, imaged)| imaged);
            // Loads that depend on nothing: all these lines are waited for at one time.
            std::hint::black_box(block().fold(0, |all, imaged| all ^ imaged.inode.told.touch()));
            let mut lookups = [0; AT_ONCE];
            let shown = self.show_block(image, at, terms, take, &mut lookups);
            if block().filter(|imaged| imaged.is_worn()).count() > WORN_MAX {
                self.names.shared.images.is_worn(&self.dir);
            }
            // One behind the other, since each waits for all that was written before it.
            for (imaged, count) in block().zip(lookups).filter(|(_, count)| *count > 0) {
                self.names.shared.table.count_lookups(&imaged.inode, count);
            }
            if let Some(run) = shown? {
                return Ok(run);
            }
        }
        Ok(Run::Ended)
    }

    /// Shows a few entries, and notes which of them were taken as lookups; yields how it has ended, if it has.
    fn show_block(
        &self,
        image: &Image,
        from: usize,
        terms: &Terms,
        take: &mut impl FnMut(&Listed<'_>) -> Taken,
        lookups: &mut [u64; AT_ONCE],
    ) -> FsResult<Option<Run>> {
        for ((name, imaged), (at, lookup)) in image.entries(from, AT_ONCE).zip((from..).zip(lookups)) {
            let by_record;
            let (kind, entry) = match imaged.told() {
                Some(attr) => (attr.kind, terms.of(attr)),
                None if image.holds(&self.dir) || self.is_at(&imaged.inode, name) => {
                    by_record = self.told_by_record(&imaged.inode, terms)?;
                    (by_record.0, by_record.1.as_ref().map(Entry::lent))
                }
                None => return Ok(Some(Run::Elsewhere(at))),
            };
            let listed = Listed { name, ino: imaged.ino(), kind, next_offset: self.offset_after(at), entry };
            match take(&listed) {
                Taken::Not => return Ok(Some(Run::Ended)),
                Taken::Name => {}
                Taken::Entry => *lookup += 1,
            }
        }
        Ok(None)
    }

    fn offset_after(&self, at: usize) -> u64 {
        self.own_base() + at as u64 + 1
    }

    /// Whether a file surely still stands at its only name in this directory.
    fn is_at(&self, inode: &Inode, name: &[u8]) -> bool {
        let record = inode.record();
        let here = |(dir, at): &(Ino, Name)| *dir == self.dir.ino && at.as_bytes() == name;
        record.nlink == 1 && !record.is_dir() && record.at.as_ref().is_some_and(here)
    }

    fn told_by_record(&self, inode: &Inode, terms: &Terms) -> FsResult<(FileKind, Option<Entry>)> {
        let record = inode.record();
        // While it is open for write its bytes know better.
        if terms.tells == Attributes::None || record.write_open || record.nlink == 0 {
            return Ok((record.kind, None));
        }
        let mut entry = self.names.entry(inode)?;
        if entry.attr.state == InodeState::Clean {
            let age = self.age();
            entry.entry_ttl = entry.entry_ttl.saturating_sub(age);
            entry.attr_ttl = entry.attr_ttl.saturating_sub(age);
        }
        Ok((
            entry.attr.kind,
            Some(entry).filter(|entry| !entry.entry_ttl.is_zero() && !entry.attr_ttl.is_zero()),
        ))
    }

    /// Shows what there is now at the name of an entry.
    async fn show_anew(
        &self,
        image: &Image,
        at: usize,
        terms: &Terms,
        take: &mut impl FnMut(&Listed<'_>) -> Taken,
    ) -> FsResult<Taken> {
        let Some((bytes, _)) = image.entries(at, 1).next() else { return Ok(Taken::Name) };
        let name = Name::new(bytes)?;
        let dentry = self.names.own_name(&self.dir, &name).await?;
        let Some(inode) = self.shown_own(&name, dentry).await? else { return Ok(Taken::Name) };
        let (kind, entry) = self.told_by_record(&inode, terms)?;
        let (next_offset, entry) = (self.offset_after(at), entry.as_ref().map(Entry::lent));
        let taken = take(&Listed { name: bytes, ino: inode.ino, kind, next_offset, entry });
        if taken == Taken::Entry {
            self.names.shared.table.count_lookups(&inode, 1);
        }
        Ok(taken)
    }

    /// The image by which this listing may be gone through: what is told of one name may be told as long as what is told
    /// of any other.
    fn image_now(&self) -> Option<Arc<Image>> {
        let shared = &self.names.shared;
        let all_alike = self.ufs.is_none() && shared.metadata_ttl_everywhere(self.mount).is_some();
        all_alike.then(|| shared.images.get(&self.dir)).flatten()
    }
}

const _: () = assert!(UFS_BASE < OWN_BASE && OWN_BASE < ALONE_BASE);
