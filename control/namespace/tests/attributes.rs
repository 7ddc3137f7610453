//! Whose attributes show: ours until the UFS has them, then what others make of them there.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::{carry, carry_all};
use common::{ROOT_CALLER, World, block_on, name};
use forebay_types::{Attr, FileKind, Ino, PersistLog, PersistWork, SetAttr, SetTime, TimeSpec};
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

/// A time that no clock shows.
const LONG_AGO: TimeSpec = TimeSpec { secs: 1_076_462_868, nanos: 5 };

async fn set_mtime(world: &World, ino: Ino, mtime: TimeSpec) {
    let change = SetAttr { mtime: Some(SetTime::To(mtime)), ..SetAttr::default() };
    world.names().set_attr(&ROOT_CALLER, ino, change).await.unwrap();
}

/// What shows once all that was believed of the UFS has to be asked again.
async fn fresh(world: &World, path: &str) -> Attr {
    world.expire();
    world.walk(path).await.unwrap().attr
}

fn mtime_in_ufs(world: &World, path: &str) -> TimeSpec {
    let meta = std::fs::symlink_metadata(world.ufs_path(path)).unwrap();
    TimeSpec { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 }
}

/// A directory `d` with a file in it, both in the UFS.
async fn carried_dir(world: &World) -> Ino {
    let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
    world.make(dir, "first", FileKind::Regular).await.unwrap();
    world.expire();
    carry_all(world).await.unwrap();
    dir
}

#[test]
fn the_time_of_a_directory_stays_when_what_is_in_it_is_carried() {
    let mut world = World::new();
    block_on(async {
        let dir = carried_dir(&world).await;
        world.make(dir, "second", FileKind::Regular).await.unwrap();
        set_mtime(&world, dir, LONG_AGO).await;
        world.expire();
        // Step by step, looking in between: what the UFS has of the directory is of our own making all the time.
        while world.names().dirty_stats().names > 0 {
            let task = world.names().next().await;
            assert_eq!(fresh(&world, "d").await.mtime, LONG_AGO, "before {task:?}");
            let outcome = carry(&world.ufs, &task);
            assert_eq!(fresh(&world, "d").await.mtime, LONG_AGO, "after {task:?}");
            world.names().finish(&task, outcome).await.unwrap();
            assert_eq!(fresh(&world, "d").await.mtime, LONG_AGO, "once recorded: {task:?}");
        }
        assert_eq!(mtime_in_ufs(&world, "d"), LONG_AGO);
        // An overwritten file does not change its directory here, and does so in the UFS.
        let file = world.walk("d/second").await.unwrap().attr.ino;
        let longer = SetAttr { size: Some(3), ..SetAttr::default() };
        world.names().set_attr(&ROOT_CALLER, file, longer).await.unwrap();
        world.expire();
        carry_all(&world).await.unwrap();
        assert_eq!((fresh(&world, "d").await.mtime, mtime_in_ufs(&world, "d")), (LONG_AGO, LONG_AGO));
    });
    world.crash();
    block_on(async { assert_eq!(fresh(&world, "d").await.mtime, LONG_AGO) });
}

#[test]
fn the_time_of_a_directory_is_set_after_all_that_is_in_it() {
    let world = World::new();
    block_on(async {
        let dir = carried_dir(&world).await;
        let made_at = fresh(&world, "d").await.mtime;
        for called in ["a", "b"] {
            world.make(dir, called, FileKind::Regular).await.unwrap();
        }
        let last = world.walk("d").await.unwrap().attr.mtime;
        assert_ne!(last, made_at);
        world.expire();
        let mut done = Vec::new();
        while world.names().dirty_stats().names > 0 {
            let task = world.names().next().await;
            done.push(matches!(task.work, PersistWork::SetAttr { .. }));
            world.names().finish(&task, carry(&world.ufs, &task)).await.unwrap();
        }
        assert_eq!(done, [false, false, true]);
        assert_eq!(mtime_in_ufs(&world, "d"), last);
    });
}

