//! Write modes that promise the under file system before a flush or an `fsync` returns.

use crate::support::*;
use forebay_namespace::MountSpec;
use forebay_types::{Ino, WriteMode};
use forebay_vfs::{Opened, Vfs};
use futures_util::future::{Either, select};
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

fn node_with(mode: WriteMode, passthrough: bool) -> Node {
    let mut root = MountSpec::new("/", "file:///under");
    root.policy.write_mode = mode;
    // What is promised does not wait for the delay.
    root.policy.persist_delay = forebay_types::HumanDuration(Duration::from_secs(3600));
    Node::start(Setup { root, passthrough, persist: true, ..Setup::default() })
}

async fn write(vfs: &Vfs, opened: &Opened, at: u64, bytes: &[u8]) {
    if is_passthrough(&opened.mode) {
        kernel_file(opened).write_all_at(bytes, at).unwrap();
    } else {
        vfs.put(opened.handle, at, bytes).await.unwrap();
    }
}

#[test]
fn what_was_flushed_or_synced_is_in_the_under_file_system() {
    for mode in [WriteMode::Through, WriteMode::CacheThrough] {
        for passthrough in [true, false] {
            let node = node_with(mode, passthrough);
            let under = node.under().join("a");
            node.run(move |vfs| async move {
                let (ino, opened) = vfs.make("a").await;
                for round in 0..3_u8 {
                    write(&vfs, &opened, u64::from(round), &[b'a' + round]).await;
                    vfs.fsync(opened.handle).await.unwrap();
                    assert_eq!(std::fs::read(&under).unwrap(), b"abc"[..=usize::from(round)]);
                }
                write(&vfs, &opened, 3, b"d").await;
                vfs.flush(opened.handle).await.unwrap();
                assert_eq!(std::fs::read(&under).unwrap(), b"abcd");
                vfs.release(opened.handle).await.unwrap();
                assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
                assert_eq!(vfs.content(ino).await.unwrap(), b"abcd");
            });
            node.until_idle();
        }
    }
}

#[test]
fn a_flush_that_has_nothing_new_carries_nothing() {
    let node = node_with(WriteMode::CacheThrough, true);
    let under = node.under().join("a");
    node.run(move |vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        write(&vfs, &opened, 0, b"x").await;
        vfs.flush(opened.handle).await.unwrap();
        std::fs::remove_file(&under).unwrap();
        vfs.flush(opened.handle).await.unwrap();
        vfs.fsync(opened.handle).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert!(!under.exists());
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
    });
}

#[test]
fn a_write_beside_a_flush_is_carried_by_the_next_one() {
    let node = node_with(WriteMode::CacheThrough, true);
    let under = node.under().join("a");
    node.run(move |vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        let file = kernel_file(&opened);
        for round in 0..20_u8 {
            file.write_all_at(&[round], 0).unwrap();
            let beside = std::thread::spawn({
                let file = Arc::clone(&file);
                move || (1..50).for_each(|n| file.write_all_at(&[round, n], 0).unwrap())
            });
            // It may find the file changing under it, and then says so.
            let _ = vfs.flush(opened.handle).await;
            beside.join().unwrap();
            vfs.fsync(opened.handle).await.unwrap();
            assert_eq!(std::fs::read(&under).unwrap(), [round, 49]);
        }
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
    });
    node.until_idle();
}

