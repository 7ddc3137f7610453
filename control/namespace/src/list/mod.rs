//! Listing a directory.
//!
//! **Order:** `.` and `..`; then what the UFS has, page by page as it comes, less the names that are ours;
//! then our own names, sorted. A file that was clean when the listing began is shown among the UFS's entries
//! whatever becomes of it meanwhile, and any other among ours, so that none is shown twice or missed because
//! it was written or carried in between, however often ([`Marks`]).
//!
//! **Offsets** stand for places, not for names: 1 and 2 after the dots, then one for each entry of the UFS,
//! shown or not, then from [`OWN_BASE`] on one for each own name. A stream keeps the few pages of the UFS and the
//! names that it has shown lately, and a sparse list of places to start again from: never all names.
//!
//! What is shown of the UFS's entries, and what of that is asked for, is in [`shown`]; where its pages come from in [`fetch`];
//! our own names are in [`own`], and by an image of the directory in [`imaged`].
//!
//! **A directory that is ours alone** ([`crate::alone`]) is listed by our names, of which the UFS is known to have no others: it
//! is not asked, and each name of ours is shown, whether it was carried or not. Offsets in such a listing count from
//! [`ALONE_BASE`], so that they tell by themselves, also to another process, that the UFS's part is not to be gone through.
//!
//! A page that was asked for within `metadata_ttl` is not asked for again ([`crate::pages`]).
//!
//! A page of the UFS that fails is an error of the call, which may be repeated.

mod fetch;
mod imaged;
mod own;
mod places;
mod shown;
mod whole;

use crate::images::Image;
use crate::inode::Inode;
use crate::listings::Marks;
use crate::namespace::{Entry, Namespace};
use forebay_types::{
    DirPageEntry, FileKind, FsErrorKind, FsResult, Ino, InodeState, MountId, Name, PageToken, Told, UfsKey,
};
use places::{Checkpoints, Places};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use whole::Whole;

pub use imaged::{Listed, Taken};

/// Entries of a page that is asked of the UFS.
const PAGE_LEN: usize = 1000;
/// Own names that are read at a time.
const OWN_LEN: usize = 1024;
/// The first offset of our own names; no directory of the UFS has 2^62 entries.
const OWN_BASE: u64 = 1 << 62;
/// The same in a listing of a directory that was ours alone when it began.
const ALONE_BASE: u64 = OWN_BASE | 1 << 61;
/// When a UFS was looked at of which nobody knows when.
const LONG_AGO_MS: u64 = 0;
/// The first offset of the UFS's entries: after the dots.
const UFS_BASE: u64 = 2;
/// The most pages of the UFS that a stream keeps: as many as one read of a caller goes through, unless they are very small.
const PAGES_MAX: usize = 4;
/// The names of a listing, of the UFS's and of our own each, that bring the attributes that are at hand: of a very large
/// directory neither the kernel nor this process is to remember all.
pub(crate) const AT_HAND_MAX: u64 = 16 << 10;
/// How often a page is asked for again because the directory was moved in the UFS.
const MOVED_TRIES: usize = 4;

/// What a listing is to tell of each entry besides its name, its number and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Nothing.
    None,
    /// Its attributes, where they are known just now and may be believed for a while, of the first [`AT_HAND_MAX`] names.
    AtHand,
    /// All its attributes.
    All,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Box<[u8]>,
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Where the listing goes on after this entry.
    pub next_offset: u64,
    /// Its attributes; `None` for the dots, and where they were not asked for. Not counted as a lookup: [`Namespace::remember`] does that, until
    /// the next [`DirStream::read`] at the latest.
    pub entry: Option<Entry>,
}

/// A page of the UFS that is being shown.
struct Page {
    /// The index of its first entry among all of the UFS's.
    first: u64,
    entries: Arc<Vec<DirPageEntry>>,
    next: Option<PageToken>,
    /// The directory's epoch of names before the page was asked for.
    epoch: u64,
    /// When it was asked for.
    asked_ms: u64,
}

