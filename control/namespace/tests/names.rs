//! What names do, over a real directory as the UFS.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{ROOT_CALLER, World, block_on, name, refused};
use forebay_namespace::RenameMode;
use forebay_types::{FileKind, FsErrorKind, Ino, InodeState};

#[test]
fn what_the_ufs_has_is_there() {
    let world = World::new();
    world.put_ufs("a/b/file", b"12345");
    std::os::unix::fs::symlink("to/where", world.ufs_path("a/link")).unwrap();
    block_on(async {
        let file = world.walk("a/b/file").await.unwrap();
        assert_eq!(
            (file.attr.kind, file.attr.size, file.attr.state),
            (FileKind::Regular, 5, InodeState::Clean)
        );
        assert!(file.attr.ino.is_derived());
        let link = world.walk("a/link").await.unwrap();
        assert_eq!(&*world.names().readlink(link.attr.ino).await.unwrap(), b"to/where");
        assert_eq!(refused(world.walk("a/none").await), FsErrorKind::NotFound);
        assert_eq!(refused(world.walk("a/link/x").await), FsErrorKind::NotADirectory);
        assert_eq!(world.list(world.walk("a").await.unwrap().attr.ino).await.unwrap(), ["b", "link"]);
        let content = world.names().content(file.attr.ino).await.unwrap();
        assert_eq!(content.ufs.unwrap().0.as_bytes(), b"a/b/file");
    });
}

#[test]
fn what_is_made_here_is_there_after_a_crash() {
    let mut world = World::new();
    world.put_ufs("a/old", b"x");
    let inos = block_on(async {
        let a = world.walk("a").await.unwrap().attr.ino;
        let dir = world.make(a, "dir", FileKind::Directory).await.unwrap();
        let file = world.make(dir, "file", FileKind::Regular).await.unwrap();
        assert_eq!(refused(world.make(a, "old", FileKind::Regular).await), FsErrorKind::Exists);
        assert_eq!(refused(world.make(a, "dir", FileKind::Regular).await), FsErrorKind::Exists);
        (a, dir, file)
    });
    world.crash();
    block_on(async {
        assert_eq!(world.walk("a").await.unwrap().attr.ino, inos.0);
        assert_eq!(world.walk("a/dir").await.unwrap().attr.ino, inos.1);
        assert_eq!(world.walk("a/dir/file").await.unwrap().attr.ino, inos.2);
        assert_eq!(world.list(inos.0).await.unwrap(), ["old", "dir"]);
        assert_eq!(world.list(inos.1).await.unwrap(), ["file"]);
    });
}

#[test]
fn a_clean_file_that_is_unlinked_stays_away() {
    let mut world = World::new();
    world.put_ufs("f", b"1");
    let ino = block_on(async {
        let ino = world.walk("f").await.unwrap().attr.ino;
        let unlinked = world.names().unlink(&ROOT_CALLER, Ino::ROOT, &name("f")).await.unwrap();
        assert_eq!((unlinked.ino, unlinked.nlink), (ino, 0));
        assert_eq!(unlinked.content.ufs.unwrap().0.as_bytes(), b"f");
        ino
    });
    world.expire();
    let recovery = world.crash();
    assert_eq!(recovery.orphans, [(ino, None)]);
    world.expire();
    block_on(async {
        assert_eq!(refused(world.walk("f").await), FsErrorKind::NotFound);
        assert!(world.list(Ino::ROOT).await.unwrap().is_empty());
        world.names().release_orphan(ino).await.unwrap();
        assert_eq!(refused(world.names().attr(ino).await.map(|_| ())), FsErrorKind::Stale);
        world.make(Ino::ROOT, "f", FileKind::Regular).await.unwrap();
        assert_eq!(world.walk("f").await.unwrap().attr.state, InodeState::Dirty);
    });
    assert!(world.crash().orphans.is_empty());
}

#[test]
fn a_directory_of_the_ufs_is_renamed_with_what_is_in_it() {
    let mut world = World::new();
    world.put_ufs("a/sub/f", b"1");
    block_on(async {
        let dir = world.walk("a/sub").await.unwrap().attr.ino;
        let file = world.walk("a/sub/f").await.unwrap().attr.ino;
        let a = world.walk("a").await.unwrap().attr.ino;
        let moved = world.rename((a, "sub"), (Ino::ROOT, "top"), RenameMode::Replace).await;
        assert_eq!(moved.unwrap(), None);
        assert_eq!(world.walk("top").await.unwrap().attr.ino, dir);
        assert_eq!(world.walk("top/f").await.unwrap().attr.ino, file);
        let content = world.names().content(file).await.unwrap();
        assert_eq!(content.ufs.unwrap().0.as_bytes(), b"a/sub/f");
        assert_eq!(refused(world.walk("a/sub").await), FsErrorKind::NotFound);
        let inside = world.rename((Ino::ROOT, "top"), (dir, "x"), RenameMode::Replace).await;
        assert_eq!(refused(inside), FsErrorKind::Invalid);
    });
    world.crash();
    world.expire();
    block_on(async {
        let file = world.walk("top/f").await.unwrap();
        assert_eq!(file.attr.size, 1);
        assert_eq!(refused(world.walk("a/sub").await), FsErrorKind::NotFound);
        assert_eq!(world.list(Ino::ROOT).await.unwrap(), ["a", "top"]);
    });
}
