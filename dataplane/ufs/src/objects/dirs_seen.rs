//! Which names are directories, as the store listed them lately.
//!
//! A put must not land where a directory has the name, for the directory would hide it, and no store refuses that by itself. A look
//! before each put costs as much as the put. Who puts many files into a directory therefore has it listed once, and what that
//! listing shows to be no directory is taken for none for as long as the put says that it believes
//! ([`crate::PutSpec::believed`]).
//!
//! **Owns** for each of the directories that were put into lately the names of the directories in it, over a span of keys that
//! one page of a listing covers. **Never believed:** that there *is* a directory; nor anything about a name below which this
//! process has put something since. **Bounded:** directories by [`PARENTS_MAX`], each by twice the names of a page.

use super::client::{KeyPage, ListQuery};
use super::tree::Shared;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Directories remembered.
const PARENTS_MAX: usize = 256;
/// Names that are looked at one by one before the directory is listed.
const LOOKED_MAX: u32 = 2;
/// The most keys that are listed for it.
const PAGE_LEN: usize = 1000;
/// A listing that did not go to the end is followed by one from further on only if it answered so often.
const WORTH: u32 = 16;

/// What is to be done before a put.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    /// No directory has the name.
    NoDirectory,
    /// Look at this name.
    Look,
    /// List the directory that holds it.
    List(Asked),
}

/// A listing that is to be made, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    /// From behind this key on (`""`: from the beginning).
    after: String,
    /// No two have the same.
    number: u64,
}

/// What is known of one directory.
struct Parent {
    /// When the first question was asked that this stands on.
    since: Instant,
    state: State,
}

enum State {
    /// So many names were looked at.
    Looked(u32),
    /// Somebody lists it just now.
    Listing(Asked),
    Listed(Span),
    /// It is too large to be listed for what is put into it.
    Scattered,
}

/// What one page showed.
struct Span {
    /// The key it begins behind.
    after: String,
    /// Its last key; `None`: it went to the end.
    until: Option<String>,
    /// The directories in it, each with its slash.
    dirs: HashSet<String>,
    served: u32,
}

impl Span {
    fn covers(&self, dir: &str) -> bool {
        dir > self.after.as_str() && self.until.as_deref().is_none_or(|until| dir <= until)
    }
}

/// The directories that were put into lately.
#[derive(Default)]
pub(super) struct DirsSeen {
    parents: Mutex<HashMap<String, Parent>>,
    asked: AtomicU64,
}

/// Something is being put at a key. When that has ended, however it did, a listing from in between is not believed either.
pub(super) struct Putting<'a> {
    seen: &'a DirsSeen,
    key: &'a str,
}

impl Drop for Putting<'_> {
    fn drop(&mut self) {
        self.seen.put_below(self.key);
    }
}

impl std::fmt::Debug for DirsSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirsSeen({})", self.parents.lock().len())
    }
}

impl DirsSeen {
    /// What to do before `object` is put by who believes what is no older than `believed`. `goes_on`: the store can list from
    /// any key on.
    fn advice(&self, object: &str, believed: Duration, goes_on: bool, now: Instant) -> Advice {
        let Some(parent) = parent_of(object) else { return Advice::Look };
        let mut parents = self.parents.lock();
        let Some(known) = parents.get_mut(parent).filter(|known| now - known.since < believed) else {
            make_room(&mut parents);
            parents.insert(parent.to_owned(), Parent { since: now, state: State::Looked(1) });
            return Advice::Look;
        };
        let after = match &mut known.state {
            State::Looked(count) if *count < LOOKED_MAX => {
                *count += 1;
                return Advice::Look;
            }
            State::Looked(_) => String::new(),
            State::Listed(span) if span.covers(&format!("{object}/")) => {
                span.served += 1;
                return match span.dirs.contains(&format!("{object}/")) {
                    true => Advice::Look,
                    false => Advice::NoDirectory,
                };
            }
            // The first page may end before those names that are put; then the next one begins with them.
            State::Listed(span) if goes_on && (span.after.is_empty() || span.served >= WORTH) => {
                object.to_owned()
            }
            State::Listed(_) => {
                known.state = State::Scattered;
                return Advice::Look;
            }
            State::Listing(_) | State::Scattered => return Advice::Look,
        };
        let asked = Asked { after, number: self.asked.fetch_add(1, Relaxed) };
        *known = Parent { since: now, state: State::Listing(asked.clone()) };
        Advice::List(asked)
    }

