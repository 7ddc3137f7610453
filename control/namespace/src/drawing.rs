//! Drawing images of directories ([`crate::images`]), behind the scenes.
//!
//! **Owns** of which directories images are made, and when: of one that was listed without an image, or in which names changed,
//! once it was left alone from one look to the next. **Never** of one that a listing has to ask the under file system about, of one
//! whose inodes are not all in memory, nor of very small and very large ones. **Never does** hold anybody up: the threads that
//! read the engine draw a few hundred names at a time.

use crate::images::{Image, Imaged};
use crate::inode::Inode;
use crate::namespace::Namespace;
use crate::record::Dentry;
use crate::shared::Shared;
use forebay_types::{FileKind, FsResult, Ino, MountId, Name};
use futures_timer::Delay;
use hashbrown::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Names of the smallest directory that has an image, and of the largest: of more a listing does not tell the attributes.
const NAMES_MIN: usize = 32;
const NAMES_MAX: usize = crate::list::AT_HAND_MAX as usize;
/// Names that are drawn at a time, by a thread that others wait for.
const DRAWN_AT_ONCE: usize = 512;
/// Directories that are looked at.
const WAITING_MAX: usize = 4096;
/// Between two looks; a directory that did not change in between is at rest. A large one is to be at rest for longer.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const NAMES_PER_LOOK: usize = 2048;
/// Drawing rests so many times as long as it has taken: it is never to take more than a small part of a core.
const REST: u32 = 15;

/// What came of drawing.
enum Drawn {
    /// There are more names.
    More(Draft),
    Whole(Image),
    /// There is no use in one while the names are these.
    Useless,
    /// It cannot be drawn just now.
    NotNow,
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
            let Some(inode) = shared.table.get(*ino) else { return Ok(Drawn::NotNow) };
            let entry = self.entry(name, inode);
            self.image.add(name, entry);
        }
        let (count, ends) = (self.image.len(), names.len() < DRAWN_AT_ONCE);
        self.last = names.into_iter().next_back().map(|(name, _)| name);
        Ok(match ends {
            _ if count > NAMES_MAX || shared.images.is_too_large(count) => Drawn::Useless,
            false => Drawn::More(self),
            true if count < self.names_min => Drawn::Useless,
            true => Drawn::Whole(self.image),
        })
    }

    fn entry(&self, name: &Name, inode: Arc<Inode>) -> Imaged {
        let live = inode.live.read();
        // Under the lock: what is read now is what this number stands for.
        let changes = inode.changes();
        let record = &live.record;
        let here = record.at.as_ref().is_some_and(|(dir, at)| *dir == self.dir && at == name);
        // One that loses its only name changes. A directory does not when a mount takes its place.
        let stays = record.nlink == 1 && record.kind != FileKind::Directory && record.mount == self.mount;
        let tells = here && stays && live.whole && !record.write_open;
        let attr = record.attr(inode.ino);
        drop(live);
        Imaged::new(inode, changes, tells, attr)
    }
}

/// A directory of which an image is asked for.
#[derive(Default)]
struct Asked {
    /// The epoch that it had at the last look.
    epoch: Option<u64>,
    /// How many names its last image had.
    names: usize,
    /// Looks that are to find it as it is, before it counts as being at rest.
    looks_left: usize,
}

type Waiting = HashMap<Ino, Asked>;

/// What came of a look.
enum Look {
    Wait,
    Forget,
    Draw(Arc<Inode>),
}

impl Namespace {
    /// Makes images of directories that are at rest, for as long as the name space is open.
    pub async fn keep_images(names: Weak<Self>) {
        let mut waiting = Waiting::new();
        loop {
            Delay::new(LOOK_EVERY).await;
            let Some(asked) = names.upgrade().map(|names| names.asked_images(&waiting)) else { return };
            waiting.extend(asked.into_iter().map(|ino| (ino, Asked::default())));
            for ino in waiting.keys().copied().collect::<Vec<_>>() {
                let Some(names) = names.upgrade() else { return };
                let dir = match names.look_at_dir(ino, &mut waiting) {
                    Look::Wait => continue,
                    Look::Forget => None,
                    Look::Draw(dir) => Some(dir),
                };
                waiting.remove(&ino);
                let Some(dir) = dir else { continue };
                let began = Instant::now();
                // One that fails is asked for again by the next listing.
                let _ = names.make_image_of(&dir, NAMES_MIN).await;
                drop((dir, names));
                Delay::new(REST * began.elapsed()).await;
            }
        }
    }

    /// Of which directories images are asked for, besides those that wait. Where the table holds more inodes than it is to, there
    /// are no images.
    fn asked_images(&self, waiting: &Waiting) -> Vec<Ino> {
        if self.shared.table.surplus() > 0 {
            self.shared.images.clear();
        }
        self.shared.images.asked(WAITING_MAX - waiting.len())
    }

    /// Looks whether a directory that waits is at rest.
    fn look_at_dir(&self, ino: Ino, waiting: &mut Waiting) -> Look {
        let is_full = waiting.len() == WAITING_MAX;
        let Some(asked) = waiting.get_mut(&ino) else { return Look::Forget };
        let Some(dir) = self.shared.table.get(ino) else {
            self.shared.images.forget(ino);
            return Look::Forget;
        };
        if self.shared.images.has_good(&dir) {
            self.shared.images.take_up(&dir);
            return Look::Forget;
        }
        let now = Some(dir.image.epoch());
        if std::mem::replace(&mut asked.epoch, now) == now {
            let at_rest = asked.looks_left == 0;
            asked.looks_left = asked.looks_left.saturating_sub(1);
            return if at_rest { Look::Draw(dir) } else { Look::Wait };
        }
        // What it keeps in memory of names that are gone may go.
        asked.names = self.shared.images.forget_false(&dir).unwrap_or(asked.names);
        asked.looks_left = asked.names / NAMES_PER_LOOK;
        if is_full {
            // It is asked for again when it changes again, or is listed: others may be at rest by now.
            self.shared.images.take_up(&dir);
            return Look::Forget;
        }
        Look::Wait
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
        let images = &self.shared.images;
        images.take_up(dir);
        let epoch = dir.image.epoch();
        match self.draw(dir, names_min).await {
            Ok(Drawn::Whole(image)) if image.holds(dir) && self.shared.table.surplus() == 0 => {
                return Ok(images.keep(dir.ino, image));
            }
            Ok(Drawn::Useless) => images.is_useless(dir, epoch),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        images.forget_false(dir);
        Ok(false)
    }

    async fn draw(&self, dir: &Arc<Inode>, names_min: usize) -> FsResult<Drawn> {
        let record = dir.record();
        let asks_nobody = match self.ufs_key(&record).await? {
            Some(key) => self.alone_since(dir, record.mount, &key)?.is_some(),
            None => true,
        };
        if !record.is_dir() || record.nlink == 0 || !asks_nobody {
            return Ok(Drawn::NotNow);
        }
        let (dir, mount, image) = (dir.ino, record.mount, Image::begin(dir));
        let mut draft = Draft { image, dir, mount, last: None, names_min };
        loop {
            let shared = Arc::clone(&self.shared);
            match self.readers.read(move || draft.draw(&shared)).await? {
                Drawn::More(more) => draft = more,
                ended => return Ok(ended),
            }
        }
    }
}
