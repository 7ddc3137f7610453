//! Listings by images of directories: they show what there is, whatever changed since the image was made.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::carry_all;
use common::{ROOT_CALLER, World, block_on, name, owned, root_spec};
use forebay_namespace::{
    Attributes, DirPlace, DirStream, Entry, Listed, MountSpec, Namespace, PolicyChange, RenameMode, Taken,
};
use forebay_types::{ExtentId, FileKind, FileTimes, HumanDuration, Ino, SetAttr};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(10_000);

/// What was shown under each name.
type Shown = BTreeMap<String, (Ino, Option<Entry>)>;

/// Directories of this world need not be carried to be listed by our names alone.
fn native_world() -> World {
    World::with(|config| {
        config.root = root_spec(TTL);
        config.root.source = String::new();
    })
}

/// A directory with an image, and its files in order.
async fn drawn(world: &World, files: &[&str]) -> Ino {
    let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
    for file in files {
        world.make(dir, file, FileKind::Regular).await.unwrap();
    }
    assert!(world.names().make_image(dir).await.unwrap());
    dir
}

/// Shows up to `count` entries from `offset` on; yields where to go on.
async fn show(stream: &mut DirStream, offset: u64, count: usize, shown: &mut Shown) -> u64 {
    let (mut at, mut left) = (offset, count);
    let take = |listed: &Listed<'_>| {
        if left == 0 {
            return Taken::Not;
        }
        left -= 1;
        at = listed.next_offset;
        let name = String::from_utf8_lossy(listed.name).into_owned();
        if name != "." && name != ".." {
            assert!(
                shown.insert(name, (listed.ino, listed.entry.map(owned))).is_none(),
                "a name was shown twice"
            );
        }
        Taken::Name
    };
    assert!(stream.show(offset, Attributes::AtHand, take).await.unwrap(), "there is no image");
    at
}