impl Page {
    /// The index after its last entry.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Keeps what was asked about one of its entries, if `index` is one of them.
    fn tell(&mut self, index: u64, told: &Told) {
        let at = index.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = at.filter(|at| *at < self.entries.len()) {
            Arc::make_mut(&mut self.entries)[at].told = told.clone();
        }
    }
}

/// An open directory.
pub struct DirStream {
    names: Arc<Namespace>,
    dir: Arc<Inode>,
    mount: MountId,
    /// The UFS's directory when the listing began; `None`: there is none, and our names are all.
    ufs: Option<UfsKey>,
    /// There is one, and it was known to have nothing that is not among our names: when it was last looked at.
    alone: Option<u64>,
    /// `None`: something that is not ours was met, or the listing did not begin with the first entry.
    whole: Option<Whole>,
    /// What is remembered of this listing; `None`: nothing was read yet.
    marks: Option<Arc<Marks>>,
    /// Neighbours, in order: from the one before that on in which the last read began.
    pages: VecDeque<Page>,
    tokens: Checkpoints<PageToken>,
    /// The UFS's entry behind which the listing goes on, and the index after it: another process began it.
    behind: Option<(u64, Name)>,
    own: Places,
    /// By which [`Self::show`] goes, until the listing begins anew. Its places are not those of [`Self::read_with`], so who
    /// begins with one goes on with it.
    image: Option<Arc<Image>>,
    /// It was begun, and nothing was read since.
    is_new: bool,
    /// What the read that is under way tells.
    tells: Attributes,
    /// The inodes shown last stay in the table until the next read, for who counts them then.
    shown: Vec<Arc<Inode>>,
}

impl Namespace {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// `NotADirectory`, `Stale`.
    pub async fn open_dir(self: &Arc<Self>, ino: Ino) -> FsResult<DirStream> {
        let dir = self.inode(ino).await?;
        let record = dir.record();
        if !record.is_dir() {
            return Err(FsErrorKind::NotADirectory.into());
        }
        Ok(DirStream {
            names: Arc::clone(self),
            dir,
            mount: record.mount,
            ufs: None,
            alone: None,
            whole: None,
            marks: None,
            pages: VecDeque::new(),
            tokens: Checkpoints::new(),
            behind: None,
            own: Places::new(),
            image: None,
            is_new: false,
            tells: Attributes::All,
            shown: Vec::new(),
        })
    }
}

impl Drop for DirStream {
    fn drop(&mut self) {
        self.end();
    }
}

/// How far a listing has come, so that another process can go on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirPlace {
    /// The log's number when the listing began.
    pub began: u64,
    /// The last name that was taken from it, and where the listing goes on after it.
    pub last: Option<(u64, Name)>,
}

/// How many of our own names lie before an offset.
fn own_index(offset: u64) -> u64 {
    offset.checked_sub(ALONE_BASE).unwrap_or(offset.saturating_sub(OWN_BASE))
}

/// How many names of its part, the UFS's or our own, a listing has gone through at an offset.
fn rank(offset: u64) -> u64 {
    if offset < OWN_BASE { offset.saturating_sub(UFS_BASE) } else { own_index(offset) }
}

/// An entry on its way out, its offset still to come.
struct Shown {
    name: Name,
    inode: Arc<Inode>,
    /// How long ago the UFS said so, as far as that is to be counted.
    age: Duration,
}

impl Shown {
    fn now(name: Name, inode: Arc<Inode>) -> Self {
        Self { name, inode, age: Duration::ZERO }
    }

    /// One of a directory that the UFS was last asked about so long ago. What was not carried is ours alone to know.
    fn of_alone(name: Name, inode: Arc<Inode>, age: Duration) -> Self {
        let clean = inode.record().state == InodeState::Clean;
        Self { name, inode, age: if clean { age } else { Duration::ZERO } }
    }
}

impl DirStream {
    /// Starts with what is there now; what is asked for first is at `offset`.
    async fn begin(&mut self, offset: u64) -> FsResult<()> {
        self.begin_at(None).await?;
        self.learn_alone(offset)?;
        self.is_new = true;
        Ok(())
    }

