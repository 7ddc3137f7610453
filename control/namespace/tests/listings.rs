//! Listings that tell kinds, sizes and versions alone, as those of object stores do.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::{carry_all, carry_some, take};
use common::{ROOT_CALLER, World, block_on, name, refused};
use forebay_namespace::{Attributes, DirEntry, DirPlace, Entry, RenameMode};
use forebay_types::{
    Attr, ExtentId, FileKind, FileTimes, FsErrorKind, Ino, Name, PersistLog, PersistOutcome, PersistWork,
};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
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

/// Writes a file anew and closes it.
async fn rewrite(world: &World, ino: Ino, len: u64) {
    world.names().write_opened(ino, Some(ExtentId(ino.0)), None).await.unwrap();
    let times = FileTimes { len, ..FileTimes::default() };
    world.names().write_closed(ino, times, true).await.unwrap();
}

/// A file that was carried, in a directory with others before and after it.
async fn carried_among_others(world: &World) -> (Ino, Ino) {
    let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
    for called in ["a", "b", "c"] {
        let ino = world.make(dir, called, FileKind::Regular).await.unwrap();
        rewrite(world, ino, 1).await;
    }
    world.expire();
    carry_all(world).await.unwrap();
    (dir, world.walk("d/b").await.unwrap().attr.ino)
}

/// Lists a directory; after so many entries a file is written and carried so many times, and after so many further ones
/// again.
async fn list_beside(world: &World, dir: Ino, file: Ino, turns: &[(usize, u32)]) -> Vec<String> {
    let mut stream = world.names().open_dir(dir).await.unwrap();
    let (mut names, mut offset, mut len) = (Vec::new(), 0, 1);
    for (entries, times) in turns.iter().copied().chain([(10, 0)]) {
        for _ in 0..entries {
            let found = stream.read(offset, 1).await.unwrap();
            let Some(entry) = found.first() else { break };
            offset = entry.next_offset;
            names.push(String::from_utf8_lossy(&entry.name).into_owned());
        }
        for half in 0..times {
            len += 1;
            match half % 2 {
                0 => rewrite(world, file, len).await,
                _ => {
                    world.expire();
                    carry_all(world).await.unwrap();
                }
            }
        }
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

#[test]
fn a_file_that_is_written_and_carried_beside_a_listing_is_shown_once_however_often() {
    for before in 0..3 {
        for shown in [0, 2] {
            for after in 0..3 {
                let world = World::new();
                block_on(async {
                    let (dir, file) = carried_among_others(&world).await;
                    let names = list_beside(&world, dir, file, &[(3, before), (shown, after)]).await;
                    assert_eq!(names, ["a", "b", "c"], "{before} turns, {shown} entries, {after} turns");
                });
            }
        }
    }
}

/// It is shown once, whether what the UFS has is found leaving, or is found to have stayed.
#[test]
fn a_file_whose_move_comes_to_nothing_beside_a_listing_is_shown_once() {
    let world = World::new();
    block_on(async {
        let (dir, _) = carried_among_others(&world).await;
        world.rename((dir, "b"), (dir, "x"), RenameMode::Replace).await.unwrap();
        world.expire();
        let task = take(&world).await.unwrap();
        assert!(matches!(task.work, PersistWork::Move { .. }), "{task:?}");
        world.rename((dir, "x"), (dir, "b"), RenameMode::Replace).await.unwrap();
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let first = stream.read(0, 4).await.unwrap();
        world.names().finish(&task, PersistOutcome::NotDone).await.unwrap();
        let rest = stream.read(first.last().unwrap().next_offset, 10).await.unwrap();
        let names: BTreeSet<_> = first.iter().chain(&rest).map(|entry| entry.name.clone()).collect();
        assert!(names.contains(&b"b"[..]), "{names:?}");
        assert_eq!(names.len(), first.len() + rest.len());
    });
}

/// The kernel asks again from the last entry that it had room for: what it was told beyond that may be gone meanwhile.
#[test]
fn a_listing_goes_on_after_what_was_shown_last() {
    let world = World::new();
    block_on(async {
        let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        for n in 0..8 {
            world.make(dir, &format!("n{n}"), FileKind::Regular).await.unwrap();
        }
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let told = stream.read(0, 8).await.unwrap();
        world.names().unlink(&common::ROOT_CALLER, dir, &name("n4")).await.unwrap();
        // The dots and the first two had room; then the next four.
        let again = stream.read(told[3].next_offset, 4).await.unwrap();
        let rest = stream.read(again[3].next_offset, 8).await.unwrap();
        let shown = told[2..4].iter().chain(&again).chain(&rest);
        let names: Vec<_> = shown.map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
        assert_eq!(names, ["n0", "n1", "n2", "n3", "n5", "n6", "n7"]);
    });
}

/// Lists as FUSE does: more and more at a time until there is no room, and again from what it had room for last. All that
/// was taken is removed, and carried if need be, before the next read. Returns the names.
async fn emptied(world: &World, dir: Ino, room: usize, carry: bool) -> BTreeSet<String> {
    let (mut taken, mut offset) = (BTreeSet::new(), 0);
    let mut stream = world.names().open_dir(dir).await.unwrap();
    loop {
        let (mut told, mut at, mut batch) = (Vec::new(), offset, 32);
        while told.len() <= room {
            let more = stream.read(at, batch).await.unwrap();
            let Some(last) = more.last() else { break };
            (at, batch) = (last.next_offset, (2 * batch).min(512));
            told.extend(more);
        }
        told.truncate(room);
        let Some(last) = told.last() else { return taken };
        offset = last.next_offset;
        for entry in told.iter().filter(|entry| entry.entry.is_some()) {
            let text = String::from_utf8_lossy(&entry.name).into_owned();
            world.names().unlink(&ROOT_CALLER, dir, &name(&text)).await.unwrap();
            assert!(taken.insert(text), "{:?} is shown twice", entry.name);
        }
        if carry {
            carry_all(world).await.unwrap();
        }
    }
}

#[test]
fn a_directory_of_the_ufs_that_is_emptied_while_it_is_listed_shows_all() {
    let world = bare_world(1300);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        assert_eq!(emptied(&world, dir, 300, true).await.len(), 1300);
        world.names().rmdir(&ROOT_CALLER, Ino::ROOT, &name("d")).await.unwrap();
    });
}