fn names(shown: &Shown) -> String {
    shown.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

async fn all_shown(world: &World, dir: Ino) -> Shown {
    let (mut stream, mut shown) = (world.names().open_dir(dir).await.unwrap(), Shown::new());
    show(&mut stream, 0, usize::MAX, &mut shown).await;
    shown
}

#[test]
fn what_has_changed_since_is_told_as_it_is() {
    let world = native_world();
    block_on(async {
        let dir = drawn(&world, &["a", "b", "c"]).await;
        let ino = world.walk("d/b").await.unwrap().attr.ino;
        let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        world.names().set_attr(&ROOT_CALLER, ino, mode).await.unwrap();
        let shown = all_shown(&world, dir).await;
        assert_eq!(names(&shown), "a b c");
        let modes = shown.values().map(|(_, entry)| entry.unwrap().attr.mode).collect::<Vec<_>>();
        assert_eq!(modes, [0o644, 0o600, 0o644]);
        // While it is open for write the record does not know its size.
        world.names().write_opened(ino, Some(ExtentId(ino.0)), None).await.unwrap();
        assert!(all_shown(&world, dir).await["b"].1.is_none());
        let times = FileTimes { len: 3, ..FileTimes::default() };
        world.names().write_closed(ino, times, true).await.unwrap();
        assert_eq!(all_shown(&world, dir).await["b"].1.unwrap().attr.size, 3);
    });
}

#[test]
fn an_image_is_of_use_until_a_name_changes() {
    let world = native_world();
    block_on(async {
        let dir = drawn(&world, &["a", "b", "c"]).await;
        assert!(world.list_by_image(dir, 2).await.unwrap().is_some());
        world.make(dir, "d", FileKind::Regular).await.unwrap();
        assert_eq!(world.list_by_image(dir, 2).await.unwrap(), None);
        assert!(world.names().make_image(dir).await.unwrap());
        assert_eq!(world.list_by_image(dir, 2).await.unwrap().unwrap().join(" "), "a b c d");
        world.names().unlink(&ROOT_CALLER, dir, &name("b")).await.unwrap();
        assert_eq!(world.list_by_image(dir, 2).await.unwrap(), None);
        assert_eq!(world.list_by(dir, 2).await.unwrap().join(" "), "a c d");
    });
}

/// However far the listing has come when the names change: none is shown twice, none that stays is missed, and each is told as
/// what it is now.
#[test]
fn names_that_change_beside_a_listing() {
    for taken in 1..10 {
        let world = native_world();
        block_on(async {
            let dir =
                drawn(&world, &["gone", "kept", "linked", "moved", "new", "old", "swapped", "swapping"])
                    .await;
            let (mut stream, mut shown) = (world.names().open_dir(dir).await.unwrap(), Shown::new());
            let offset = show(&mut stream, 0, taken, &mut shown).await;
            let before = shown.clone();
            let names = world.names();
            names.unlink(&ROOT_CALLER, dir, &name("gone")).await.unwrap();
            world.rename((dir, "moved"), (Ino::ROOT, "away"), RenameMode::Replace).await.unwrap();
            world.rename((dir, "new"), (dir, "old"), RenameMode::Replace).await.unwrap();
            world.rename((dir, "swapped"), (dir, "swapping"), RenameMode::Exchange).await.unwrap();
            let linked = world.walk("d/linked").await.unwrap().attr.ino;
            names.link(&ROOT_CALLER, linked, dir, &name("further")).await.unwrap();
            world.make(dir, "later", FileKind::Regular).await.unwrap();
            show(&mut stream, offset, usize::MAX, &mut shown).await;
            for (called, (ino, entry)) in &shown {
                if before.contains_key(called) {
                    continue;
                }
                let now = names.lookup(dir, &name(called)).await.unwrap().attr;
                assert_eq!(
                    (*ino, entry.unwrap().attr),
                    (now.ino, now),
                    "{called}, {taken} were taken before"
                );
            }
            for stays in ["kept", "linked", "old", "swapped", "swapping"] {
                assert!(shown.contains_key(stays), "{stays}, {taken} were taken before");
            }
            for gone in ["gone", "moved", "new"] {
                assert_eq!(shown.contains_key(gone), before.contains_key(gone), "{gone}, {taken}");
            }
        });
    }
}

#[test]
fn a_listing_that_goes_back_shows_the_same_again() {
    let world = native_world();
    block_on(async {
        let dir = drawn(&world, &["a", "b", "c", "d"]).await;
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let (mut first, mut again) = (Shown::new(), Shown::new());
        let offset = show(&mut stream, 0, 3, &mut Shown::new()).await;
        show(&mut stream, offset, 9, &mut first).await;
        show(&mut stream, offset, 9, &mut again).await;
        assert_eq!((names(&first), first == again), ("b c d".into(), true));
        assert_eq!(names(&all_shown(&world, dir).await), "a b c d");
    });
}

#[test]
fn a_listing_by_an_image_is_gone_on_with_by_who_has_none() {
    for taken in 1..10 {
        let files = ["a", "b", "c", "e", "f", "g"].map(|called| (called, FileKind::Regular));
        let (mut world, mut shown) = (block_on(carried(&files)).0, Shown::new());
        let (offset, place) = block_on(async {
            let dir = world.walk("d").await.unwrap().attr.ino;
            let mut stream = world.names().open_dir(dir).await.unwrap();
            let offset = show(&mut stream, 0, taken, &mut shown).await;
            let last = shown.keys().next_back().map(|last| (offset, name(last)));
            (offset, DirPlace { began: stream.began(), last })
        });
        world.crash();
        let rest = block_on(async {
            let dir = world.walk("d").await.unwrap().attr.ino;
            world.make(dir, "d", FileKind::Regular).await.unwrap();
            let mut stream = world.names().open_dir(dir).await.unwrap();
            stream.resume(place).await.unwrap();
            stream.read(offset, 20).await.unwrap()
        });
        let rest = rest.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
        let rest: Vec<_> = rest.filter(|called| called != ".." && called != "d").collect();
        let all: Vec<_> = shown.into_keys().chain(rest).collect();
        assert_eq!(all.join(" "), "a b c e f g", "{taken} were taken before");
    }
}

/// The kernel gives back exactly the lookups it was told of.
#[test]
fn what_is_taken_with_attributes_counts_as_a_lookup() {
    let world = native_world();
    block_on(async {
        let dir = drawn(&world, &["a", "b", "c"]).await;
        let a = world.walk("d/a").await.unwrap().attr.ino;
        // Who makes something or walks to it has looked it up.
        world.names().only_looked_up(1 << 20).into_iter().for_each(|ino| world.names().forget(ino, 9));
        let mut stream = world.names().open_dir(dir).await.unwrap();
        let mut taken = Vec::new();
        let take = |listed: &Listed<'_>| match listed.name {
            b"b" => Taken::Name,
            b"c" => Taken::Not,
            _ if listed.entry.is_some() => {
                taken.push(listed.ino);
                Taken::Entry
            }
            _ => Taken::Name,
        };
        assert!(stream.show(0, Attributes::AtHand, take).await.unwrap());
        assert_eq!(taken, [a]);
        let looked_up = || world.names().only_looked_up(1 << 20);
        assert_eq!(looked_up(), [a]);
        world.names().forget(a, 1);
        assert_eq!(looked_up(), []);
    });
}

