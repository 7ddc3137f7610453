//! Asking the kernel to forget inodes, when there are more of them than the budget has room for.
//!
//! **Owns** when it is asked, and how often. An inode that the kernel has looked up cannot go before it forgets it, which
//! by itself it does only when the machine's memory is short. A kernel that can be asked (Linux 6.18) lets go of those that
//! nobody uses; those in use stay, and are asked for seldomer and seldomer while nothing comes of it.

use forebay_fuse::{FuseMount, Notice, PRUNE_MAX};
use forebay_namespace::Namespace;
use forebay_types::Ino;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most inodes that are asked for at a time: the queue of notices is for others too.
const AT_ONCE_MAX: usize = 128 * PRUNE_MAX;
/// The longest pause, in looks, after asking was in vain.
const PAUSE_MAX: u64 = 64;

/// Asks the kernel of one mount.
#[derive(Default)]
pub(super) struct Pruning {
    asked: AtomicU64,
    rhythm: Mutex<Rhythm>,
}

/// How often it is worth asking.
#[derive(Default)]
struct Rhythm {
    /// Some of those that the kernel was asked to forget last.
    sample: Vec<Ino>,
    pause: u64,
    looks_left: u64,
}

impl Rhythm {
    /// Whether to ask now, given whether it helped the last time.
    fn beats(&mut self, helped: bool) -> bool {
        if !helped && self.looks_left > 0 {
            self.looks_left -= 1;
            return false;
        }
        self.pause = if helped { 0 } else { (2 * self.pause).clamp(1, PAUSE_MAX) };
        self.looks_left = self.pause;
        true
    }
}

impl Pruning {
    /// Asks for what is too much, if anything is.
    pub(super) fn look(&self, names: &Namespace, mount: &FuseMount) {
        let surplus = names.inode_surplus();
        let mut rhythm = self.rhythm.lock();
        let helped = names.still_looked_up(&rhythm.sample) <= rhythm.sample.len() / 2;
        if surplus == 0 || !mount.can_prune() || !rhythm.beats(helped) {
            return;
        }
        let inodes = names.only_looked_up(surplus.min(AT_ONCE_MAX));
        for some in inodes.chunks(PRUNE_MAX) {
            if mount.notifier().send(Notice::Prune { inodes: some.to_vec() }) {
                self.asked.fetch_add(some.len() as u64, Relaxed);
            }
        }
        tracing::debug!(surplus, inodes = inodes.len(), "the kernel is asked to forget inodes");
        rhythm.sample = inodes.into_iter().step_by(AT_ONCE_MAX / PRUNE_MAX).collect();
    }

    /// How many inodes the kernel was asked to forget.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_in_vain_becomes_seldom_and_begins_anew_when_it_helps() {
        let mut rhythm = Rhythm::default();
        assert!((0..10).all(|_| rhythm.beats(true)));
        let asked = (0..1000).filter(|_| rhythm.beats(false)).count();
        assert!((10..30).contains(&asked), "{asked} times");
        assert!(rhythm.beats(true) && rhythm.beats(false), "it has helped, and is worth a try");
        assert!(!rhythm.beats(false), "then it waits");
    }
}
