//! Bytes that no name leads to any more go, and not before that is durable.

use crate::support::*;
use forebay_types::{ByteSize, FsErrorKind, Ino};
use forebay_vfs::RenameFlags;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// So long that nothing goes by itself while a test runs.
fn never() -> Setup {
    Setup { discard_gather: Duration::from_secs(3600), ..Setup::default() }
}

fn make_with(node: &Node, text: &'static str, bytes: &'static [u8]) -> Ino {
    node.run(move |vfs| async move {
        let (ino, opened) = vfs.make(text).await;
        kernel_file(&opened).write_all_at(bytes, 0).unwrap();
        vfs.fsync(opened.handle).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        ino
    })
}

#[test]
fn a_replaced_file_has_its_bytes_if_the_rename_was_not_durable() {
    let node = Node::start(never());
    let old = make_with(&node, "name", b"synced, and to be found again");
    make_with(&node, "new", b"another");
    let before = node.names_on_disk();
    node.run(|vfs| async move {
        let (from, to) = (name("new"), name("name"));
        vfs.rename(&ALICE, (Ino::ROOT, &from), (Ino::ROOT, &to), RenameFlags::Replace).await.unwrap();
    });
    node.until_idle();
    // Whatever was removed reaches the disk.
    std::thread::sleep(Duration::from_millis(300));
    let node = node.crash_to_names(&before);
    node.run(move |vfs| async move {
        assert_eq!(vfs.ino("name").await, old);
        assert_eq!(vfs.content(old).await.unwrap(), b"synced, and to be found again");
    });
}

#[test]
fn an_unlinked_file_has_its_bytes_if_the_unlink_was_not_durable() {
    let node = Node::start(never());
    make_with(&node, "name", b"synced");
    let before = node.names_on_disk();
    node.run(|vfs| async move { vfs.unlink(&ALICE, Ino::ROOT, &name("name")).await.unwrap() });
    node.until_idle();
    std::thread::sleep(Duration::from_millis(300));
    let node = node.crash_to_names(&before);
    node.run(|vfs| async move {
        let ino = vfs.ino("name").await;
        assert_eq!(vfs.content(ino).await.unwrap(), b"synced");
    });
}

#[test]
fn the_next_start_frees_what_this_one_did_not_come_to() {
    let node = Node::start(never());
    let ino = make_with(&node, "name", b"bytes");
    let extent = node.extent_of(ino).unwrap();
    node.run(|vfs| async move { vfs.unlink(&ALICE, Ino::ROOT, &name("name")).await.unwrap() });
    assert!(node.store.get(extent).is_some(), "nothing was synced yet");
    let node = node.crash();
    assert!(node.store.get(extent).is_none());
    node.run(move |vfs| async move { assert_eq!(kind(vfs.getattr(ino).await), FsErrorKind::Stale) });
}

#[test]
fn what_is_unlinked_goes_by_itself() {
    let node = node();
    let inos = ["a", "b", "c"].map(|text| make_with(&node, text, b"bytes"));
    node.run(|vfs| async move {
        for text in ["a", "b", "c"] {
            vfs.unlink(&ALICE, Ino::ROOT, &name(text)).await.unwrap();
        }
    });
    node.until("all extents are gone", || node.extents() == 0);
    // The records go after the extents.
    std::thread::sleep(Duration::from_millis(200));
    let node = node.crash();
    node.run(move |vfs| async move {
        for ino in inos {
            assert_eq!(kind(vfs.getattr(ino).await), FsErrorKind::Stale);
        }
    });
}

#[test]
fn on_a_tight_tier_an_unlink_frees_before_it_returns() {
    let node = Node::start(Setup { quota: ByteSize::mib(4), ..never() });
    node.run(|vfs| async move {
        let (_, opened) = vfs.make("big").await;
        kernel_file(&opened).write_all_at(&vec![1; 7 << 19], 0).unwrap();
        kernel_file(&opened).sync_all().unwrap();
        vfs.release(opened.handle).await.unwrap();
    });
    let begun = Instant::now();
    node.run(|vfs| async move { vfs.unlink(&ALICE, Ino::ROOT, &name("big")).await.unwrap() });
    assert_eq!(node.extents(), 0);
    assert!(begun.elapsed() < Duration::from_secs(600), "it waited for others to come");
}