/// A world whose store is listed as an object store is, with a directory that is ours alone there.
async fn carried(names: &[(&str, FileKind)]) -> (World, Ino) {
    let world = World::with(|config| config.root = root_spec(TTL));
    world.ufs.bare_lists.store(true, SeqCst);
    let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
    for (called, kind) in names {
        world.make(dir, called, *kind).await.unwrap();
    }
    while world.names().dirty_stats().names > 0 {
        carry_all(&world).await.unwrap();
    }
    assert!(world.names().make_image(dir).await.unwrap());
    (world, dir)
}

#[test]
fn what_is_carried_is_told_by_the_same_image() {
    let world = World::with(|config| config.root = root_spec(TTL));
    world.ufs.bare_lists.store(true, SeqCst);
    block_on(async {
        let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        for file in ["a", "b", "c"] {
            world.make(dir, file, FileKind::Regular).await.unwrap();
        }
        assert!(world.names().make_image(dir).await.unwrap());
        let before = all_shown(&world, dir).await;
        while world.names().dirty_stats().names > 0 {
            carry_all(&world).await.unwrap();
        }
        assert!(world.ufs_path("d/c").exists());
        let after = all_shown(&world, dir).await;
        let attrs = |shown: &Shown| shown.values().map(|(_, entry)| entry.unwrap().attr).collect::<Vec<_>>();
        assert_eq!(attrs(&before), attrs(&after), "the image knows nothing of what was carried");
        assert!(
            after["a"].1.unwrap().attr_ttl < before["a"].1.unwrap().attr_ttl,
            "what others may change is not"
        );
        // A name of another file, and no name any more, are others.
        world.rename((dir, "a"), (dir, "b"), RenameMode::Replace).await.unwrap();
        assert_eq!(world.list_by_image(dir, 9).await.unwrap(), None);
        assert_eq!(world.list_by(dir, 9).await.unwrap().join(" "), "b c");
    });
}

#[test]
fn a_mount_that_comes_beside_a_listing_is_shown() {
    block_on(async {
        let (world, dir) = carried(&[("a", FileKind::Regular), ("sub", FileKind::Directory)]).await;
        let below = world.walk("d/sub").await.unwrap().attr.ino;
        let (mut stream, mut shown) = (world.names().open_dir(dir).await.unwrap(), Shown::new());
        let offset = show(&mut stream, 0, 2, &mut shown).await;
        world.names().add_mount(MountSpec::new("/d/sub", "")).await.unwrap();
        show(&mut stream, offset, 9, &mut shown).await;
        let now = world.walk("d/sub").await.unwrap().attr;
        assert!(now.ino != below && shown["sub"].0 == now.ino);
    });
}

#[test]
fn what_is_told_of_a_carried_directory_is_believed_until_it_is_to_be_asked_for() {
    block_on(async {
        let (world, dir) = carried(&[("a", FileKind::Regular), ("b", FileKind::Regular)]).await;
        let ttl = |shown: Shown| shown["a"].1.unwrap().attr_ttl;
        let young = ttl(all_shown(&world, dir).await);
        world.clock.advance(Duration::from_secs(1000));
        assert_eq!(young - ttl(all_shown(&world, dir).await), Duration::from_secs(1000));
        world.clock.advance(TTL);
        assert_eq!(world.list_by_image(dir, 9).await.unwrap(), None, "others may have put names there");
        let asked = world.ufs.lists.load(SeqCst);
        world.put_ufs("d/theirs", b"1");
        assert_eq!(world.list_by(dir, 9).await.unwrap().join(" "), "a b theirs");
        assert_eq!(world.ufs.lists.load(SeqCst), asked + 1);
        assert!(!world.names().make_image(dir).await.unwrap());
    });
}