    /// Begins a listing that is read from its first entry, or was not begun, unless it was just begun.
    async fn begin_if_new(&mut self, offset: u64) -> FsResult<()> {
        let new = offset == 0 && !self.is_new;
        if new || self.marks.is_none() { self.begin(offset).await } else { Ok(()) }
    }

    /// Finds out whether the UFS's part is to be gone through.
    fn learn_alone(&mut self, offset: u64) -> FsResult<()> {
        let Some(key) = &self.ufs else { return Ok(()) };
        if offset == 0 {
            self.whole = self.begin_whole(key);
        }
        let alone_since = match offset {
            0 => self.names.alone_since(&self.dir, self.mount, key)?,
            ALONE_BASE.. => Some(LONG_AGO_MS),
            _ => None,
        };
        if let Some(since_ms) = alone_since {
            self.go_alone(since_ms);
        }
        Ok(())
    }

    /// The UFS's part is not gone through.
    fn go_alone(&mut self, since_ms: u64) {
        (self.ufs, self.alone, self.whole) = (None, Some(since_ms), None);
    }

    /// Starts as if it had been when the log had this number.
    async fn begin_at(&mut self, pushed: Option<u64>) -> FsResult<()> {
        let record = self.dir.record();
        self.ufs = if record.nlink == 0 { None } else { self.names.ufs_key(&record).await? };
        self.end();
        let shared = &self.names.shared;
        let pushed = || pushed.unwrap_or_else(|| self.names.committer.pushed());
        self.marks = Some(shared.listings.begin(self.dir.ino, pushed));
        (self.alone, self.whole) = (None, None);
        self.pages.clear();
        self.tokens = Checkpoints::new();
        self.behind = None;
        self.own = Places::new();
        self.image = None;
        Ok(())
    }

    fn end(&mut self) {
        if let Some(marks) = self.marks.take() {
            self.names.shared.listings.end(self.dir.ino, &marks);
        }
    }

    /// The log's number when it began; 0 if nothing was read yet.
    pub fn began(&self) -> u64 {
        self.marks.as_ref().map_or(0, |marks| marks.began)
    }

    /// Goes on with the listing of a process before this one.
    ///
    /// # Errors
    /// `Stale` if the directory is gone.
    pub async fn resume(&mut self, place: DirPlace) -> FsResult<()> {
        if place.last.is_some() {
            self.begin_at(Some(place.began)).await?;
        }
        match place.last {
            Some((offset, name)) if offset > ALONE_BASE => {
                self.go_alone(LONG_AGO_MS);
                self.own.remember(offset - ALONE_BASE, &name);
            }
            Some((offset, name)) if offset > OWN_BASE => self.own.remember(offset - OWN_BASE, &name),
            Some((offset, name)) if offset > UFS_BASE => self.behind = Some((offset - UFS_BASE, name)),
            _ => {}
        }
        Ok(())
    }

    /// As [`DirStream::read_with`], with all attributes.
    ///
    /// # Errors
    /// As that.
    pub async fn read(&mut self, offset: u64, limit: usize) -> FsResult<Vec<DirEntry>> {
        self.read_with(offset, limit, Attributes::All).await
    }

    /// Up to `limit` entries from `offset` on: 0, or the `next_offset` of an entry seen before. An empty
    /// answer is the end.
    ///
    /// # Errors
    /// What the UFS said, if a page of it could not be had: never a short listing.
    pub async fn read_with(
        &mut self,
        offset: u64,
        limit: usize,
        tells: Attributes,
    ) -> FsResult<Vec<DirEntry>> {
        self.tells = tells;
        self.shown.clear();
        self.begin_if_new(offset).await?;
        self.is_new = false;
        self.goes_on_from(offset);
        let mut out = Vec::new();
        let mut offset = offset;
        while out.len() < limit {
            let before = offset;
            offset = match offset {
                0 | 1 => self.read_dot(offset, &mut out),
                UFS_BASE..OWN_BASE if self.ufs.is_some() => self.read_ufs(offset, limit, &mut out).await?,
                UFS_BASE..OWN_BASE => self.own_base(),
                _ => self.read_own(offset, limit, &mut out).await?,
            };
            if offset == before {
                break;
            }
        }
        Ok(out)
    }