#[test]
fn a_directory_of_ours_that_is_emptied_while_it_is_listed_shows_all() {
    let world = World::new();
    block_on(async {
        let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        for n in 0..2000 {
            world.make(dir, &format!("n{n}"), FileKind::Regular).await.unwrap();
        }
        assert_eq!(emptied(&world, dir, 483, false).await.len(), 2000);
        world.names().rmdir(&ROOT_CALLER, Ino::ROOT, &name("d")).await.unwrap();
    });
}

/// Another process has the entries of the UFS at other places, since some were carried and others are gone.
#[test]
fn a_listing_of_the_ufs_is_gone_on_with_behind_the_name_that_was_shown_last() {
    let mut world = bare_world(1200);
    let (began, last, shown) = block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let shown = stream.read(0, 1100).await.unwrap();
        let last = shown.last().map(|entry| (entry.next_offset, Name::new(entry.name.clone()).unwrap()));
        for new in ["a0", "a1", "a2"] {
            world.make(dir, new, FileKind::Regular).await.unwrap();
        }
        carry_all(&world).await.unwrap();
        std::fs::remove_file(world.ufs_path("d/f0007")).unwrap();
        (stream.began(), last, shown)
    });
    world.crash();
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let offset = last.as_ref().unwrap().0;
        stream.resume(DirPlace { began, last }).await.unwrap();
        let rest = stream.read(offset, 1000).await.unwrap();
        let names: Vec<_> = shown.iter().chain(&rest).map(|entry| entry.name.clone()).collect();
        let once: BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), once.len()), (1205, 1205));
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

