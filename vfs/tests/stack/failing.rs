//! A step in the middle fails, or whoever asked goes away: nothing is left open, counted or held.

use crate::support::*;
use forebay_types::{ByteSize, FsErrorKind, Ino, SetAttr};
use forebay_vfs::OpenFlags;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const CUT: SetAttr = SetAttr { size: Some(1), mode: None, uid: None, gid: None, atime: None, mtime: None };

/// A clean file that nobody has open, its number counted once as the kernel does.
fn clean_file(node: &Node) -> Ino {
    node.put("clean", &pattern(2 * PAGE, 1));
    node.run(|vfs| async move {
        let ino = vfs.ino("clean").await;
        vfs.content(ino).await.unwrap();
        ino
    })
}

/// The file is as if nobody had ever tried to write it.
fn assert_untouched(node: &Node, ino: Ino) {
    node.until_idle();
    node.until("the fault came about", || node.faults_left() == 0);
    node.until("it is closed in the log", || !node.is_write_open(ino));
    // In a task of its own; an open fetches nothing.
    node.until("it is found under its clean identity again", || {
        node.run(move |vfs| async move { is_passthrough(&vfs.mode_of_open(ino, READ).await) })
    });
    let fetched = node.fetched();
    node.run(move |vfs| async move {
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
        assert_eq!(vfs.content(ino).await.unwrap(), pattern(2 * PAGE, 1));
    });
    assert_eq!(node.fetched(), fetched);
    node.until_idle();
}

#[test]
fn an_open_that_fails_leaves_nothing_open() {
    for op in ["begin_write", "adopt"] {
        let node = node();
        let ino = clean_file(&node);
        node.fault(Fault::Fail(op, FsErrorKind::Io));
        node.run(move |vfs| async move {
            assert_eq!(kind(vfs.open(&ALICE, ino, BOTH).await), FsErrorKind::Io, "{op}");
        });
        assert_untouched(&node, ino);
    }
}

#[test]
fn an_open_that_cannot_truncate_leaves_nothing_open() {
    let node = node();
    let ino = clean_file(&node);
    node.fault(Fault::Fail("truncate", FsErrorKind::NoSpace));
    node.run(move |vfs| async move {
        let flags = OpenFlags { truncate: true, ..WRITE };
        assert_eq!(kind(vfs.open(&ALICE, ino, flags).await), FsErrorKind::NoSpace);
        assert_eq!(kind(vfs.put(forebay_types::HandleId(1), 0, b"x").await), FsErrorKind::Stale);
    });
    node.until_idle();
    assert!(!node.is_write_open(ino));
    let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
    assert_eq!(bytes, pattern(2 * PAGE, 1));
}

#[test]
fn a_cut_that_fails_leaves_nothing_open() {
    for op in ["begin_write", "adopt", "truncate"] {
        let node = node();
        let ino = clean_file(&node);
        node.fault(Fault::Fail(op, FsErrorKind::Io));
        node.run(move |vfs| async move {
            assert_eq!(kind(vfs.setattr(&ALICE, ino, CUT).await), FsErrorKind::Io, "{op}");
        });
        node.until_idle();
        assert!(!node.is_write_open(ino));
        let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
        assert_eq!(bytes, pattern(2 * PAGE, 1));
    }
}

#[test]
fn a_create_that_fails_leaves_no_extent() {
    for op in ["create", "adopt"] {
        let node = node();
        node.fault(Fault::Fail(op, FsErrorKind::Io));
        node.run(|vfs| async move {
            let made = vfs.create(&ALICE, Ino::ROOT, &name("a"), 0o600, BOTH).await;
            assert_eq!(kind(made), FsErrorKind::Io);
            assert_eq!(kind(vfs.find("a").await), FsErrorKind::NotFound);
        });
        node.until("no extent is left", || node.extents() == 0);
        node.until_idle();
    }
}

#[test]
fn room_that_comes_a_moment_later_is_found() {
    for op in ["create", "begin_write"] {
        let node = node();
        let ino = clean_file(&node);
        node.fault(Fault::Fail(op, FsErrorKind::NoSpace));
        node.run(move |vfs| async move {
            let (_, made) = vfs.make("a").await;
            let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
            vfs.release(opened.handle).await.unwrap();
            vfs.release(made.handle).await.unwrap();
        });
        assert_eq!(node.faults_left(), 0, "{op}");
        node.until_idle();
    }
}

#[test]
fn a_refused_create_says_why_even_if_its_extent_cannot_be_freed() {
    let node = node();
    node.run(|vfs| async move {
        let (_, opened) = vfs.make("a").await;
        vfs.release(opened.handle).await.unwrap();
    });
    node.fault(Fault::Fail("discard", FsErrorKind::Io));
    node.run(|vfs| async move {
        let flags = OpenFlags { exclusive: true, ..BOTH };
        let made = vfs.create(&ALICE, Ino::ROOT, &name("a"), 0o600, flags).await;
        assert_eq!(kind(made), FsErrorKind::Exists);
    });
    node.until_idle();
}

#[test]
fn a_close_that_fails_is_made_good_later() {
    let node = node();
    let (ino, opened) = node.run(|vfs| async move { vfs.make("a").await });
    kernel_file(&opened).write_all_at(b"not lost", 0).unwrap();
    for _ in 0..3 {
        node.fault(Fault::Fail("adopt", FsErrorKind::Io));
    }
    node.run(move |vfs| async move {
        assert_eq!(kind(vfs.release(opened.handle).await), FsErrorKind::Io);
        assert_eq!(vfs.open_counts().open_now, 0, "a handle is closed whatever else fails");
    });
    node.until_idle();
    assert!(!node.is_write_open(ino));
    let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
    assert_eq!(bytes, b"not lost");
}

