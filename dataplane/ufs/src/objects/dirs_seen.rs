//! Which names are directories, as the store listed them lately.
//!
//! A put must not land where a directory has the name, for the directory would hide it, and no store refuses that by itself. A look
//! before each put costs as much as the put. Who puts many files into a directory therefore has it listed once, and what that
//! listing shows to be no directory is taken for none for as long as the put says that it believes
//! ([`crate::PutSpec::believed`]).
//!
//! **Owns** for each of the directories that were put into lately the names of the directories in it, over a span of keys that
//! one page of a listing covers. **Never believed:** that there *is* a directory; nor anything about a name below which this
//! process has put something since. **Bounded:** directories by [`PARENTS_MAX`], each by one page.

use super::client::{KeyPage, ListQuery};
use super::tree::Shared;
use crate::error::UfsResult;
use forebay_types::UfsKey;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Directories remembered.
const PARENTS_MAX: usize = 256;
/// Names that are looked at one by one before the directory is listed.
const LOOKED_MAX: u32 = 2;
/// A listing that did not go to the end is followed by one from further on only if it answered so often.
const WORTH: u32 = 16;

/// What is to be done before a put.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    /// No directory has the name.
    NoDirectory,
    /// Look at this name.
    Look,
    /// List the directory that holds it, from behind this key on (`""`: from the beginning).
    List(String),
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
    /// Somebody lists it just now, from behind this key on.
    Listing(String),
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
        *known = Parent { since: now, state: State::Listing(after.clone()) };
        Advice::List(after)
    }

    /// What a listing from behind `after` on has shown; `None`: it failed.
    fn listed(&self, parent: &str, after: &str, page: Option<KeyPage>) {
        let mut parents = self.parents.lock();
        let Some(known) = parents.get_mut(parent) else { return };
        if !matches!(&known.state, State::Listing(from) if from == after) {
            return;
        }
        known.state = match page {
            Some(page) => State::Listed(span(after, page)),
            None => State::Scattered,
        };
    }

    /// Something is put at `key`, which makes directories of all that is above it.
    pub(super) fn put_below(&self, key: &str) {
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
                State::Listed(span) => {
                    span.dirs.insert(dir.to_owned());
                }
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
    /// Whether nobody has seen a directory of the object's name, for at most as long as `believed`.
    pub(super) async fn is_no_directory(
        &self,
        key: &UfsKey,
        object: &str,
        believed: Duration,
    ) -> UfsResult<bool> {
        let limits = self.client.limits();
        let advice = |now| self.dirs_seen.advice(object, believed, limits.lists_after, now);
        let after = match advice(Instant::now()) {
            Advice::NoDirectory => return Ok(true),
            Advice::Look => return Ok(false),
            Advice::List(after) => after,
        };
        let parent = parent_of(object).unwrap_or_default();
        let from = (!after.is_empty()).then_some(after.as_str());
        let max = limits.page_len_max;
        let query = ListQuery { prefix: parent, fold: true, after: from, token: None, max };
        let listed = self.client.list(query).await;
        let (page, failed) = match listed {
            Ok(page) => (Some(page), None),
            Err(fault) => (None, Some(fault.at(key))),
        };
        self.dirs_seen.listed(parent, &after, page);
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(advice(Instant::now()) == Advice::NoDirectory)
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

        /// One whose directory `d/` was listed.
        fn listed(objects: &[&str], prefixes: &[&str], more: bool) -> Self {
            let world = Self::new();
            assert_eq!(world.advice("d/x"), Advice::Look);
            assert_eq!(world.advice("d/y"), Advice::Look);
            assert_eq!(world.advice("d/z"), Advice::List(String::new()));
            assert_eq!(world.advice("d/z"), Advice::Look, "one lists, the others go on by themselves");
            world.seen.listed("d/", "", Some(page(objects, prefixes, more)));
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
        world.seen.put_below("d/new/deep/file");
        assert_eq!(world.advice("d/new"), Advice::Look);
        assert_eq!(world.advice("d/news"), Advice::NoDirectory);
        world.seen.put_below("d/marker/");
        assert_eq!(world.advice("d/marker"), Advice::Look);
    }

    #[test]
    fn a_listing_that_was_under_way_when_something_was_put_below_is_not_believed() {
        let world = World::new();
        (0..2).for_each(|_| assert_eq!(world.advice("d/x"), Advice::Look));
        assert_eq!(world.advice("d/x"), Advice::List(String::new()));
        world.seen.put_below("d/new/file");
        world.seen.listed("d/", "", Some(page(&[], &[], false)));
        assert_eq!(world.advice("d/new"), Advice::Look);
    }

    #[test]
    fn behind_the_first_page_the_listing_goes_on_where_files_are_put() {
        let world = World::listed(&["d/a", "d/m"], &["d/k/"], true);
        assert_eq!(world.advice("d/b"), Advice::NoDirectory);
        assert_eq!(
            world.advice("d/m"),
            Advice::List("d/m".into()),
            "its directory would come behind the page"
        );
        world.seen.listed("d/", "d/m", Some(page(&["d/n", "d/p"], &[], true)));
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