    /// Whoever reads from here may not have room for all he is told, and the kernel asks again from what a program had room
    /// for, which lies some way back: it is to be what it was, whatever came or went meanwhile.
    fn goes_on_from(&mut self, offset: u64) {
        let index = offset.min(OWN_BASE).saturating_sub(UFS_BASE);
        while self.pages.get(1).is_some_and(|page| page.end() <= index) {
            self.pages.pop_front();
        }
        self.own.goes_on_from(own_index(offset));
    }

    /// The offset before the first of our own names.
    fn own_base(&self) -> u64 {
        if self.alone.is_some() { ALONE_BASE } else { OWN_BASE }
    }

    fn read_dot(&self, offset: u64, out: &mut Vec<DirEntry>) -> u64 {
        let (name, ino, next_offset) = self.dot(offset);
        out.push(DirEntry { name: name.into(), ino, kind: FileKind::Directory, next_offset, entry: None });
        next_offset
    }

    /// What stands at one of the first two offsets, and where to go on.
    fn dot(&self, offset: u64) -> (&'static [u8], Ino, u64) {
        let up = || self.dir.record().at.as_ref().map_or(self.dir.ino, |(parent, _)| *parent);
        if offset == 0 { (b".", self.dir.ino, 1) } else { (b"..", up(), 2) }
    }

    /// How long ago the UFS was last known to have nothing but our names, if it has the directory at all.
    fn age(&self) -> Duration {
        let now_ms = self.names.shared.now_ms();
        Duration::from_millis(self.alone.map_or(0, |since_ms| now_ms.saturating_sub(since_ms)))
    }

    /// Shows entries of the UFS's page that holds `offset`; yields where to go on.
    async fn read_ufs(&mut self, offset: u64, limit: usize, out: &mut Vec<DirEntry>) -> FsResult<u64> {
        let index = offset - UFS_BASE;
        let Some(page) = self.page_at(index).await? else {
            self.met_end(index);
            return Ok(OWN_BASE);
        };
        let skip = (index - page.first) as usize;
        let asked = (page.epoch, page.asked_ms);
        let wanted: Vec<DirPageEntry> =
            page.entries[skip..].iter().take(limit - out.len()).cloned().collect();
        let count = wanted.len() as u64;
        for (at, shown) in self.ufs_entries(index, wanted, asked).await?.into_iter().enumerate() {
            if let Some(shown) = shown {
                self.push(out, shown, offset + at as u64 + 1)?;
            }
        }
        Ok(offset + count)
    }

    fn push(&mut self, out: &mut Vec<DirEntry>, shown: Shown, next_offset: u64) -> FsResult<()> {
        let entry = self.entry_of(&shown, next_offset)?;
        let Shown { name, inode, .. } = shown;
        let kind = entry.as_ref().map_or_else(|| inode.record().kind, |entry| entry.attr.kind);
        out.push(DirEntry { name: name.into(), ino: inode.ino, kind, next_offset, entry });
        if entry.is_some() {
            self.shown.push(inode);
        }
        Ok(())
    }

    /// The attributes that are told of an entry.
    fn entry_of(&self, shown: &Shown, next_offset: u64) -> FsResult<Option<Entry>> {
        let at_hand = self.tells == Attributes::AtHand;
        if self.tells == Attributes::None || (at_hand && rank(next_offset) > AT_HAND_MAX) {
            return Ok(None);
        }
        let mut entry = self.names.entry(&shown.inode)?;
        entry.entry_ttl = entry.entry_ttl.saturating_sub(shown.age);
        entry.attr_ttl = entry.attr_ttl.saturating_sub(shown.age);
        // Those that are out of date at once would be asked for again before they are used.
        Ok(Some(entry).filter(|entry| !at_hand || !entry.entry_ttl.is_zero()))
    }
}
