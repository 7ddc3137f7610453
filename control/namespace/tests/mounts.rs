//! Mounts that come and go, and what their prefixes say, over real directories as UFS.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{ROOT_CALLER, World, block_on, name, refused, root_spec};
use forebay_namespace::{FileState, MountSpec, PolicyChange, RenameMode};
use forebay_types::{ByteSize, FileKind, FsErrorKind, HumanDuration, Ino, MountId, WriteMode};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// A world whose root mount has one prefix.
fn with_prefix(prefix: &str, change: PolicyChange) -> World {
    World::with(|config| {
        config.root = root_spec(HOUR);
        config.root.prefixes.insert(prefix.to_owned(), change);
    })
}

#[test]
fn a_prefix_believes_the_ufs_for_as_long_as_it_says() {
    let metadata_ttl = Some(HumanDuration(Duration::from_secs(5)));
    let world = with_prefix("hot", PolicyChange { metadata_ttl, ..Default::default() });
    for path in ["hot/a/f", "cold/f", "hotter/f"] {
        world.put_ufs(path, b"old");
    }
    let sizes = |world: &World| {
        block_on(async {
            let mut sizes = Vec::new();
            for path in ["hot/a/f", "cold/f", "hotter/f"] {
                sizes.push(world.walk(path).await.unwrap().attr.size);
            }
            sizes
        })
    };
    assert_eq!(sizes(&world), [3, 3, 3]);
    let ttl = |path: &str| block_on(world.walk(path)).unwrap().entry_ttl;
    assert_eq!((ttl("hot/a/f"), ttl("cold/f")), (Duration::from_secs(5), HOUR));
    for path in ["hot/a/f", "cold/f", "hotter/f"] {
        world.put_ufs(path, b"longer");
    }
    assert_eq!(sizes(&world), [3, 3, 3], "nothing is asked before its time");
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(sizes(&world), [6, 3, 3]);
}

#[test]
fn what_is_born_in_a_transient_prefix_is_ours_for_good_and_stays_within() {
    let write_mode = Some(WriteMode::Transient);
    let mut world = with_prefix("a/scratch", PolicyChange { write_mode, ..Default::default() });
    let states = |world: &World| {
        block_on(async {
            let mut states = Vec::new();
            for path in ["a", "a/out", "a/scratch", "a/scratch/dir", "a/scratch/dir/in"] {
                states.push(world.names().state(world.walk(path).await.unwrap().attr.ino).await.unwrap());
            }
            states
        })
    };
    let (a, scratch, dir) = block_on(async {
        let a = world.make(Ino::ROOT, "a", FileKind::Directory).await.unwrap();
        world.make(a, "out", FileKind::Regular).await.unwrap();
        let scratch = world.make(a, "scratch", FileKind::Directory).await.unwrap();
        let dir = world.make(scratch, "dir", FileKind::Directory).await.unwrap();
        world.make(dir, "in", FileKind::Regular).await.unwrap();
        (a, scratch, dir)
    });
    let wanted =
        [FileState::Dirty, FileState::Dirty, FileState::Native, FileState::Native, FileState::Native];
    assert_eq!(states(&world), wanted);
    block_on(async {
        let queued: Vec<_> =
            world.names().queued_below(b"").await.unwrap().into_iter().map(|q| q.path).collect();
        assert_eq!(queued, [b"/a".to_vec(), b"/a/out".to_vec()]);
        let plain = RenameMode::Replace;
        assert_eq!(refused(world.rename((dir, "in"), (a, "in"), plain).await), FsErrorKind::CrossesMounts);
        assert_eq!(
            refused(world.rename((a, "out"), (scratch, "out"), plain).await),
            FsErrorKind::CrossesMounts
        );
        assert_eq!(refused(world.rename((a, "scratch"), (a, "other"), plain).await), FsErrorKind::Busy);
        assert_eq!(refused(world.rename((Ino::ROOT, "a"), (Ino::ROOT, "b"), plain).await), FsErrorKind::Busy);
        let out = world.walk("a/out").await.unwrap().attr.ino;
        let linked = world.names().link(&ROOT_CALLER, out, scratch, &name("l")).await;
        assert_eq!(refused(linked), FsErrorKind::CrossesMounts);
        world.rename((dir, "in"), (scratch, "in"), plain).await.unwrap();
        world.rename((scratch, "in"), (dir, "in"), plain).await.unwrap();
    });
    world.crash();
    assert_eq!(states(&world), wanted);
}

#[test]
fn a_mount_goes_only_when_nothing_in_it_is_only_here() {
    let mut world = World::new();
    let nested = tempfile::tempdir().unwrap();
    std::fs::write(nested.path().join("theirs"), b"x").unwrap();
    world.put_ufs("top/hidden", b"x");
    let id = block_on(world.names().add_mount(MountSpec::new("/top", "file:///nested"))).unwrap();
    world.ufs.mount(id, nested.path());
    block_on(async {
        let top = world.walk("top").await.unwrap().attr.ino;
        assert_eq!(world.list(top).await.unwrap(), ["theirs"]);
        let again = world.names().add_mount(MountSpec::new("/top", "file:///other")).await;
        assert_eq!(refused(again), FsErrorKind::Exists);
        world.make(top, "ours", FileKind::Regular).await.unwrap();
        assert_eq!(refused(world.names().remove_mount(id).await), FsErrorKind::Busy);
        assert_eq!(refused(world.names().remove_mount(MountId::ROOT).await), FsErrorKind::Busy);
        // A refusal leaves it as it was.
        world.make(top, "more", FileKind::Regular).await.unwrap();
        for gone in ["ours", "more"] {
            let unlinked = world.names().unlink(&ROOT_CALLER, top, &name(gone)).await.unwrap();
            world.names().release_orphan(unlinked.ino).await.unwrap();
        }
    });
    world.crash();
    block_on(async {
        assert_eq!(world.names().mounts().len(), 2, "it survives a crash");
        world.names().remove_mount(id).await.unwrap();
        let top = world.walk("top").await.unwrap().attr.ino;
        assert_eq!(world.list(top).await.unwrap(), ["hidden"]);
        assert_eq!(refused(world.names().remove_mount(id).await), FsErrorKind::NotFound);
    });
    world.crash();
    assert_eq!(world.names().mounts().len(), 1);
}

#[test]
fn all_quotas_above_a_file_bind_it() {
    let world = World::with(|config| {
        config.root.policy.quota = Some(ByteSize::gib(1));
        let quota = |mib| PolicyChange { quota: Some(ByteSize::mib(mib)), ..Default::default() };
        config.root.prefixes = [("a".to_owned(), quota(5)), ("a/b".to_owned(), quota(1))].into();
    });
    world.put_ufs("a/b/f", b"x");
    let quotas = |path: &str| {
        block_on(async {
            let (mount, quotas) =
                world.names().quotas(world.walk(path).await.unwrap().attr.ino).await.unwrap();
            assert_eq!(mount, MountId::ROOT);
            quotas.into_iter().map(|(prefix, quota)| (prefix, quota.as_u64() >> 20)).collect::<Vec<_>>()
        })
    };
    assert_eq!(quotas("a/b/f"), [("".into(), 1024), ("a".into(), 5), ("a/b".into(), 1)]);
    assert_eq!(quotas(""), [("".into(), 1024)]);
    let path =
        block_on(async { world.names().path(world.walk("a/b/f").await.unwrap().attr.ino).await.unwrap() });
    assert_eq!(path, Some(b"/a/b/f".to_vec()));
}