#[test]
fn where_not_all_names_are_believed_alike_there_is_no_image() {
    let metadata_ttl = Some(HumanDuration(Duration::from_secs(5)));
    let change = PolicyChange { metadata_ttl, ..PolicyChange::default() };
    let world = World::with(|config| {
        config.root = root_spec(TTL);
        config.root.source = String::new();
        config.root.prefixes.insert("d/a".into(), change);
    });
    block_on(async {
        let dir = drawn(&world, &["a", "b"]).await;
        assert_eq!(world.list_by_image(dir, 9).await.unwrap(), None);
    });
}

fn small_world(inodes_max: usize) -> World {
    World::with(|config| {
        config.root = root_spec(TTL);
        config.root.source = String::new();
        config.inodes_max = inodes_max;
    })
}

/// A directory with so many files.
async fn filled(world: &World, called: &str, files: usize) -> Ino {
    let dir = world.make(Ino::ROOT, called, FileKind::Directory).await.unwrap();
    for n in 0..files {
        world.make(dir, &format!("f{n}"), FileKind::Regular).await.unwrap();
    }
    dir
}

#[test]
fn images_are_bounded_by_the_inodes() {
    let world = small_world(4 * 256);
    block_on(async {
        // Of 1024 inodes a quarter may be in images that are kept, and one image may have half of that.
        let small = filled(&world, "small", 100).await;
        assert!(world.names().make_image(small).await.unwrap());
        let large = filled(&world, "large", 140).await;
        assert!(!world.names().make_image(large).await.unwrap());
        assert_eq!(world.list_by_image(large, 1000).await.unwrap(), None);
    });
}

#[test]
fn images_that_listings_hold_are_bounded_too() {
    let world = small_world(4 * 256);
    block_on(async {
        let dir = filled(&world, "d", 100).await;
        let mut streams = Vec::new();
        while world.names().make_image(dir).await.unwrap() {
            let mut stream = world.names().open_dir(dir).await.unwrap();
            show(&mut stream, 0, 10, &mut Shown::new()).await;
            streams.push(stream);
            assert!(streams.len() < 10, "listings hold more than they may");
            world.make(dir, &format!("more{}", streams.len()), FileKind::Regular).await.unwrap();
        }
        assert!(streams.len() > 2);
        streams.clear();
        assert!(world.names().make_image(dir).await.unwrap());
    });
}

#[test]
fn a_table_that_holds_too_much_has_no_images() {
    let world = small_world(256);
    block_on(async {
        let dir = filled(&world, "d", 20).await;
        assert!(world.names().make_image(dir).await.unwrap());
        let other = filled(&world, "e", 300).await;
        assert!(!world.names().make_image(dir).await.unwrap());
        for ino in world.names().only_looked_up(1000) {
            world.names().forget(ino, 9);
        }
        filled(&world, "f", 20).await;
        assert!(world.list_by(other, 1000).await.unwrap().len() == 300);
    });
}

/// Whether a directory comes to have an image within some looks, if it is left alone.
async fn comes_to_have_one(world: &World, dir: Ino) -> bool {
    for _ in 0..100 {
        if world.list_by_image(dir, 1000).await.unwrap().is_some() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[test]
fn a_directory_that_is_left_alone_gets_an_image_by_itself() {
    let world = native_world();
    block_on(async {
        let keeps = tokio::spawn(Namespace::keep_images(Arc::downgrade(world.names())));
        let dir = world.make(Ino::ROOT, "d", FileKind::Directory).await.unwrap();
        for n in 0..40 {
            world.make(dir, &format!("f{n}"), FileKind::Regular).await.unwrap();
        }
        assert!(comes_to_have_one(&world, dir).await);
        world.names().unlink(&ROOT_CALLER, dir, &name("f7")).await.unwrap();
        assert_eq!(world.list_by_image(dir, 1000).await.unwrap(), None);
        assert!(comes_to_have_one(&world, dir).await);
        assert_eq!(world.list_by(dir, 1000).await.unwrap().len(), 39);
        for n in (0..40).filter(|n| *n != 7) {
            world.names().unlink(&ROOT_CALLER, dir, &name(&format!("f{n}"))).await.unwrap();
        }
        world.names().rmdir(&ROOT_CALLER, Ino::ROOT, &name("d")).await.unwrap();
        assert!(!world.names().make_image(dir).await.unwrap());
        keeps.abort();
    });
}
