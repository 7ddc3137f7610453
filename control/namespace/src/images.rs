//! Images of directories: what a listing tells of one, in order, in one piece of memory.
//!
//! **Why:** of a name that is listed by the tables, four fifths of the time are waiting for memory: its place in the table of inodes,
//! the inode, its record and what that points to lie anywhere. An image has names and attributes one behind the other, and of each
//! inode one line is touched, to count the lookup and to see that nothing has changed.
//!
//! **When it holds:** its names, while the directory's names have the epoch at which it was begun. Each entry by itself, while its
//! inode has not changed since ([`Inode::changes`]), for an inode whose name is taken away changes; of one that has, something else
//! is to be told. For how long what is told may be believed depends on the mount and is not in here. So an image is never
//! wrong, only of less and less use.
//!
//! **When it is made:** behind the scenes, when a directory that was listed without one, or in which names changed, was left
//! alone from one look to the next ([`Namespace::keep_images`]). Only of directories whose listing asks nobody: where the under file
//! system has none, or one that is ours alone. **Never** of one whose inodes are not all in memory, nor of very small and very
//! large ones.
//!
//! **Bounded** by a share of the inodes, which an image keeps in the table; what was made last stays. Where the table holds more
//! inodes than it is to, there are none.

use crate::generations::Generations;
use crate::inode::Inode;
use crate::namespace::Namespace;
use crate::record::Dentry;
use crate::shared::Shared;
use forebay_types::{Attr, FileKind, FsResult, Ino, MountId, Name};
use futures_timer::Delay;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Names of the smallest directory that has an image, and of the largest: of more a listing does not tell the attributes.
const NAMES_MIN: usize = 32;
const NAMES_MAX: usize = crate::list::AT_HAND_MAX as usize;
/// One in so many inodes may be in an image.
pub(crate) const INODES_SHARE: usize = 4;
/// Bytes of a name of usual length, and its entry.
pub(crate) const ENTRY_LEN: usize = size_of::<Imaged>() + 24;
/// Names that are drawn at a time, by a thread that others wait for.
const DRAWN_AT_ONCE: usize = 512;
/// Directories that wait for their images.
const ASKED_MAX: usize = 4096;
/// Between two looks; a directory that did not change in between is at rest.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a listing tells of one directory.
pub(crate) struct Image {
    dir: Weak<Inode>,
    epoch: u64,
    names: Vec<u8>,
    entries: Vec<Imaged>,
}

/// One entry.
pub(crate) struct Imaged {
    pub(crate) inode: Arc<Inode>,
    changes: u64,
    name_end: u32,
    /// `attr` may be told while nothing has changed.
    tells: bool,
    pub(crate) attr: Attr,
}

impl Imaged {
    /// Its attributes, if they are what they were.
    pub(crate) fn told(&self) -> Option<&Attr> {
        (self.tells && self.inode.changes() == self.changes).then_some(&self.attr)
    }
}

impl Image {
    fn of(dir: &Arc<Inode>) -> Self {
        Self { dir: Arc::downgrade(dir), epoch: dir.names_epoch(), names: Vec::new(), entries: Vec::new() }
    }

    /// Whether these are the names of the directory.
    pub(crate) fn holds(&self, dir: &Arc<Inode>) -> bool {
        std::ptr::eq(self.dir.as_ptr(), Arc::as_ptr(dir)) && self.epoch == dir.names_epoch()
    }

    /// The entries from one on, each with its name.
    pub(crate) fn entries(&self, from: usize) -> impl Iterator<Item = (&[u8], &Imaged)> {
        let from = from.min(self.entries.len());
        let mut begin = from.checked_sub(1).map_or(0, |before| self.entries[before].name_end as usize);
        self.entries[from..].iter().map(move |entry| {
            let end = entry.name_end as usize;
            let name = &self.names[begin..end];
            begin = end;
            (name, entry)
        })
    }

    /// Fetches the lines of a few entries at one time, which would else be waited for one after the other.
    pub(crate) fn touch(&self, from: usize, count: usize) {
        let some = self.entries.iter().skip(from).take(count);
        std::hint::black_box(some.fold(0, |all, entry| all ^ entry.inode.told.touch()));
    }

    fn add(&mut self, name: &Name, entry: Imaged) {
        self.names.extend_from_slice(name.as_bytes());
        self.entries.push(Imaged { name_end: self.names.len() as u32, ..entry });
    }
}

/// The images there are, and the directories of which one is asked for.
pub(crate) struct Images {
    kept: Mutex<Generations<Ino, Arc<Image>>>,
    asked: Mutex<Vec<Ino>>,
}

impl Images {
    /// Of a table that holds so many inodes.
    pub(crate) fn new(inodes_max: usize) -> Self {
        Self { kept: Mutex::new(Generations::new(inodes_max / INODES_SHARE)), asked: Mutex::default() }
    }

    /// The image of a directory, if there is one that holds; else one is asked for.
    pub(crate) fn get(&self, dir: &Arc<Inode>) -> Option<Arc<Image>> {
        let known = self.kept.lock().get(&dir.ino).filter(|image| image.holds(dir)).cloned();
        if known.is_none() {
            self.ask(dir);
        }
        known
    }

    /// An image of this directory would be of use, once it is left alone.
    pub(crate) fn ask(&self, dir: &Inode) {
        if !dir.ask_for_image() {
            return;
        }
        let mut asked = self.asked.lock();
        if asked.len() < ASKED_MAX {
            asked.push(dir.ino);
        } else {
            dir.image_begins();
        }
    }

