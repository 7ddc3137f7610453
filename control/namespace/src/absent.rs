//! Names that the UFS does not have, known from a listing.
//!
//! **Owns** the names of a few directories as the UFS listed them lately. Who makes many files in a directory looks
//! up as many names that are not there, and each would cost a question to the UFS and its time on the way; instead the
//! directory is listed once in `metadata_ttl`, and a name that is neither ours nor in the listing is not there.
//!
//! **Never believed** for longer than the mount's `metadata_ttl`, nor once a name of ours was given back to the UFS
//! to answer for, nor under another key. A name that *is* in the listing is asked about all the same.
//!
//! **Bounded:** directories by their number, each by [`PAGES_MAX`] pages; a larger one is left alone for as long as
//! the listing of a small one would have been believed.

use crate::inode::Inode;
use crate::namespace::Namespace;
use forebay_types::{FsErrorKind, FsResult, Ino, MountId, Name, PageToken, UfsKey};
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Directories remembered.
const DIRS_MAX: usize = 64;
/// Absent names that are asked about one by one before the directory is listed.
const ASKED_MAX: u32 = 2;
/// Pages of a directory that are listed for this, and the entries of one.
const PAGES_MAX: usize = 4;
const PAGE_LEN: usize = 1000;

/// What is known of a directory.
struct Listed {
    dir: Ino,
    key: UfsKey,
    /// When the listing began, or the first question that brought nothing.
    since_ms: u64,
    /// [`Inode::given_back`] at that time.
    given_back: u64,
    state: State,
}

#[derive(Clone)]
enum State {
    /// So many absent names were asked about.
    Asked(u32),
    /// These are all.
    Names(Arc<HashSet<Name>>),
    /// There are too many.
    TooMany,
}

/// The directories.
#[derive(Default)]
pub(crate) struct Absent(Mutex<VecDeque<Listed>>);

/// A directory and what must hold for something to be known of it.
struct Asker<'a> {
    dir: &'a Inode,
    key: &'a UfsKey,
    now_ms: u64,
    ttl_ms: u64,
}

impl Absent {
    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    fn known(&self, asker: &Asker<'_>) -> Option<(u64, State)> {
        let mut all = self.0.lock();
        let at = all.iter().position(|listed| listed.dir == asker.dir.ino)?;
        let listed = &all[at];
        let young = asker.now_ms.checked_sub(listed.since_ms).is_some_and(|age| age < asker.ttl_ms);
        let holds = young && listed.key == *asker.key && listed.given_back == asker.dir.given_back();
        if !holds {
            all.remove(at);
            return None;
        }
        Some((listed.since_ms, listed.state.clone()))
    }

    fn keep(&self, listed: Listed) {
        let mut all = self.0.lock();
        all.retain(|known| known.dir != listed.dir);
        if all.len() == DIRS_MAX {
            all.pop_front();
        }
        all.push_back(listed);
    }
}

impl Namespace {
    /// When the UFS was seen not to have `name` in the directory, if a listing tells.
    pub(crate) async fn seen_absent(
        &self,
        dir: &Arc<Inode>,
        mount: MountId,
        key: &UfsKey,
        name: &Name,
    ) -> FsResult<Option<u64>> {
        let ttl_ms = self.shared.metadata_ttl_ms(&dir.record())?;
        let asker = Asker { dir, key, now_ms: self.shared.now_ms(), ttl_ms };
        let (since_ms, names) = match self.absent.known(&asker) {
            Some((since_ms, State::Names(names))) => (since_ms, names),
            Some((_, State::Asked(count))) if count >= ASKED_MAX => {
                let given_back = dir.given_back();
                let names = self.all_names(mount, key).await?;
                let state = names.as_ref().map_or(State::TooMany, |names| State::Names(Arc::clone(names)));
                let (dir, key, since_ms) = (dir.ino, key.clone(), asker.now_ms);
                self.absent.keep(Listed { dir, key, since_ms, given_back, state });
                let Some(names) = names else { return Ok(None) };
                (since_ms, names)
            }
            _ => return Ok(None),
        };
        Ok((!names.contains(name)).then_some(since_ms))
    }

    /// The UFS was asked about a name in the directory and has none.
    pub(crate) fn note_absent(&self, dir: &Inode, key: &UfsKey) -> FsResult<()> {
        let ttl_ms = self.shared.metadata_ttl_ms(&dir.record())?;
        let asker = Asker { dir, key, now_ms: self.shared.now_ms(), ttl_ms };
        let (since_ms, asked) = match self.absent.known(&asker) {
            None => (asker.now_ms, 1),
            Some((since_ms, State::Asked(count))) => (since_ms, count.saturating_add(1)),
            Some(_) => return Ok(()),
        };
        let (state, given_back) = (State::Asked(asked), dir.given_back());
        self.absent.keep(Listed { dir: dir.ino, key: key.clone(), since_ms, given_back, state });
        Ok(())
    }

    /// All names in the directory; `None` if there are too many, no directory, or some of them elsewhere because it
    /// is being moved.
    async fn all_names(&self, mount: MountId, key: &UfsKey) -> FsResult<Option<Arc<HashSet<Name>>>> {
        let (mut names, mut from): (HashSet<Name>, Option<PageToken>) = (HashSet::new(), None);
        let is_moving = || self.shared.queue.moved(mount, key).is_some();
        if is_moving() {
            return Ok(None);
        }
        for _ in 0..PAGES_MAX {
            let page = match self.flights.list(mount, key, from, PAGE_LEN).await {
                Err(error) if error.kind() == FsErrorKind::NotFound => return Ok(None),
                page => page?,
            };
            names.extend(page.entries.into_iter().map(|entry| entry.name));
            from = page.next;
            if from.is_none() {
                return Ok((!is_moving()).then(|| Arc::new(names)));
            }
        }
        Ok(None)
    }
}
