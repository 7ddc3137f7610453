//! Images of directories: what a listing tells of one, in order, in one piece of memory.
//!
//! **Why:** of a name that is listed by the tables, four fifths of the time are waiting for memory: its place in the table of inodes,
//! the inode, its record and what that points to lie anywhere. An image has names and attributes one behind the other, and of each
//! inode one line is touched, to count the lookup and to see that nothing has changed.
//!
//! **When it holds:** its names, while none of the directory's names leads elsewhere than when it was begun ([`OfDir::epoch`]). Each
//! entry by itself, while nothing else is to be told of its inode ([`Inode::changes`]), as when its name is taken away. That
//! something was carried changes neither. For how long what is told may be believed depends on the mount and is not in
//! here. So an image is never wrong, only of less and less use.
//!
//! **Owns** the images there are, and which directories are to have one. How one is made is in [`crate::drawing`], how a listing
//! goes by it in [`crate::list`].
//!
//! **Bounded** by a share of the inodes, which an image keeps in the table; what was made last stays, and listings may hold
//! as much again.

use crate::generations::Generations;
use crate::inode::Inode;
use forebay_types::{Attr, Ino, Name};
use parking_lot::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::sync::{Arc, Weak};

/// One in so many inodes may be in an image that is kept.
pub(crate) const INODES_SHARE: usize = 4;
/// Bytes of a name of usual length, and its entry.
pub(crate) const ENTRY_LEN: usize = size_of::<Imaged>() + 24;
/// Directories of which an image is asked for and that nobody has looked at.
const ASKED_MAX: usize = 4096;
/// No epoch: names are never counted so far.
const NEVER: u64 = u64::MAX;

/// What a listing tells of one directory.
pub(crate) struct Image {
    dir: Weak<Inode>,
    epoch: u64,
    names: Vec<u8>,
    entries: Vec<Imaged>,
    weighs: Option<Weighs>,
}

/// One entry.
pub(crate) struct Imaged {
    pub(crate) inode: Arc<Inode>,
    /// What [`Inode::changes`] was.
    changes: u64,
    name_end: u32,
    /// `attr` may be told while nothing has changed.
    tells: bool,
    attr: Attr,
}

impl Imaged {
    /// An entry that tells `attr`, but for its state, if it is to, while its inode has so many `changes`.
    pub(crate) fn new(inode: Arc<Inode>, changes: u64, tells: bool, attr: Attr) -> Self {
        Self { inode, changes, name_end: 0, tells, attr }
    }

    /// Whether something else is to be told than there was.
    pub(crate) fn is_worn(&self) -> bool {
        self.inode.changes() != self.changes
    }

    pub(crate) fn ino(&self) -> Ino {
        self.attr.ino
    }

    /// Its attributes, if they are what they were. Whether it is clean may have changed since.
    pub(crate) fn told(&self) -> Option<&Attr> {
        (self.tells && self.inode.changes() == self.changes).then_some(&self.attr)
    }
}

impl Image {
    /// An image of a directory as it is from now on, without names yet.
    pub(crate) fn begin(dir: &Arc<Inode>) -> Self {
        let (dir, epoch) = (Arc::downgrade(dir), dir.image.epoch());
        Self { dir, epoch, names: Vec::new(), entries: Vec::new(), weighs: None }
    }

