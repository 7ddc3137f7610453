//! What is carried, in which order, and what becomes of it when the UFS does not play along.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::{carry, carry_all};
use common::{ROOT_CALLER, World, block_on, name, refused};
use forebay_namespace::{FileState, NewInode, RenameMode};
use forebay_types::{
    ExtentId, FileKind, FileTimes, FsErrorKind, Ino, PersistLog, PersistOutcome, PersistTask, PersistWork,
    SetAttr, Settled,
};
use futures_util::FutureExt;
use std::pin::pin;
use std::time::Duration;

/// A file that was made, written and closed.
async fn write(world: &World, dir: Ino, called: &str, len: u64) -> Ino {
    let ino = match world.names().lookup(dir, &name(called)).await {
        Ok(entry) => entry.attr.ino,
        Err(_) => world.make(dir, called, FileKind::Regular).await.unwrap(),
    };
    world.names().write_opened(ino, Some(ExtentId(ino.0)), None).await.unwrap();
    let times = FileTimes { len, ..FileTimes::default() };
    world.names().write_closed(ino, times, true).await.unwrap();
    ino
}

/// The next task, if one comes soon.
async fn next(world: &World) -> Option<PersistTask> {
    tokio::time::timeout(Duration::from_millis(500), world.names().next()).await.ok()
}

/// The task that is due, however slow the machine.
async fn due(world: &World) -> PersistTask {
    tokio::time::timeout(Duration::from_secs(60), world.names().next()).await.unwrap()
}

fn put_key(task: &PersistTask) -> String {
    match &task.work {
        PersistWork::Put { to, .. } => to.to_string(),
        other => panic!("{other:?} is no put"),
    }
}

#[test]
fn a_file_waits_for_its_delay_and_its_directory() {
    let world = World::new();
    block_on(async {
        let dir = world.make(Ino::ROOT, "dir", FileKind::Directory).await.unwrap();
        let ino = write(&world, dir, "f", 7).await;
        assert_eq!(next(&world).await, None);
        world.expire();
        let made = due(&world).await;
        assert!(matches!(&made.work, PersistWork::MakeDir { key, .. } if key.to_string() == "dir"));
        assert_eq!(next(&world).await, None);
        world.names().finish(&made, carry(&world.ufs, &made)).await.unwrap();
        let put = due(&world).await;
        assert_eq!(put_key(&put), "dir/f");
        assert_eq!(world.names().state(ino).await.unwrap(), FileState::Dirty);
        let settled = world.names().finish(&put, carry(&world.ufs, &put)).await.unwrap();
        assert_eq!((settled, world.names().state(ino).await.unwrap()), (Settled::Clean, FileState::Clean));
        let content = world.names().content(ino).await.unwrap();
        assert_eq!((content.extent, content.ufs.unwrap().0.to_string()), (None, "dir/f".into()));
        assert_eq!(world.walk("dir/f").await.unwrap().attr.ino, ino);
        let last = due(&world).await;
        assert!(matches!(&last.work, PersistWork::SetAttr { key, .. } if key.to_string() == "dir"));
        world.names().finish(&last, carry(&world.ufs, &last)).await.unwrap();
        assert_eq!(world.names().dirty_stats().names, 0);
    });
}

#[test]
fn writing_to_a_name_of_its_own_and_renaming_costs_one_upload() {
    let world = World::new();
    world.put_ufs("latest", b"old");
    block_on(async {
        let ino = write(&world, Ino::ROOT, "latest.tmp", 9).await;
        let renamed =
            world.rename((Ino::ROOT, "latest.tmp"), (Ino::ROOT, "latest"), RenameMode::Replace).await;
        let replaced = renamed.unwrap().unwrap();
        world.expire();
        // Somebody may still read what was replaced; for a while that has precedence.
        world.names().release_orphan(replaced.ino).await.unwrap();
        let put = due(&world).await;
        assert_eq!((put_key(&put), put.ino), ("latest".into(), ino));
        assert!(matches!(&put.work, PersistWork::Put { expect: Some(_), .. }));
        world.names().finish(&put, carry(&world.ufs, &put)).await.unwrap();
        assert_eq!((next(&world).await, world.names().dirty_stats().names), (None, 0));
        assert_eq!(std::fs::read_dir(world.ufs_dir.path()).unwrap().count(), 1);
    });
}

