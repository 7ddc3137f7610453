//! Names and the bytes behind them: creation, removal while open, what may not be changed.

use crate::support::*;
use forebay_namespace::{MountSpec, PolicyChange};
use forebay_types::{FileKind, FsErrorKind, Ino, SetAttr};
use forebay_vfs::{NewNode, OpenFlags, RenameFlags, XattrSetMode};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

#[test]
fn the_bytes_of_an_unlinked_file_live_until_its_last_handle_is_closed() {
    let node = node();
    let (ino, one, two) = node.run(|vfs| async move {
        let (ino, one) = vfs.make("a").await;
        kernel_file(&one).write_all_at(b"still here", 0).unwrap();
        let two = vfs.open(&ALICE, ino, READ).await.unwrap();
        vfs.unlink(&ALICE, Ino::ROOT, &name("a")).await.unwrap();
        assert_eq!(kind(vfs.find("a").await), FsErrorKind::NotFound);
        assert_eq!(vfs.getattr(ino).await.unwrap().attr.nlink, 0);
        vfs.release(one.handle).await.unwrap();
        assert_eq!(vfs.get(two.handle).await.unwrap(), b"still here");
        (ino, one, two)
    });
    assert_eq!(node.extents(), 1);
    node.run(move |vfs| async move {
        drop(one);
        vfs.release(two.handle).await.unwrap();
        assert_eq!(kind(vfs.open(&ALICE, ino, READ).await), FsErrorKind::Stale);
    });
    node.until("the extent is gone", || node.extents() == 0);
    node.until_idle();
}

#[test]
fn what_is_known_is_told_at_once_and_what_is_open_is_asked_about() {
    let node = node();
    node.put("theirs", b"x");
    node.run(|vfs| async move {
        let (theirs, absent) = (name("theirs"), name("absent"));
        assert!(vfs.lookup_now(Ino::ROOT, &theirs).is_none() && vfs.lookup_now(Ino::ROOT, &absent).is_none());
        assert_eq!(kind(vfs.find("absent").await), FsErrorKind::NotFound);
        let entry = vfs.lookup(Ino::ROOT, &theirs).await.unwrap();
        assert_eq!(vfs.lookup_now(Ino::ROOT, &theirs).unwrap().unwrap(), entry);
        assert_eq!(kind(vfs.lookup_now(Ino::ROOT, &absent).unwrap()), FsErrorKind::NotFound);
        assert_eq!(vfs.getattr_now(entry.attr.ino).unwrap().attr, entry.attr);
        let reader = vfs.open(&ALICE, entry.attr.ino, READ).await.unwrap();
        assert_eq!(vfs.lookup_now(Ino::ROOT, &theirs).unwrap().unwrap(), entry, "who reads changes nothing");
        vfs.release(reader.handle).await.unwrap();
        let (ours, opened) = vfs.make("ours").await;
        assert!(vfs.getattr_now(ours).is_none() && vfs.lookup_now(Ino::ROOT, &name("ours")).is_none());
        kernel_file(&opened).write_all_at(b"ours", 0).unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.getattr_now(ours).unwrap().attr.size, 4);
    });
}

#[test]
fn what_is_here_and_in_memory_is_read_at_once() {
    let node = node();
    node.put("theirs", &[7; 100_000]);
    node.run(|vfs| async move {
        let ino = vfs.ino("theirs").await;
        let opened = vfs.open(&ALICE, ino, READ).await.unwrap();
        let frame = || async { forebay_shard::arena().frame(4096).await.unwrap() };
        assert!(vfs.read_now(opened.handle, 0, frame().await).is_err(), "nobody has fetched it");
        assert_eq!(vfs.get(opened.handle).await.unwrap().len(), 100_000);
        assert_eq!(vfs.read_now(opened.handle, 98_304, frame().await).unwrap()[..], [7; 100_000 - 98_304]);
        assert!(vfs.read_now(opened.handle, 100_000, frame().await).is_err(), "the end");
        vfs.release(opened.handle).await.unwrap();
        assert!(vfs.read_now(opened.handle, 0, frame().await).is_err(), "it is closed");
    });
}

#[test]
fn a_file_that_was_replaced_while_open_lives_on_for_those_who_have_it() {
    let node = node();
    node.run(|vfs| async move {
        let (_, old) = vfs.make("a").await;
        let (_, new) = vfs.make("b").await;
        kernel_file(&old).write_all_at(b"old", 0).unwrap();
        kernel_file(&new).write_all_at(b"new", 0).unwrap();
        let (from, to) = (name("b"), name("a"));
        vfs.rename(&ALICE, (Ino::ROOT, &from), (Ino::ROOT, &to), RenameFlags::Replace).await.unwrap();
        kernel_file(&old).write_all_at(b"er", 3).unwrap();
        assert_eq!(vfs.get(old.handle).await.unwrap(), b"older");
        assert_eq!(vfs.content(vfs.ino("a").await).await.unwrap(), b"new");
        vfs.release(old.handle).await.unwrap();
        vfs.release(new.handle).await.unwrap();
    });
    node.until("the old extent is gone", || node.extents() == 1);
    node.until_idle();
}