    /// Takes up to so many directories of which an image is asked for.
    fn asked(&self, most: usize) -> Vec<Ino> {
        let mut asked = self.asked.lock();
        let most = most.min(asked.len());
        asked.drain(..most).collect()
    }

    fn clear(&self) {
        self.kept.lock().clear();
    }

    fn keep(&self, dir: Ino, image: Image) {
        let weight = image.entries.len();
        self.kept.lock().insert(dir, Arc::new(image), weight);
    }

    fn forget(&self, dir: Ino) {
        self.kept.lock().remove(&dir);
    }
}

/// What a reader makes of the next names.
enum Drawn {
    More(Draft),
    Whole(Image),
    /// There is no use in one.
    Unfit,
}

/// An image on its way.
struct Draft {
    image: Image,
    dir: Ino,
    mount: MountId,
    last: Option<Name>,
    names_min: usize,
}

impl Draft {
    /// Draws the next names. Blocks for as long as the engine does.
    fn draw(mut self, shared: &Shared) -> FsResult<Drawn> {
        let names =
            shared.view.names_after(self.dir, self.last.as_ref(), DRAWN_AT_ONCE, Dentry::target_of)?;
        for (name, target) in &names {
            let Some((ino, _)) = target else { continue };
            let Some(inode) = shared.table.get(*ino) else { return Ok(Drawn::Unfit) };
            self.image.add(name, self.entry(inode));
        }
        let count = self.image.entries.len();
        if count > NAMES_MAX {
            return Ok(Drawn::Unfit);
        }
        let ends = names.len() < DRAWN_AT_ONCE;
        self.last = names.into_iter().next_back().map(|(name, _)| name);
        Ok(match ends {
            false => Drawn::More(self),
            true if count < self.names_min => Drawn::Unfit,
            true => Drawn::Whole(self.image),
        })
    }

    fn entry(&self, inode: Arc<Inode>) -> Imaged {
        let live = inode.live.read();
        // Under the lock: what is read now is what this number stands for.
        let changes = inode.changes();
        let record = &live.record;
        // One that loses its only name changes. A directory does not when a mount takes its place.
        let stays = record.nlink == 1 && record.kind != FileKind::Directory && record.mount == self.mount;
        let (tells, attr) = (stays && live.whole && !record.write_open, record.attr(inode.ino));
        drop(live);
        Imaged { inode, changes, name_end: 0, tells, attr }
    }
}

/// Directories that wait for their images, with the epochs that their names had at the last look.
type Waiting = HashMap<Ino, Option<u64>>;

impl Namespace {
    /// Makes images of directories that are at rest, for as long as the name space is open.
    pub async fn keep_images(names: Weak<Self>) {
        let mut waiting = Waiting::new();
        loop {
            Delay::new(LOOK_EVERY).await;
            let Some(names) = names.upgrade() else { return };
            if names.shared.table.surplus() > 0 {
                names.shared.images.clear();
                continue;
            }
            let asked = names.shared.images.asked(ASKED_MAX - waiting.len());
            waiting.extend(asked.into_iter().map(|ino| (ino, None)));
            for ino in waiting.keys().copied().collect::<Vec<_>>() {
                if names.look_at_dir(ino, waiting.entry(ino).or_default()).await {
                    waiting.remove(&ino);
                }
            }
        }
    }

    /// Whether it need not be looked at again: it has an image, or is to have none.
    async fn look_at_dir(&self, ino: Ino, epoch: &mut Option<u64>) -> bool {
        let Some(dir) = self.shared.table.get(ino) else {
            self.shared.images.forget(ino);
            return true;
        };
        let now = Some(dir.names_epoch());
        if std::mem::replace(epoch, now) != now {
            // What it keeps in memory of names that are gone may go.
            self.shared.images.forget(ino);
            return false;
        }
        // One that fails is asked for again by the next listing.
        let _ = self.make_image_of(&dir, NAMES_MIN).await;
        true
    }

    /// Makes the image of a directory now, be it small or not at rest; says whether it has one.
    ///
    /// # Errors
    /// `Stale` if the directory is gone; what the engine says.
    pub async fn make_image(&self, dir: Ino) -> FsResult<bool> {
        let dir = self.inode(dir).await?;
        self.make_image_of(&dir, 0).await
    }

    async fn make_image_of(&self, dir: &Arc<Inode>, names_min: usize) -> FsResult<bool> {
        dir.image_begins();
        let image = self.draw_image(dir, names_min).await;
        match image {
            Ok(Some(image)) if image.holds(dir) => {
                self.shared.images.keep(dir.ino, image);
                return Ok(true);
            }
            _ => self.shared.images.forget(dir.ino),
        }
        image.map(|_| false)
    }

    async fn draw_image(&self, dir: &Arc<Inode>, names_min: usize) -> FsResult<Option<Image>> {
        let record = dir.record();
        let asks_nobody = match self.ufs_key(&record).await? {
            Some(key) => self.alone_since(dir, record.mount, &key)?.is_some(),
            None => true,
        };
        if !record.is_dir() || record.nlink == 0 || !asks_nobody {
            return Ok(None);
        }
        let (dir, mount, image) = (dir.ino, record.mount, Image::of(dir));
        let mut draft = Draft { image, dir, mount, last: None, names_min };
        loop {
            let shared = Arc::clone(&self.shared);
            match self.readers.read(move || draft.draw(&shared)).await? {
                Drawn::More(more) => draft = more,
                Drawn::Whole(image) => return Ok(Some(image)),
                Drawn::Unfit => return Ok(None),
            }
        }
    }
}