#[test]
fn nobody_waits_for_a_directory_that_never_comes_to_rest() {
    let world = World::new();
    block_on(async {
        let dir = carried_dir(&world).await;
        world.make(dir, "a", FileKind::Regular).await.unwrap();
        let worker = async {
            for n in 0.. {
                world.make(dir, &format!("later-{n}"), FileKind::Regular).await.unwrap();
                world.expire();
                let task = world.names().next().await;
                world.names().finish(&task, carry(&world.ufs, &task)).await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(120), world.names().persist_barrier(None));
        tokio::select! {
            () = worker => unreachable!("it works for ever"),
            report = waited => assert!(report.expect("the barrier ends").unwrap().failed.is_empty()),
        }
    });
}

#[test]
fn the_barrier_leaves_directories_with_their_own_times() {
    let world = World::new();
    block_on(async {
        let dir = carried_dir(&world).await;
        let file = world.walk("d/first").await.unwrap().attr.ino;
        let longer = SetAttr { size: Some(3), ..SetAttr::default() };
        world.names().set_attr(&ROOT_CALLER, file, longer).await.unwrap();
        let worker = async {
            loop {
                let task = world.names().next().await;
                world.names().finish(&task, carry(&world.ufs, &task)).await.unwrap();
            }
        };
        tokio::select! {
            () = worker => unreachable!("it works for ever"),
            report = world.names().persist_barrier(Some(dir)) => assert!(report.unwrap().failed.is_empty()),
        }
        assert_eq!(world.names().dirty_stats().names, 0);
        assert_eq!(mtime_in_ufs(&world, "d"), fresh(&world, "d").await.mtime);
    });
}

#[test]
fn what_others_do_to_a_directory_shows() {
    let world = World::new();
    block_on(async {
        let dir = carried_dir(&world).await;
        world.make(dir, "ours", FileKind::Directory).await.unwrap();
        world.expire();
        carry_all(&world).await.unwrap();
        assert_eq!(fresh(&world, "d").await.nlink, 3);
        std::fs::create_dir(world.ufs_path("d/theirs")).unwrap();
        let set = SystemTime::UNIX_EPOCH + Duration::new(LONG_AGO.secs as u64, LONG_AGO.nanos);
        File::open(world.ufs_path("d")).unwrap().set_modified(set).unwrap();
        std::fs::set_permissions(world.ufs_path("d"), Permissions::from_mode(0o700)).unwrap();
        let seen = fresh(&world, "d").await;
        assert_eq!((seen.ino, seen.nlink, seen.mtime, seen.mode), (dir, 4, LONG_AGO, 0o700));
        world.names().rmdir(&ROOT_CALLER, dir, &name("theirs")).await.unwrap();
        assert_eq!(world.walk("d").await.unwrap().attr.nlink, 3);
        // One of which only we know counts beside those of the UFS.
        world.make(dir, "waits", FileKind::Directory).await.unwrap();
        assert_eq!(fresh(&world, "d").await.nlink, 4);
        world.expire();
        carry_all(&world).await.unwrap();
        assert_eq!(fresh(&world, "d").await.nlink, 4);
        std::fs::remove_dir(world.ufs_path("d/ours")).unwrap();
        assert_eq!(fresh(&world, "d").await.nlink, 3);
    });
}

#[test]
fn a_directory_that_was_never_changed_here_has_the_links_of_the_ufs() {
    let world = World::new();
    world.put_ufs("d/a/x", b"1");
    world.put_ufs("d/b/x", b"1");
    block_on(async {
        assert_eq!(world.walk("d").await.unwrap().attr.nlink, 4);
        std::fs::create_dir(world.ufs_path("d/c")).unwrap();
        assert_eq!(fresh(&world, "d").await.nlink, 5);
    });
}

#[test]
fn what_others_do_to_the_mode_of_a_carried_file_shows() {
    let world = World::new();
    block_on(async {
        let dir = carried_dir(&world).await;
        let ino = world.walk("d/first").await.unwrap().attr.ino;
        let at = world.ufs_path("d/first");
        let chmod = |mode| std::fs::set_permissions(&at, Permissions::from_mode(mode)).unwrap();
        chmod(0o600);
        let seen = fresh(&world, "d/first").await;
        assert_eq!((seen.ino, seen.mode), (ino, 0o600));
        // What is ours and not carried yet counts for more, and is what the UFS gets.
        let change = SetAttr { mode: Some(0o640), ..SetAttr::default() };
        world.names().set_attr(&ROOT_CALLER, ino, change).await.unwrap();
        chmod(0o666);
        assert_eq!(fresh(&world, "d/first").await.mode, 0o640);
        carry_all(&world).await.unwrap();
        assert_eq!(std::fs::metadata(&at).unwrap().mode() & 0o7777, 0o640);
        chmod(0o604);
        assert_eq!(fresh(&world, "d/first").await.mode, 0o604);
        // A further name of it tells the same.
        world.names().link(&ROOT_CALLER, ino, dir, &name("second")).await.unwrap();
        world.expire();
        carry_all(&world).await.unwrap();
        chmod(0o611);
        assert_eq!(fresh(&world, "d/second").await.mode, 0o611);
        assert_eq!(fresh(&world, "d/first").await.mode, 0o611);
    });
}

#[test]
fn what_the_ufs_cannot_hold_is_nobody_elses_doing() {
    let world = World::new();
    block_on(async {
        carried_dir(&world).await;
        let ino = world.walk("d/first").await.unwrap().attr.ino;
        // The carrier of these tests sets no owners, as a store does that holds none, or not for us.
        let change = SetAttr { uid: Some(1234), gid: Some(5678), ..SetAttr::default() };
        world.names().set_attr(&ROOT_CALLER, ino, change).await.unwrap();
        world.expire();
        carry_all(&world).await.unwrap();
        let seen = fresh(&world, "d/first").await;
        assert_eq!((seen.uid, seen.gid), (1234, 5678));
        assert_ne!(std::fs::metadata(world.ufs_path("d/first")).unwrap().uid(), 1234);
    });
}