    /// Whether these are the names of the directory.
    pub(crate) fn holds(&self, dir: &Arc<Inode>) -> bool {
        std::ptr::eq(self.dir.as_ptr(), Arc::as_ptr(dir)) && self.epoch == dir.image.epoch()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn add(&mut self, name: &Name, entry: Imaged) {
        self.names.extend_from_slice(name.as_bytes());
        self.entries.push(Imaged { name_end: self.names.len() as u32, ..entry });
    }

    /// Whether a name leads there, or nowhere, as far as this knows.
    fn leads(&self, name: &Name, to: Option<Ino>) -> bool {
        let of = |at: usize| self.entries(at, 1).next();
        let (mut low, mut high) = (0, self.entries.len());
        while low < high {
            let middle = low.midpoint(high);
            match of(middle) {
                Some((there, _)) if there < name.as_bytes() => low = middle + 1,
                _ => high = middle,
            }
        }
        of(low).filter(|(there, _)| *there == name.as_bytes()).map(|(_, entry)| entry.ino()) == to
    }

    /// Up to `count` entries from one on, each with its name.
    pub(crate) fn entries(
        &self,
        from: usize,
        count: usize,
    ) -> impl Iterator<Item = (&[u8], &Imaged)> + Clone {
        let from = from.min(self.entries.len());
        let until = from.saturating_add(count).min(self.entries.len());
        let mut begin = from.checked_sub(1).map_or(0, |before| self.entries[before].name_end as usize);
        self.entries[from..until].iter().map(move |entry| {
            let end = entry.name_end as usize;
            let name = &self.names[begin..end];
            begin = end;
            (name, entry)
        })
    }
}

/// How many entries all images have together, of which one has so many.
struct Weighs {
    all: Arc<AtomicUsize>,
    entries: usize,
}

impl Drop for Weighs {
    fn drop(&mut self) {
        self.all.fetch_sub(self.entries, Relaxed);
    }
}

/// What a directory knows about its image.
pub(crate) struct OfDir {
    is_asked: AtomicBool,
    is_worn: AtomicBool,
    epoch: AtomicU64,
    /// What the epoch was when there was no use in an image.
    useless_at: AtomicU64,
}

impl Default for OfDir {
    fn default() -> Self {
        let (epoch, useless_at) = (AtomicU64::new(0), AtomicU64::new(NEVER));
        Self { is_asked: AtomicBool::new(false), is_worn: AtomicBool::new(false), epoch, useless_at }
    }
}

impl OfDir {
    /// Counts the changes of where names lead, as far as an image may have told otherwise.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }
}

/// The images there are, and the directories of which one is asked for.
pub(crate) struct Images {
    kept: Mutex<Generations<Ino, Arc<Image>>>,
    asked: Mutex<Vec<Ino>>,
    entries_max: usize,
    /// Of the images that are kept, and of those that listings still hold.
    entries: Arc<AtomicUsize>,
}

impl Images {
    /// Of a table that holds so many inodes.
    pub(crate) fn new(inodes_max: usize) -> Self {
        let entries_max = inodes_max / INODES_SHARE;
        let kept = Mutex::new(Generations::new(entries_max));
        Self { kept, asked: Mutex::default(), entries_max, entries: Arc::default() }
    }

    /// The image of a directory, if there is one that holds; else one is asked for.
    pub(crate) fn get(&self, dir: &Arc<Inode>) -> Option<Arc<Image>> {
        let known = self.kept.lock().get(&dir.ino).filter(|image| image.holds(dir)).cloned();
        if known.is_none() {
            self.ask(dir);
        }
        known
    }

    /// Whether the image of a directory says that a name leads there, or nowhere.
    pub(crate) fn say(&self, dir: &Arc<Inode>, name: &Name, to: Option<Ino>) -> bool {
        let kept = self.kept.lock();
        kept.get(&dir.ino).is_some_and(|image| image.holds(dir) && image.leads(name, to))
    }

    /// A name of a directory leads elsewhere, or may: no image of it holds any more, and another one would be of use.
    pub(crate) fn name_changed(&self, dir: &Inode) {
        dir.image.epoch.fetch_add(1, AcqRel);
        self.ask(dir);
    }

    /// Much of what the image of a directory told has changed: it is to be drawn anew, and serves until then.
    pub(crate) fn is_worn(&self, dir: &Inode) {
        dir.image.is_worn.store(true, Relaxed);
        self.ask(dir);
    }

    /// Whether there is an image that holds and is not worn.
    pub(crate) fn has_good(&self, dir: &Arc<Inode>) -> bool {
        let worn = dir.image.is_worn.load(Relaxed);
        !worn && self.kept.lock().get(&dir.ino).is_some_and(|image| image.holds(dir))
    }

    /// An image of this directory would be of use, once it is left alone.
    fn ask(&self, dir: &Inode) {
        let OfDir { is_asked, useless_at, .. } = &dir.image;
        let is_useless = || useless_at.load(Relaxed) == dir.image.epoch();
        if is_asked.load(Relaxed) || is_useless() || is_asked.swap(true, AcqRel) {
            return;
        }
        let mut asked = self.asked.lock();
        if asked.len() < ASKED_MAX {
            asked.push(dir.ino);
        } else {
            self.take_up(dir);
        }
    }

    /// Takes up to so many directories of which an image is asked for.
    pub(crate) fn asked(&self, most: usize) -> Vec<Ino> {
        let mut asked = self.asked.lock();
        let most = most.min(asked.len());
        asked.drain(..most).collect()
    }