    /// What a listing has shown; `None`: it failed.
    fn listed(&self, parent: &str, asked: &Asked, page: Option<KeyPage>) {
        let mut parents = self.parents.lock();
        let Some(known) = parents.get_mut(parent) else { return };
        if !matches!(&known.state, State::Listing(under_way) if under_way == asked) {
            return;
        }
        known.state = match page {
            Some(page) => State::Listed(span(&asked.after, page)),
            None => State::Scattered,
        };
    }

    /// Something is put at `key` for as long as the answer is held.
    pub(super) fn putting<'a>(&'a self, key: &'a str) -> Putting<'a> {
        self.put_below(key);
        Putting { seen: self, key }
    }

    /// Something is put at `key`, which makes directories of all that is above it.
    fn put_below(&self, key: &str) {
        let mut parents = self.parents.lock();
        if parents.is_empty() {
            return;
        }
        for (slash, _) in key.match_indices('/') {
            let dir = &key[..=slash];
            let Some(known) = parent_of(&key[..slash]).and_then(|parent| parents.get_mut(parent)) else {
                continue;
            };
            match &mut known.state {
                State::Listed(span) if span.dirs.len() < 2 * PAGE_LEN => {
                    span.dirs.insert(dir.to_owned());
                }
                State::Listed(_) => known.state = State::Scattered,
                // Whether the page that is on its way has it nobody can say.
                State::Listing(_) => known.state = State::Looked(0),
                State::Looked(_) | State::Scattered => {}
            }
        }
    }
}

fn make_room(parents: &mut HashMap<String, Parent>) {
    if parents.len() < PARENTS_MAX {
        return;
    }
    let oldest = parents.iter().min_by_key(|(_, known)| known.since).map(|(parent, _)| parent.clone());
    oldest.map(|parent| parents.remove(&parent));
}

fn span(after: &str, page: KeyPage) -> Span {
    let last_object = page.objects.last().map(|(key, _)| key);
    let last = last_object.max(page.prefixes.last()).cloned();
    // A page without anything that is not the last one has shown nothing.
    let until = page.next.map(|_| last.unwrap_or_default());
    Span { after: after.to_owned(), until, dirs: page.prefixes.into_iter().collect(), served: 0 }
}

/// The directory that holds an object, with its slash. None is asked for in the bucket's root without a prefix: `""`.
fn parent_of(object: &str) -> Option<&str> {
    let name = object.trim_end_matches('/');
    (name.len() == object.len()).then(|| &object[..object.rfind('/').map_or(0, |slash| slash + 1)])
}

