//! Files that are being carried to the under file system while others open them.

use crate::support::*;
use forebay_types::{
    ContentKey, ExtentId, FsErrorKind, Ino, MountId, PersistLog, PersistOutcome, PersistTask, PersistWork,
    Settled, UfsAttr, UfsKey,
};
use forebay_vfs::RenameFlags;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

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

/// A change of the file "a" that was brought to the under file system and is not recorded yet: the version that the name
/// space tells of can be had no more.
struct Unrecorded {
    ino: Ino,
    task: PersistTask,
    /// What the under file system has now.
    now: UfsAttr,
    bytes: Vec<u8>,
}

/// A file of which only the page that was changed is here, the whole of which was put.
fn put_but_unrecorded(node: &Node) -> Unrecorded {
    node.put("a", &pattern(LEN, 1));
    let ino = node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        vfs.put(opened.handle, 7, b"ours").await.unwrap();
        vfs.release(opened.handle).await.unwrap();
        ino
    });
    node.until_idle();
    let task = next_task(node);
    assert!(task.ino == ino && matches!(task.work, PersistWork::Put { .. }), "{task:?}");
    let mut bytes = pattern(LEN, 1);
    bytes[7..11].copy_from_slice(b"ours");
    node.put("upload", &bytes);
    std::fs::rename(node.under().join("upload"), node.under().join("a")).unwrap();
    Unrecorded { ino, task, now: attr_of(node, "a"), bytes }
}

/// A file of which nothing is here, with another name.
fn moved_but_unrecorded(node: &Node) -> Unrecorded {
    node.put("a", &pattern(LEN, 1));
    let ino = node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        let (from, to) = (name("a"), name("b"));
        let root = Ino::ROOT;
        vfs.rename(&ALICE, (root, &from), (root, &to), RenameFlags::default()).await.unwrap();
        ino
    });
    let task = next_task(node);
    assert!(task.ino == ino && matches!(task.work, PersistWork::Move { .. }), "{task:?}");
    std::fs::rename(node.under().join("a"), node.under().join("b")).unwrap();
    Unrecorded { ino, task, now: attr_of(node, "b"), bytes: pattern(LEN, 1) }
}

fn next_task(node: &Node) -> PersistTask {
    let names = Arc::clone(&node.names);
    node.wait_for(async move { names.next().await })
}

fn attr_of(node: &Node, text: &str) -> UfsAttr {
    let (ufs, key) = (Arc::clone(&node.ufs), UfsKey::new(text.as_bytes()).unwrap());
    node.wait_for(async move { ufs.stat(&key).await }).unwrap().unwrap()
}

/// Records the outcome a while from now.
fn record_soon(node: &Node, of: &Unrecorded) -> std::thread::JoinHandle<()> {
    let (names, task, now) = (Arc::clone(&node.names), of.task.clone(), of.now.clone());
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        let finish = names.finish(&task, PersistOutcome::Done(Some(now)));
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(finish).unwrap();
    })
}

#[test]
fn a_write_while_its_file_is_being_put_gets_the_rest_of_the_page_when_that_is_recorded() {
    let node = Node::start(no_delay());
    let of = put_but_unrecorded(&node);
    let recording = record_soon(&node, &of);
    let (ino, mut bytes) = (of.ino, of.bytes);
    bytes[2 * PAGE as usize + 7..][..3].copy_from_slice(b"new");
    node.run(move |vfs| async move {
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        vfs.put(opened.handle, 2 * PAGE + 7, b"new").await.unwrap();
        assert_eq!(vfs.get(opened.handle).await.unwrap(), bytes);
        vfs.release(opened.handle).await.unwrap();
    });
    recording.join().unwrap();
}

#[test]
fn a_read_while_its_file_is_being_put_gets_what_was_put() {
    let node = Node::start(no_delay());
    let of = put_but_unrecorded(&node);
    let recording = record_soon(&node, &of);
    let (ino, bytes) = (of.ino, of.bytes);
    node.run(move |vfs| async move { assert_eq!(vfs.content(ino).await.unwrap(), bytes) });
    recording.join().unwrap();
}

