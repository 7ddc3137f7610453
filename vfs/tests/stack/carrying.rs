//! Files that are being carried to the under file system while others open them.

use crate::support::*;
use forebay_types::{
    ContentKey, ExtentId, Ino, MountId, PersistLog, PersistOutcome, PersistWork, Settled, UfsKey,
};
use std::sync::Arc;

/// A file of three pages, carried and recorded as clean, whose extent is not known by its content yet: the moment
/// between the two steps by which a carried file becomes a cached one.
struct Unbound {
    ino: Ino,
    extent: ExtentId,
    content: ContentKey,
}

const LEN: u64 = 3 * PAGE;

fn carried_but_unbound(node: &Node) -> Unbound {
    let ino = node.run(|vfs| async move {
        let (ino, opened) = vfs.make("a").await;
        vfs.put(opened.handle, 0, &pattern(LEN, 1)).await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        ino
    });
    let extent = node.extent_of(ino).unwrap();
    let (names, ufs) = (Arc::clone(&node.names), Arc::clone(&node.ufs));
    node.put("a", &pattern(LEN, 1));
    let attr = node.wait_for(async move { ufs.stat(&UfsKey::new(*b"a").unwrap()).await }).unwrap().unwrap();
    let content = ContentKey::of(MountId::ROOT, &UfsKey::new(*b"a").unwrap(), &attr.version);
    node.wait_for(async move {
        loop {
            let task = names.next().await;
            let is_it = task.ino == ino && matches!(task.work, PersistWork::Put { .. });
            assert!(is_it, "nothing else is to be carried: {task:?}");
            match names.finish(&task, PersistOutcome::Done(Some(attr.clone()))).await.unwrap() {
                Settled::Clean => return,
                Settled::StillDirty => {}
            }
        }
    });
    assert_eq!(node.extent_of(ino), None, "it is found by its content from here on");
    Unbound { ino, extent, content }
}

fn bind(node: &Node, unbound: &Unbound) {
    let (store, extent, content) = (Arc::clone(&node.store), unbound.extent, unbound.content);
    node.run(move |_| async move { store.bind(extent, content).await.unwrap() });
}

#[test]
fn a_writer_between_the_record_and_the_binding_loses_nothing() {
    for passthrough in [true, false] {
        let node = Node::start(Setup { passthrough, ..no_delay() });
        let unbound = carried_but_unbound(&node);
        let ino = unbound.ino;
        let opened = node.run(move |vfs| async move {
            let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
            vfs.put(opened.handle, PAGE + 7, b"changed").await.unwrap();
            opened
        });
        bind(&node, &unbound);
        let mut expected = pattern(LEN, 1);
        expected[PAGE as usize + 7..][..7].copy_from_slice(b"changed");
        expected[..3].copy_from_slice(b"and");
        let whole = expected.clone();
        node.run(move |vfs| async move {
            vfs.put(opened.handle, 0, b"and").await.unwrap();
            assert_eq!(vfs.get(opened.handle).await.unwrap(), whole);
            vfs.fsync(opened.handle).await.unwrap();
            vfs.release(opened.handle).await.unwrap();
        });
        let node = node.crash();
        let bytes = node.run(move |vfs| async move { vfs.content(ino).await.unwrap() });
        assert_eq!(bytes, expected);
    }
}

#[test]
fn a_writer_between_the_record_and_the_binding_who_changes_nothing_leaves_it_clean() {
    let node = Node::start(no_delay());
    let unbound = carried_but_unbound(&node);
    let ino = unbound.ino;
    let opened = node.run(move |vfs| async move { vfs.open(&ALICE, ino, BOTH).await.unwrap() });
    bind(&node, &unbound);
    node.run(move |vfs| async move {
        vfs.release(opened.handle).await.unwrap();
        assert_eq!(vfs.content(ino).await.unwrap(), pattern(LEN, 1));
        assert_eq!(&*vfs.getxattr(ino, b"user.forebay.state").await.unwrap(), b"clean");
    });
}

#[test]
fn a_reader_between_the_record_and_the_binding_reads_what_was_carried() {
    let node = Node::start(no_delay());
    let unbound = carried_but_unbound(&node);
    let ino = unbound.ino;
    node.run(move |vfs| async move { assert_eq!(vfs.content(ino).await.unwrap(), pattern(LEN, 1)) });
    bind(&node, &unbound);
    node.run(move |vfs| async move { assert_eq!(vfs.content(ino).await.unwrap(), pattern(LEN, 1)) });
}

fn no_delay() -> Setup {
    let mut setup = Setup::default();
    setup.root.policy.persist_delay = forebay_types::HumanDuration(std::time::Duration::ZERO);
    setup
}
