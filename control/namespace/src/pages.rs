//! Pages of the UFS's listings, believed for a while.
//!
//! **Owns** the first pages of the directories of object stores that were listed last. Who lists a directory again within the mount's
//! `metadata_ttl` is answered from here, and the UFS is not asked.
//!
//! **Never believed** once a name of ours in the directory has changed, which its carrying does too; nor under another key;
//! nor when a name was found that the pages lack. A page is as old as the question was that brought it, and so is
//! whatever is learned from it.
//!
//! **Bounded:** directories by their number, each by [`PAGES_MAX`] pages.

use crate::inode::Inode;
use forebay_types::{DirPageEntry, Ino, MountId, Name, PageToken, Told, UfsKey};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

/// Directories remembered.
const DIRS_MAX: usize = 16;
/// Pages remembered of one.
const PAGES_MAX: usize = 2;

/// A page, and when it was asked for.
#[derive(Clone)]
pub(crate) struct SeenPage {
    pub(crate) entries: Arc<Vec<DirPageEntry>>,
    pub(crate) next: Option<PageToken>,
    pub(crate) asked_ms: u64,
}

impl SeenPage {
    /// Whether it is of an object store, where each listing is a request that is paid for. One of a directory on a disk
    /// tells all of its entries, and costs so little that what others do may show at once.
    pub(crate) fn tells_less_than_all(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry.told, Told::All(_)))
    }
}

/// What a directory was when it was listed. As long as it is the same, its own names are the same too.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    dir: Ino,
    mount: MountId,
    key: UfsKey,
    epoch: u64,
    given_back: u64,
    cleared: u64,
}

impl Standing {
    /// [`Inode::names_epoch`] at that time.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }
}

struct Listed {
    standing: Standing,
    /// By where they begin.
    pages: Vec<(Option<PageToken>, SeenPage)>,
}

/// The pages.
#[derive(Default)]
pub(crate) struct Pages {
    listed: Mutex<VecDeque<Listed>>,
    /// How often all was forgotten: what was asked for before that is not to be kept after it.
    cleared: AtomicU64,
}

impl Pages {
    /// What a directory is just now, to be asked for before the UFS is.
    pub(crate) fn standing(&self, dir: &Inode, mount: MountId, key: &UfsKey) -> Standing {
        let (epoch, given_back) = (dir.names_epoch(), dir.given_back());
        Standing {
            dir: dir.ino,
            mount,
            key: key.clone(),
            epoch,
            given_back,
            cleared: self.cleared.load(Acquire),
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.cleared.fetch_add(1, AcqRel);
        self.listed.lock().clear();
    }

    /// Forgets a directory.
    pub(crate) fn forget(&self, dir: Ino) {
        self.listed.lock().retain(|listed| listed.standing.dir != dir);
    }

    /// The page that begins at `from`, if it is younger than `ttl_ms`.
    pub(crate) fn get(
        &self,
        standing: &Standing,
        from: Option<&PageToken>,
        now_ms: u64,
        ttl_ms: u64,
    ) -> Option<SeenPage> {
        let all = self.listed.lock();
        let listed = all.iter().find(|listed| listed.standing == *standing)?;
        let (_, page) = listed.pages.iter().find(|(at, _)| at.as_ref() == from)?;
        let young = now_ms.checked_sub(page.asked_ms).is_some_and(|age| age < ttl_ms);
        young.then(|| page.clone())
    }

    /// Remembers a page that was asked for when the directory stood like that.
    pub(crate) fn keep(&self, standing: &Standing, from: Option<PageToken>, page: SeenPage) {
        let mut all = self.listed.lock();
        let known = all.iter().position(|listed| listed.standing.dir == standing.dir);
        let known = known.and_then(|at| all.remove(at)).filter(|listed| listed.standing == *standing);
        let mut listed = known.unwrap_or(Listed { standing: standing.clone(), pages: Vec::new() });
        // Those behind another first page begin at tokens that nobody has any more.
        listed.pages.retain(|(at, _)| from.is_some() && *at != from);
        if listed.pages.len() < PAGES_MAX {
            listed.pages.push((from, page));
        }
        if all.len() == DIRS_MAX {
            all.pop_front();
        }
        all.push_back(listed);
    }

    /// The UFS has this name, said when it was asked for it: pages that lack it are out of date.
    pub(crate) fn found(&self, dir: Ino, name: &Name) {
        let mut all = self.listed.lock();
        let lacks = |listed: &Listed| {
            let mut entries = listed.pages.iter().flat_map(|(_, page)| page.entries.iter());
            listed.standing.dir == dir && entries.all(|entry| entry.name != *name)
        };
        all.retain(|listed| !lacks(listed));
    }
}
