//! Modes: the first open chooses, later ones repeat, and only a file that nobody has open may change.

use crate::support::*;
use forebay_types::{FsErrorKind, Ino, SetAttr};
use forebay_vfs::{IoMode, NewNode, OpenFlags};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

#[test]
fn a_new_file_is_passed_through_with_one_file_for_all_opens() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, first) = vfs.make("a").await;
        let second = vfs.open(&ALICE, ino, READ).await.unwrap();
        assert!(Arc::ptr_eq(&kernel_file(&first), &kernel_file(&second)));
        vfs.release(first.handle).await.unwrap();
        let third = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        assert!(Arc::ptr_eq(&kernel_file(&second), &kernel_file(&third)));
        vfs.release(second.handle).await.unwrap();
        vfs.release(third.handle).await.unwrap();
    });
    node.until_idle();
}

#[test]
fn the_mode_stays_while_a_file_is_open_and_changes_when_nobody_has_it_open() {
    let node = node();
    let bytes = pattern(5 * PAGE + 17, 1);
    node.put("a", &bytes);
    node.run(move |vfs| async move {
        let ino = vfs.ino("a").await;
        let first = vfs.open(&ALICE, ino, READ).await.unwrap();
        assert!(is_cached(&first.mode, true), "{:?}", first.mode);
        assert_eq!(vfs.get(first.handle).await.unwrap(), bytes);
        let second = vfs.open(&ALICE, ino, READ).await.unwrap();
        assert!(is_cached(&second.mode, true), "wholly here by now, but open: {:?}", second.mode);
        vfs.release(first.handle).await.unwrap();
        vfs.release(second.handle).await.unwrap();
        let third = vfs.open(&ALICE, ino, READ).await.unwrap();
        let mut here = vec![0; bytes.len()];
        kernel_file(&third).read_exact_at(&mut here, 0).unwrap();
        assert_eq!(here, bytes);
        vfs.release(third.handle).await.unwrap();
    });
    node.until_idle();
}

#[test]
fn without_passthrough_everything_is_cached() {
    let node = Node::start(Setup { passthrough: false, ..Setup::default() });
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        assert!(is_cached(&opened.mode, false), "{:?}", opened.mode);
        vfs.put(opened.handle, 0, b"hello").await.unwrap();
        assert_eq!(vfs.get(opened.handle).await.unwrap(), b"hello");
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), b"hello");
    });
}

#[test]
fn the_page_cache_is_not_kept_for_what_was_ever_changed_here() {
    let node = Node::start(Setup { passthrough: false, ..Setup::default() });
    node.put("a", &pattern(3 * PAGE, 2));
    node.put("b", &pattern(3 * PAGE, 3));
    node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        assert!(is_cached(&vfs.mode_of_open(ino, READ).await, true));
        assert!(is_cached(&vfs.mode_of_open(ino, BOTH).await, false), "somebody may write");
        assert!(is_cached(&vfs.mode_of_open(ino, READ).await, true), "nobody wrote");
        let reader = vfs.open(&ALICE, ino, READ).await.unwrap();
        let writer = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        assert!(is_cached(&writer.mode, false), "{:?}", writer.mode);
        vfs.put(writer.handle, 10, b"x").await.unwrap();
        vfs.release(writer.handle).await.unwrap();
        assert!(is_cached(&vfs.open(&ALICE, ino, READ).await.unwrap().mode, false));
        vfs.release(reader.handle).await.unwrap();
        assert!(is_cached(&vfs.mode_of_open(ino, READ).await, false));
        let other = vfs.ino("b").await;
        assert!(is_cached(&vfs.mode_of_open(other, READ).await, true));
        vfs.setattr(&ALICE, other, SetAttr { size: Some(5), ..SetAttr::default() }).await.unwrap();
        assert!(is_cached(&vfs.mode_of_open(other, READ).await, false), "cut without a handle");
    });
}