impl Shared {
    /// Whether it is known that no directory has the object's name, by what was seen at most as long ago as `believed`.
    pub(super) async fn is_no_directory(&self, object: &str, believed: Duration) -> bool {
        let limits = self.client.limits();
        // The first page may end before the name, and the next one begins there.
        for _ in 0..3 {
            let asked = match self.dirs_seen.advice(object, believed, limits.lists_after, Instant::now()) {
                Advice::NoDirectory => return true,
                Advice::Look => return false,
                Advice::List(asked) => asked,
            };
            let prefix = parent_of(object).unwrap_or_default();
            let after = (!asked.after.is_empty()).then_some(asked.after.as_str());
            let max = limits.page_len_max.min(PAGE_LEN);
            let listed = self.client.list(ListQuery { prefix, fold: true, after, token: None, max }).await;
            // Who cannot list looks.
            self.dirs_seen.listed(prefix, &asked, listed.ok());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::client::page;

    const BELIEVED: Duration = Duration::from_secs(60);

    struct World {
        seen: DirsSeen,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { seen: DirsSeen::default(), now: Instant::now() }
        }

        fn advice(&self, object: &str) -> Advice {
            self.seen.advice(object, BELIEVED, true, self.now)
        }

        fn asked(&self, object: &str) -> Asked {
            let Advice::List(asked) = self.advice(object) else { panic!("{object} is not listed for") };
            asked
        }

        /// One whose directory `d/` was listed.
        fn listed(objects: &[&str], prefixes: &[&str], more: bool) -> Self {
            let world = Self::new();
            assert_eq!(world.advice("d/x"), Advice::Look);
            assert_eq!(world.advice("d/y"), Advice::Look);
            let asked = world.asked("d/z");
            assert_eq!(asked.after, "");
            assert_eq!(world.advice("d/z"), Advice::Look, "one lists, the others go on by themselves");
            world.seen.listed("d/", &asked, Some(page(objects, prefixes, more)));
            world
        }
    }

    #[test]
    fn what_a_whole_listing_lacks_is_no_directory_for_a_while() {
        let mut world = World::listed(&["d/a"], &["d/b/"], false);
        assert_eq!(world.advice("d/a"), Advice::NoDirectory);
        assert_eq!(world.advice("d/zz"), Advice::NoDirectory);
        assert_eq!(world.advice("d/b"), Advice::Look);
        assert_eq!(world.advice("e/a"), Advice::Look, "of another directory nothing is known");
        assert_eq!(world.seen.advice("d/a", Duration::ZERO, true, world.now), Advice::Look);
        world.now += BELIEVED;
        assert_eq!(world.advice("d/zz"), Advice::Look);
    }

    #[test]
    fn what_we_put_below_a_name_makes_it_a_directory() {
        let world = World::listed(&[], &[], false);
        drop(world.seen.putting("d/new/deep/file"));
        assert_eq!(world.advice("d/new"), Advice::Look);
        assert_eq!(world.advice("d/news"), Advice::NoDirectory);
        drop(world.seen.putting("d/marker/"));
        assert_eq!(world.advice("d/marker"), Advice::Look);
    }

    #[test]
    fn a_listing_that_was_under_way_when_something_was_put_below_is_not_believed() {
        let world = World::new();
        (0..2).for_each(|_| assert_eq!(world.advice("d/x"), Advice::Look));
        let early = world.asked("d/x");
        drop(world.seen.putting("d/new/file"));
        (0..2).for_each(|_| assert_eq!(world.advice("d/x"), Advice::Look));
        let late = world.asked("d/x");
        world.seen.listed("d/", &early, Some(page(&[], &[], false)));
        assert_eq!(world.advice("d/new"), Advice::Look, "what was asked for before is not believed later");
        let under_way = world.seen.putting("d/newer/file");
        world.seen.listed("d/", &late, Some(page(&[], &["d/new/"], false)));
        assert_eq!(world.advice("d/newer"), Advice::Look);
        drop(under_way);
    }

    #[test]
    fn behind_the_first_page_the_listing_goes_on_where_files_are_put() {
        let world = World::listed(&["d/a", "d/m"], &["d/k/"], true);
        assert_eq!(world.advice("d/b"), Advice::NoDirectory);
        let asked = world.asked("d/m");
        assert_eq!(asked.after, "d/m", "its directory would come behind the page");
        world.seen.listed("d/", &asked, Some(page(&["d/n", "d/p"], &[], true)));
        assert_eq!(world.advice("d/m"), Advice::NoDirectory);
        // What is not worth it is left.
        assert_eq!(world.advice("d/q"), Advice::Look);
        assert_eq!(world.advice("d/n"), Advice::Look);
    }

    #[test]
    fn a_store_that_lists_from_the_beginning_alone_is_looked_at() {
        let world = World::listed(&["d/a", "d/m"], &[], true);
        assert_eq!(world.seen.advice("d/q", BELIEVED, false, world.now), Advice::Look);
        assert_eq!(world.seen.advice("d/b", BELIEVED, false, world.now), Advice::Look);
    }

    #[test]
    fn directories_are_remembered_up_to_a_number() {
        let world = World::new();
        (0..2 * PARENTS_MAX).for_each(|n| drop(world.advice(&format!("d{n}/x"))));
        assert_eq!(world.seen.parents.lock().len(), PARENTS_MAX);
    }
}
