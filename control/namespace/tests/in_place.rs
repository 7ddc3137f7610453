//! Mutations that are executed where they are asked for, and those that are not.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{ROOT_CALLER, World, block_on, name, refused};
use forebay_namespace::NewInode;
use forebay_types::{FileKind, FileTimes, FsErrorKind, FsResult, Ino};
use futures_util::FutureExt;
use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;

/// The result of a future, and whether it was there without waiting for anybody.
fn at_once<T>(future: impl Future<Output = FsResult<T>>) -> (T, bool) {
    let mut future = pin!(future);
    match future.as_mut().now_or_never() {
        Some(result) => (result.unwrap(), true),
        None => (block_on(future).unwrap(), false),
    }
}

fn new_file() -> NewInode {
    NewInode { write_open: true, ..NewInode::of(FileKind::Regular, 0o644) }
}

/// A directory that is only here, and one that the UFS has, each with a name that somebody has asked for.
fn two_dirs(world: &World) -> [Ino; 2] {
    world.put_ufs("there/x", b"1");
    block_on(async {
        let here = world.make(Ino::ROOT, "here", FileKind::Directory).await.unwrap();
        let there = world.walk("there").await.unwrap().attr.ino;
        for dir in [here, there] {
            assert_eq!(refused(world.names().lookup(dir, &name("any")).await), FsErrorKind::NotFound);
        }
        [here, there]
    })
}

#[test]
fn a_create_and_its_close_wait_for_no_other_thread() {
    const WANTED: usize = 100;
    /// A busy machine may look like a slow disk now and then, for which the home's thread is there.
    const TRIES: usize = 10_000;
    let mut world = World::new();
    let dirs = two_dirs(&world);
    let mut made = 0;
    let mut all_at_once = 0;
    while all_at_once < WANTED {
        assert!(made < TRIES, "only {all_at_once} of {made} did not wait");
        for dir in dirs {
            let called = name(&format!("n{made}"));
            assert_eq!(refused(block_on(world.names().lookup(dir, &called))), FsErrorKind::NotFound);
            let (file, created) = at_once(world.names().create(&ROOT_CALLER, dir, &called, new_file()));
            let ((), closed) = at_once(world.names().write_closed(file.attr.ino, FileTimes::default(), true));
            all_at_once += usize::from(created && closed);
        }
        made += 1;
    }
    let recovery = world.crash();
    assert_eq!(recovery.write_open, []);
    block_on(async {
        for at in ["here", "there"] {
            let dir = world.walk(at).await.unwrap().attr.ino;
            let listed: HashSet<String> = world.list(dir).await.unwrap().into_iter().collect();
            assert!((0..made).all(|n| listed.contains(&format!("n{n}"))), "{listed:?}");
        }
    });
}

#[test]
fn a_new_name_asks_the_engine_once_for_its_directory() {
    let mut world = World::new();
    let [here, _] = two_dirs(&world);
    block_on(async {
        for n in 0..50 {
            world.make(here, &format!("old{n}"), FileKind::Regular).await.unwrap();
        }
    });
    world.crash();
    let dir = block_on(async {
        let dir = world.walk("here").await.unwrap().attr.ino;
        assert_eq!(refused(world.names().lookup(dir, &name("first")).await), FsErrorKind::NotFound);
        dir
    });
    for n in 0..50 {
        let absent = world.names().lookup(dir, &name(&format!("new{n}"))).now_or_never();
        assert_eq!(refused(absent.expect("it waits for another thread")), FsErrorKind::NotFound);
        // The names that were there before are found, and are not made twice.
        let old = name(&format!("old{n}"));
        block_on(world.names().lookup(dir, &old)).unwrap();
        let again = block_on(world.names().create(&ROOT_CALLER, dir, &old, new_file()));
        assert_eq!(refused(again), FsErrorKind::Exists);
    }
}

#[test]
fn what_only_the_engine_knows_is_asked_there() {
    let mut world = World::new();
    let [here, there] = two_dirs(&world);
    block_on(async {
        for dir in [here, there] {
            world.make(dir, "a", FileKind::Regular).await.unwrap();
            world.make(dir, "b", FileKind::Directory).await.unwrap();
        }
    });
    world.names().flush().unwrap();
    world.crash();
    block_on(async {
        for at in ["here", "there"] {
            let dir = world.walk(at).await.unwrap().attr.ino;
            let made = world.names().create(&ROOT_CALLER, dir, &name("a"), new_file()).await;
            assert_eq!(refused(made), FsErrorKind::Exists);
            world.names().unlink(&ROOT_CALLER, dir, &name("a")).await.unwrap();
            world.names().rmdir(&ROOT_CALLER, dir, &name("b")).await.unwrap();
            world.names().create(&ROOT_CALLER, dir, &name("a"), new_file()).await.unwrap();
        }
    });
}

#[test]
fn what_many_threads_change_at_once_is_all_in_the_log() {
    const THREADS: usize = 8;
    const EACH: usize = 200;
    let mut world = World::new();
    let [here, there] = two_dirs(&world);
    let inos: Vec<Ino> = std::thread::scope(|scope| {
        let one = |thread: usize| {
            let world = &world;
            scope.spawn(move || {
                let each = async |n: usize| {
                    let dir = if n.is_multiple_of(2) { here } else { there };
                    let called = format!("{thread}-{n}");
                    let ino = world.make(dir, &called, FileKind::Regular).await.unwrap();
                    if n.is_multiple_of(5) {
                        world.names().unlink(&ROOT_CALLER, dir, &name(&called)).await.unwrap();
                        world.names().release_orphan(ino).await.unwrap();
                    }
                    ino
                };
                block_on(async {
                    let mut made = Vec::new();
                    for n in 0..EACH {
                        made.push(each(n).await);
                    }
                    made
                })
            })
        };
        let threads: Vec<_> = (0..THREADS).map(one).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(inos.iter().collect::<HashSet<_>>().len(), THREADS * EACH);
    world.crash();
    block_on(async {
        let mut listed = world.list(here).await.unwrap();
        listed.extend(world.list(there).await.unwrap());
        let all = (0..THREADS).flat_map(|thread| (0..EACH).map(move |n| (thread, n)));
        let mut kept: Vec<String> =
            all.filter(|(_, n)| !n.is_multiple_of(5)).map(|(thread, n)| format!("{thread}-{n}")).collect();
        kept.push("x".into());
        listed.sort();
        kept.sort();
        assert_eq!(listed, kept);
    });
}