#[test]
fn a_small_file_comes_after_the_large_ones_closed_before_it() {
    let world = World::new();
    block_on(async {
        for shard in ["shard-0", "shard-1"] {
            write(&world, Ino::ROOT, shard, 64 << 20).await;
        }
        write(&world, Ino::ROOT, "latest", 10).await;
        write(&world, Ino::ROOT, "later", 64 << 20).await;
        world.expire();
        let mut out = Vec::new();
        for _ in 0..3 {
            out.push(due(&world).await);
        }
        assert_eq!(next(&world).await, None);
        assert_eq!(out.iter().map(put_key).collect::<Vec<_>>(), ["shard-0", "shard-1", "later"]);
        for (n, task) in out.iter().take(2).enumerate() {
            world.names().finish(task, carry(&world.ufs, task)).await.unwrap();
            match n {
                1 => assert_eq!(put_key(&due(&world).await), "latest"),
                _ => assert_eq!(next(&world).await, None),
            }
        }
    });
}

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

#[test]
fn what_fails_is_tried_again_and_holds_up_nobody() {
    let world = World::new();
    block_on(async {
        write(&world, Ino::ROOT, "large", 64 << 20).await;
        write(&world, Ino::ROOT, "small", 10).await;
        world.expire();
        let mut tries = 0;
        for _ in 0..400 {
            let Some(task) = next(&world).await else {
                world.clock.advance(Duration::from_secs(30));
                continue;
            };
            if put_key(&task) == "small" {
                break;
            }
            tries += 1;
            world.names().finish(&task, PersistOutcome::Failed("no".into())).await.unwrap();
        }
        // With persist_order = checkpoint it waits for the large one until that is set aside.
        assert_eq!((tries, world.names().dirty_stats().set_aside), (8, 1));
    });
}

#[test]
fn what_the_ufs_cannot_hold_is_not_tried_again_until_it_changes() {
    let world = World::new();
    block_on(async {
        let ino = world.make(Ino::ROOT, "pipe", FileKind::Fifo).await.unwrap();
        world.expire();
        carry_all(&world).await.unwrap();
        assert!(matches!(world.names().state(ino).await.unwrap(), FileState::Unpersistable(_)));
        assert_eq!(world.names().dirty_stats().names, 0);
        let socket = NewInode::of(FileKind::Socket, 0o600);
        let socket = world.names().create(&ROOT_CALLER, Ino::ROOT, &name("s"), socket).await.unwrap();
        assert_eq!(world.names().state(socket.attr.ino).await.unwrap(), FileState::Native);
        assert_eq!(world.names().dirty_stats().names, 0);
    });
}

#[test]
fn the_barrier_waits_for_what_was_dirty_and_names_what_failed() {
    let world = World::new();
    block_on(async {
        let ino = write(&world, Ino::ROOT, "f", 5).await;
        let open = world.make(Ino::ROOT, "open", FileKind::Regular).await.unwrap();
        world.names().write_opened(open, Some(ExtentId(1)), None).await.unwrap();
        let worker = async {
            let mut failed_once = false;
            loop {
                let task = world.names().next().await;
                let outcome = match failed_once {
                    true => carry(&world.ufs, &task),
                    false => PersistOutcome::Failed("not now".into()),
                };
                failed_once = true;
                world.names().finish(&task, outcome).await.unwrap();
            }
        };
        let waiter = async {
            let report = world.names().persist_barrier(None).await.unwrap();
            assert_eq!(report.failed, [("f".into(), "not now".into())]);
            assert_eq!(report.open_for_write, 1);
            // Back-off and delay are of no account to who waits.
            world.names().persist_now(ino).await.unwrap();
            assert_eq!(world.names().state(ino).await.unwrap(), FileState::Clean);
            assert_eq!(refused(world.names().persist_now(open).await), FsErrorKind::Busy);
        };
        tokio::select! {
            () = worker => unreachable!("it works for ever"),
            () = waiter => {}
        }
    });
}

