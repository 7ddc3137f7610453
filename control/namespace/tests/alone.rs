//! Directories in which an object store has nothing but what was carried there from here: listed without asking it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::carry_all;
use common::{ROOT_CALLER, World, block_on, name, refused, root_spec};
use forebay_namespace::{DirEntry, DirPlace, DirStream, RenameMode};
use forebay_types::{ExtentId, FileKind, FileTimes, FsErrorKind, FsResult, Ino, MountId, Name, UfsKey};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Longer than carrying takes by the clock of these tests.
const TTL: Duration = Duration::from_secs(10_000);

fn bare_world() -> World {
    let world = World::with(|config| config.root = root_spec(TTL));
    world.ufs.bare_lists.store(true, SeqCst);
    world
}

/// The names of a listing, sorted, and how many pages the UFS was asked for.
async fn listed(world: &World, dir: Ino) -> (String, u64) {
    let before = world.ufs.lists.load(SeqCst);
    let mut names = world.list_by(dir, 2).await.unwrap();
    names.sort();
    (names.join(" "), world.ufs.lists.load(SeqCst) - before)
}

fn without_asking(names: &str) -> (String, u64) {
    (names.into(), 0)
}

fn asking_once(names: &str) -> (String, u64) {
    (names.into(), 1)
}

/// What waits for other things is carried later than they are.
async fn carry_whole(world: &World) -> FsResult<()> {
    for _ in 0..10 {
        if world.names().dirty_stats().names > 0 {
            carry_all(world).await?;
        }
    }
    assert_eq!(world.names().dirty_stats().names, 0);
    Ok(())
}

/// A directory that was made here with these files, all of it carried.
async fn carried(world: &World, called: &str, files: &[&str]) -> Ino {
    let dir = world.make(Ino::ROOT, called, FileKind::Directory).await.unwrap();
    for file in files {
        world.make(dir, file, FileKind::Regular).await.unwrap();
    }
    carry_whole(world).await.unwrap();
    assert!(world.ufs_path(called).exists());
    dir
}

#[test]
fn what_was_made_here_is_listed_without_asking() {
    let world = bare_world();
    block_on(async {
        let dir = carried(&world, "d", &["a", "b", "c"]).await;
        assert_eq!(listed(&world, dir).await, without_asking("a b c"));
        world.names().unlink(&ROOT_CALLER, dir, &name("b")).await.unwrap();
        world.rename((dir, "c"), (dir, "e"), RenameMode::Replace).await.unwrap();
        world.make(dir, "sub", FileKind::Directory).await.unwrap();
        assert_eq!(listed(&world, dir).await, without_asking("a e sub"));
        carry_whole(&world).await.unwrap();
        assert_eq!(listed(&world, dir).await, without_asking("a e sub"));
    });
}

#[test]
fn what_is_below_a_directory_that_is_not_carried_yet_is_known_by_it() {
    let world = bare_world();
    block_on(async {
        let top = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        let sub = world.make(top, "sub", FileKind::Directory).await.unwrap();
        world.make(sub, "a", FileKind::Regular).await.unwrap();
        carry_whole(&world).await.unwrap();
        let below = world.make(sub, "below", FileKind::Directory).await.unwrap();
        carry_whole(&world).await.unwrap();
        assert_eq!(listed(&world, top).await, without_asking("sub"));
        assert_eq!(listed(&world, sub).await, without_asking("a below"));
        assert_eq!(listed(&world, below).await, without_asking(""));
    });
}

/// What is not there because the directory was not there was not asked about.
#[test]
fn what_the_store_was_not_asked_about_is_not_believed() {
    let world = bare_world();
    block_on(async {
        let top = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        assert_eq!(refused(world.walk("d/sub").await), FsErrorKind::NotFound);
        carry_whole(&world).await.unwrap();
        world.put_ufs("d/sub/theirs", b"1");
        let sub = world.make(top, "sub", FileKind::Directory).await.unwrap();
        carry_whole(&world).await.unwrap();
        assert_eq!(listed(&world, sub).await, asking_once("theirs"));
    });
}

#[test]
fn what_others_put_there_shows_in_time() {
    let world = bare_world();
    block_on(async {
        let dir = carried(&world, "d", &["a"]).await;
        world.put_ufs("d/theirs", b"1");
        assert_eq!(listed(&world, dir).await, without_asking("a"));
        world.clock.advance(TTL);
        assert_eq!(listed(&world, dir).await, asking_once("a theirs"));
        // It is not ours alone any more: what we carry has the store asked again.
        world.make(dir, "b", FileKind::Regular).await.unwrap();
        carry_whole(&world).await.unwrap();
        assert_eq!(listed(&world, dir).await, asking_once("a b theirs"));
    });
}