    /// Who asks for one of this directory from now on asks again.
    pub(crate) fn take_up(&self, dir: &Inode) {
        dir.image.is_worn.store(false, Relaxed);
        dir.image.is_asked.store(false, Relaxed);
    }

    /// An image is of no use while the directory has this epoch.
    pub(crate) fn is_useless(&self, dir: &Inode, epoch: u64) {
        dir.image.useless_at.store(epoch, Relaxed);
    }

    /// Whether an image of so many entries would never be kept.
    pub(crate) fn is_too_large(&self, entries: usize) -> bool {
        self.kept.lock().is_too_heavy(entries)
    }

    /// Keeps an image, unless listings hold too many old ones; says whether it does.
    pub(crate) fn keep(&self, dir: Ino, mut image: Image) -> bool {
        let entries = image.len();
        if self.entries.load(Relaxed) + entries > 2 * self.entries_max {
            return false;
        }
        self.entries.fetch_add(entries, Relaxed);
        image.weighs = Some(Weighs { all: Arc::clone(&self.entries), entries });
        let displaced = self.kept.lock().insert(dir, Arc::new(image), entries);
        drop(displaced);
        true
    }

    /// Drops the image of a directory that is gone.
    pub(crate) fn forget(&self, dir: Ino) {
        let known = self.kept.lock().remove(&dir);
        drop(known);
    }

    /// Drops the image of a directory unless it holds; yields how many entries it had.
    pub(crate) fn forget_false(&self, dir: &Arc<Inode>) -> Option<usize> {
        let mut kept = self.kept.lock();
        let is_false = kept.get(&dir.ino).is_some_and(|image| !image.holds(dir));
        let known = if is_false { kept.remove(&dir.ino) } else { None };
        drop(kept);
        known.map(|image| image.len())
    }

    pub(crate) fn clear(&self) {
        let all = self.kept.lock().clear();
        drop(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::a_dir;

    fn with_entries(dir: &Arc<Inode>, names: &[&str]) -> Image {
        let mut image = Image::begin(dir);
        for (n, name) in names.iter().enumerate() {
            let attr = Attr { ino: Ino(n as u64), ..dir.attr() };
            let entry = Imaged::new(Arc::clone(dir), dir.changes(), true, attr);
            image.add(&Name::new(name.as_bytes()).unwrap(), entry);
        }
        image
    }

    #[test]
    fn an_image_knows_where_its_names_lead() {
        let (dir, name) = (a_dir(), |text: &str| Name::new(text.as_bytes()).unwrap());
        for names in [&[][..], &["b"], &["b", "d"], &["b", "d", "da", "f"]] {
            let image = with_entries(&dir, names);
            for other in ["a", "c", "dA", "e", "g"] {
                assert!(image.leads(&name(other), None) && !image.leads(&name(other), Some(Ino(0))));
            }
            for (n, known) in names.iter().enumerate() {
                let here = Some(Ino(n as u64));
                assert!(image.leads(&name(known), here) && !image.leads(&name(known), None), "{known}");
            }
        }
    }

    #[test]
    fn an_image_serves_until_a_name_changes_and_one_that_is_worn_until_there_is_another() {
        let (images, dir) = (Images::new(1000), a_dir());
        assert!(images.get(&dir).is_none());
        assert_eq!(images.asked(9), [dir.ino]);
        assert!(images.asked(9).is_empty() && images.get(&dir).is_none(), "it is asked for once");
        images.take_up(&dir);
        assert!(images.keep(dir.ino, with_entries(&dir, &["a"])));
        assert!(images.get(&dir).is_some() && images.has_good(&dir) && images.asked(9).is_empty());
        images.is_worn(&dir);
        assert!(images.get(&dir).is_some() && !images.has_good(&dir));
        assert_eq!((images.asked(9), images.forget_false(&dir)), (vec![dir.ino], None));
        images.take_up(&dir);
        images.name_changed(&dir);
        assert!(images.get(&dir).is_none());
        assert_eq!((images.asked(9), images.forget_false(&dir)), (vec![dir.ino], Some(1)));
    }

    #[test]
    fn where_an_image_is_of_no_use_none_is_asked_for_until_a_name_changes() {
        let (images, dir) = (Images::new(1000), a_dir());
        images.is_useless(&dir, dir.image.epoch());
        assert!(images.get(&dir).is_none() && images.asked(9).is_empty());
        images.name_changed(&dir);
        assert_eq!(images.asked(9), [dir.ino]);
    }
}