#[test]
fn the_page_cache_is_not_kept_after_the_kernel_wrote_past_us() {
    let node = node();
    node.put("a", &pattern(2 * PAGE, 4));
    let ino = node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        vfs.content(ino).await.unwrap();
        let writer = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        kernel_file(&writer).write_all_at(b"changed", 3).unwrap();
        vfs.release(writer.handle).await.unwrap();
        ino
    });
    // A daemon whose mount cannot do passthrough any more serves the same inode.
    let node = node.crash_with(Setup { passthrough: false, ..Setup::default() });
    node.run(move |vfs| async move {
        let opened = vfs.open(&ALICE, ino, READ).await.unwrap();
        assert!(is_cached(&opened.mode, false), "{:?}", opened.mode);
        assert_eq!(&vfs.get(opened.handle).await.unwrap()[3..10], b"changed");
    });
}

#[test]
fn a_write_in_the_tick_of_the_last_fetch_is_not_overlooked() {
    let node = node();
    for round in 0..50_u64 {
        let file = format!("f{round}");
        node.put(&file, &pattern(100, round));
        node.run(move |vfs| async move {
            let ino = vfs.ino(&file).await;
            vfs.content(ino).await.unwrap();
            let writer = vfs.open(&ALICE, ino, BOTH).await.unwrap();
            kernel_file(&writer).write_all_at(b"!", 50).unwrap();
            vfs.release(writer.handle).await.unwrap();
            assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"dirty", "round {round}");
        });
    }
}

#[test]
fn an_open_for_write_that_writes_nothing_leaves_a_clean_file_clean() {
    let node = node();
    node.put("a", &pattern(3 * PAGE, 5));
    node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        vfs.mode_of_open(ino, BOTH).await;
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
        assert_eq!(vfs.content(ino).await.unwrap(), pattern(3 * PAGE, 5));
        // What the kernel might have written within a tick of the file's last change would not show.
        forebay_shard::sleep(std::time::Duration::from_millis(50)).await;
        for _ in 0..20 {
            assert!(is_passthrough(&vfs.mode_of_open(ino, BOTH).await), "its bytes are here all the time");
        }
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
    });
}

#[test]
fn overwriting_a_large_file_fetches_nothing_of_it() {
    let node = node();
    node.put("a", &pattern(64 * PAGE, 6));
    node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        let opened = vfs.open(&ALICE, ino, WRITE).await.unwrap();
        let cut = SetAttr { size: Some(0), ..SetAttr::default() };
        assert_eq!(vfs.setattr(&ALICE, ino, cut).await.unwrap().attr.size, 0);
        vfs.put(opened.handle, 0, b"new").await.unwrap();
        vfs.put(opened.handle, 3 * PAGE + 5, b"end").await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        let mut expected = vec![0; 3 * PAGE as usize + 8];
        expected[..3].copy_from_slice(b"new");
        expected[3 * PAGE as usize + 5..].copy_from_slice(b"end");
        assert_eq!(vfs.content(ino).await.unwrap(), expected);
    });
    assert_eq!(node.fetched(), 0);
    node.put("b", &pattern(64 * PAGE, 7));
    node.run(|vfs| async move {
        let ino = vfs.ino("b").await;
        let opened = vfs.open(&ALICE, ino, OpenFlags { truncate: true, ..WRITE }).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.getattr(ino).await.unwrap().attr.size, 0);
        assert_eq!(vfs.content(ino).await.unwrap(), b"");
    });
    assert_eq!(node.fetched(), 0);
}

#[test]
fn a_cut_within_a_page_keeps_what_is_before_it() {
    let node = node();
    let bytes = pattern(8 * PAGE, 8);
    node.put("a", &bytes);
    node.run(move |vfs| async move {
        let ino = vfs.ino("a").await;
        let len = 2 * PAGE + 100;
        let cut = |size| SetAttr { size: Some(size), ..SetAttr::default() };
        vfs.setattr(&ALICE, ino, cut(len)).await.unwrap();
        vfs.setattr(&ALICE, ino, cut(3 * PAGE)).await.unwrap();
        let mut expected = bytes[..len as usize].to_vec();
        expected.resize(3 * PAGE as usize, 0);
        assert_eq!(vfs.content(ino).await.unwrap(), expected);
    });
    assert!(node.fetched() <= 3 * PAGE, "{} bytes were fetched", node.fetched());
}

