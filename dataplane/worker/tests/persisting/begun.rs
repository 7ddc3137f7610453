//! Tasks that were begun before, of which nobody knows how they ended: each is looked into, and only what took effect
//! counts as done.

use crate::common::watched::HELD;
use crate::common::{Node, PAGE, Rules, Setup, eventually, node, pattern};
use crate::engine::{
    Persisting, TestLog, attr, config, dirty, done_version, key, persisting, put, stat, task,
};
use forebay_types::{FileKind, PersistOutcome, PersistWork, Settled, UfsAttr, UfsVersion};
use forebay_worker::ReadyPersister;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

#[test]
fn a_put_that_took_effect_before_is_no_conflict() {
    let mut p = persisting();
    let bytes = pattern(2 * PAGE, 3);
    let at = dirty(&p.node, &bytes);
    let first = done_version(p.run(put(&at, "a", None)));
    // As after a death between the store's answer and the log's record.
    let again = dirty(&p.node, &bytes);
    assert_eq!(done_version(p.run(put(&again, "a", None))), first);
    let mut other = bytes.clone();
    other[PAGE as usize] ^= 1;
    let other = dirty(&p.node, &other);
    assert!(matches!(p.run(put(&other, "a", None)), PersistOutcome::Conflict(Some(_))));
}

/// Each kind of task, looked into before it was carried and after.
#[test]
fn what_was_begun_before_is_looked_into() {
    let mut p = persisting();
    std::fs::create_dir(p.under("there")).unwrap();
    std::fs::write(p.under("there/.forebay-put.0123456789abcdef"), "half a file").unwrap();
    let file = dirty(&p.node, b"bytes");
    let target = Some(b"../elsewhere".to_vec().into_boxed_slice());
    let link = UfsAttr { link_target: target, ..attr(FileKind::Symlink, 12) };
    let from = key("there/f");
    let works = [
        put(&file, "there/f", None),
        PersistWork::MakeDir { key: key("d"), attr: attr(FileKind::Directory, 0) },
        PersistWork::MakeSpecial { key: key("d/l"), expect: None, attr: link },
        PersistWork::Link { existing: from.clone(), to: key("d/g"), expect: None },
        PersistWork::Move { from, to: key("d/f"), kind: FileKind::Regular, version: None, replaces: None },
        PersistWork::Remove { key: key("d/f"), kind: FileKind::Regular, expect: None },
    ];
    for work in works {
        assert_eq!(p.run_again(work.clone()), PersistOutcome::NotDone, "{work:?}");
        assert_eq!(p.node.ufs.synced.lock().len(), 0);
        let carried = p.run(work.clone());
        let what = |outcome| match outcome {
            PersistOutcome::Done(now) => now.map(|now| (now.kind, now.version)),
            other => panic!("{other:?}"),
        };
        assert_eq!(what(p.run_again(work.clone())), what(carried));
        let synced = std::mem::take(&mut *p.node.ufs.synced.lock());
        assert_eq!(synced.len(), if matches!(work, PersistWork::Move { .. }) { 2 } else { 1 }, "{work:?}");
    }
    let left: Vec<_> = std::fs::read_dir(p.under("there")).unwrap().collect();
    assert!(left.is_empty(), "the remains of a put are swept: {left:?}");
    // Attributes that were set in part are set to the end.
    let set = UfsAttr { mode: Some(0o600), ..p.node.control.block_on(stat(&p.node, "d/g")) };
    let work = PersistWork::SetAttr { key: key("d/g"), kind: FileKind::Regular, attr: set };
    assert!(matches!(p.run_again(work), PersistOutcome::Done(Some(attr)) if attr.mode == Some(0o600)));
}

