//! Names carried: directories, links, removals and moves, those too that a store without rename makes by copies.

use crate::common::{Node, PAGE, Rules, Setup, eventually, pattern};
use crate::engine::{Persisting, attr, clean, config, dirty, done_version, key, persisting, put, stat};
use forebay_types::{FileKind, PersistOutcome, PersistWork, UfsAttr, UfsVersion};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

#[test]
fn directories_links_and_removals() {
    let mut p = persisting();
    let dir = || PersistWork::MakeDir { key: key("d"), attr: attr(FileKind::Directory, 0) };
    assert!(matches!(p.run(dir()), PersistOutcome::Done(Some(_))));
    assert!(matches!(p.run(dir()), PersistOutcome::Done(Some(_))), "one that is there will do");
    let target = Some(b"../elsewhere".to_vec().into_boxed_slice());
    let link = UfsAttr { link_target: target, ..attr(FileKind::Symlink, 12) };
    let special = |attr: UfsAttr| PersistWork::MakeSpecial { key: key("d/l"), expect: None, attr };
    assert!(matches!(p.run(special(link.clone())), PersistOutcome::Done(Some(_))));
    assert!(matches!(p.run(special(link)), PersistOutcome::Done(Some(_))));
    assert_eq!(std::fs::read_link(p.under("d/l")).unwrap().to_str(), Some("../elsewhere"));
    let fifo = p.run(special(attr(FileKind::Fifo, 0)));
    assert!(matches!(fifo, PersistOutcome::Unpersistable(_)), "{fifo:?}");
    let file = dirty(&p.node, b"x");
    let version = done_version(p.run(put(&file, "d/f", None)));
    let linked = PersistWork::Link { existing: key("d/f"), to: key("d/g"), expect: None };
    let version_linked = done_version(p.run(linked.clone()));
    assert_eq!(done_version(p.run(linked)), version_linked);
    assert_eq!(version_linked, version, "a further name changes no byte");
    let remove = |name: &str, kind, expect| PersistWork::Remove { key: key(name), kind, expect };
    let other = Some(UfsVersion::new(*b"another"));
    let changed = p.run(remove("d/f", FileKind::Regular, other));
    assert_eq!(changed, PersistOutcome::Conflict(None), "another version stays");
    assert_eq!(p.run(remove("d", FileKind::Directory, None)), PersistOutcome::Conflict(None));
    for name in ["d/f", "d/g", "d/l", "d/f"] {
        assert_eq!(p.run(remove(name, FileKind::Regular, None)), PersistOutcome::Done(None));
    }
    assert_eq!(p.run(remove("d", FileKind::Directory, None)), PersistOutcome::Done(None));
    assert!(!p.under("d").exists());
}

#[test]
fn a_moved_file_is_found_under_its_new_name() {
    let mut p = persisting();
    let bytes = pattern(2 * PAGE, 7);
    let at = p.node.put("a", &bytes);
    p.node.read_all(&at).unwrap();
    let fetched = p.node.ufs.reads();
    let version = at.ufs.unwrap().1;
    let work = PersistWork::Move {
        from: key("a"),
        to: key("b"),
        kind: FileKind::Regular,
        version: Some(version),
        replaces: None,
    };
    let moved = done_version(p.run(work.clone()));
    assert_eq!(done_version(p.run_again(work.clone())), moved, "it had been done before");
    assert_eq!(p.run(work), PersistOutcome::Conflict(None), "others took it away");
    assert_eq!(p.node.read_all(&clean("b", moved, 2 * PAGE)).unwrap(), bytes);
    assert_eq!(p.node.ufs.reads(), fetched);
    let set = UfsAttr { mode: Some(0o600), ..p.node.control.block_on(stat(&p.node, "b")) };
    let version =
        done_version(p.run(PersistWork::SetAttr { key: key("b"), kind: FileKind::Regular, attr: set }));
    assert_eq!(p.node.read_all(&clean("b", version, 2 * PAGE)).unwrap(), bytes);
    assert_eq!(p.node.ufs.reads(), fetched, "another mode leaves the bytes as they are");
}

#[test]
fn a_move_over_what_is_gone_takes_the_free_name() {
    let mut p = persisting();
    let version = p.node.put("a", b"bytes").ufs.unwrap().1;
    let gone = p.node.put("b", b"replaced").ufs.unwrap().1;
    std::fs::remove_file(p.under("b")).unwrap();
    let work = PersistWork::Move {
        from: key("a"),
        to: key("b"),
        kind: FileKind::Regular,
        version: Some(version),
        replaces: Some(gone),
    };
    done_version(p.run(work));
    assert_eq!(std::fs::read(p.under("b")).unwrap(), b"bytes");
    assert!(!p.under("a").exists());
}

