//! What happens while bytes are under way: writers, failures, a stop, and more files than memory or the tier hold.

use crate::common::{MIB, MOUNT, Node, Rules, Setup, eventually, pattern};
use crate::engine::{
    Persisting, bound, clean, config, dirty, done_version, key, open_dirty, persisting, put,
};
use forebay_types::{ByteSize, ContentKey, FsErrorKind, PersistOutcome};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Of a large file the rest is not sent: that would be for nothing, beside a writer.
#[test]
fn what_changes_while_it_is_carried_is_given_up_at_once() {
    // Those parts that memory has room for were under way already; one more may have been read.
    for (len, parts_max) in [(4 * MIB, 1), (64 * MIB, 3)] {
        let mut p = persisting();
        let at = dirty(&p.node, &pattern(len, 4));
        p.hand_and_hold(put(&at, "a", None));
        let file = p.node.store.get(at.extent.unwrap()).unwrap().file().unwrap();
        file.std().write_all_at(b"behind our back", 0).unwrap();
        p.node.ufs.rule(Rules::default());
        assert_eq!(p.outcome(), PersistOutcome::Changed);
        let parts = p.node.ufs.parts.load(SeqCst);
        assert!(parts <= parts_max, "{parts} parts of 8 MiB were sent");
        assert_eq!(std::fs::read_dir(&p.node.ufs_dir).unwrap().count(), 0, "nothing of the upload is left");
    }
}

#[test]
fn a_failed_part_fails_the_task_and_leaves_nothing() {
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(2 * MIB, 5));
    p.node.ufs.rule(Rules { parts_to_fail: 1, ..Rules::default() });
    assert!(matches!(p.run(put(&at, "a", None)), PersistOutcome::Failed(_)));
    assert_eq!(std::fs::read_dir(&p.node.ufs_dir).unwrap().count(), 0);
    done_version(p.run(put(&at, "a", None)));
}

#[test]
fn a_writer_who_comes_meanwhile_keeps_the_extent() {
    let mut p = persisting();
    let at = open_dirty(&p.node, b"carried");
    let version = done_version(p.run(put(&at, "a", None)));
    std::thread::sleep(Duration::from_millis(200));
    assert!(p.node.store.find(&ContentKey::of(MOUNT, &key("a"), &version)).is_none());
    p.node.write(&at, 0, b"CARRIED").unwrap();
    let again = open_dirty(&p.node, b"carried");
    let id = again.extent.unwrap();
    let version = done_version(p.run(put(&again, "b", None)));
    std::thread::sleep(Duration::from_millis(200));
    p.node.on_shard(move |client| async move { client.end_write(id, false) });
    assert!(bound(&p.node, &clean("b", version, 7)), "nothing was changed: it is clean when the writer goes");
    assert_eq!(p.node.read(&at, 0, 7).unwrap(), b"CARRIED");
}

#[test]
fn memory_is_bounded_and_parts_go_side_by_side() {
    let mut setup = config();
    // Room for two parts of 8 MiB, of all files together.
    setup.memory = ByteSize::mib(20);
    let mut p = Persisting::start(Node::start(Setup::default()), setup);
    p.node.ufs.rule(Rules { part_takes: Duration::from_millis(50), ..Rules::default() });
    let files: Vec<_> = (0..4).map(|i| dirty(&p.node, &pattern(24 * MIB, i))).collect();
    for (i, at) in files.iter().enumerate() {
        p.hand(put(at, &format!("f{i}"), None));
    }
    for _ in &files {
        done_version(p.outcome());
    }
    assert!(p.node.ufs.parts.load(SeqCst) >= 4);
    for i in 0..4 {
        assert!(std::fs::read(p.under(&format!("f{i}"))).unwrap() == pattern(24 * MIB, i));
    }
}

#[test]
fn stopping_waits_for_what_is_under_way_and_drops_the_rest() {
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(MIB, 8));
    p.hand_and_hold(put(&at, "a", None));
    let released = p.release_soon();
    assert_eq!(p.stop(Duration::from_secs(60)), 0);
    assert!(released.load(SeqCst), "it waited for the upload");
    done_version(p.outcome());
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(MIB, 9));
    p.hand_and_hold(put(&at, "a", None));
    assert_eq!(p.stop(Duration::from_millis(50)), 1);
    let left = || std::fs::read_dir(&p.node.ufs_dir).unwrap().count();
    eventually("its upload is aborted", || left() == 0);
}

#[test]
fn writers_on_a_full_tier_wait_for_what_is_carried_away() {
    let setup = Setup { quota: ByteSize::mib(8), ..Setup::default() };
    let mut p = Persisting::start(Node::start(setup), config());
    let closed = dirty(&p.node, &pattern(6 * MIB, 10));
    p.hand_and_hold(put(&closed, "a", None));
    let released = p.release_soon();
    let next = dirty(&p.node, &pattern(6 * MIB, 11));
    assert!(released.load(SeqCst), "it waited for the upload");
    assert!(p.node.read_all(&next).unwrap() == pattern(6 * MIB, 11));
    done_version(p.outcome());
    let at = open_dirty(&p.node, b"");
    let stuck = (0..8).find_map(|i| p.node.write(&at, i * MIB, &pattern(MIB, i)).err());
    assert_eq!(stuck.map(|error| error.kind()), Some(FsErrorKind::NoSpace), "nothing is being carried");
}