#[test]
fn the_barrier_leaves_nothing_aside() {
    let world = World::new();
    world.put_ufs("a", b"1");
    world.put_ufs("b", b"22");
    block_on(async {
        world.rename((Ino::ROOT, "a"), (Ino::ROOT, "b"), RenameMode::Exchange).await.unwrap();
        let worker = async {
            loop {
                let task = world.names().next().await;
                tokio::time::sleep(Duration::from_millis(30)).await;
                world.names().finish(&task, carry(&world.ufs, &task)).await.unwrap();
                // What waits aside gets other content, so that it is put at its name and never moved there.
                if matches!(&task.work, PersistWork::Move { to, .. } if to.to_string().starts_with(".forebay-move-"))
                {
                    let longer = SetAttr { size: Some(9), ..SetAttr::default() };
                    world.names().set_attr(&ROOT_CALLER, task.ino, longer).await.unwrap();
                }
            }
        };
        tokio::select! {
            () = worker => unreachable!("it works for ever"),
            report = world.names().persist_barrier(None) => assert!(report.unwrap().failed.is_empty()),
        }
        let left = std::fs::read_dir(world.ufs_dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["a", "b"]);
    });
}

/// A directory at `d` that has the files of the one that was removed there. Returns the inodes of the files.
async fn replace_directory(world: &World, files: &[&str]) -> Vec<Ino> {
    let old = world.walk("d").await.unwrap().attr.ino;
    let new = world.make(Ino::ROOT, "new", FileKind::Directory).await.unwrap();
    let mut inos = Vec::new();
    for file in files {
        inos.push(world.names().lookup(old, &name(file)).await.unwrap().attr.ino);
        world.rename((old, file), (new, file), RenameMode::Replace).await.unwrap();
    }
    world.names().rmdir(&ROOT_CALLER, Ino::ROOT, &name("d")).await.unwrap();
    world.rename((Ino::ROOT, "new"), (Ino::ROOT, "d"), RenameMode::Replace).await.unwrap();
    inos
}

/// The new directory waits for the old one at its name to go, that one for the name in it, that name for the file to be
/// moved, and the file for the new directory.
#[test]
fn a_directory_takes_the_place_of_a_removed_one_whose_files_it_has() {
    let world = World::new();
    std::fs::create_dir(world.ufs_path("d")).unwrap();
    for file in ["a", "b", "c"] {
        world.put_ufs(&format!("d/{file}"), file.as_bytes());
    }
    block_on(async {
        replace_directory(&world, &["a", "b", "c"]).await;
        world.expire();
        carry_all(&world).await.unwrap();
        assert_eq!(world.names().dirty_stats().names, 0);
        for file in ["a", "b", "c"] {
            assert_eq!(std::fs::read(world.ufs_path(&format!("d/{file}"))).unwrap(), file.as_bytes());
        }
        let names = |dir: &str| std::fs::read_dir(world.ufs_path(dir)).unwrap().count();
        assert_eq!((names(""), names("d")), (1, 3));
    });
}