/// A directory of files whose store cannot rename, and the task that moves it.
fn moving_by_copies(files: usize) -> (Persisting, PersistWork) {
    let p = Persisting::start(Node::start(Setup { renames: false, ..Setup::default() }), config());
    std::fs::create_dir_all(p.under("from/deep")).unwrap();
    std::fs::write(p.under("from/deep/f"), "deep").unwrap();
    for i in 0..files {
        std::fs::write(p.under(&format!("from/f{i}")), format!("file {i}")).unwrap();
    }
    let kind = FileKind::Directory;
    (p, PersistWork::Move { from: key("from"), to: key("to"), kind, version: None, replaces: None })
}

#[test]
fn the_files_of_a_directory_are_copied_side_by_side() {
    let (mut p, work) = moving_by_copies(40);
    p.hand_and_hold(work);
    let at_once = config().files_at_once as u64;
    eventually("as many are on their way as may be", || p.node.ufs.parts.load(SeqCst) == at_once);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(p.node.ufs.parts.load(SeqCst), at_once, "and no more");
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
    assert!(!p.under("from").exists());
    assert_eq!(std::fs::read(p.under("to/deep/f")).unwrap(), b"deep");
    for i in 0..40 {
        assert_eq!(std::fs::read_to_string(p.under(&format!("to/f{i}"))).unwrap(), format!("file {i}"));
    }
}

/// What is reported as failed changes nothing any more.
#[test]
fn a_copy_that_fails_ends_those_beside_it_first() {
    let (mut p, work) = moving_by_copies(40);
    p.hand_and_hold(work.clone());
    let at_once = config().files_at_once as u64;
    eventually("as many are on their way as may be", || p.node.ufs.parts.load(SeqCst) == at_once);
    p.node.ufs.rule(Rules { parts_to_fail: 1, ..Rules::default() });
    let failed = p.outcome();
    assert!(matches!(failed, PersistOutcome::Failed(_)), "{failed:?}");
    let copies = || std::fs::read_dir(p.under("to")).unwrap().count();
    let at_first = copies();
    assert!(at_first >= config().files_at_once - 1, "those under way have ended: {at_first}");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(copies(), at_first);
    assert_eq!(std::fs::read_dir(p.under("from")).unwrap().count(), 41, "nothing was taken away");
    p.node.ufs.rule(Rules::default());
    done_version(p.run_again(work));
    assert_eq!(std::fs::read_dir(p.under("to")).unwrap().count(), 41);
    assert!(!p.under("from").exists());
}

/// What others make of a file while its bytes go to the new name keeps the old one, and nothing is in its way there.
#[test]
fn a_copy_of_what_others_changed_is_taken_back() {
    let mut p = Persisting::start(Node::start(Setup { renames: false, ..Setup::default() }), config());
    let version = p.node.put("a", b"bytes").ufs.unwrap().1;
    let kind = FileKind::Regular;
    let work =
        PersistWork::Move { from: key("a"), to: key("b"), kind, version: Some(version), replaces: None };
    p.hand_and_hold(work);
    std::fs::write(p.under("a"), "what others wrote").unwrap();
    p.node.ufs.rule(Rules::default());
    assert_eq!(p.outcome(), PersistOutcome::Conflict(None));
    assert_eq!(std::fs::read(p.under("a")).unwrap(), b"what others wrote");
    assert!(!p.under("b").exists(), "the copy is left behind");
}

/// The same in a directory: it is moved with what they made of it.
#[test]
fn what_others_change_in_a_directory_while_it_is_copied_goes_with_it() {
    let (mut p, work) = moving_by_copies(2);
    p.hand_and_hold(work);
    eventually("all are on their way", || p.node.ufs.parts.load(SeqCst) == 2);
    std::fs::write(p.under("from/f0"), "what others wrote").unwrap();
    std::fs::create_dir(p.under("from/new")).unwrap();
    std::fs::write(p.under("from/new/f"), "theirs").unwrap();
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
    assert!(!p.under("from").exists());
    let moved = |name| std::fs::read_to_string(p.under(name)).unwrap();
    assert_eq!(
        ["to/f0", "to/f1", "to/new/f", "to/deep/f"].map(moved),
        ["what others wrote", "file 1", "theirs", "deep"]
    );
}