/// What the kernel appends while the file is on its way is not what the log says of it, and nobody else tells the log.
#[test]
fn a_flush_beside_a_writer_who_makes_the_file_longer_ends() {
    let node = node_with(WriteMode::CacheThrough, true);
    let under = node.under().join("a");
    node.run(move |vfs| async move {
        let (_, opened) = vfs.make("a").await;
        let file = kernel_file(&opened);
        file.write_all_at(b"x", 0).unwrap();
        let beside = std::thread::spawn({
            let file = Arc::clone(&file);
            move || {
                for at in 1..1500 {
                    file.write_all_at(b"x", at).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let flushed = pin!(vfs.flush(opened.handle));
        let late = pin!(forebay_shard::sleep(Duration::from_secs(60)));
        assert!(matches!(select(flushed, late).await, Either::Left((Ok(()), _))), "it did not end well");
        beside.join().unwrap();
        vfs.fsync(opened.handle).await.unwrap();
        assert_eq!(std::fs::read(&under).unwrap(), [b'x'; 1500]);
        vfs.release(opened.handle).await.unwrap();
    });
    node.until_idle();
}

#[test]
fn what_was_written_beside_a_flush_survives_the_death_of_the_daemon() {
    for mode in [WriteMode::Through, WriteMode::CacheThrough] {
        let node = node_with(mode, true);
        let under = node.under().join("a");
        let hang = Duration::from_secs(600);
        node.fault(Fault::Hang("begin_write", hang));
        let file = node.run(move |vfs| async move {
            let (_, opened) = vfs.make("a").await;
            write(&vfs, &opened, 0, b"first").await;
            let file = kernel_file(&opened);
            forebay_shard::spawn(async move {
                let _ = vfs.flush(opened.handle).await;
                forebay_shard::sleep(hang).await;
                vfs.release(opened.handle).await.unwrap();
            });
            file
        });
        node.until("the first bytes are carried", || std::fs::read(&under).is_ok_and(|it| it == b"first"));
        node.until("that is recorded", || node.names.dirty_stats().in_flight == 0);
        std::thread::sleep(Duration::from_millis(300));
        file.write_all_at(b"second and longer", 0).unwrap();
        drop(file);
        let node = node.crash();
        let found = node.run(|vfs| async move {
            let ino = vfs.ino("a").await;
            vfs.content(ino).await.unwrap()
        });
        assert_eq!(found, b"second and longer", "{mode:?}");
        let names = Arc::clone(&node.names);
        node.wait_for(async move { names.persist_barrier(None).await.unwrap() });
        assert_eq!(std::fs::read(&under).unwrap(), b"second and longer");
    }
}

/// What was just carried takes a moment to be known as clean.
fn until_found_by_its_content(node: &Node, ino: Ino) {
    let (client, names) = (Arc::clone(&node.client), Arc::clone(&node.names));
    node.until("its bytes are found by what the under file system has", || {
        let (client, names) = (client.clone(), names.clone());
        let resident = node.run(move |_| async move {
            let location = names.content(ino).await.unwrap();
            assert_eq!(location.extent, None);
            client.resident_bytes(&location).await.unwrap()
        });
        resident == PAGE
    });
}

#[test]
fn what_was_carried_while_it_was_open_is_found_here_afterwards_and_can_be_evicted() {
    let node = node_with(WriteMode::CacheThrough, true);
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        for round in 0..3_u8 {
            write(&vfs, &opened, 0, &pattern(PAGE, round.into())).await;
            vfs.fsync(opened.handle).await.unwrap();
        }
        vfs.release(opened.handle).await.unwrap();
        ino
    });
    until_found_by_its_content(&node, ino);
    node.run(move |vfs| async move {
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        write(&vfs, &opened, 0, &pattern(PAGE, 3)).await;
        vfs.flush(opened.handle).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
    });
    until_found_by_its_content(&node, ino);
    let read = move |vfs: Arc<Vfs>| async move { vfs.content(ino).await.unwrap() };
    assert_eq!((node.run(read), node.fetched()), (pattern(PAGE, 3), 0));
    let (client, names) = (Arc::clone(&node.client), Arc::clone(&node.names));
    node.until("its bytes are evicted", || {
        let (client, names) = (client.clone(), names.clone());
        node.run(move |_| async move {
            client.evict(&names.content(ino).await.unwrap()).await.is_ok_and(|n| n > 0)
        })
    });
    assert_eq!((node.run(read), node.fetched()), (pattern(PAGE, 3), PAGE));
}

#[test]
fn what_cannot_be_carried_fails_the_flush_and_stays_dirty() {
    let node = node_with(WriteMode::CacheThrough, true);
    let under = node.under();
    let ino = node.run(move |vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        write(&vfs, &opened, 0, b"x").await;
        std::fs::remove_dir_all(&under).unwrap();
        vfs.flush(opened.handle).await.unwrap_err();
        vfs.release(opened.handle).await.unwrap();
        ino
    });
    node.until_idle();
    assert!(!node.is_write_open(ino));
}

#[test]
fn through_keeps_nothing_here() {
    let node = node_with(WriteMode::Through, true);
    node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        write(&vfs, &opened, 0, &pattern(PAGE, 1)).await;
        vfs.flush(opened.handle).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        ino
    });
    node.until("the bytes are gone from here", || node.extents() == 0);
}

#[test]
fn a_write_through_the_daemon_beside_a_flush_does_not_fail() {
    let node = node_with(WriteMode::CacheThrough, false);
    let under = node.under().join("a");
    node.run(move |vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        for round in 0..40_u8 {
            let bytes = [round, round];
            let beside = vfs.put(opened.handle, 0, &bytes);
            write(&vfs, &opened, 0, &[round]).await;
            let (_, wrote) = futures_util::join!(vfs.flush(opened.handle), async {
                forebay_shard::sleep(Duration::from_millis(u64::from(round))).await;
                beside.await
            });
            wrote.unwrap();
            vfs.fsync(opened.handle).await.unwrap();
            assert_eq!(std::fs::read(&under).unwrap(), [round, round]);
        }
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
    });
    node.until_idle();
}