/// A start is not to wait for one slow answer after the other.
#[test]
fn what_was_begun_before_a_start_is_looked_into_side_by_side() {
    let node = node();
    let (_, tasks) = mpsc::channel(1);
    let (done, mut outcomes) = mpsc::channel(100);
    let dir = |i| PersistWork::MakeDir { key: key(&format!("d{i}")), attr: attr(FileKind::Directory, 0) };
    let at_once = config().tasks_at_once;
    let count = at_once + 4;
    let begun: Vec<_> = (0..count).map(|i| task(dir(i), true)).collect();
    let answers = Arc::default();
    let log = TestLog { tasks: Mutex::new(tasks), done, begun, answer: Settled::Clean, answers };
    let shards = vec![node.shard(0)];
    let persister = ReadyPersister::new(config(), Arc::clone(&node.worker), Arc::new(log), shards);
    node.ufs.rule(Rules { stat_takes: HELD, ..Rules::default() });
    let settled = node.control.spawn(async move { persister.settle_begun().await });
    let looked = || node.ufs.stats.load(SeqCst) as usize;
    eventually("as many are asked for as may be", || looked() == at_once);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(looked(), at_once, "and no more");
    node.ufs.rule(Rules::default());
    assert_eq!(node.control.block_on(settled).unwrap(), Ok(count));
    for _ in 0..count {
        assert_eq!(outcomes.try_recv().unwrap(), PersistOutcome::NotDone);
    }
}

/// Something else of the same name is not taken for ours.
#[test]
fn what_others_made_is_not_taken_for_what_was_begun() {
    let mut p = persisting();
    let file = dirty(&p.node, b"bytes");
    std::fs::write(p.under("f"), "other").unwrap();
    assert_eq!(p.run_again(put(&file, "f", None)), PersistOutcome::NotDone);
    let link = UfsAttr { link_target: Some((*b"a").into()), ..attr(FileKind::Symlink, 1) };
    std::os::unix::fs::symlink("b", p.under("l")).unwrap();
    let work = PersistWork::MakeSpecial { key: key("l"), expect: None, attr: link };
    assert_eq!(p.run_again(work), PersistOutcome::NotDone);
    let work = PersistWork::MakeDir { key: key("f"), attr: attr(FileKind::Directory, 0) };
    assert_eq!(p.run_again(work), PersistOutcome::NotDone);
}

/// A writer whose daemon was killed may leave new bytes of the same length with the times of before. A further name that
/// still has the old ones, as a copy of its own, is not taken for the copy of the new ones.
#[test]
fn a_copy_that_is_to_be_replaced_is_not_taken_for_the_new_one() {
    let mut p = Persisting::start(Node::start(Setup { renames: false, ..Setup::default() }), config());
    let time = std::time::SystemTime::now();
    let put_at = |name: &str, bytes: &str| {
        std::fs::write(p.under(name), bytes).unwrap();
        std::fs::File::options().write(true).open(p.under(name)).unwrap().set_modified(time).unwrap();
        p.node.control.block_on(stat(&p.node, name)).version
    };
    let older = put_at("second", "older");
    put_at("first", "newer");
    let link = PersistWork::Link { existing: key("first"), to: key("second"), expect: Some(older) };
    assert_eq!(p.run_again(link.clone()), PersistOutcome::NotDone);
    let copied = done_version(p.run(link.clone()));
    assert_eq!(std::fs::read(p.under("second")).unwrap(), b"newer");
    assert_eq!(done_version(p.run_again(link)), copied, "and now it is");
}

/// A store whose versions are those of the bytes shows the same one before and after. With nothing left to be moved, what is
/// there has the bytes of what was moved, whoever took that away.
#[test]
fn a_move_over_the_same_bytes_was_done_if_nothing_is_left_of_what_was_moved() {
    let mut p = Persisting::start(Node::start(Setup { renames: false, ..Setup::default() }), config());
    std::fs::write(p.under("to"), "bytes").unwrap();
    let there = p.node.control.block_on(stat(&p.node, "to")).version;
    let moved = |version: UfsVersion| PersistWork::Move {
        from: key("from"),
        to: key("to"),
        kind: FileKind::Regular,
        version: Some(version),
        replaces: Some(there.clone()),
    };
    let other = p.node.control.block_on(stat(&p.node, "")).version;
    assert_eq!(p.run_again(moved(other)), PersistOutcome::NotDone, "what was to be replaced is still there");
    assert_eq!(done_version(p.run_again(moved(there.clone()))), there);
}
