//! Listings that leave open whether what is empty is a file or a symbolic link, as those of object stores do.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::carry_all;
use common::{ROOT_CALLER, World, block_on, name, refused};
use forebay_namespace::DirEntry;
use forebay_types::{FileKind, FsErrorKind, Ino};
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// A directory `d` of the UFS with so many empty files and a link.
fn world_of(files: usize) -> World {
    let world = World::new();
    world.ufs.bare_lists.store(true, SeqCst);
    for n in 0..files {
        world.put_ufs(&format!("d/e{n:04}"), b"");
    }
    std::fs::create_dir_all(world.ufs_path("d")).unwrap();
    symlink("there", world.ufs_path("d/link")).unwrap();
    world
}

async fn read_all(world: &World, dir: Ino) -> Vec<DirEntry> {
    let mut stream = world.names().open_dir(dir).await.unwrap();
    let mut all: Vec<DirEntry> = Vec::new();
    loop {
        let more = stream.read(all.last().map_or(2, |last| last.next_offset), 300).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// The names of a listing and what kinds they are shown as.
async fn kinds(world: &World, dir: Ino) -> Vec<(String, FileKind)> {
    let all = read_all(world, dir).await.into_iter();
    all.map(|entry| (String::from_utf8_lossy(&entry.name).into_owned(), entry.kind)).collect()
}

#[test]
fn what_others_put_is_asked_about_once_within_the_time_to_live() {
    let world = world_of(40);
    world.ufs.stat_takes.store(1, SeqCst);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let first = read_all(&world, dir).await;
        assert_eq!((first.len(), world.ufs.kinds.load(SeqCst)), (41, 41));
        assert_eq!(world.ufs.kinds_at_once.load(SeqCst), 16);
        let link = first.iter().find(|entry| *entry.name == *b"link").unwrap();
        assert_eq!(link.kind, FileKind::Symlink);
        assert_eq!(*world.names().readlink(link.ino).await.unwrap(), *b"there");
        let files = first.iter().filter(|entry| entry.kind == FileKind::Regular);
        assert!(
            files.count() == 40 && first.iter().all(|entry| entry.entry.unwrap().attr_ttl > Duration::ZERO)
        );
        // What was asked about is known, also to who looks it up.
        let stats = world.ufs.stats.load(SeqCst);
        world.clock.advance(Duration::from_secs(20));
        assert_eq!(world.walk("d/link").await.unwrap().attr.kind, FileKind::Symlink);
        let second = read_all(&world, dir).await;
        let same = |(a, b): (&DirEntry, &DirEntry)| (&a.name, a.ino, a.kind) == (&b.name, b.ino, b.kind);
        assert!(first.iter().zip(&second).all(same));
        assert_eq!((world.ufs.kinds.load(SeqCst), world.ufs.stats.load(SeqCst)), (41, stats));
        // It is believed no longer for being listed again.
        let left = second[0].entry.unwrap();
        assert_eq!((left.entry_ttl, left.attr_ttl), (Duration::from_secs(40), Duration::from_secs(40)));
        world.clock.advance(Duration::from_secs(41));
        read_all(&world, dir).await;
        assert_eq!(world.ufs.kinds.load(SeqCst), 82);
    });
}

#[test]
fn our_own_names_are_not_asked_about() {
    let world = World::new();
    world.ufs.bare_lists.store(true, SeqCst);
    block_on(async {
        let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        for n in 0..50 {
            world.make(dir, &format!("e{n}"), FileKind::Regular).await.unwrap();
        }
        world.make(dir, "link", FileKind::Symlink).await.unwrap();
        carry_all(&world).await.unwrap();
        world.expire();
        let shown = kinds(&world, dir).await;
        assert_eq!(shown.iter().filter(|(_, kind)| *kind == FileKind::Regular).count(), 50);
        assert!(shown.contains(&("link".into(), FileKind::Symlink)));
        assert_eq!((shown.len(), world.ufs.kinds.load(SeqCst)), (51, 0));
    });
}

#[test]
fn who_wants_names_alone_asks_about_none() {
    let world = world_of(40);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        assert_eq!(
            refused(world.names().rmdir(&ROOT_CALLER, Ino::ROOT, &name("d")).await),
            FsErrorKind::NotEmpty
        );
        for n in 0..10 {
            world.make(dir, &format!("new{n}"), FileKind::Regular).await.unwrap();
        }
        assert!(world.ufs.lists.load(SeqCst) >= 2);
        assert_eq!(world.ufs.kinds.load(SeqCst), 0);
    });
}

/// The checksum of an empty object tells nothing: neither that a link has taken its place, nor where that leads.
#[test]
fn what_others_put_in_its_place_shows_in_time() {
    let world = world_of(1);
    world.ufs.one_version.store(true, SeqCst);
    let replace = |target: &str| {
        std::fs::remove_file(world.ufs_path("d/e0000")).unwrap();
        symlink(target, world.ufs_path("d/e0000")).unwrap();
    };
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        assert_eq!(kinds(&world, dir).await[0].1, FileKind::Regular);
        for target in ["one", "another"] {
            replace(target);
            world.clock.advance(Duration::from_secs(60));
            let shown = read_all(&world, dir).await.remove(0);
            assert_eq!(shown.kind, FileKind::Symlink);
            assert_eq!(*world.names().readlink(shown.ino).await.unwrap(), *target.as_bytes());
        }
        // Whatever was known: of another version it shows as soon as the directory is asked for again.
        world.put_ufs("d/e", b"");
        world.clock.advance(Duration::from_secs(60));
        kinds(&world, dir).await;
        world.put_ufs("d/e", b"12345");
        world.clock.advance(Duration::from_secs(60));
        let shown = read_all(&world, dir).await.remove(0);
        assert_eq!(shown.entry.unwrap().attr.size, 5);
    });
}

#[test]
fn an_answer_that_fails_costs_no_other_one() {
    let world = world_of(200);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        world.ufs.fail_kind.store(150, SeqCst);
        assert_eq!(refused(stream.read(2, 300).await.map(drop)), FsErrorKind::Unavailable);
        // Those behind it that were on their way are asked for again.
        let asked = world.ufs.kinds.load(SeqCst);
        assert_eq!(stream.read(2, 300).await.unwrap().len(), 201);
        let again = world.ufs.kinds.load(SeqCst) - asked;
        assert!((52..=52 + 16).contains(&again), "{again} are asked for again");
        assert_eq!(world.ufs.lists.load(SeqCst), 1);
    });
}

#[test]
fn what_is_gone_when_it_is_asked_about_is_not_shown() {
    let world = world_of(20);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let first = stream.read(2, 5).await.unwrap();
        assert_eq!((first.len(), world.ufs.kinds.load(SeqCst)), (5, 5));
        std::fs::remove_file(world.ufs_path("d/e0010")).unwrap();
        let rest = stream.read(first[4].next_offset, 100).await.unwrap();
        assert_eq!(rest.len(), 15);
        assert!(rest.iter().all(|entry| *entry.name != *b"e0010"));
    });
}
