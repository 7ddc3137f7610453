//! Attributes ahead of the question: where a listing does not tell them, each file needs a question of its own.
//!
//! **Owns** the names that listings showed lately and whose attributes nobody has asked for yet. Whoever asks for
//! one of them gets a few others to ask along with it, more each time, so that `ls -l` over a slow line costs a
//! question in turn for every 64 files and not for every file; a single `stat` asks for itself alone.
//!
//! **Never does** I/O. Bounded: of many directories the one that was listed first is forgotten, and of many names
//! in one the first ones.

use forebay_types::{Ino, Name};
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Directories remembered.
const DIRS_MAX: usize = 16;
/// Names remembered of one: a few pages of a listing, since some programs sort what they list.
const NAMES_MAX: usize = 8192;
/// The most others to ask for along with one.
const OTHERS_MAX: usize = 63;

#[derive(Default)]
struct Unasked {
    dir: Option<Ino>,
    names: VecDeque<Name>,
    /// How many others the next one who asks takes along.
    others: usize,
}

/// The names that were shown without attributes.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<VecDeque<Unasked>>);

impl Ahead {
    /// A listing of `dir` showed `names` without their attributes.
    pub(crate) fn listed(&self, dir: Ino, names: impl Iterator<Item = Name>) {
        let mut names = names.peekable();
        if names.peek().is_none() {
            return;
        }
        let mut dirs = self.0.lock();
        let known = dirs.iter().position(|unasked| unasked.dir == Some(dir));
        let mut unasked = known.and_then(|at| dirs.remove(at)).unwrap_or_default();
        unasked.dir = Some(dir);
        unasked.names.extend(names);
        let surplus = unasked.names.len().saturating_sub(NAMES_MAX);
        unasked.names.drain(..surplus);
        if dirs.len() == DIRS_MAX {
            dirs.pop_front();
        }
        dirs.push_back(unasked);
    }

    /// `name` is asked for: which others to ask for along with it.
    pub(crate) fn others(&self, dir: Ino, name: &Name) -> Vec<Name> {
        let mut dirs = self.0.lock();
        let Some(unasked) = dirs.iter_mut().find(|unasked| unasked.dir == Some(dir)) else {
            return Vec::new();
        };
        let Some(at) = unasked.names.iter().position(|known| known == name) else { return Vec::new() };
        unasked.names.remove(at);
        let count = unasked.others.min(unasked.names.len());
        unasked.others = (2 * unasked.others + 1).min(OTHERS_MAX);
        // From its place on, then from the front: whoever goes in another order gets them all the same.
        unasked.names.rotate_left(at.min(unasked.names.len()));
        unasked.names.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Name {
        Name::new(format!("f{n}").into_bytes()).unwrap()
    }

    #[test]
    fn a_single_question_takes_nobody_along_and_many_take_all() {
        let ahead = Ahead::default();
        ahead.listed(Ino(1), (0..1000).map(name));
        assert!(ahead.others(Ino(1), &name(500)).is_empty());
        let mut asked = 1;
        let mut seen: Vec<Name> = vec![name(500)];
        for n in (0..1000).rev().map(name) {
            if seen.contains(&n) {
                continue;
            }
            let others = ahead.others(Ino(1), &n);
            assert!(others.len() <= OTHERS_MAX && !others.contains(&n));
            seen.push(n);
            seen.extend(others);
            asked += 1;
        }
        seen.sort();
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "nothing is asked twice");
        assert_eq!((seen.len(), asked < 30), (1000, true), "{asked} questions in turn");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ahead = Ahead::default();
        for dir in 0..100 {
            ahead.listed(Ino(dir), (0..2 * NAMES_MAX).map(name));
        }
        let dirs = ahead.0.lock();
        assert_eq!(dirs.len(), DIRS_MAX);
        assert!(dirs.iter().all(|unasked| unasked.names.len() == NAMES_MAX));
    }

    #[test]
    fn names_of_no_listing_are_asked_alone() {
        let ahead = Ahead::default();
        ahead.listed(Ino(1), [].into_iter());
        ahead.listed(Ino(2), (0..9).map(name));
        assert!(ahead.others(Ino(1), &name(1)).is_empty() && ahead.others(Ino(2), &name(10)).is_empty());
    }
}
