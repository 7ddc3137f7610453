//! What a daemon that died leaves, and what the next one makes of it.

use crate::support::*;
use forebay_types::{FsErrorKind, Ino};
use std::os::unix::fs::FileExt;

#[test]
fn a_file_that_was_open_for_write_is_as_long_as_it_had_become() {
    let node = node();
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(&[5; 12345], 0).unwrap();
        ino
    });
    let node = node.crash();
    node.run(move |vfs| async move {
        let out = vfs.getattr(ino).await.unwrap();
        assert_eq!(out.attr.size, 12345);
        assert!(!out.ttl.is_zero(), "it is open for write no longer");
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"dirty");
        assert_eq!(vfs.content(ino).await.unwrap(), [5; 12345]);
        assert!(is_passthrough(&vfs.mode_of_open(ino, BOTH).await));
    });
    node.until_idle();
}

#[test]
fn a_time_that_was_set_before_the_crash_stays() {
    let node = node();
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(b"x", 0).unwrap();
        forebay_shard::sleep(std::time::Duration::from_millis(30)).await;
        vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
        ino
    });
    let node = node.crash();
    let attr = node.run(move |vfs| async move { vfs.getattr(ino).await.unwrap().attr });
    assert_eq!((attr.mtime, attr.size), (LONG_AGO, 1));
}

#[test]
fn the_bytes_of_unlinked_files_go_at_the_next_start() {
    let node = node();
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(b"x", 0).unwrap();
        vfs.unlink(&ALICE, Ino::ROOT, &name("a")).await.unwrap();
        ino
    });
    let extent = node.extent_of(ino).unwrap();
    assert!(node.store.get(extent).is_some());
    let node = node.crash();
    assert!(node.store.get(extent).is_none());
    node.run(move |vfs| async move {
        assert_eq!(kind(vfs.getattr(ino).await), FsErrorKind::Stale);
    });
}

#[test]
fn a_changed_file_of_the_under_file_system_stays_changed() {
    let node = node();
    node.put("a", &pattern(3 * PAGE, 1));
    let ino = node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        vfs.put(opened.handle, PAGE + 5, b"changed").await.unwrap();
        vfs.fsync(opened.handle).await.unwrap();
        ino
    });
    let node = node.crash();
    let mut expected = pattern(3 * PAGE, 1);
    expected[PAGE as usize + 5..][..7].copy_from_slice(b"changed");
    let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
    assert_eq!(bytes, expected);
}

#[test]
fn files_whose_bytes_were_lost_do_not_keep_the_daemon_from_starting() {
    let node = node();
    node.put("old", &pattern(PAGE + 9, 2));
    let (new, old) = node.run(|vfs| async move {
        let (new, opened) = vfs.make("new").await;
        kernel_file(&opened).write_all_at(b"never synced", 0).unwrap();
        let old = vfs.ino("old").await;
        let opened = vfs.open(&ALICE, old, BOTH).await.unwrap();
        vfs.put(opened.handle, 0, b"never synced").await.unwrap();
        (new, old)
    });
    let node = node.crash_losing_extents();
    node.run(move |vfs| async move {
        assert_eq!(vfs.content(new).await.unwrap(), b"", "a new file that nobody synced");
        let opened = vfs.open(&ALICE, new, BOTH).await.unwrap();
        kernel_file(&opened).write_all_at(b"again", 0).unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.content(new).await.unwrap(), b"again");
        assert_eq!(vfs.content(old).await.unwrap(), pattern(PAGE + 9, 2), "what it was before");
    });
    node.until_idle();
}

#[test]
fn two_crashes_are_as_good_as_one() {
    let node = node();
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(b"one", 0).unwrap();
        ino
    });
    let node = node.crash();
    node.run(move |vfs| async move {
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        kernel_file(&opened).write_all_at(b"two", 3).unwrap();
    });
    let node = node.crash().crash();
    let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
    assert_eq!(bytes, b"onetwo");
}
