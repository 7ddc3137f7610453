//! Files carried whole: what stands in the under file system after it, and what is known of them here.

use crate::common::{MIB, PAGE, pattern};
use crate::engine::{bound, clean, dirty, done_version, persisting, put};
use forebay_types::PersistOutcome;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

#[test]
fn a_file_is_carried_whole_and_is_clean_from_then_on() {
    let mut p = persisting();
    for len in [0, 1, PAGE - 1, PAGE, 3 * PAGE + 5, 20 * MIB + 17] {
        let bytes = pattern(len, len);
        let name = format!("file-{len}");
        let at = dirty(&p.node, &bytes);
        let outcome = p.run(put(&at, &name, None));
        let PersistOutcome::Done(Some(now)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(now.size, len);
        assert!(std::fs::read(p.under(&name)).unwrap() == bytes);
        let mode = std::fs::metadata(p.under(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(p.node.locate(&name).ufs.unwrap().1, now.version, "the next stat agrees");
        let clean = clean(&name, now.version, len);
        assert!(bound(&p.node, &clean));
        assert!(p.node.read_all(&clean).unwrap() == bytes);
        assert!(p.node.client.backing(&clean).is_some());
    }
    assert_eq!(p.node.ufs.reads(), 0, "what was persisted is not fetched again");
    let counters = p.persister.as_ref().unwrap().counters();
    assert_eq!((counters.puts, counters.failed), (6, 0));
}

/// From the record on a file is asked for by its content, and the store knows that only after a sync, which may take long.
#[test]
fn what_was_just_carried_is_found_before_the_store_knows_it() {
    let mut p = persisting();
    let bytes = pattern(3 * PAGE, 1);
    let at = dirty(&p.node, &bytes);
    let unanswered = p.node.control.block_on(Arc::clone(&p.answers).write_owned());
    let clean = clean("a", done_version(p.run(put(&at, "a", None))), 3 * PAGE);
    assert!(p.node.client.backing(&clean).is_some(), "it would be read through the daemon");
    assert!(p.node.read_all(&clean).unwrap() == bytes);
    assert_eq!(p.node.ufs.reads(), 0, "and fetched");
    // Of a writer's bytes nobody knows whether they are those.
    p.node.begin_write(&at);
    assert!(p.node.client.backing(&clean).is_none());
    drop(unanswered);
}

#[test]
fn checksums_are_taken_on_the_way() {
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(3 * PAGE, 1));
    let clean = clean("a", done_version(p.run(put(&at, "a", None))), 3 * PAGE);
    assert!(bound(&p.node, &clean));
    let extent = p.node.store.get(at.extent.unwrap()).unwrap();
    let page = forebay_types::PageIndex(1);
    let expected = &pattern(3 * PAGE, 1)[PAGE as usize..2 * PAGE as usize];
    assert_eq!(extent.checksum(page), Some(forebay_types::PageChecksum::of(expected)));
}

#[test]
fn overwriting_expects_the_version_that_was_there() {
    let mut p = persisting();
    let (first, second) = (dirty(&p.node, b"first"), dirty(&p.node, b"second"));
    let version = done_version(p.run(put(&first, "a", None)));
    done_version(p.run(put(&second, "a", Some(version))));
    assert_eq!(std::fs::read(p.under("a")).unwrap(), b"second");
}

#[test]
fn theirs_keeps_the_name_and_ours_stands_beside_it() {
    let mut p = persisting();
    std::fs::write(p.under("a"), b"theirs").unwrap();
    let ours = dirty(&p.node, b"ours, longer");
    let PersistOutcome::Conflict(Some(beside)) = p.run(put(&ours, "a", None)) else { panic!("no conflict") };
    assert!(beside.to_string().starts_with("a.conflict-n1-20"), "{beside}");
    assert_eq!(std::fs::read(p.under("a")).unwrap(), b"theirs");
    assert_eq!(std::fs::read(p.under(&beside.to_string())).unwrap(), b"ours, longer");
    let PersistOutcome::Conflict(Some(second)) = p.run(put(&ours, "a", None)) else { panic!("no conflict") };
    assert_ne!(second, beside, "a second copy in the same second gets a name of its own");
}

#[test]
fn a_deleted_file_is_not_carried() {
    let mut p = persisting();
    let at = dirty(&p.node, b"gone soon");
    let extent = at.extent.unwrap();
    p.node.on_shard(move |client| async move { client.discard(extent).await.unwrap() });
    assert_eq!(p.run(put(&at, "a", None)), PersistOutcome::Changed);
    assert!(!p.under("a").exists());
}

#[test]
fn a_partly_fetched_file_is_carried_with_what_was_absent() {
    let mut p = persisting();
    let mut bytes = pattern(6 * PAGE, 6);
    let before = p.node.put("a", &bytes);
    let at = p.node.begin_write(&before);
    p.node.write(&at, 2 * PAGE + 3, b"changed").unwrap();
    bytes[2 * PAGE as usize + 3..2 * PAGE as usize + 10].copy_from_slice(b"changed");
    let extent = at.extent.unwrap();
    p.node.on_shard(move |client| async move { client.end_write(extent, true) });
    let expect = before.ufs.unwrap().1;
    done_version(p.run(put(&at, "a", Some(expect))));
    assert!(std::fs::read(p.under("a")).unwrap() == bytes);
}
