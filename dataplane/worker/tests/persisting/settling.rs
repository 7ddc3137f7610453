//! What was carried and is not settled yet, because something else is to be carried.

use crate::common::watched::HELD;
use crate::common::{MIB, Node, Rules, Setup, eventually, pattern};
use crate::engine::{Persisting, bound, clean, config, dirty, done_version, put};
use forebay_types::{ByteSize, ContentKey, ContentLocation};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const LEN: u64 = 200 << 10;

/// An engine that carries one name at a time, and so has nothing to spare whenever it carries one.
fn one_at_a_time(quota: ByteSize) -> Persisting {
    let setup = Setup { quota, ..Setup::default() };
    let mut config = config();
    config.tasks_at_once = 1;
    Persisting::start(Node::start(setup), config)
}

impl Persisting {
    /// Carries files that are clean by it, and begins to carry one more, which takes until new rules are set.
    fn carry_and_hold(&mut self, count: u64) -> Vec<ContentLocation> {
        let files: Vec<_> = (0..count).map(|i| dirty(&self.node, &pattern(LEN, i))).collect();
        let last = dirty(&self.node, &pattern(LEN, 99));
        let names: Vec<_> = (0..count).map(|i| format!("f{i}")).collect();
        let mut carried = Vec::new();
        for (at, name) in files.iter().zip(&names) {
            let version = done_version(self.run(put(at, name, None)));
            carried.push(clean(name, version, LEN));
        }
        let parts = self.node.ufs.parts.load(SeqCst);
        self.node.ufs.rule(Rules { part_takes: HELD, ..Rules::default() });
        self.hand(put(&last, "held", None));
        eventually("a part is under way", || self.node.ufs.parts.load(SeqCst) > parts);
        carried
    }

    fn is_bound(&self, at: &ContentLocation) -> bool {
        let (key, version) = at.ufs.as_ref().unwrap();
        self.node.store.find(&ContentKey::of(at.mount, key, version)).is_some()
    }

    fn evict(&self, at: &ContentLocation) -> u64 {
        let at = at.clone();
        self.node.on_shard(move |client| async move { client.evict(&at).await.unwrap() })
    }
}

#[test]
fn it_is_read_from_here_and_settled_when_there_is_time() {
    let mut p = one_at_a_time(ByteSize::gib(1));
    let carried = p.carry_and_hold(3);
    std::thread::sleep(Duration::from_millis(500));
    for (i, at) in carried.iter().enumerate() {
        assert!(!p.is_bound(at), "nothing is settled while something waits to be carried");
        assert!(p.node.read_all(at).unwrap() == pattern(LEN, i as u64));
    }
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
    for (i, at) in carried.iter().enumerate() {
        assert!(bound(&p.node, at));
        assert!(p.node.read_all(at).unwrap() == pattern(LEN, i as u64));
    }
    assert_eq!(p.node.ufs.reads(), 0, "it was here all the time");
}

#[test]
fn who_evicts_it_has_it_settled() {
    let mut p = one_at_a_time(ByteSize::gib(1));
    let carried = p.carry_and_hold(2);
    assert!(p.evict(&carried[0]) >= LEN);
    assert!(!p.is_bound(&carried[1]), "the other one waits");
    assert!(p.node.read_all(&carried[0]).unwrap() == pattern(LEN, 0));
    assert!(p.node.ufs.reads() > 0, "it was fetched again");
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
}

#[test]
fn a_writer_who_changes_nothing_gives_it_back() {
    let mut p = one_at_a_time(ByteSize::gib(1));
    let carried = p.carry_and_hold(2);
    for (at, changed) in carried.iter().zip([false, true]) {
        let open = p.node.begin_write(at);
        let id = open.extent.unwrap();
        if changed {
            p.node.write(&open, 0, b"changed").unwrap();
        }
        p.node.on_shard(move |client| async move { client.end_write(id, changed) });
    }
    assert!(bound(&p.node, &carried[0]), "it is what it was");
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
    std::thread::sleep(Duration::from_millis(500));
    assert!(!p.is_bound(&carried[1]), "what was changed is not what was carried");
    let reads = p.node.ufs.reads();
    assert!(p.node.read_all(&carried[1]).unwrap() == pattern(LEN, 1));
    assert!(p.node.ufs.reads() > reads, "what was carried is in the under file system alone");
}

#[test]
fn a_stop_settles_it() {
    let mut p = one_at_a_time(ByteSize::gib(1));
    let carried = p.carry_and_hold(5);
    let released = p.release_soon();
    assert_eq!(p.stop(Duration::from_secs(60)), 0);
    assert!(released.load(SeqCst));
    assert!(carried.iter().all(|at| p.is_bound(at)));
}

/// What an upload does that takes longer than a stop may is nothing to those that were carried before it.
#[test]
fn a_stop_that_does_not_wait_for_an_upload_settles_it_too() {
    let mut p = one_at_a_time(ByteSize::gib(1));
    let carried = p.carry_and_hold(5);
    assert_eq!(p.stop(Duration::from_millis(50)), 1);
    assert!(carried.iter().all(|at| p.is_bound(at)));
}

/// A daemon that takes over goes by what is settled when it looks for what the kernel has open.
#[test]
fn what_the_kernel_has_open_does_not_wait() {
    let mut p = one_at_a_time(ByteSize::gib(1));
    let carried = p.carry_and_hold(2);
    let at = carried[0].clone();
    let open = p.node.on_shard(move |client| async move { client.backing(&at) });
    assert!(open.is_some() && bound(&p.node, &carried[0]));
    assert!(!p.is_bound(&carried[1]));
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
    let next = dirty(&p.node, &pattern(LEN, 7));
    let at = next.clone();
    let open = p.node.on_shard(move |client| async move { client.backing(&at) });
    assert!(open.is_some());
    let version = done_version(p.run(put(&next, "next", None)));
    assert!(bound(&p.node, &clean("next", version, LEN)));
}

/// What can be neither evicted nor found would take room until the next start.
#[test]
fn what_cannot_be_settled_is_fetched_again() {
    let mut p = one_at_a_time(ByteSize::gib(1));
    let at = dirty(&p.node, &pattern(LEN, 3));
    let id = at.extent.unwrap();
    let file = p.node.store.get(id).unwrap().file().unwrap();
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.std().as_raw_fd())).unwrap();
    std::fs::create_dir(path.with_extension("map")).unwrap();
    let version = done_version(p.run(put(&at, "f", None)));
    eventually("it is gone", || p.node.store.get(id).is_none());
    assert!(p.node.read_all(&clean("f", version, LEN)).unwrap() == pattern(LEN, 3));
    assert!(p.node.ufs.reads() > 0);
}

#[test]
fn who_has_no_room_need_not_wait_for_what_is_being_carried() {
    let mut p = one_at_a_time(ByteSize::mib(8));
    let carried = p.carry_and_hold(20);
    let next = dirty(&p.node, &pattern(6 * MIB, 11));
    assert!(p.node.read_all(&next).unwrap() == pattern(6 * MIB, 11));
    assert!(carried.iter().any(|at| !p.is_bound(at)), "some were evicted");
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
}
