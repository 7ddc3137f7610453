//! What others do to the under file system shows within `metadata_ttl`, also in a directory that was made here and
//! carried there.

use crate::support::*;
use forebay_namespace::{MountSpec, Policy};
use forebay_types::{FsErrorKind, FsResult, Ino, SetAttr, SetTime, TimeSpec};
use forebay_vfs::{Entry, Vfs};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

const TTL: Duration = Duration::from_secs(2);
/// What a question that was under way may add, on a machine that does ten other things.
const SLACK: Duration = Duration::from_millis(1500);

fn node_with_ttl() -> Node {
    let policy = Policy {
        metadata_ttl: format!("{}ms", TTL.as_millis()).parse().unwrap(),
        persist_delay: "0s".parse().unwrap(),
        ..Policy::default()
    };
    let root = MountSpec { policy, ..MountSpec::new("/", "file:///under") };
    Node::start(Setup { root, persist: true, ..Setup::default() })
}

async fn look(vfs: &Vfs, dir: Ino, text: &str) -> FsResult<Entry> {
    let entry = vfs.lookup(dir, &name(text)).await?;
    vfs.forget(entry.attr.ino, 1);
    Ok(entry)
}

async fn make_in(vfs: &Vfs, dir: Ino, text: &str, bytes: &[u8]) {
    let (entry, opened) = vfs.create(&ALICE, dir, &name(text), 0o644, BOTH).await.unwrap();
    vfs.put(opened.handle, 0, bytes).await.unwrap();
    vfs.release(opened.handle).await.unwrap();
    vfs.forget(entry.attr.ino, 1);
}

/// A directory made here with `changed` and `gone` in it, of which everything was looked at while it was ours alone,
/// and that the under file system has by now.
fn carried_dir(node: &Node) -> Ino {
    let dir = node.run(|vfs| async move {
        let dir = vfs.mkdir(&ALICE, Ino::ROOT, &name("d"), 0o755).await.unwrap().attr.ino;
        assert_eq!(kind(look(&vfs, dir, "new").await), FsErrorKind::NotFound);
        for text in ["changed", "gone"] {
            make_in(&vfs, dir, text, b"ours").await;
            let entry = look(&vfs, dir, text).await.unwrap();
            assert!(
                entry.entry_ttl <= TTL && entry.attr_ttl <= TTL,
                "what is dirty is clean one day: {entry:?}"
            );
        }
        assert_eq!(kind(look(&vfs, dir, "new").await), FsErrorKind::NotFound);
        dir
    });
    let is_clean = move |text: &'static str| {
        node.run(move |vfs| async move {
            let Ok(entry) = look(&vfs, dir, text).await else { return false };
            let state = vfs.getxattr(entry.attr.ino, b"user.forebay.state").await.unwrap();
            &*state == b"clean"
        })
    };
    node.until("the files are clean", || is_clean("changed") && is_clean("gone"));
    dir
}

/// Waits until something shows: a look that begins after the time to live must see it, however long it takes itself.
fn shows(node: &Node, what: &str, mut does: impl FnMut() -> bool) {
    let (since, mut missed) = (Instant::now(), Duration::ZERO);
    node.until(what, || {
        let began = since.elapsed();
        let does = does();
        if !does {
            missed = began;
        }
        does
    });
    assert!(missed < TTL + SLACK, "after {missed:?} it did not show that {what}");
}

#[test]
fn what_appears_outside_in_a_directory_made_here_shows() {
    let node = node_with_ttl();
    let dir = carried_dir(&node);
    node.put("d/new", b"theirs");
    shows(&node, "the new file is seen", || {
        node.run(move |vfs| async move { look(&vfs, dir, "new").await.is_ok() })
    });
    node.run(move |vfs| async move {
        let ino = look(&vfs, dir, "new").await.unwrap().attr.ino;
        assert_eq!(vfs.content(ino).await.unwrap(), b"theirs");
    });
}

#[test]
fn what_changes_outside_in_a_directory_made_here_shows() {
    let node = node_with_ttl();
    let dir = carried_dir(&node);
    node.put("d/other", b"theirs, and longer");
    std::fs::rename(node.under().join("d/other"), node.under().join("d/changed")).unwrap();
    shows(&node, "the change is seen", || {
        node.run(move |vfs| async move {
            look(&vfs, dir, "changed").await.is_ok_and(|entry| entry.attr.size == 18)
        })
    });
    node.run(move |vfs| async move {
        let ino = look(&vfs, dir, "changed").await.unwrap().attr.ino;
        assert_eq!(vfs.content(ino).await.unwrap(), b"theirs, and longer");
    });
}

#[test]
fn what_vanishes_outside_from_a_directory_made_here_vanishes() {
    let node = node_with_ttl();
    let dir = carried_dir(&node);
    std::fs::remove_file(node.under().join("d/gone")).unwrap();
    shows(&node, "the file is gone", || {
        node.run(move |vfs| async move {
            look(&vfs, dir, "gone").await.is_err_and(|error| error.kind() == FsErrorKind::NotFound)
        })
    });
}

#[test]
fn what_others_do_to_the_mode_of_a_file_carried_from_here_shows() {
    let node = node_with_ttl();
    let dir = carried_dir(&node);
    let ino = node.run(move |vfs| async move { look(&vfs, dir, "changed").await.unwrap().attr.ino });
    let theirs = std::fs::Permissions::from_mode(0o604);
    std::fs::set_permissions(node.under().join("d/changed"), theirs).unwrap();
    shows(&node, "the new mode is seen", || {
        node.run(move |vfs| async move {
            look(&vfs, dir, "changed").await.is_ok_and(|entry| entry.attr.mode == 0o604)
        })
    });
    node.run(move |vfs| async move {
        assert_eq!(look(&vfs, dir, "changed").await.unwrap().attr.ino, ino);
        assert_eq!(vfs.content(ino).await.unwrap(), b"ours");
    });
}

#[test]
fn a_directory_made_outside_counts_in_a_directory_made_here() {
    let node = node_with_ttl();
    carried_dir(&node);
    let links =
        |node: &Node| node.run(|vfs| async move { look(&vfs, Ino::ROOT, "d").await.unwrap().attr.nlink });
    assert_eq!(links(&node), 2);
    std::fs::create_dir(node.under().join("d/theirs")).unwrap();
    shows(&node, "the link is counted", || links(&node) == 3);
}

#[test]
fn the_time_of_a_directory_outlasts_the_carrying_of_what_is_in_it() {
    let node = node_with_ttl();
    let dir = carried_dir(&node);
    let long_ago = TimeSpec { secs: 1_076_462_868, nanos: 7 };
    node.run(move |vfs| async move {
        make_in(&vfs, dir, "last", b"ours").await;
        let change = SetAttr { mtime: Some(SetTime::To(long_ago)), ..SetAttr::default() };
        vfs.setattr(&ALICE, dir, change).await.unwrap();
    });
    let at = node.under().join("d");
    let in_ufs = || std::fs::metadata(&at).unwrap().mtime();
    node.until("the file and the time are carried", || at.join("last").exists() && in_ufs() == long_ago.secs);
    std::thread::sleep(2 * TTL);
    let mtime = node.run(|vfs| async move { look(&vfs, Ino::ROOT, "d").await.unwrap().attr.mtime });
    assert_eq!(mtime, long_ago);
}