#[test]
fn a_directory_goes_at_once_while_the_removals_in_it_are_still_being_carried() {
    const FILES: usize = 60;
    let world = bare_world(FILES);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        for n in 0..FILES {
            world.names().unlink(&ROOT_CALLER, dir, &name(&format!("f{n:04}"))).await.unwrap();
        }
        world.expire();
        let names = Arc::clone(world.names());
        let removed = tokio::spawn(async move { names.rmdir(&ROOT_CALLER, Ino::ROOT, &name("d")).await });
        // Several removals reach the store while a listing is on its way.
        world.ufs.list_takes.store(50, SeqCst);
        let mut carried = 0;
        while !removed.is_finished() && carried < FILES / 2 {
            carried += carry_some(&world, 1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The rest is not carried before the directory has gone.
        tokio::time::timeout(Duration::from_secs(60), removed).await.unwrap().unwrap().unwrap();
        assert!(carried >= 1, "none was carried first");
        carry_all(&world).await.unwrap();
        assert!(!world.ufs_path("d").exists());
    });
}

/// Of names that the UFS's part of a listing has shown, each is looked at among ours, and once.
#[test]
fn own_names_are_scanned_once_for_a_listing() {
    const FILES: u64 = 200;
    let world = World::new();
    block_on(async {
        let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        for n in 0..FILES {
            world.make(dir, &format!("n{n:03}"), FileKind::Regular).await.unwrap();
        }
        carry_all(&world).await.unwrap();
        world.names().flush().unwrap();
        for limit in [32, 1000] {
            assert_eq!(world.list_by(dir, limit).await.unwrap().len() as u64, FILES);
            let before = world.scanned.load(SeqCst);
            assert_eq!(world.list_by(dir, limit).await.unwrap().len() as u64, FILES);
            let scanned = world.scanned.load(SeqCst) - before;
            assert!(scanned <= FILES, "{scanned} names were looked at, {limit} at a time");
        }
    });
}

/// Who wants no attributes is told the same names, and what each is.
#[test]
fn a_listing_without_attributes_shows_the_same() {
    let world = bare_world(3);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        world.make(dir, "sub", FileKind::Directory).await.unwrap();
        world.make(dir, "link", FileKind::Symlink).await.unwrap();
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let whole = stream.read(0, 10).await.unwrap();
        let bare = stream.read_with(0, 10, Attributes::None).await.unwrap();
        assert!(bare.iter().all(|entry| entry.entry.is_none()));
        let shown =
            |entries: Vec<DirEntry>| entries.into_iter().map(|entry| DirEntry { entry: None, ..entry });
        assert!(shown(whole).eq(shown(bare)));
    });
}

#[test]
fn attributes_that_are_known_come_along_and_no_others_are_asked_for() {
    let world = bare_world(3);
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        world.make(dir, "ours", FileKind::Regular).await.unwrap();
        world.walk("d/f0001").await.unwrap();
        let before = world.ufs.stats.load(SeqCst);
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let listed = stream.read_with(2, 10, Attributes::AtHand).await.unwrap();
        let known = listed.iter().map(|entry| entry.entry.map(|entry| entry.attr.mode)).collect::<Vec<_>>();
        assert_eq!(known, [None, Some(0o600), None, Some(0o644)]);
        assert_eq!(world.ufs.stats.load(SeqCst), before);
    });
}

/// Of a very large directory the kernel is not made to remember all.
#[test]
fn attributes_come_along_for_the_first_names_only() {
    const MOST: usize = 16 << 10;
    let world = World::new();
    std::fs::create_dir(world.ufs_path("d")).unwrap();
    (0..MOST + 100).for_each(|n| std::fs::write(world.ufs_path(&format!("d/n{n}")), b"").unwrap());
    block_on(async {
        let dir = world.walk("d").await.unwrap().attr.ino;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let listed = stream.read_with(2, 2 * MOST, Attributes::AtHand).await.unwrap();
        assert_eq!(listed.len(), MOST + 100);
        assert!(listed[..MOST].iter().all(|entry| entry.entry.is_some()));
        assert!(listed[MOST..].iter().all(|entry| entry.entry.is_none()));
    });
}
