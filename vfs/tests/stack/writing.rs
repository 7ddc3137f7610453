//! Who is the authority for size and times while a file is open for write, and the calls on open files.

use crate::support::*;
use forebay_types::limits::FILE_LEN_MAX;
use forebay_types::{FsErrorKind, Ino, SetAttr};
use forebay_vfs::{AllocateMode, OpenFlags, RenameFlags, Whence};
use std::os::unix::fs::FileExt;
use std::time::Duration;

fn set_len(len: u64) -> SetAttr {
    SetAttr { size: Some(len), ..SetAttr::default() }
}

#[test]
fn the_extent_file_says_how_long_a_file_is_while_the_kernel_writes_it() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        let file = kernel_file(&opened);
        for len in [1_u64, 4096, 1 << 20] {
            file.write_all_at(b"x", len - 1).unwrap();
            let out = vfs.getattr(ino).await.unwrap();
            assert_eq!((out.attr.size, out.ttl), (len, Duration::ZERO));
            assert_eq!(vfs.find("a").await.unwrap().size, len);
        }
        file.set_len(10).unwrap();
        vfs.release(opened.handle).await.unwrap();
        let out = vfs.getattr(ino).await.unwrap();
        assert_eq!(out.attr.size, 10);
        assert!(!out.ttl.is_zero(), "nobody writes any more");
    });
}

#[test]
fn a_time_that_was_set_stays_until_the_next_write() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(b"x", 0).unwrap();
        let set = vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
        assert_eq!(set.attr.mtime, LONG_AGO);
        assert_eq!(vfs.getattr(ino).await.unwrap().attr.mtime, LONG_AGO);
        vfs.fsync(opened.handle).await.unwrap();
        assert_eq!(vfs.getattr(ino).await.unwrap().attr.mtime, LONG_AGO);
        vfs.release(opened.handle).await.unwrap();
        let closed = vfs.getattr(ino).await.unwrap().attr;
        assert_eq!((closed.mtime, closed.size), (LONG_AGO, 1), "as `cp -p` wants it");
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
        kernel_file(&opened).write_all_at(b"y", 1).unwrap();
        let written = vfs.getattr(ino).await.unwrap().attr;
        assert!(written.mtime > LONG_AGO);
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.getattr(ino).await.unwrap().attr.mtime, written.mtime);
    });
}

#[test]
fn a_time_set_on_an_empty_new_file_stays() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        vfs.setattr(&ALICE, ino, set_mtime(LONG_AGO)).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.getattr(ino).await.unwrap().attr.mtime, LONG_AGO);
    });
}

#[test]
fn a_new_file_is_not_older_than_its_directory_entry() {
    let node = node();
    node.run(|vfs| async move {
        let before = vfs.getattr(Ino::ROOT).await.unwrap().attr.mtime;
        forebay_shard::sleep(Duration::from_millis(30)).await;
        let (ino, opened) = vfs.make("a").await;
        vfs.release(opened.handle).await.unwrap();
        let made = vfs.getattr(ino).await.unwrap().attr;
        assert!(made.mtime > before, "the blank's own time does not show");
        assert_eq!(made.mtime, made.atime);
    });
}

#[test]
fn a_file_is_cut_and_grown_without_a_handle() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(b"hello world", 0).unwrap();
        vfs.release(opened.handle).await.unwrap();
        let before = vfs.getattr(ino).await.unwrap().attr;
        forebay_shard::sleep(Duration::from_millis(30)).await;
        let cut = vfs.setattr(&ALICE, ino, set_len(5)).await.unwrap().attr;
        assert_eq!(cut.size, 5);
        assert!(cut.mtime > before.mtime);
        vfs.setattr(&ALICE, ino, set_len(8)).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), b"hello\0\0\0");
    });
    node.until_idle();
}

#[test]
fn an_open_writer_sees_the_cut_of_another() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        let file = kernel_file(&opened);
        file.write_all_at(b"hello world", 0).unwrap();
        vfs.setattr(&ALICE, ino, set_len(5)).await.unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5);
        file.write_all_at(b"!", 5).unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), b"hello!");
    });
}

#[test]
fn attributes_can_be_read_while_others_open_and_close() {
    let node = node();
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(&[1; 100], 0).unwrap();
        vfs.release(opened.handle).await.unwrap();
        ino
    });
    let vfs = std::sync::Arc::clone(&node.vfs);
    let shard = node.shard(1);
    let opener = std::thread::spawn(move || {
        let rounds = shard.block_on(move || async move {
            for round in 1..200_u64 {
                let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
                kernel_file(&opened).write_all_at(&[2], 99 + round).unwrap();
                vfs.release(opened.handle).await.unwrap();
            }
        });
        rounds.unwrap();
    });
    node.run(move |vfs| async move {
        let mut last = 100;
        for _ in 0..400 {
            let size = vfs.getattr(ino).await.unwrap().attr.size;
            assert!(size >= last, "{size} after {last}: a close lost what was written");
            last = size;
        }
    });
    opener.join().unwrap();
    let size = node.run(move |vfs| async move { vfs.getattr(ino).await.unwrap().attr.size });
    assert_eq!(size, 299);
    node.until_idle();
}

