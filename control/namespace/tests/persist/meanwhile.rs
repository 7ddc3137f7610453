//! What changes before it is carried or while it is: here by new writes and names, in the UFS by others.

use crate::common::carrier::{carry, carry_all};
use crate::common::{ROOT_CALLER, World, block_on, name, refused};
use crate::{due, next, put_key, write};
use forebay_namespace::{FileState, RenameMode};
use forebay_types::{
    ExtentId, FileKind, FileTimes, FsErrorKind, Ino, PersistLog, PersistOutcome, PersistWork, Settled,
};
use futures_util::FutureExt;
use std::pin::pin;
use std::time::Duration;

#[test]
fn a_file_that_changes_while_it_is_carried_stays_dirty() {
    let world = World::new();
    block_on(async {
        let ino = write(&world, Ino::ROOT, "f", 5).await;
        world.expire();
        let put = due(&world).await;
        write(&world, Ino::ROOT, "f", 6).await;
        let settled = world.names().finish(&put, carry(&world.ufs, &put)).await.unwrap();
        assert_eq!(
            (settled, world.names().state(ino).await.unwrap()),
            (Settled::StillDirty, FileState::Dirty)
        );
        assert!(world.names().content(ino).await.unwrap().extent.is_some());
        // One that is open again when the outcome comes is not clean either.
        let again = due(&world).await;
        world.names().write_opened(ino, Some(ExtentId(ino.0)), None).await.unwrap();
        let settled = world.names().finish(&again, carry(&world.ufs, &again)).await.unwrap();
        assert_eq!(settled, Settled::StillDirty);
        assert_eq!(next(&world).await, None);
        world.names().write_closed(ino, FileTimes { len: 8, ..FileTimes::default() }, true).await.unwrap();
        carry_all(&world).await.unwrap();
        assert_eq!(world.names().state(ino).await.unwrap(), FileState::Clean);
        assert_eq!(std::fs::metadata(world.ufs_path("f")).unwrap().len(), 8);
    });
}

#[test]
fn a_file_that_is_closed_while_it_is_found_open_is_carried() {
    let world = World::new();
    block_on(async {
        let ino = world.make(Ino::ROOT, "f", FileKind::Regular).await.unwrap();
        world.names().write_opened(ino, Some(ExtentId(ino.0)), None).await.unwrap();
        world.expire();
        let mut taken = pin!(world.names().next());
        // The home finds the file open before it sees the close. What it found is heard at once, or after the close; where
        // it is heard at once, the close begins the delay anew.
        assert!(taken.as_mut().now_or_never().is_none());
        world.names().write_closed(ino, FileTimes { len: 5, ..FileTimes::default() }, true).await.unwrap();
        world.expire();
        let put = tokio::time::timeout(Duration::from_secs(60), taken).await.expect("it is handed out");
        assert_eq!((put_key(&put), put.ino), ("f".into(), ino));
    });
}

#[test]
fn a_name_that_was_moved_away_is_free_while_that_is_being_recorded() {
    let world = World::new();
    block_on(async {
        for kind in [FileKind::Regular, FileKind::Directory] {
            let (from, to) = (format!("{kind:?}-a"), format!("{kind:?}-b"));
            let ino = match kind {
                FileKind::Regular => write(&world, Ino::ROOT, &from, 3).await,
                _ => world.make(Ino::ROOT, &from, kind).await.unwrap(),
            };
            carry_all(&world).await.unwrap();
            world.rename((Ino::ROOT, &from), (Ino::ROOT, &to), RenameMode::Replace).await.unwrap();
            world.expire();
            let task = due(&world).await;
            assert!(matches!(task.work, PersistWork::Move { .. }), "{task:?}");
            let outcome = carry(&world.ufs, &task);
            let mut finishing = pin!(world.names().finish(&task, outcome));
            // The outcome is recorded, and not yet on disk: the task is still out.
            let finished = finishing.as_mut().now_or_never();
            let there = world.names().lookup(Ino::ROOT, &name(&from)).await;
            assert_eq!(there.unwrap_err().kind(), FsErrorKind::NotFound);
            if finished.is_none() {
                finishing.await.unwrap();
            }
            world.rename((Ino::ROOT, &to), (Ino::ROOT, &from), RenameMode::Replace).await.unwrap();
            carry_all(&world).await.unwrap();
            assert_eq!(world.names().lookup(Ino::ROOT, &name(&from)).await.unwrap().attr.ino, ino);
            assert!(world.ufs_path(&from).exists() && !world.ufs_path(&to).exists());
        }
    });
}