#[test]
fn only_files_can_be_opened() {
    let node = node();
    node.run(|vfs| async move {
        let dir = vfs.mkdir(&ALICE, Ino::ROOT, &name("d"), 0o755).await.unwrap().attr.ino;
        let link = vfs.symlink(&ALICE, Ino::ROOT, &name("l"), b"d").await.unwrap().attr.ino;
        let fifo = NewNode { kind: forebay_types::FileKind::Fifo, mode: 0o644, rdev: 0 };
        let fifo = vfs.mknod(&ALICE, Ino::ROOT, &name("p"), fifo).await.unwrap().attr.ino;
        for flags in [READ, WRITE, BOTH] {
            assert_eq!(kind(vfs.open(&ALICE, dir, flags).await), FsErrorKind::IsADirectory);
            assert_eq!(kind(vfs.open(&ALICE, link, flags).await), FsErrorKind::Invalid);
            assert_eq!(kind(vfs.open(&ALICE, fifo, flags).await), FsErrorKind::Invalid);
        }
        let cut = SetAttr { size: Some(3), ..SetAttr::default() };
        assert_eq!(kind(vfs.setattr(&ALICE, dir, cut).await), FsErrorKind::IsADirectory);
        assert_eq!(kind(vfs.setattr(&ALICE, link, cut).await), FsErrorKind::Invalid);
        let huge = SetAttr { size: Some(u64::MAX), ..SetAttr::default() };
        let (ino, opened) = vfs.make("f").await;
        assert_eq!(kind(vfs.setattr(&ALICE, ino, huge).await), FsErrorKind::FileTooLarge);
        vfs.release(opened.handle).await.unwrap();
    });
    node.until_idle();
}

#[test]
fn a_handle_that_is_not_open_is_stale() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        let reader = vfs.open(&ALICE, ino, READ).await.unwrap();
        assert_eq!(kind(vfs.put(reader.handle, 0, b"x").await), FsErrorKind::AccessDenied);
        vfs.release(reader.handle).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        let gone = opened.handle;
        assert_eq!(kind(vfs.release(gone).await), FsErrorKind::Stale);
        assert_eq!(kind(vfs.put(gone, 0, b"x").await), FsErrorKind::Stale);
        assert_eq!(kind(vfs.read(gone, 0, 1).await.map(|_| ())), FsErrorKind::Stale);
        assert_eq!(kind(vfs.flush(gone).await), FsErrorKind::Stale);
        assert_eq!(kind(vfs.fsync(gone).await), FsErrorKind::Stale);
        assert_eq!(kind(vfs.readdir(gone, 0, 1, forebay_vfs::Attributes::None).await), FsErrorKind::Stale);
        assert_eq!(kind(vfs.releasedir(gone)), FsErrorKind::Stale);
        let modes = vfs.mode_of_open(ino, READ).await;
        assert!(matches!(modes, IoMode::Passthrough(_)));
    });
    node.until_idle();
}

#[test]
fn a_clean_file_that_one_writer_after_another_opens_is_not_fetched_again() {
    let node = node();
    node.put("a", &pattern(3 * PAGE, 5));
    let ino = node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        vfs.content(ino).await.unwrap();
        forebay_shard::sleep(std::time::Duration::from_millis(50)).await;
        ino
    });
    let fetched = node.fetched();
    node.run(move |vfs| async move {
        for _ in 0..50 {
            let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
            assert_eq!(vfs.get(opened.handle).await.unwrap(), pattern(3 * PAGE, 5));
            vfs.release(opened.handle).await.unwrap();
        }
        // The last of them writes, at once after one that did not.
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        vfs.put(opened.handle, 5, b"new").await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        forebay_shard::sleep(std::time::Duration::from_millis(100)).await;
        let mut expected = pattern(3 * PAGE, 5);
        expected[5..8].copy_from_slice(b"new");
        assert_eq!(vfs.content(ino).await.unwrap(), expected);
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"dirty");
    });
    assert_eq!(node.fetched(), fetched);
}