#[test]
fn what_others_change_before_it_steps_aside_is_carried_on() {
    let mut world = World::new();
    for file in ["a", "b", "c"] {
        world.put_ufs(&format!("d/{file}"), file.as_bytes());
    }
    let old = block_on(async {
        let old = world.walk("d").await.unwrap().attr.ino;
        let inos = replace_directory(&world, &["a", "b", "c"]).await;
        let new = world.walk("d").await.unwrap().attr.ino;
        let ours = write(&world, new, "b", 9).await;
        world.put_ufs("d/b", b"theirs");
        world.put_ufs("d/c", b"of others");
        world.expire();
        carry_all(&world).await.unwrap();
        assert_eq!((ours, world.names().dirty_stats().names), (inos[1], 0));
        // What was renamed alone is what they made of it; what was written here too goes beside theirs.
        let there = |name: &str| std::fs::read(world.ufs_path(&format!("d/{name}"))).unwrap();
        assert_eq!(
            (&*there("a"), &*there("b"), &*there("c")),
            (&b"a"[..], &b"theirs"[..], &b"of others"[..])
        );
        let listed = world.list(new).await.unwrap();
        let beside: Vec<_> = listed.iter().filter(|name| name.starts_with("b.conflict-node-a-")).collect();
        assert_eq!(beside.len(), 1, "{listed:?}");
        assert_eq!(there(beside[0])[..8], ours.0.to_le_bytes());
        let shown = world.walk(&format!("d/{}", beside[0])).await.unwrap().attr;
        assert_eq!((shown.ino, shown.size), (ours, 9));
        let theirs = world.walk("d/b").await.unwrap().attr;
        assert_eq!((theirs.size, theirs.ino != ours), (6, true));
        let renamed = world.walk("d/c").await.unwrap().attr;
        assert_eq!((renamed.ino, renamed.size), (inos[2], 9));
        assert_eq!(std::fs::read_dir(world.ufs_dir.path()).unwrap().count(), 1);
        old
    });
    // Of the removed directory nothing is kept, though others have a file where it was.
    world.crash();
    assert_eq!(refused(block_on(world.names().attr(old))), FsErrorKind::Stale);
}

/// As a copy stays behind whose source changed before it could be taken away.
#[test]
fn a_name_aside_that_is_taken_keeps_nothing_from_being_carried() {
    let world = World::new();
    world.put_ufs("a", b"1");
    world.put_ufs("b", b"22");
    block_on(async {
        world.rename((Ino::ROOT, "a"), (Ino::ROOT, "b"), RenameMode::Exchange).await.unwrap();
        world.expire();
        let aside = due(&world).await;
        let PersistWork::Move { to, .. } = &aside.work else { panic!("{aside:?}") };
        world.put_ufs(&to.to_string(), b"left");
        let refused = carry(&world.ufs, &aside);
        assert_eq!(refused, PersistOutcome::Conflict(None));
        world.names().finish(&aside, refused).await.unwrap();
        carry_all(&world).await.unwrap();
        assert_eq!(world.names().dirty_stats().names, 0);
        let there = |name: &str| std::fs::read(world.ufs_path(name)).unwrap();
        assert_eq!(
            (&*there("a"), &*there("b"), &*there(&to.to_string())),
            (&b"22"[..], &b"1"[..], &b"left"[..])
        );
    });
}

#[test]
fn hurry_makes_what_waits_for_its_delay_due() {
    let world = World::new();
    block_on(async {
        assert!(!world.names().hurry());
        world.clock.advance(Duration::from_secs(10));
        write(&world, Ino::ROOT, "f", 5).await;
        assert_eq!(next(&world).await, None);
        assert!(world.names().hurry());
        due(&world).await;
    });
}

#[test]
fn the_queue_outlives_a_crash() {
    let mut world = World::new();
    block_on(async {
        write(&world, Ino::ROOT, "f", 5).await;
        world.names().flush().unwrap();
        write(&world, Ino::ROOT, "g", 6).await;
    });
    world.crash();
    assert_eq!((world.names().dirty_stats().names, world.names().dirty_stats().bytes), (2, 11));
    world.expire();
    block_on(async {
        carry_all(&world).await.unwrap();
        assert_eq!(std::fs::read_dir(world.ufs_dir.path()).unwrap().count(), 2);
    });
}
