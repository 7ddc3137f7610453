//! Listings that tell kinds, sizes and versions alone, as those of object stores do.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::carry_all;
use common::{World, block_on, name, refused};
use forebay_namespace::Entry;
use forebay_types::{Attr, FileKind, FsErrorKind, Ino};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

fn bare_world(files: usize) -> World {
    let world = World::new();
    world.ufs.bare_lists.store(true, SeqCst);
    for n in 0..files {
        world.put_ufs(&format!("d/f{n:04}"), b"12345");
        let secret = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(world.ufs_path(&format!("d/f{n:04}")), secret).unwrap();
    }
    world
}

/// The first file that a listing shows, and how it is shown.
async fn shown(world: &World, dir: Ino) -> (Attr, Entry) {
    let mut stream = world.names().open_dir(dir).await.unwrap();
    let entries = stream.read(2, 1).await.unwrap();
    let entry = entries.into_iter().next().unwrap().entry.unwrap();
    (entry.attr, entry)
}

#[test]
fn what_a_listing_left_out_is_asked_for_before_it_is_believed() {
    let world = bare_world(1);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let (attr, entry) = shown(&world, dir).await;
        assert_eq!(attr.size, 5);
        assert_eq!((entry.entry_ttl, entry.attr_ttl), (Duration::ZERO, Duration::ZERO));
        let found = world.names().lookup(dir, &name("f0000")).await.unwrap();
        assert_eq!((found.attr.ino, found.attr.mode), (attr.ino, 0o600));
        assert!(found.entry_ttl > Duration::ZERO);
    });
}

#[test]
fn a_listing_takes_nothing_away_from_what_is_known() {
    let world = bare_world(1);
    block_on(async {
        let known = world.walk("d/f0000").await.unwrap().attr;
        let dir = world.walk("d").await.unwrap().attr.ino;
        for _ in 0..2 {
            let (attr, entry) = shown(&world, dir).await;
            assert_eq!((attr.mode, attr.mtime, attr.ino), (0o600, known.mtime, known.ino));
            assert!(entry.attr_ttl > Duration::ZERO);
            world.expire();
        }
        // Another content under the name is another file, of which nothing is known.
        std::fs::remove_file(world.ufs_path("d/f0000")).unwrap();
        world.put_ufs("d/f0000", b"other content");
        let (attr, entry) = shown(&world, dir).await;
        assert!(attr.ino != known.ino && attr.size == 13 && entry.attr_ttl == Duration::ZERO);
    });
}

#[test]
fn asking_for_all_that_was_listed_takes_few_questions_in_turn() {
    let world = bare_world(300);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let names = world.list(dir).await.unwrap();
        let (mut in_turn, before) = (0, world.ufs.stats.load(SeqCst));
        for called in &names {
            let asked = world.ufs.stats.load(SeqCst);
            let found = world.names().lookup(dir, &name(called)).await.unwrap();
            assert_eq!(found.attr.mode, 0o600);
            in_turn += usize::from(world.ufs.stats.load(SeqCst) > asked);
        }
        assert_eq!(world.ufs.stats.load(SeqCst) - before, 300, "each file is asked for once");
        assert!(in_turn < 15, "{in_turn} questions in turn");
    });
}

#[test]
fn many_new_names_in_a_directory_cost_one_listing() {
    let world = bare_world(3);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let asked = || world.ufs.stats.load(SeqCst) + world.ufs.lists.load(SeqCst);
        let before = asked();
        for n in 0..500 {
            world.make(dir, &format!("new{n}"), FileKind::Regular).await.unwrap();
        }
        assert!(asked() - before < 10, "{} questions", asked() - before);
        // What is there is found, and is not covered by a new name.
        assert_eq!(world.walk("d/f0002").await.unwrap().attr.size, 5);
        assert_eq!(refused(world.make(dir, "f0001", FileKind::Regular).await), FsErrorKind::Exists);
        // What others put there shows in time, and also what we carried and let go of.
        world.put_ufs("d/theirs", b"123");
        world.expire();
        assert_eq!(world.walk("d/theirs").await.unwrap().attr.size, 3);
    });
}

#[test]
fn a_name_that_is_given_back_to_the_ufs_is_found_there() {
    let world = bare_world(1);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        world.make(dir, "ours", FileKind::Regular).await.unwrap();
        let lists = world.ufs.lists.load(SeqCst);
        for n in 0..10 {
            assert_eq!(refused(world.walk(&format!("d/none{n}")).await), FsErrorKind::NotFound);
        }
        assert_eq!(world.ufs.lists.load(SeqCst), lists + 1);
        // Theirs keeps the name: from then on it is the UFS's, though the listing had nothing there.
        world.put_ufs("d/ours", b"theirs");
        carry_all(&world).await.unwrap();
        assert_eq!(world.walk("d/ours").await.unwrap().attr.size, 6);
    });
}