#[test]
fn fsync_asks_for_the_bytes_first_and_then_for_the_record() {
    let node = node();
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(b"durable", 0).unwrap();
        vfs.fsync(opened.handle).await.unwrap();
        ino
    });
    let seen = node.take_seen();
    let sync = seen.iter().position(|op| *op == "sync").unwrap();
    assert!(seen[sync..].contains(&"adopt"), "the length is read after the bytes are safe: {seen:?}");
    let recorded = node.names.attr(ino);
    let (attr, _) = futures_util::FutureExt::now_or_never(recorded).unwrap().unwrap();
    assert_eq!(attr.size, 7, "the record says what is safe");
    node.fault(Fault::Fail("sync", FsErrorKind::Io));
    node.run(move |vfs| async move {
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        assert_eq!(kind(vfs.fsync(opened.handle).await), FsErrorKind::Io);
        vfs.fsync(opened.handle).await.unwrap();
    });
}

#[test]
fn a_close_returns_when_the_bytes_are_safe_where_the_policy_says_so() {
    for asked in [true, false] {
        let mut setup = Setup::default();
        setup.root.policy.sync_on_close = asked;
        let node = Node::start(setup);
        let (handle, ino) = node.run(move |vfs| async move {
            let (ino, opened) = vfs.make("a").await;
            vfs.put(opened.handle, 0, b"closed").await.unwrap();
            (opened.handle, ino)
        });
        node.take_seen();
        node.run(move |vfs| async move { vfs.flush(handle).await.unwrap() });
        let seen = node.take_seen();
        assert_eq!(seen.contains(&"sync"), asked, "{seen:?}");
        let recorded = futures_util::FutureExt::now_or_never(node.names.attr(ino)).unwrap().unwrap().0;
        assert_eq!(recorded.size == 6, asked, "the record says what is safe");
        node.fault(Fault::Fail("sync", FsErrorKind::Io));
        node.run(move |vfs| async move {
            let closed = vfs.flush(handle).await;
            assert_eq!(closed.is_err(), asked, "who closes hears that it is not safe");
            vfs.release(handle).await.unwrap();
        });
    }
}

#[test]
fn every_write_of_a_sync_handle_is_synced() {
    let node = Node::start(Setup { passthrough: false, ..Setup::default() });
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        vfs.release(opened.handle).await.unwrap();
        let flags = OpenFlags { sync: true, append: true, ..WRITE };
        let opened = vfs.open(&ALICE, ino, flags).await.unwrap();
        vfs.put(opened.handle, 0, b"one").await.unwrap();
        vfs.put(opened.handle, 3, b"two").await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), b"onetwo");
    });
    let syncs = node.take_seen().iter().filter(|op| **op == "sync").count();
    assert!(syncs >= 3, "the open, for what the kernel may write by itself, and each write: {syncs}");
}

#[test]
fn ranges_are_reserved_zeroed_and_freed() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        let handle = opened.handle;
        kernel_file(&opened).write_all_at(&[7; 3 << 20], 0).unwrap();
        let size = async || vfs.getattr(ino).await.unwrap().attr.size;
        vfs.fallocate(handle, AllocateMode::KeepSize, 0, 8 << 20).await.unwrap();
        assert_eq!(size().await, 3 << 20);
        vfs.fallocate(handle, AllocateMode::Grow, 0, 4 << 20).await.unwrap();
        assert_eq!(size().await, 4 << 20);
        vfs.fallocate(handle, AllocateMode::PunchHole, 1 << 20, 1 << 20).await.unwrap();
        vfs.fallocate(handle, AllocateMode::ZeroRangeKeepSize, 0, 10).await.unwrap();
        assert_eq!(kind(vfs.fallocate(handle, AllocateMode::Grow, 0, 0).await), FsErrorKind::Invalid);
        let past = vfs.fallocate(handle, AllocateMode::Grow, FILE_LEN_MAX, 1).await;
        assert_eq!(kind(past), FsErrorKind::FileTooLarge);
        assert_eq!(vfs.lseek(handle, 0, Whence::Hole).await.unwrap(), 1 << 20);
        assert_eq!(vfs.lseek(handle, 1 << 20, Whence::Data).await.unwrap(), 2 << 20);
        assert_eq!(kind(vfs.lseek(handle, 5 << 20, Whence::Data).await), FsErrorKind::OutOfRange);
        let mut expected = vec![7; 4 << 20];
        expected[..10].fill(0);
        expected[1 << 20..2 << 20].fill(0);
        expected[3 << 20..].fill(0);
        assert_eq!(vfs.get(handle).await.unwrap(), expected);
        vfs.release(handle).await.unwrap();
    });
}