#[test]
fn an_unlink_whose_bytes_cannot_be_freed_yet_is_done_all_the_same() {
    let node = node();
    node.run(|vfs| async move {
        let (_, opened) = vfs.make("a").await;
        vfs.release(opened.handle).await.unwrap();
    });
    node.fault(Fault::Fail("discard", FsErrorKind::Io));
    node.run(|vfs| async move {
        vfs.unlink(&ALICE, Ino::ROOT, &name("a")).await.unwrap();
        assert_eq!(kind(vfs.find("a").await), FsErrorKind::NotFound);
    });
    node.until("the extent is gone", || node.extents() == 0);
    node.until_idle();
}

#[test]
fn a_close_whose_turn_does_not_come_is_counted_and_settled_later() {
    let node = Node::start(Setup { inode_wait_max: Duration::from_millis(50), ..Setup::default() });
    let (ino, opened) = node.run(|vfs| async move { vfs.make("a").await });
    kernel_file(&opened).write_all_at(b"x", 0).unwrap();
    node.fault(Fault::Hang("truncate", Duration::from_secs(3)));
    node.run(move |busy| async move {
        forebay_shard::spawn(async move {
            busy.setattr(&ALICE, ino, CUT).await.unwrap();
        });
    });
    node.until("the cut hangs", || node.faults_left() == 0);
    node.run(move |vfs| async move {
        assert_eq!(kind(vfs.release(opened.handle).await), FsErrorKind::TimedOut);
        assert_eq!(vfs.open_counts().open_now, 0);
    });
    node.until_idle();
    assert!(!node.is_write_open(ino));
}

#[test]
fn a_caller_that_goes_away_in_the_middle_leaves_nothing_behind() {
    let hang = Duration::from_secs(2);
    let soon = Duration::from_millis(300);
    for op in ["create", "adopt"] {
        let node = node();
        node.fault(Fault::Hang(op, hang));
        node.run(move |vfs| async move {
            let file = name("a");
            let create = vfs.create(&ALICE, Ino::ROOT, &file, 0o600, BOTH);
            assert!(forebay_shard::timeout(soon, create).await.is_err());
        });
        node.until("the file is made", || node.run(|vfs| async move { vfs.find("a").await.is_ok() }));
        node.until_idle();
        node.run(|vfs| async move {
            let attr = vfs.find("a").await.unwrap();
            assert_eq!(vfs.content(attr.ino).await.unwrap(), b"");
        });
        node.until("nothing but the file is left", || node.extents() == 1);
    }
    for op in ["begin_write", "adopt"] {
        let node = node();
        let ino = clean_file(&node);
        node.fault(Fault::Hang(op, hang));
        node.run(move |vfs| async move {
            assert!(forebay_shard::timeout(soon, vfs.open(&ALICE, ino, BOTH)).await.is_err());
        });
        std::thread::sleep(hang);
        assert_untouched(&node, ino);
    }
    let node = node();
    let (ino, opened) = node.run(|vfs| async move { vfs.make("a").await });
    node.fault(Fault::Hang("adopt", hang));
    node.run(move |vfs| async move {
        assert!(forebay_shard::timeout(soon, vfs.release(opened.handle)).await.is_err());
    });
    node.until_idle();
    assert!(!node.is_write_open(ino));
}

#[test]
fn a_handle_closed_under_a_write_ends_with_the_write() {
    let node = Node::start(Setup { passthrough: false, ..Setup::default() });
    let (ino, opened) = node.run(|vfs| async move { vfs.make("a").await });
    node.fault(Fault::Hang("write", Duration::from_secs(2)));
    node.run(move |writer| async move {
        forebay_shard::spawn(async move {
            writer.put(opened.handle, 0, b"late").await.unwrap();
        });
    });
    node.until("the write hangs", || node.faults_left() == 0);
    node.run(move |vfs| async move {
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.open_counts().open_now, 1, "its write is still under way");
    });
    node.until_idle();
    assert!(!node.is_write_open(ino));
    let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
    assert_eq!(bytes, b"late");
}

#[test]
fn a_full_tier_refuses_and_recovers() {
    let quota = ByteSize::mib(4);
    let node = Node::start(Setup { passthrough: false, quota, ..Setup::default() });
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("big").await;
        let piece = vec![1; 1 << 20];
        let mut at = 0;
        let refused = loop {
            match vfs.put(opened.handle, at, &piece).await {
                Ok(n) => at += n as u64,
                Err(error) => break error,
            }
            assert!(at <= 8 << 20, "the quota does not hold");
        };
        assert_eq!(refused.kind(), FsErrorKind::NoSpace);
        for round in 0..20 {
            let file = name(&format!("f{round}"));
            if let Ok((_, opened)) = vfs.create(&ALICE, Ino::ROOT, &file, 0o600, BOTH).await {
                let _ = vfs.put(opened.handle, 0, &piece).await;
                vfs.release(opened.handle).await.unwrap();
            }
        }
        vfs.release(opened.handle).await.unwrap();
        ino
    });
    node.until_idle();
    assert!(!node.is_write_open(ino));
    node.run(|vfs| async move {
        vfs.unlink(&ALICE, Ino::ROOT, &name("big")).await.unwrap();
        let (_, opened) = vfs.make("again").await;
        vfs.put(opened.handle, 0, &[2; 1 << 20]).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
    });
    node.until_idle();
}
