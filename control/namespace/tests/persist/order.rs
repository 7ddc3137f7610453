//! When a task is handed out: its delay, its place in the order, what is tried again, and who may wait for it.

use crate::common::carrier::{carry, carry_all};
use crate::common::{ROOT_CALLER, World, block_on, name, refused};
use crate::{due, next, put_key, write};
use forebay_namespace::{FileState, NewInode, RenameMode};
use forebay_types::{ExtentId, FileKind, FsErrorKind, Ino, PersistLog, PersistOutcome, PersistWork, Settled};
use std::time::Duration;

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
fn the_barrier_does_not_wait_for_what_was_written_after_it_was_carried() {
    let world = World::new();
    block_on(async {
        write(&world, Ino::ROOT, "a", 5).await;
        write(&world, Ino::ROOT, "b", 5).await;
        let worker = async {
            let tasks = [world.names().next().await, world.names().next().await];
            let (a, b) =
                if put_key(&tasks[0]) == "a" { (&tasks[0], &tasks[1]) } else { (&tasks[1], &tasks[0]) };
            world.names().finish(b, carry(&world.ufs, b)).await.unwrap();
            write(&world, Ino::ROOT, "b", 6).await;
            world.names().finish(a, carry(&world.ufs, a)).await.unwrap();
            std::future::pending::<()>().await;
        };
        let waiter = tokio::time::timeout(Duration::from_secs(20), world.names().persist_barrier(None));
        tokio::select! {
            () = worker => unreachable!("it never ends"),
            report = waiter => assert!(report.expect("the barrier waits for too much").unwrap().failed.is_empty()),
        }
        assert_eq!(world.names().dirty_stats().names, 1, "what was written again is to be carried");
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
