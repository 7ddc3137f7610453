//! The time of last change of a file whose daemon died: that of its last write, or the one that was set since.

use crate::support::*;
use forebay_types::{HandleId, Ino, SetAttr, TimeSpec};
use forebay_vfs::{FormerFile, RenameFlags, Vfs, XattrSetMode};
use std::fs::{File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What moves the time of last change of an inode, and not that of its bytes.
const CHANGES: [&str; 4] = ["rename", "link", "chmod", "xattr"];

async fn change(vfs: &Vfs, how: &str, ino: Ino) {
    let (old, new) = (name("a"), name("b"));
    match how {
        "rename" => {
            vfs.rename(&ALICE, (Ino::ROOT, &old), (Ino::ROOT, &new), RenameFlags::Replace).await.unwrap()
        }
        "link" => drop(vfs.link(&ALICE, ino, Ino::ROOT, &new).await.unwrap()),
        "chmod" => {
            let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
            vfs.setattr(&ALICE, ino, mode).await.unwrap();
        }
        _ => vfs.setxattr(ino, b"user.x", b"x", XattrSetMode::Any).await.unwrap(),
    }
}

/// Longer than a tick of any clock that file times are taken from.
async fn tick() {
    forebay_shard::sleep(Duration::from_millis(30)).await;
}

fn mtime_of(file: &File) -> TimeSpec {
    let meta = file.metadata().unwrap();
    TimeSpec { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 }
}

async fn mtime(vfs: &Vfs, ino: Ino) -> TimeSpec {
    vfs.getattr(ino).await.unwrap().attr.mtime
}

/// The kernel's writes to a new file, with a time that is set before the first or after the last of them, and then
/// a change of another kind. Gives the time of the last write.
async fn written(vfs: Arc<Vfs>, how: &'static str, set: [bool; 2]) -> (Ino, TimeSpec) {
    let (ino, opened) = vfs.make("a").await;
    let file = kernel_file(&opened);
    file.write_all_at(b"first", 0).unwrap();
    if set[0] {
        vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
    }
    tick().await;
    file.write_all_at(b"other", 0).unwrap();
    tick().await;
    if set[1] {
        vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
    }
    change(&vfs, how, ino).await;
    (ino, mtime_of(&file))
}

#[test]
fn the_last_write_counts_whatever_became_of_the_inode_after_it() {
    for (how, set_before) in CHANGES.into_iter().flat_map(|how| [(how, false), (how, true)]) {
        let node = node();
        let (ino, last) = node.run(move |vfs| written(vfs, how, [set_before, false]));
        let node = node.crash().crash();
        let found = node.run(move |vfs| async move { mtime(&vfs, ino).await });
        assert_eq!(found, last, "{how}, set before: {set_before}");
    }
}

#[test]
fn a_time_that_was_set_after_the_last_write_stays() {
    for how in CHANGES {
        let node = node();
        let (ino, _) = node.run(move |vfs| written(vfs, how, [false, true]));
        let node = node.crash().crash();
        let found = node.run(move |vfs| async move { mtime(&vfs, ino).await });
        assert_eq!(found, LONG_AGO, "{how}");
    }
}

#[test]
fn a_write_right_after_a_change_counts() {
    let node = node();
    let (ino, last) = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        let file = kernel_file(&opened);
        tick().await;
        change(&vfs, "rename", ino).await;
        vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
        file.write_all_at(b"x", 0).unwrap();
        (ino, mtime_of(&file))
    });
    let node = node.crash();
    assert_eq!(node.run(move |vfs| async move { mtime(&vfs, ino).await }), last);
}

#[test]
fn a_file_that_was_open_and_not_written_keeps_its_time() {
    let node = node();
    node.put("a", b"theirs");
    let then = SystemTime::UNIX_EPOCH + Duration::new(LONG_AGO.secs as u64, LONG_AGO.nanos);
    let theirs = File::options().write(true).open(node.under().join("a")).unwrap();
    theirs.set_times(FileTimes::new().set_modified(then)).unwrap();
    let ino = node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        vfs.content(ino).await.unwrap();
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        assert!(is_passthrough(&opened.mode));
        ino
    });
    let node = node.crash();
    assert_eq!(node.run(move |vfs| async move { mtime(&vfs, ino).await }), LONG_AGO);
}

/// A file that the kernel has open while one daemon takes over from another, between the two.
fn taken_over() -> (Node, Ino, HandleId, Arc<File>) {
    let node = node();
    let (ino, handle, file) = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        let file = kernel_file(&opened);
        file.write_all_at(b"before", 0).unwrap();
        vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
        tick().await;
        (ino, opened.handle, file)
    });
    (node.crash(), ino, handle, file)
}

async fn go_on(vfs: &Vfs, ino: Ino, handle: HandleId) {
    vfs.adopt_file(&FormerFile { handle, ino, flags: BOTH, passthrough: true }).await.unwrap();
}

#[test]
fn what_is_written_while_a_daemon_takes_over_counts() {
    let (node, ino, handle, file) = taken_over();
    file.write_all_at(b", between", 6).unwrap();
    let last = mtime_of(&file);
    node.run(move |vfs| async move {
        tick().await;
        go_on(&vfs, ino, handle).await;
        let open = vfs.getattr(ino).await.unwrap().attr;
        vfs.release(handle).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), b"before, between");
        let closed = vfs.getattr(ino).await.unwrap().attr;
        assert_eq!((open.size, closed.size), (15, 15));
        assert_eq!((open.mtime, closed.mtime), (last, last));
    });
}

#[test]
fn a_time_that_was_set_outlives_a_daemon_that_is_taken_over() {
    let (node, ino, handle, file) = taken_over();
    node.run(move |vfs| async move {
        go_on(&vfs, ino, handle).await;
        assert_eq!(mtime(&vfs, ino).await, LONG_AGO);
        change(&vfs, "rename", ino).await;
    });
    let node = node.crash();
    let last = node.run(move |vfs| async move {
        assert_eq!(mtime(&vfs, ino).await, LONG_AGO);
        go_on(&vfs, ino, handle).await;
        file.write_all_at(b"after!", 0).unwrap();
        vfs.link(&ALICE, ino, Ino::ROOT, &name("c")).await.unwrap();
        mtime_of(&file)
    });
    let node = node.crash();
    assert_eq!(node.run(move |vfs| async move { mtime(&vfs, ino).await }), last);
}