#[test]
fn a_name_that_changes_while_it_is_carried_is_carried_on() {
    let world = World::new();
    block_on(async {
        let ino = write(&world, Ino::ROOT, "f", 5).await;
        world.expire();
        let put = due(&world).await;
        world.rename((Ino::ROOT, "f"), (Ino::ROOT, "g"), RenameMode::Replace).await.unwrap();
        write(&world, Ino::ROOT, "f", 3).await;
        world.names().finish(&put, carry(&world.ufs, &put)).await.unwrap();
        carry_all(&world).await.unwrap();
        assert_eq!(world.names().dirty_stats().names, 0);
        assert_eq!(std::fs::metadata(world.ufs_path("g")).unwrap().len(), 5);
        assert_eq!(std::fs::metadata(world.ufs_path("f")).unwrap().len(), 3);
        assert_eq!(world.walk("g").await.unwrap().attr.ino, ino);
        // Deleted while it is carried: what was put goes again.
        write(&world, Ino::ROOT, "h", 5).await;
        world.expire();
        let put = due(&world).await;
        let gone = world.names().unlink(&ROOT_CALLER, Ino::ROOT, &name("h")).await.unwrap();
        world.names().release_orphan(gone.ino).await.unwrap();
        world.names().finish(&put, carry(&world.ufs, &put)).await.unwrap();
        assert!(world.ufs_path("h").exists());
        assert_eq!(refused(world.walk("h").await), FsErrorKind::NotFound);
        carry_all(&world).await.unwrap();
        assert!(!world.ufs_path("h").exists());
    });
}

#[test]
fn theirs_keeps_the_name_in_a_conflict() {
    let world = World::new();
    world.put_ufs("f", b"base");
    block_on(async {
        let ino = write(&world, Ino::ROOT, "f", 5).await;
        world.put_ufs("f", b"theirs, longer");
        world.expire();
        let put = due(&world).await;
        // The worker puts ours beside theirs and says where.
        world.put_ufs("f.conflict-a", b"12345");
        let beside = forebay_types::UfsKey::new(*b"f.conflict-a").unwrap();
        let outcome = PersistOutcome::Conflict(Some(beside));
        assert_eq!(world.names().finish(&put, outcome).await.unwrap(), Settled::StillDirty);
        let theirs = world.walk("f").await.unwrap();
        assert_eq!((theirs.attr.size, theirs.attr.ino != ino), (14, true));
        assert_eq!(world.walk("f.conflict-a").await.unwrap().attr.ino, ino);
        carry_all(&world).await.unwrap();
        assert_eq!(world.names().dirty_stats().names, 0);
        assert_eq!(world.list(Ino::ROOT).await.unwrap(), ["f", "f.conflict-a"]);
        assert_eq!(std::fs::metadata(world.ufs_path("f")).unwrap().len(), 14);
    });
}

#[test]
fn what_others_put_where_we_removed_stays() {
    let world = World::new();
    world.put_ufs("f", b"1");
    block_on(async {
        world.walk("f").await.unwrap();
        let gone = world.names().unlink(&ROOT_CALLER, Ino::ROOT, &name("f")).await.unwrap();
        world.names().release_orphan(gone.ino).await.unwrap();
        world.put_ufs("f", b"another");
        assert_eq!(refused(world.walk("f").await), FsErrorKind::NotFound);
        world.expire();
        carry_all(&world).await.unwrap();
        assert_eq!(world.walk("f").await.unwrap().attr.size, 7);
    });
}

#[test]
fn what_others_delete_before_it_is_moved_is_gone() {
    let world = World::new();
    world.put_ufs("f", b"1");
    world.put_ufs("d/x", b"2");
    block_on(async {
        for (from, to) in [("f", "g"), ("d", "e")] {
            world.rename((Ino::ROOT, from), (Ino::ROOT, to), RenameMode::Replace).await.unwrap();
        }
        std::fs::remove_file(world.ufs_path("f")).unwrap();
        std::fs::remove_dir_all(world.ufs_path("d")).unwrap();
        world.expire();
        carry_all(&world).await.unwrap();
        assert_eq!(world.names().dirty_stats().names, 0);
        // A directory may have got names here meanwhile; it stays, with nothing in it.
        assert_eq!(world.list(Ino::ROOT).await.unwrap(), ["e"]);
        assert_eq!(refused(world.walk("g").await), FsErrorKind::NotFound);
        let left: Vec<_> = std::fs::read_dir(world.ufs_dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
    });
}