#[test]
fn a_listing_that_shows_nothing_of_others_is_as_good() {
    let mut world = bare_world();
    let dir = block_on(carried(&world, "d", &["a", "b"]));
    world.crash();
    block_on(async {
        assert_eq!(listed(&world, dir).await, asking_once("a b"));
        world.make(dir, "c", FileKind::Regular).await.unwrap();
        carry_whole(&world).await.unwrap();
        assert_eq!(listed(&world, dir).await, without_asking("a b c"));
        world.clock.advance(TTL);
        assert_eq!(listed(&world, dir).await, asking_once("a b c"));
        assert_eq!(listed(&world, dir).await, without_asking("a b c"));
        // One that did not come to the end tells nothing.
        world.clock.advance(TTL);
        world.put_ufs("d/z", b"1");
        let mut stream = world.names().open_dir(dir).await.unwrap();
        assert_eq!(stream.read(0, 4).await.unwrap().len(), 4);
        drop(stream);
        world.make(dir, "e", FileKind::Regular).await.unwrap();
        assert_eq!(listed(&world, dir).await, asking_once("a b c e z"));
    });
}

#[test]
fn what_is_looked_up_of_others_is_listed_from_then_on() {
    let world = bare_world();
    block_on(async {
        let dir = carried(&world, "d", &["a"]).await;
        world.put_ufs("d/theirs", b"1");
        assert_eq!(listed(&world, dir).await, without_asking("a"));
        world.walk("d/theirs").await.unwrap();
        assert_eq!(listed(&world, dir).await, asking_once("a theirs"));
    });
}

#[test]
fn what_others_made_of_a_name_of_ours_is_listed_once_that_is_known() {
    let world = bare_world();
    block_on(async {
        let dir = carried(&world, "d", &["a", "b"]).await;
        std::fs::remove_file(world.ufs_path("d/a")).unwrap();
        world.put_ufs("d/theirs", b"1");
        world.clock.advance(TTL / 2);
        assert_eq!(listed(&world, dir).await, without_asking("a b"));
        world.names().invalidate(MountId::ROOT, &UfsKey::root());
        assert!(world.walk("d/a").await.is_err());
        assert_eq!(listed(&world, dir).await, asking_once("b theirs"));
    });
}

#[test]
fn what_is_to_be_forgotten_is_asked_for_again() {
    let world = bare_world();
    block_on(async {
        let dir = carried(&world, "d", &["a"]).await;
        world.put_ufs("d/theirs", b"1");
        world.names().invalidate(MountId::ROOT, &UfsKey::root());
        assert_eq!(listed(&world, dir).await, asking_once("a theirs"));
    });
}

#[test]
fn a_directory_that_was_moved_is_asked_for_where_it_is() {
    let world = bare_world();
    block_on(async {
        let top = carried(&world, "top", &[]).await;
        let dir = world.make(top, "d", FileKind::Directory).await.unwrap();
        world.make(dir, "a", FileKind::Regular).await.unwrap();
        carry_whole(&world).await.unwrap();
        for (from, to) in [((top, "d"), (top, "e")), ((Ino::ROOT, "top"), (Ino::ROOT, "up"))] {
            world.rename(from, to, RenameMode::Replace).await.unwrap();
            assert_eq!(listed(&world, dir).await.0, "a");
            carry_whole(&world).await.unwrap();
            let path = if from.0 == top { "top/e/" } else { "up/e/" };
            world.put_ufs(&format!("{path}theirs"), b"1");
            let (names, asked) = listed(&world, dir).await;
            assert_eq!((&*names, asked), ("a theirs", 1), "{path}");
            std::fs::remove_file(world.ufs_path(&format!("{path}theirs"))).unwrap();
            world.clock.advance(TTL);
            assert_eq!(listed(&world, dir).await, asking_once("a"));
        }
    });
}

#[test]
fn a_directory_that_is_made_anew_shows_nothing_of_the_one_before() {
    for carry_removal in [false, true] {
        let world = bare_world();
        block_on(async {
            let old = carried(&world, "d", &["a", "b"]).await;
            for file in ["a", "b"] {
                world.names().unlink(&ROOT_CALLER, old, &name(file)).await.unwrap();
            }
            world.names().rmdir(&ROOT_CALLER, Ino::ROOT, &name("d")).await.unwrap();
            if carry_removal {
                carry_whole(&world).await.unwrap();
            }
            let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
            world.make(dir, "c", FileKind::Regular).await.unwrap();
            assert_eq!(listed(&world, dir).await, without_asking("c"));
            carry_whole(&world).await.unwrap();
            assert!(world.ufs_path("d/c").exists() && !world.ufs_path("d/a").exists());
            // Where the old one was still in the store when this one was made, nothing was known of the place.
            assert_eq!(listed(&world, dir).await, ("c".into(), u64::from(!carry_removal)));
            assert_eq!(listed(&world, dir).await, without_asking("c"));
        });
    }
}