#[test]
fn a_file_with_another_name_keeps_its_bytes() {
    let node = node();
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        kernel_file(&opened).write_all_at(b"x", 0).unwrap();
        vfs.link(&ALICE, ino, Ino::ROOT, &name("b")).await.unwrap();
        vfs.unlink(&ALICE, Ino::ROOT, &name("a")).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), b"x");
        vfs.unlink(&ALICE, Ino::ROOT, &name("b")).await.unwrap();
    });
    node.until("the extent is gone", || node.extents() == 0);
}

#[test]
fn one_of_many_makes_a_file_and_the_others_open_it() {
    let node = node();
    for round in 0..40 {
        let makers = (0..4).map(|maker| {
            let (vfs, shard) = (Arc::clone(&node.vfs), node.shard(maker));
            let exclusive = maker < 2;
            std::thread::spawn(move || {
                let made = shard.block_on(move || async move {
                    let flags = OpenFlags { exclusive, ..BOTH };
                    let file = name(&format!("f{round}"));
                    let made = vfs.create(&ALICE, Ino::ROOT, &file, 0o600, flags).await;
                    if let Ok((_, opened)) = &made {
                        kernel_file(opened).write_all_at(&[maker as u8 + 1], maker as u64).unwrap();
                        vfs.release(opened.handle).await.unwrap();
                    }
                    made.map(|(entry, _)| entry.attr.ino)
                });
                made.unwrap()
            })
        });
        let makers: Vec<_> = makers.collect();
        let made: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
        let inos: Vec<Ino> = made.iter().filter_map(|made| made.as_ref().ok().copied()).collect();
        assert!(inos.iter().all(|ino| *ino == inos[0]), "{made:?}");
        assert!(made[2].is_ok() && made[3].is_ok(), "who does not insist opens what is there: {made:?}");
        for refused in made.iter().filter_map(|made| made.as_ref().err()) {
            assert_eq!(refused.kind(), FsErrorKind::Exists);
        }
        let (ino, expected) = (inos[0], made.iter().map(Result::is_ok).collect::<Vec<_>>());
        let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
        for (maker, wrote) in expected.iter().enumerate() {
            let byte = bytes.get(maker).copied().unwrap_or(0);
            assert_eq!(byte, if *wrote { maker as u8 + 1 } else { 0 }, "round {round}: {bytes:?}");
        }
        assert!(!node.is_write_open(ino));
    }
    node.until_idle();
    node.until("no extent is left of those who were refused", || node.extents() == 40);
}

#[test]
fn a_node_is_made_empty_and_closed() {
    let node = node();
    let ino = node.run(|vfs| async move {
        let file = NewNode { kind: FileKind::Regular, mode: 0o640, rdev: 0 };
        let entry = vfs.mknod(&ALICE, Ino::ROOT, &name("a"), file).await.unwrap();
        assert_eq!(kind(vfs.mknod(&ALICE, Ino::ROOT, &name("a"), file).await), FsErrorKind::Exists);
        assert_eq!(vfs.content(entry.attr.ino).await.unwrap(), b"");
        entry.attr.ino
    });
    assert!(!node.is_write_open(ino));
    node.until_idle();
    node.until("the refused one's extent is gone", || node.extents() == 1);
}

#[test]
fn reserved_attributes_show_and_cannot_be_set() {
    let node = node();
    node.put("a", b"x");
    node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        let set = async |key: &[u8], value: &[u8]| vfs.setxattr(ino, key, value, XattrSetMode::Any).await;
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
        assert_eq!(kind(set(b"user.forebay.state", b"x").await), FsErrorKind::NotPermitted);
        assert_eq!(kind(set(b"user.forebay.new", b"x").await), FsErrorKind::NotPermitted);
        assert_eq!(kind(vfs.removexattr(ino, b"user.forebay.state").await), FsErrorKind::NotPermitted);
        assert_eq!(kind(vfs.getxattr(ino, b"user.forebay.new").await), FsErrorKind::NoAttribute);
        assert_eq!(kind(set(b"", b"x").await), FsErrorKind::OutOfRange);
        assert_eq!(kind(set(&[b'u'; 256], b"x").await), FsErrorKind::OutOfRange);
        assert_eq!(kind(set(b"user.big", &vec![0; (64 << 10) + 1]).await), FsErrorKind::FileTooLarge);
        set(b"user.forebayish", b"v").await.unwrap();
        assert_eq!(&*vfs.getxattr(ino, b"user.forebayish").await.unwrap(), b"v");
        assert_eq!(vfs.listxattr(ino).await.unwrap(), [Box::from(&b"user.forebayish"[..])]);
        vfs.removexattr(ino, b"user.forebayish").await.unwrap();
        assert_eq!(kind(vfs.removexattr(ino, b"user.forebayish").await), FsErrorKind::NoAttribute);
    });
}