#[test]
fn a_write_to_a_file_that_has_grown_while_it_is_being_moved_finds_it() {
    let node = Node::start(no_delay());
    let of = moved_but_unrecorded(&node);
    let recording = record_soon(&node, &of);
    let (ino, mut bytes) = (of.ino, of.bytes);
    bytes[PAGE as usize + 7..][..3].copy_from_slice(b"new");
    bytes.extend_from_slice(b"more");
    node.run(move |vfs| async move {
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        vfs.put(opened.handle, LEN, b"more").await.unwrap();
        vfs.fsync(opened.handle).await.unwrap();
        vfs.put(opened.handle, PAGE + 7, b"new").await.unwrap();
        assert_eq!(vfs.get(opened.handle).await.unwrap(), bytes);
        vfs.release(opened.handle).await.unwrap();
    });
    recording.join().unwrap();
}

#[test]
fn a_write_does_not_wait_for_ever_for_what_is_being_carried() {
    let node = Node::start(Setup { inode_wait_max: Duration::from_millis(300), ..no_delay() });
    let ino = put_but_unrecorded(&node).ino;
    node.run(move |vfs| async move {
        let opened = vfs.open(&ALICE, ino, BOTH).await.unwrap();
        assert_eq!(kind(vfs.put(opened.handle, PAGE + 7, b"new").await), FsErrorKind::TimedOut);
        vfs.release(opened.handle).await.unwrap();
    });
}

#[test]
fn a_write_to_what_others_changed_is_refused_at_once() {
    let patience = Duration::from_secs(120);
    let node = Node::start(Setup { inode_wait_max: patience, ..no_delay() });
    node.put("a", &pattern(LEN, 1));
    let (ino, opened) = node.run(|vfs| async move {
        let ino = vfs.ino("a").await;
        (ino, vfs.open(&ALICE, ino, BOTH).await.unwrap())
    });
    node.put("theirs", &pattern(LEN, 2));
    std::fs::rename(node.under().join("theirs"), node.under().join("a")).unwrap();
    let began = Instant::now();
    let refused = node.run(move |vfs| async move { vfs.put(opened.handle, PAGE + 7, b"new").await });
    assert_eq!(kind(refused), FsErrorKind::Stale, "{ino}");
    assert!(began.elapsed() < patience, "nothing of ours was to be waited for");
}

fn no_delay() -> Setup {
    let mut setup = Setup::default();
    setup.root.policy.persist_delay = forebay_types::HumanDuration(Duration::ZERO);
    setup
}

#[test]
fn a_large_file_is_not_carried_while_the_kernel_writes_another() {
    const LARGE: u64 = 16 << 20;
    let mut setup = Setup { persist: true, ..no_delay() };
    // Longer than any test: what is carried is so because nobody writes any more.
    setup.root.policy.persist_yield = forebay_types::HumanDuration(Duration::from_secs(3600));
    let node = Node::start(setup);
    let (written, file) = node.run(|vfs| async move {
        let (_, opened) = vfs.make("written").await;
        let file = kernel_file(&opened);
        (opened.handle, file)
    });
    let at = node.under();
    let still_written = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut last, mut pause_max) = (Instant::now(), Duration::ZERO);
            while still_written.load(SeqCst) {
                file.write_all_at(&pattern(1 << 20, 1), LARGE).unwrap();
                pause_max = pause_max.max(last.elapsed());
                last = Instant::now();
                std::thread::sleep(Duration::from_millis(20));
            }
            pause_max.max(last.elapsed())
        });
        std::thread::sleep(Duration::from_millis(100));
        node.run(|vfs| async move {
            for (called, len) in [("large", LARGE), ("small", 5)] {
                let (_, opened) = vfs.make(called).await;
                vfs.put(opened.handle, 0, &pattern(len, 1)).await.unwrap();
                vfs.release(opened.handle).await.unwrap();
            }
        });
        std::thread::sleep(Duration::from_secs(2));
        let is_there = at.join("large").exists();
        still_written.store(false, SeqCst);
        // On a machine with much else to do the writer may have had no turn for so long that nobody wrote.
        let pause_max = writer.join().unwrap();
        assert!(!is_there || pause_max > Duration::from_millis(400), "somebody writes: {pause_max:?}");
    });
    node.until("all is carried", || at.join("large").exists() && at.join("small").exists());
    node.run(move |vfs| async move { vfs.release(written).await.unwrap() });
    node.until("the last is carried", || at.join("written").exists());
}