#[test]
fn a_directory_of_a_disk_is_asked_for_each_time() {
    let world = bare_world();
    world.ufs.bare_lists.store(false, SeqCst);
    block_on(async {
        let dir = carried(&world, "d", &["a"]).await;
        assert_eq!(listed(&world, dir).await, asking_once("a"));
        world.put_ufs("d/theirs", b"1");
        assert_eq!(listed(&world, dir).await, asking_once("a theirs"));
    });
}

fn names_of(entries: &[DirEntry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
}

fn place(stream: &DirStream, entries: &[DirEntry]) -> DirPlace {
    // The dots are no names: who took no other begins anew.
    let name = |last: &DirEntry| Some((last.next_offset, Name::new(last.name.clone()).ok()?));
    let last = entries.last().and_then(name);
    DirPlace { began: stream.began(), last }
}

/// Takes so many entries of a listing, ends the process, and has the next one go on; yields all names that were shown.
fn shown_by_two(world: &mut World, taken: usize) -> String {
    let (mut shown, offset, place) = block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let shown = stream.read(0, taken).await.unwrap();
        let offset = shown.last().map_or(0, |last| last.next_offset);
        (names_of(&shown), offset, place(&stream, &shown))
    });
    world.crash();
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        stream.resume(place).await.unwrap();
        let more = stream.read(offset, 2).await.unwrap();
        let offset = more.last().map_or(offset, |last| last.next_offset);
        let rest = stream.read(offset, 20).await.unwrap();
        shown.extend(names_of(&more).into_iter().chain(names_of(&rest)));
        shown.sort();
        shown.join(" ")
    })
}

#[test]
fn a_listing_is_gone_on_with_by_who_does_not_know_that_the_directory_is_ours_alone() {
    for taken in 0..9 {
        let mut world = bare_world();
        block_on(carried(&world, "d", &["a", "b", "c", "d", "e", "f"]));
        assert_eq!(shown_by_two(&mut world, taken), ". .. a b c d e f", "{taken} were taken before");
    }
}

#[test]
fn a_listing_of_what_is_theirs_too_is_gone_on_with_as_that() {
    for taken in 0..9 {
        let mut world = bare_world();
        let dir = block_on(carried(&world, "d", &["a", "b", "e"]));
        world.put_ufs("d/theirs", b"1");
        world.crash();
        for ours in ["c", "d"] {
            block_on(world.make(dir, ours, FileKind::Regular)).unwrap();
        }
        assert_eq!(shown_by_two(&mut world, taken), ". .. a b c d e theirs", "{taken} were taken before");
    }
}

/// A name that others have changed in the store is theirs once that is seen, and is listed all the same.
#[test]
fn a_name_that_is_given_back_beside_a_listing_is_shown_once() {
    for taken in 2..6 {
        let world = bare_world();
        block_on(async {
            let dir = carried(&world, "d", &["a", "b", "c"]).await;
            let mut stream = world.names().open_dir(dir).await.unwrap();
            let mut shown = stream.read(0, taken).await.unwrap();
            std::fs::remove_file(world.ufs_path("d/b")).unwrap();
            world.put_ufs("d/b", b"theirs");
            world.names().invalidate(MountId::ROOT, &UfsKey::root());
            assert_eq!(world.walk("d/b").await.unwrap().attr.size, 6);
            let rest = stream.read(shown.last().unwrap().next_offset, 10).await.unwrap();
            shown.extend(rest);
            assert_eq!(names_of(&shown).join(" "), ". .. a b c", "{taken} were taken before");
        });
    }
}

/// A file that is written and carried beside such a listing is shown where it is, and once.
#[test]
fn what_is_written_and_carried_beside_a_listing_is_shown_once() {
    for taken in 2..6 {
        let world = bare_world();
        block_on(async {
            let dir = carried(&world, "d", &["a", "b", "c"]).await;
            let mut stream = world.names().open_dir(dir).await.unwrap();
            let mut shown = stream.read(0, taken).await.unwrap();
            let ino = world.walk("d/b").await.unwrap().attr.ino;
            world.names().write_opened(ino, Some(ExtentId(ino.0)), None).await.unwrap();
            let times = FileTimes { len: 3, ..FileTimes::default() };
            world.names().write_closed(ino, times, true).await.unwrap();
            carry_whole(&world).await.unwrap();
            shown.extend(stream.read(shown.last().unwrap().next_offset, 10).await.unwrap());
            assert_eq!(names_of(&shown).join(" "), ". .. a b c", "{taken} were taken before");
        });
    }
}