/// Tries every change on `file` and `dir` in `parent`, and says which were let through.
async fn changes_let_through(
    vfs: &forebay_vfs::Vfs,
    parent: Ino,
    file: &str,
    dir: &str,
) -> Vec<&'static str> {
    let (file, dir, new) = (name(file), name(dir), name(&format!("new{}", unique())));
    let ino = vfs.lookup(parent, &file).await.unwrap().attr.ino;
    let dir_ino = vfs.lookup(parent, &dir).await.unwrap().attr.ino;
    let fifo = NewNode { kind: FileKind::Fifo, mode: 0o600, rdev: 0 };
    let regular = NewNode { kind: FileKind::Regular, ..fifo };
    let chmod = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let cut = SetAttr { size: Some(0), ..SetAttr::default() };
    let tried = [
        ("create", vfs.create(&ALICE, parent, &new, 0o600, BOTH).await.map(drop)),
        ("mknod", vfs.mknod(&ALICE, parent, &new, regular).await.map(drop)),
        ("mkfifo", vfs.mknod(&ALICE, parent, &new, fifo).await.map(drop)),
        ("mkdir", vfs.mkdir(&ALICE, parent, &new, 0o700).await.map(drop)),
        ("symlink", vfs.symlink(&ALICE, parent, &new, b"t").await.map(drop)),
        ("link", vfs.link(&ALICE, ino, parent, &new).await.map(drop)),
        ("chmod", vfs.setattr(&ALICE, ino, chmod).await.map(drop)),
        ("cut", vfs.setattr(&ALICE, ino, cut).await.map(drop)),
        ("chmod dir", vfs.setattr(&ALICE, dir_ino, chmod).await.map(drop)),
        ("write", vfs.open(&ALICE, ino, BOTH).await.map(drop)),
        ("setxattr", vfs.setxattr(ino, b"user.x", b"y", XattrSetMode::Any).await),
        ("removexattr", vfs.removexattr(ino, b"user.x").await),
        ("rename", vfs.rename(&ALICE, (parent, &file), (parent, &new), RenameFlags::Replace).await),
        ("unlink", vfs.unlink(&ALICE, parent, &file).await),
        ("rmdir", vfs.rmdir(&ALICE, parent, &dir).await),
    ];
    let read_only = |result: &Result<(), forebay_types::FsError>| {
        result.as_ref().is_err_and(|error| error.kind() == FsErrorKind::ReadOnly)
    };
    tried.iter().filter(|(_, result)| !read_only(result)).map(|(what, _)| *what).collect()
}

#[test]
fn nothing_is_changed_on_a_read_only_mount() {
    let mut root = MountSpec::new("/", "file:///under");
    root.policy.read_only = true;
    let node = Node::start(Setup { root, ..Setup::default() });
    node.put("a", b"x");
    std::fs::create_dir(node.under().join("d")).unwrap();
    node.run(|vfs| async move {
        assert_eq!(changes_let_through(&vfs, Ino::ROOT, "a", "d").await, Vec::<&str>::new());
        assert_eq!(vfs.content(vfs.ino("a").await).await.unwrap(), b"x");
    });
    node.until_idle();
    assert!(!node.take_seen().contains(&"begin_write"), "a refusal touches no extent");
}

#[test]
fn nothing_is_changed_below_a_read_only_prefix_nor_is_its_top_taken_away() {
    let mut root = MountSpec::new("/", "file:///under");
    let frozen = PolicyChange { read_only: Some(true), ..PolicyChange::default() };
    root.prefixes.insert("frozen".into(), frozen);
    let node = Node::start(Setup { root, ..Setup::default() });
    std::fs::create_dir_all(node.under().join("frozen/d")).unwrap();
    node.put("frozen/a", b"x");
    node.put("free", b"y");
    node.run(|vfs| async move {
        let frozen = vfs.ino("frozen").await;
        assert_eq!(changes_let_through(&vfs, frozen, "a", "d").await, Vec::<&str>::new());
        let (top, to, free) = (name("frozen"), name("thawed"), name("free"));
        let root = Ino::ROOT;
        let moved = vfs.rename(&ALICE, (root, &top), (root, &to), RenameFlags::Replace).await;
        assert_eq!(kind(moved), FsErrorKind::ReadOnly);
        let into = vfs.rename(&ALICE, (root, &free), (frozen, &free), RenameFlags::Replace).await;
        assert_eq!(kind(into), FsErrorKind::ReadOnly);
        vfs.rename(&ALICE, (root, &free), (root, &to), RenameFlags::Replace).await.unwrap();
        vfs.unlink(&ALICE, root, &to).await.unwrap();
    });
    node.until_idle();
}