#[test]
fn ranges_are_copied_between_files_and_within_one() {
    let node = node();
    node.run(|vfs| async move {
        let (_, from) = vfs.make("from").await;
        let (ino, to) = vfs.make("to").await;
        kernel_file(&from).write_all_at(&pattern(3 * PAGE, 1), 0).unwrap();
        let copied = vfs.copy_file_range((from.handle, 10), (to.handle, 0), PAGE).await.unwrap();
        assert_eq!(copied, PAGE);
        let within = vfs.copy_file_range((to.handle, 0), (to.handle, 2 * PAGE), PAGE).await.unwrap();
        assert_eq!(within, PAGE);
        let overlap = vfs.copy_file_range((to.handle, 0), (to.handle, 1), PAGE).await;
        assert_eq!(kind(overlap), FsErrorKind::Invalid);
        let reader = vfs.open(&ALICE, ino, READ).await.unwrap();
        let unwritable = vfs.copy_file_range((from.handle, 0), (reader.handle, 0), 1).await;
        assert_eq!(kind(unwritable), FsErrorKind::AccessDenied);
        let bytes = vfs.get(to.handle).await.unwrap();
        let expected = &pattern(3 * PAGE, 1)[10..10 + PAGE as usize];
        assert_eq!(&bytes[..PAGE as usize], expected);
        assert_eq!(&bytes[2 * PAGE as usize..], expected);
        for handle in [from.handle, to.handle, reader.handle] {
            vfs.release(handle).await.unwrap();
        }
    });
    node.until_idle();
}

#[test]
fn a_write_past_the_largest_file_is_refused() {
    let node = Node::start(Setup { passthrough: false, ..Setup::default() });
    node.run(|vfs| async move {
        let (_, opened) = vfs.make("a").await;
        assert_eq!(kind(vfs.put(opened.handle, FILE_LEN_MAX, b"x").await), FsErrorKind::FileTooLarge);
        assert_eq!(kind(vfs.put(opened.handle, u64::MAX, b"x").await), FsErrorKind::FileTooLarge);
        vfs.release(opened.handle).await.unwrap();
    });
}

#[test]
fn a_writer_finds_what_he_has_not_got_yet_where_a_rename_of_the_directory_has_brought_it() {
    let mut setup = Setup { persist: true, ..Setup::default() };
    setup.root.policy.persist_delay = "0s".parse().unwrap();
    let node = Node::start(setup);
    std::fs::create_dir(node.under().join("d")).unwrap();
    node.put("d/f", &pattern(4 * PAGE, 1));
    let (ino, opened) = node.run(|vfs| async move {
        let dir = vfs.ino("d").await;
        let ino = vfs.lookup(dir, &name("f")).await.unwrap().attr.ino;
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        let (root, flags) = (Ino::ROOT, RenameFlags::Replace);
        vfs.rename(&ALICE, (root, &name("d")), (root, &name("e")), flags).await.unwrap();
        (ino, opened)
    });
    node.until("the directory is moved", || node.under().join("e/f").exists());
    let mut expected = pattern(4 * PAGE, 1);
    expected[PAGE as usize + 7..][..7].copy_from_slice(b"changed");
    expected[3 * PAGE as usize + 5..][..9].fill(0);
    node.run(move |vfs| async move {
        vfs.put(opened.handle, PAGE + 7, b"changed").await.unwrap();
        vfs.fallocate(opened.handle, AllocateMode::ZeroRange, 3 * PAGE + 5, 9).await.unwrap();
        assert_eq!(vfs.get(opened.handle).await.unwrap(), expected);
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), expected);
    });
}

#[test]
fn a_file_is_closing_from_the_flush_of_its_last_writer_to_its_record() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, one) = vfs.make("a").await;
        let other = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        vfs.flush(one.handle).await.unwrap();
        assert_eq!(vfs.closing(), [], "the other one may write on");
        vfs.flush(other.handle).await.unwrap();
        vfs.flush(other.handle).await.unwrap();
        assert_eq!((vfs.closing(), vfs.is_closing(ino)), (vec![ino], true));
        vfs.put(one.handle, 0, b"more").await.unwrap();
        assert!(!vfs.is_closing(ino), "it was another descriptor that was closed");
        vfs.flush(one.handle).await.unwrap();
        assert!(vfs.is_closing(ino));
        vfs.release(one.handle).await.unwrap();
        assert!(vfs.is_closing(ino));
        vfs.release(other.handle).await.unwrap();
        assert!(!vfs.is_closing(ino) && vfs.closing().is_empty());
        let reader = vfs.open(&ALICE, ino, READ).await.unwrap();
        vfs.flush(reader.handle).await.unwrap();
        assert!(vfs.closing().is_empty(), "a reader's close changes nothing");
        vfs.release(reader.handle).await.unwrap();
    });
}
