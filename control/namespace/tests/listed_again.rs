//! Directories that are listed again within the time for which the UFS is believed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::carry_all;
use common::{ROOT_CALLER, World, block_on, name};
use forebay_namespace::RenameMode;
use forebay_types::{FileKind, Ino, MountId, UfsKey};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

fn world_of(files: usize) -> World {
    let world = World::new();
    world.ufs.bare_lists.store(true, SeqCst);
    for n in 0..files {
        world.put_ufs(&format!("d/f{n:04}"), b"12345");
    }
    world
}

/// The names of a listing, sorted, and how many pages the UFS was asked for.
async fn listed(world: &World, dir: Ino) -> (Vec<String>, u64) {
    let before = world.ufs.lists.load(SeqCst);
    let mut names = world.list(dir).await.unwrap();
    names.sort();
    (names, world.ufs.lists.load(SeqCst) - before)
}

#[test]
fn a_directory_is_asked_for_once_within_the_time_to_live() {
    let world = world_of(1500);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let (first, asked) = listed(&world, dir).await;
        assert_eq!((first.len(), asked), (1500, 2));
        world.clock.advance(Duration::from_secs(59));
        assert_eq!(listed(&world, dir).await, (first, 0));
        // What others do shows in time, and the second listing has not put that off.
        std::fs::remove_file(world.ufs_path("d/f0007")).unwrap();
        world.put_ufs("d/theirs", b"1");
        world.clock.advance(Duration::from_secs(1));
        let (third, asked) = listed(&world, dir).await;
        assert!(third.contains(&"theirs".into()) && !third.contains(&"f0007".into()));
        assert_eq!((third.len(), asked), (1500, 2));
    });
}

#[test]
fn what_we_change_or_carry_shows_at_once() {
    let world = world_of(3);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        assert_eq!(listed(&world, dir).await.0, ["f0000", "f0001", "f0002"]);
        world.make(dir, "ours", FileKind::Regular).await.unwrap();
        assert_eq!(listed(&world, dir).await.0, ["f0000", "f0001", "f0002", "ours"]);
        world.names().unlink(&ROOT_CALLER, dir, &name("f0001")).await.unwrap();
        world.rename((dir, "f0002"), (dir, "moved"), RenameMode::Replace).await.unwrap();
        for _ in 0..2 {
            assert_eq!(listed(&world, dir).await.0, ["f0000", "moved", "ours"]);
            world.clock.advance(Duration::from_secs(2));
            carry_all(&world).await.unwrap();
        }
        let (first, again) = (listed(&world, dir).await.1, listed(&world, dir).await);
        assert_eq!((first, again.0.len(), again.1), (1, 3, 0));
        world.rename((Ino::ROOT, "d"), (Ino::ROOT, "e"), RenameMode::Replace).await.unwrap();
        assert_eq!(listed(&world, dir).await.0, ["f0000", "moved", "ours"]);
        carry_all(&world).await.unwrap();
        assert_eq!(listed(&world, dir).await.0, ["f0000", "moved", "ours"]);
    });
}

/// What is seen of a name later than the listing goes before it.
#[test]
fn what_was_looked_up_since_is_listed_so() {
    let world = world_of(3);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let (_, asked) = listed(&world, dir).await;
        assert_eq!(asked, 1);
        world.put_ufs("d/f0000", b"other content");
        std::fs::remove_file(world.ufs_path("d/f0001")).unwrap();
        world.clock.advance(Duration::from_secs(1));
        // A listing alone tells no attributes, so each is asked for when it is looked up.
        assert_eq!(world.walk("d/f0000").await.unwrap().attr.size, 13);
        assert!(world.walk("d/f0001").await.is_err());
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let shown = stream.read(2, 10).await.unwrap();
        let sizes: Vec<u64> = shown.iter().map(|entry| entry.entry.unwrap().attr.size).collect();
        assert_eq!(sizes, [13, 5]);
        assert_eq!(listed(&world, dir).await.1, 0);
        // One that the listing lacks ends it.
        world.put_ufs("d/theirs", b"1");
        assert_eq!(world.walk("d/theirs").await.unwrap().attr.size, 1);
        assert_eq!(listed(&world, dir).await, (vec!["f0000".into(), "f0002".into(), "theirs".into()], 1));
    });
}

#[test]
fn what_is_to_be_forgotten_is_asked_for_again() {
    let world = world_of(3);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        listed(&world, dir).await;
        world.names().invalidate(MountId::ROOT, &UfsKey::root());
        assert_eq!(listed(&world, dir).await.1, 1);
        assert_eq!(listed(&world, dir).await.1, 0);
    });
}

#[test]
fn a_listing_that_fails_is_not_made_up_for_by_an_older_one() {
    let world = world_of(1500);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        listed(&world, dir).await;
        world.expire();
        world.ufs.fail_list.store(1, SeqCst);
        assert!(world.list(dir).await.is_err());
        assert_eq!(listed(&world, dir).await.0.len(), 1500);
    });
}

#[test]
fn a_directory_whose_listing_tells_all_is_asked_for_each_time() {
    let world = world_of(3);
    world.ufs.bare_lists.store(false, SeqCst);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        assert_eq!(listed(&world, dir).await.1, 1);
        world.put_ufs("d/theirs", b"1");
        let (names, asked) = listed(&world, dir).await;
        assert_eq!((names.len(), names.contains(&"theirs".into()), asked), (4, true, 1));
    });
}
