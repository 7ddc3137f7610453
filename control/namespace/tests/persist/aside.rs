//! Names that wait for each other in a circle: one steps aside in the UFS, and none is left there.

use crate::common::carrier::{carry, carry_all};
use crate::common::{ROOT_CALLER, World, block_on, name, refused};
use crate::{due, write};
use forebay_namespace::RenameMode;
use forebay_types::{FileKind, FsErrorKind, Ino, PersistLog, PersistOutcome, PersistWork, SetAttr};
use std::time::Duration;

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
