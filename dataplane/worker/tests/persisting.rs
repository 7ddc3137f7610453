//! Carrying what is dirty to a real directory, with a log that the test fills.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::watched::HELD;
use common::{MIB, MOUNT, Node, PAGE, Rules, Setup, eventually, node, pattern};
use forebay_types::{
    BoxFuture, ByteSize, ContentKey, ContentLocation, FileKind, FsErrorKind, FsResult, Generation, Ino,
    NodeId, PersistLog, PersistOutcome, PersistTask, PersistWork, Settled, TimeSpec, UfsAttr, UfsKey,
    UfsVersion,
};
use forebay_worker::{PersistConfig, Persister, ReadyPersister};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{Mutex, RwLock, mpsc};

/// Hands out what the test gives it, and keeps what came of it.
struct TestLog {
    tasks: Mutex<mpsc::Receiver<PersistTask>>,
    done: mpsc::Sender<PersistOutcome>,
    begun: Vec<PersistTask>,
    answer: Settled,
    /// Whoever has it alone keeps the log from answering.
    answers: Arc<RwLock<()>>,
}

impl PersistLog for TestLog {
    fn next(&self) -> BoxFuture<'_, PersistTask> {
        Box::pin(async move {
            let next = self.tasks.lock().await.recv().await;
            match next {
                Some(task) => task,
                None => std::future::pending().await,
            }
        })
    }

    fn begun(&self) -> Vec<PersistTask> {
        self.begun.clone()
    }

    fn finish<'a>(&'a self, _: &'a PersistTask, outcome: PersistOutcome) -> BoxFuture<'a, FsResult<Settled>> {
        Box::pin(async move {
            self.done.send(outcome).await.unwrap();
            let _permitted = self.answers.read().await;
            Ok(self.answer)
        })
    }
}

struct Persisting {
    node: Node,
    tasks: mpsc::Sender<PersistTask>,
    done: mpsc::Receiver<PersistOutcome>,
    answers: Arc<RwLock<()>>,
    persister: Option<Persister>,
}

impl Persisting {
    fn start(node: Node, config: PersistConfig) -> Self {
        let (tasks, handed) = mpsc::channel(100);
        let (said, done) = mpsc::channel(100);
        let answers = Arc::<RwLock<()>>::default();
        let log = TestLog {
            tasks: Mutex::new(handed),
            done: said,
            begun: Vec::new(),
            answer: Settled::Clean,
            answers: Arc::clone(&answers),
        };
        let shards = vec![node.shard(0), node.shard(1)];
        let persister = Persister::start(config, Arc::clone(&node.worker), Arc::new(log), shards);
        Self { node, tasks, done, answers, persister: Some(persister) }
    }

    fn hand(&self, work: PersistWork) {
        self.hand_as(work, false);
    }

    /// `again`: it was begun before, and nobody knows how it ended.
    fn hand_as(&self, work: PersistWork, again: bool) {
        self.tasks.blocking_send(task(work, again)).unwrap();
    }

    /// The same, until a part of its upload is under way, which waits for other rules.
    fn hand_and_hold(&self, work: PersistWork) {
        self.node.ufs.rule(Rules { part_takes: HELD, ..Rules::default() });
        self.hand(work);
        eventually("a part is under way", || self.node.ufs.parts.load(SeqCst) > 0);
    }

    /// Lets what is held go on a while after this returned; the flag says that it may.
    fn release_soon(&self) -> Arc<AtomicBool> {
        let (ufs, released) = (Arc::clone(&self.node.ufs), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&released);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            flag.store(true, SeqCst);
            ufs.rule(Rules::default());
        });
        released
    }

    fn outcome(&mut self) -> PersistOutcome {
        let outcome = self
            .node
            .control
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), self.done.recv()).await });
        outcome.expect("the engine answers in time").unwrap()
    }

    fn run(&mut self, work: PersistWork) -> PersistOutcome {
        self.hand(work);
        self.outcome()
    }

    fn run_again(&mut self, work: PersistWork) -> PersistOutcome {
        self.hand_as(work, true);
        self.outcome()
    }

    fn under(&self, name: &str) -> std::path::PathBuf {
        self.node.ufs_dir.join(name)
    }

    fn stop(&mut self, grace: Duration) -> usize {
        let persister = self.persister.take().unwrap();
        self.node.control.block_on(persister.stop(grace))
    }
}

fn task(work: PersistWork, again: bool) -> PersistTask {
    PersistTask { id: 1, mount: MOUNT, ino: Ino(7), generation: Generation(1), again, work }
}

fn config() -> PersistConfig {
    let mut config = PersistConfig::new(NodeId::new("n1").unwrap());
    config.memory = ByteSize::mib(16);
    config
}

fn persisting() -> Persisting {
    Persisting::start(node(), config())
}

fn key(name: &str) -> UfsKey {
    UfsKey::new(name.as_bytes()).unwrap()
}

fn attr(kind: FileKind, size: u64) -> UfsAttr {
    UfsAttr {
        kind,
        size,
        mtime: TimeSpec { secs: 1_700_000_000, nanos: 5 },
        version: UfsVersion::new(b""),
        mode: Some(0o640),
        owner: None,
        link_target: None,
        links: None,
    }
}

/// A file that was written here and closed.
fn dirty(node: &Node, bytes: &[u8]) -> ContentLocation {
    let at = open_dirty(node, bytes);
    let extent = at.extent.unwrap();
    node.on_shard(move |client| async move { client.end_write(extent, true) });
    at
}

/// A file that was written here and is still open.
fn open_dirty(node: &Node, bytes: &[u8]) -> ContentLocation {
    let at = node.born();
    for (i, piece) in bytes.chunks(MIB as usize).enumerate() {
        node.write(&at, i as u64 * MIB, piece).unwrap();
    }
    ContentLocation { size: bytes.len() as u64, ..at }
}

fn put(content: &ContentLocation, to: &str, expect: Option<UfsVersion>) -> PersistWork {
    let attr = attr(FileKind::Regular, content.size);
    PersistWork::Put { content: content.clone(), to: key(to), expect, attr }
}

fn done_version(outcome: PersistOutcome) -> UfsVersion {
    match outcome {
        PersistOutcome::Done(Some(attr)) => attr.version,
        other => panic!("{other:?}"),
    }
}

fn clean(name: &str, version: UfsVersion, size: u64) -> ContentLocation {
    ContentLocation {
        ino: Ino(7),
        mount: MOUNT,
        ufs: Some((key(name), version)),
        extent: None,
        size,
        generation: Generation(1),
    }
}

/// Waits until the extent was bound: that happens after the log has answered.
fn bound(node: &Node, at: &ContentLocation) -> bool {
    let (ufs_key, version) = at.ufs.clone().unwrap();
    let content = ContentKey::of(MOUNT, &ufs_key, &version);
    (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        node.store.find(&content).is_some()
    })
}

#[test]
fn a_file_is_carried_whole_and_is_clean_from_then_on() {
    let mut p = persisting();
    for len in [0, 1, PAGE - 1, PAGE, 3 * PAGE + 5, 20 * MIB + 17] {
        let bytes = pattern(len, len);
        let name = format!("file-{len}");
        let at = dirty(&p.node, &bytes);
        let outcome = p.run(put(&at, &name, None));
        let PersistOutcome::Done(Some(now)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(now.size, len);
        assert!(std::fs::read(p.under(&name)).unwrap() == bytes);
        let mode = std::fs::metadata(p.under(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(p.node.locate(&name).ufs.unwrap().1, now.version, "the next stat agrees");
        let clean = clean(&name, now.version, len);
        assert!(bound(&p.node, &clean));
        assert!(p.node.read_all(&clean).unwrap() == bytes);
        assert!(p.node.client.backing(&clean).is_some());
    }
    assert_eq!(p.node.ufs.reads(), 0, "what was persisted is not fetched again");
    let counters = p.persister.as_ref().unwrap().counters();
    assert_eq!((counters.puts, counters.failed), (6, 0));
}

/// From the record on a file is asked for by its content, and the store knows that only after a sync, which may take long.
#[test]
fn what_was_just_carried_is_found_before_the_store_knows_it() {
    let mut p = persisting();
    let bytes = pattern(3 * PAGE, 1);
    let at = dirty(&p.node, &bytes);
    let unanswered = p.node.control.block_on(Arc::clone(&p.answers).write_owned());
    let clean = clean("a", done_version(p.run(put(&at, "a", None))), 3 * PAGE);
    assert!(p.node.client.backing(&clean).is_some(), "it would be read through the daemon");
    assert!(p.node.read_all(&clean).unwrap() == bytes);
    assert_eq!(p.node.ufs.reads(), 0, "and fetched");
    // Of a writer's bytes nobody knows whether they are those.
    p.node.begin_write(&at);
    assert!(p.node.client.backing(&clean).is_none());
    drop(unanswered);
}

#[test]
fn checksums_are_taken_on_the_way() {
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(3 * PAGE, 1));
    let clean = clean("a", done_version(p.run(put(&at, "a", None))), 3 * PAGE);
    assert!(bound(&p.node, &clean));
    let extent = p.node.store.get(at.extent.unwrap()).unwrap();
    let page = forebay_types::PageIndex(1);
    let expected = &pattern(3 * PAGE, 1)[PAGE as usize..2 * PAGE as usize];
    assert_eq!(extent.checksum(page), Some(forebay_types::PageChecksum::of(expected)));
}

#[test]
fn overwriting_expects_the_version_that_was_there() {
    let mut p = persisting();
    let (first, second) = (dirty(&p.node, b"first"), dirty(&p.node, b"second"));
    let version = done_version(p.run(put(&first, "a", None)));
    done_version(p.run(put(&second, "a", Some(version))));
    assert_eq!(std::fs::read(p.under("a")).unwrap(), b"second");
}

#[test]
fn theirs_keeps_the_name_and_ours_stands_beside_it() {
    let mut p = persisting();
    std::fs::write(p.under("a"), b"theirs").unwrap();
    let ours = dirty(&p.node, b"ours, longer");
    let PersistOutcome::Conflict(Some(beside)) = p.run(put(&ours, "a", None)) else { panic!("no conflict") };
    assert!(beside.to_string().starts_with("a.conflict-n1-20"), "{beside}");
    assert_eq!(std::fs::read(p.under("a")).unwrap(), b"theirs");
    assert_eq!(std::fs::read(p.under(&beside.to_string())).unwrap(), b"ours, longer");
    let PersistOutcome::Conflict(Some(second)) = p.run(put(&ours, "a", None)) else { panic!("no conflict") };
    assert_ne!(second, beside, "a second copy in the same second gets a name of its own");
}

#[test]
fn a_put_that_took_effect_before_is_no_conflict() {
    let mut p = persisting();
    let bytes = pattern(2 * PAGE, 3);
    let at = dirty(&p.node, &bytes);
    let first = done_version(p.run(put(&at, "a", None)));
    // As after a death between the store's answer and the log's record.
    let again = dirty(&p.node, &bytes);
    assert_eq!(done_version(p.run(put(&again, "a", None))), first);
    let mut other = bytes.clone();
    other[PAGE as usize] ^= 1;
    let other = dirty(&p.node, &other);
    assert!(matches!(p.run(put(&other, "a", None)), PersistOutcome::Conflict(Some(_))));
}

/// Of a large file the rest is not sent: that would be for nothing, beside a writer.
#[test]
fn what_changes_while_it_is_carried_is_given_up_at_once() {
    // Those parts that memory has room for were under way already; one more may have been read.
    for (len, parts_max) in [(4 * MIB, 1), (64 * MIB, 3)] {
        let mut p = persisting();
        let at = dirty(&p.node, &pattern(len, 4));
        p.hand_and_hold(put(&at, "a", None));
        let file = p.node.store.get(at.extent.unwrap()).unwrap().file().unwrap();
        file.std().write_all_at(b"behind our back", 0).unwrap();
        p.node.ufs.rule(Rules::default());
        assert_eq!(p.outcome(), PersistOutcome::Changed);
        let parts = p.node.ufs.parts.load(SeqCst);
        assert!(parts <= parts_max, "{parts} parts of 8 MiB were sent");
        assert_eq!(std::fs::read_dir(&p.node.ufs_dir).unwrap().count(), 0, "nothing of the upload is left");
    }
}

#[test]
fn a_deleted_file_is_not_carried() {
    let mut p = persisting();
    let at = dirty(&p.node, b"gone soon");
    let extent = at.extent.unwrap();
    p.node.on_shard(move |client| async move { client.discard(extent).await.unwrap() });
    assert_eq!(p.run(put(&at, "a", None)), PersistOutcome::Changed);
    assert!(!p.under("a").exists());
}

#[test]
fn a_failed_part_fails_the_task_and_leaves_nothing() {
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(2 * MIB, 5));
    p.node.ufs.rule(Rules { parts_to_fail: 1, ..Rules::default() });
    assert!(matches!(p.run(put(&at, "a", None)), PersistOutcome::Failed(_)));
    assert_eq!(std::fs::read_dir(&p.node.ufs_dir).unwrap().count(), 0);
    done_version(p.run(put(&at, "a", None)));
}

#[test]
fn a_partly_fetched_file_is_carried_with_what_was_absent() {
    let mut p = persisting();
    let mut bytes = pattern(6 * PAGE, 6);
    let before = p.node.put("a", &bytes);
    let at = p.node.begin_write(&before);
    p.node.write(&at, 2 * PAGE + 3, b"changed").unwrap();
    bytes[2 * PAGE as usize + 3..2 * PAGE as usize + 10].copy_from_slice(b"changed");
    let extent = at.extent.unwrap();
    p.node.on_shard(move |client| async move { client.end_write(extent, true) });
    let expect = before.ufs.unwrap().1;
    done_version(p.run(put(&at, "a", Some(expect))));
    assert!(std::fs::read(p.under("a")).unwrap() == bytes);
}

#[test]
fn a_writer_who_comes_meanwhile_keeps_the_extent() {
    let mut p = persisting();
    let at = open_dirty(&p.node, b"carried");
    let version = done_version(p.run(put(&at, "a", None)));
    std::thread::sleep(Duration::from_millis(200));
    assert!(p.node.store.find(&ContentKey::of(MOUNT, &key("a"), &version)).is_none());
    p.node.write(&at, 0, b"CARRIED").unwrap();
    let again = open_dirty(&p.node, b"carried");
    let id = again.extent.unwrap();
    let version = done_version(p.run(put(&again, "b", None)));
    std::thread::sleep(Duration::from_millis(200));
    p.node.on_shard(move |client| async move { client.end_write(id, false) });
    assert!(bound(&p.node, &clean("b", version, 7)), "nothing was changed: it is clean when the writer goes");
    assert_eq!(p.node.read(&at, 0, 7).unwrap(), b"CARRIED");
}

#[test]
fn directories_links_and_removals() {
    let mut p = persisting();
    let dir = || PersistWork::MakeDir { key: key("d"), attr: attr(FileKind::Directory, 0) };
    assert!(matches!(p.run(dir()), PersistOutcome::Done(Some(_))));
    assert!(matches!(p.run(dir()), PersistOutcome::Done(Some(_))), "one that is there will do");
    let target = Some(b"../elsewhere".to_vec().into_boxed_slice());
    let link = UfsAttr { link_target: target, ..attr(FileKind::Symlink, 12) };
    let special = |attr: UfsAttr| PersistWork::MakeSpecial { key: key("d/l"), expect: None, attr };
    assert!(matches!(p.run(special(link.clone())), PersistOutcome::Done(Some(_))));
    assert!(matches!(p.run(special(link)), PersistOutcome::Done(Some(_))));
    assert_eq!(std::fs::read_link(p.under("d/l")).unwrap().to_str(), Some("../elsewhere"));
    let fifo = p.run(special(attr(FileKind::Fifo, 0)));
    assert!(matches!(fifo, PersistOutcome::Unpersistable(_)), "{fifo:?}");
    let file = dirty(&p.node, b"x");
    let version = done_version(p.run(put(&file, "d/f", None)));
    let linked = PersistWork::Link { existing: key("d/f"), to: key("d/g"), expect: None };
    let version_linked = done_version(p.run(linked.clone()));
    assert_eq!(done_version(p.run(linked)), version_linked);
    assert_eq!(version_linked, version, "a further name changes no byte");
    let remove = |name: &str, kind, expect| PersistWork::Remove { key: key(name), kind, expect };
    let other = Some(UfsVersion::new(*b"another"));
    let changed = p.run(remove("d/f", FileKind::Regular, other));
    assert_eq!(changed, PersistOutcome::Conflict(None), "another version stays");
    assert_eq!(p.run(remove("d", FileKind::Directory, None)), PersistOutcome::Conflict(None));
    for name in ["d/f", "d/g", "d/l", "d/f"] {
        assert_eq!(p.run(remove(name, FileKind::Regular, None)), PersistOutcome::Done(None));
    }
    assert_eq!(p.run(remove("d", FileKind::Directory, None)), PersistOutcome::Done(None));
    assert!(!p.under("d").exists());
}

#[test]
fn a_moved_file_is_found_under_its_new_name() {
    let mut p = persisting();
    let bytes = pattern(2 * PAGE, 7);
    let at = p.node.put("a", &bytes);
    p.node.read_all(&at).unwrap();
    let fetched = p.node.ufs.reads();
    let version = at.ufs.unwrap().1;
    let work = PersistWork::Move {
        from: key("a"),
        to: key("b"),
        kind: FileKind::Regular,
        version: Some(version),
        replaces: None,
    };
    let moved = done_version(p.run(work.clone()));
    assert_eq!(done_version(p.run_again(work.clone())), moved, "it had been done before");
    assert_eq!(p.run(work), PersistOutcome::Conflict(None), "others took it away");
    assert_eq!(p.node.read_all(&clean("b", moved, 2 * PAGE)).unwrap(), bytes);
    assert_eq!(p.node.ufs.reads(), fetched);
    let set = UfsAttr { mode: Some(0o600), ..p.node.control.block_on(stat(&p.node, "b")) };
    let version =
        done_version(p.run(PersistWork::SetAttr { key: key("b"), kind: FileKind::Regular, attr: set }));
    assert_eq!(p.node.read_all(&clean("b", version, 2 * PAGE)).unwrap(), bytes);
    assert_eq!(p.node.ufs.reads(), fetched, "another mode leaves the bytes as they are");
}

#[test]
fn a_move_over_what_is_gone_takes_the_free_name() {
    let mut p = persisting();
    let version = p.node.put("a", b"bytes").ufs.unwrap().1;
    let gone = p.node.put("b", b"replaced").ufs.unwrap().1;
    std::fs::remove_file(p.under("b")).unwrap();
    let work = PersistWork::Move {
        from: key("a"),
        to: key("b"),
        kind: FileKind::Regular,
        version: Some(version),
        replaces: Some(gone),
    };
    done_version(p.run(work));
    assert_eq!(std::fs::read(p.under("b")).unwrap(), b"bytes");
    assert!(!p.under("a").exists());
}

/// Each kind of task, looked into before it was carried and after.
#[test]
fn what_was_begun_before_is_looked_into() {
    let mut p = persisting();
    std::fs::create_dir(p.under("there")).unwrap();
    std::fs::write(p.under("there/.forebay-put.0123456789abcdef"), "half a file").unwrap();
    let file = dirty(&p.node, b"bytes");
    let target = Some(b"../elsewhere".to_vec().into_boxed_slice());
    let link = UfsAttr { link_target: target, ..attr(FileKind::Symlink, 12) };
    let from = key("there/f");
    let works = [
        put(&file, "there/f", None),
        PersistWork::MakeDir { key: key("d"), attr: attr(FileKind::Directory, 0) },
        PersistWork::MakeSpecial { key: key("d/l"), expect: None, attr: link },
        PersistWork::Link { existing: from.clone(), to: key("d/g"), expect: None },
        PersistWork::Move { from, to: key("d/f"), kind: FileKind::Regular, version: None, replaces: None },
        PersistWork::Remove { key: key("d/f"), kind: FileKind::Regular, expect: None },
    ];
    for work in works {
        assert_eq!(p.run_again(work.clone()), PersistOutcome::NotDone, "{work:?}");
        assert_eq!(p.node.ufs.synced.lock().len(), 0);
        let carried = p.run(work.clone());
        let what = |outcome| match outcome {
            PersistOutcome::Done(now) => now.map(|now| (now.kind, now.version)),
            other => panic!("{other:?}"),
        };
        assert_eq!(what(p.run_again(work.clone())), what(carried));
        let synced = std::mem::take(&mut *p.node.ufs.synced.lock());
        assert_eq!(synced.len(), if matches!(work, PersistWork::Move { .. }) { 2 } else { 1 }, "{work:?}");
    }
    let left: Vec<_> = std::fs::read_dir(p.under("there")).unwrap().collect();
    assert!(left.is_empty(), "the remains of a put are swept: {left:?}");
    // Attributes that were set in part are set to the end.
    let set = UfsAttr { mode: Some(0o600), ..p.node.control.block_on(stat(&p.node, "d/g")) };
    let work = PersistWork::SetAttr { key: key("d/g"), kind: FileKind::Regular, attr: set };
    assert!(matches!(p.run_again(work), PersistOutcome::Done(Some(attr)) if attr.mode == Some(0o600)));
}

/// A start is not to wait for one slow answer after the other.
#[test]
fn what_was_begun_before_a_start_is_looked_into_side_by_side() {
    let node = node();
    let (_, tasks) = mpsc::channel(1);
    let (done, mut outcomes) = mpsc::channel(100);
    let dir = |i| PersistWork::MakeDir { key: key(&format!("d{i}")), attr: attr(FileKind::Directory, 0) };
    let begun: Vec<_> = (0..20).map(|i| task(dir(i), true)).collect();
    let answers = Arc::default();
    let log = TestLog { tasks: Mutex::new(tasks), done, begun, answer: Settled::Clean, answers };
    let shards = vec![node.shard(0)];
    let persister = ReadyPersister::new(config(), Arc::clone(&node.worker), Arc::new(log), shards);
    node.ufs.rule(Rules { stat_takes: HELD, ..Rules::default() });
    let settled = node.control.spawn(async move { persister.settle_begun().await });
    let at_once = config().tasks_at_once as u64;
    eventually("as many are asked for as may be", || node.ufs.stats.load(SeqCst) == at_once);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(node.ufs.stats.load(SeqCst), at_once, "and no more");
    node.ufs.rule(Rules::default());
    assert_eq!(node.control.block_on(settled).unwrap(), Ok(20));
    for _ in 0..20 {
        assert_eq!(outcomes.try_recv().unwrap(), PersistOutcome::NotDone);
    }
}

/// A directory of files whose store cannot rename, and the task that moves it.
fn moving_by_copies(files: usize) -> (Persisting, PersistWork) {
    let p = Persisting::start(Node::start(Setup { renames: false, ..Setup::default() }), config());
    std::fs::create_dir_all(p.under("from/deep")).unwrap();
    std::fs::write(p.under("from/deep/f"), "deep").unwrap();
    for i in 0..files {
        std::fs::write(p.under(&format!("from/f{i}")), format!("file {i}")).unwrap();
    }
    let kind = FileKind::Directory;
    (p, PersistWork::Move { from: key("from"), to: key("to"), kind, version: None, replaces: None })
}

#[test]
fn the_files_of_a_directory_are_copied_side_by_side() {
    let (mut p, work) = moving_by_copies(40);
    p.hand_and_hold(work);
    let at_once = config().files_at_once as u64;
    eventually("as many are on their way as may be", || p.node.ufs.parts.load(SeqCst) == at_once);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(p.node.ufs.parts.load(SeqCst), at_once, "and no more");
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
    assert!(!p.under("from").exists());
    assert_eq!(std::fs::read(p.under("to/deep/f")).unwrap(), b"deep");
    for i in 0..40 {
        assert_eq!(std::fs::read_to_string(p.under(&format!("to/f{i}"))).unwrap(), format!("file {i}"));
    }
}

/// What is reported as failed changes nothing any more.
#[test]
fn a_copy_that_fails_ends_those_beside_it_first() {
    let (mut p, work) = moving_by_copies(40);
    p.hand_and_hold(work.clone());
    let at_once = config().files_at_once as u64;
    eventually("as many are on their way as may be", || p.node.ufs.parts.load(SeqCst) == at_once);
    p.node.ufs.rule(Rules { parts_to_fail: 1, ..Rules::default() });
    let failed = p.outcome();
    assert!(matches!(failed, PersistOutcome::Failed(_)), "{failed:?}");
    let copies = || std::fs::read_dir(p.under("to")).unwrap().count();
    let at_first = copies();
    assert!(at_first >= config().files_at_once - 1, "those under way have ended: {at_first}");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(copies(), at_first);
    assert_eq!(std::fs::read_dir(p.under("from")).unwrap().count(), 41, "nothing was taken away");
    p.node.ufs.rule(Rules::default());
    done_version(p.run_again(work));
    assert_eq!(std::fs::read_dir(p.under("to")).unwrap().count(), 41);
    assert!(!p.under("from").exists());
}

/// What others make of a file while its bytes go to the new name keeps the old one, and nothing is in its way there.
#[test]
fn a_copy_of_what_others_changed_is_taken_back() {
    let mut p = Persisting::start(Node::start(Setup { renames: false, ..Setup::default() }), config());
    let version = p.node.put("a", b"bytes").ufs.unwrap().1;
    let kind = FileKind::Regular;
    let work =
        PersistWork::Move { from: key("a"), to: key("b"), kind, version: Some(version), replaces: None };
    p.hand_and_hold(work);
    std::fs::write(p.under("a"), "what others wrote").unwrap();
    p.node.ufs.rule(Rules::default());
    assert_eq!(p.outcome(), PersistOutcome::Conflict(None));
    assert_eq!(std::fs::read(p.under("a")).unwrap(), b"what others wrote");
    assert!(!p.under("b").exists(), "the copy is left behind");
}

/// The same in a directory: it is moved with what they made of it.
#[test]
fn what_others_change_in_a_directory_while_it_is_copied_goes_with_it() {
    let (mut p, work) = moving_by_copies(2);
    p.hand_and_hold(work);
    eventually("all are on their way", || p.node.ufs.parts.load(SeqCst) == 2);
    std::fs::write(p.under("from/f0"), "what others wrote").unwrap();
    std::fs::create_dir(p.under("from/new")).unwrap();
    std::fs::write(p.under("from/new/f"), "theirs").unwrap();
    p.node.ufs.rule(Rules::default());
    done_version(p.outcome());
    assert!(!p.under("from").exists());
    let moved = |name| std::fs::read_to_string(p.under(name)).unwrap();
    assert_eq!(
        ["to/f0", "to/f1", "to/new/f", "to/deep/f"].map(moved),
        ["what others wrote", "file 1", "theirs", "deep"]
    );
}

/// Something else of the same name is not taken for ours.
#[test]
fn what_others_made_is_not_taken_for_what_was_begun() {
    let mut p = persisting();
    let file = dirty(&p.node, b"bytes");
    std::fs::write(p.under("f"), "other").unwrap();
    assert_eq!(p.run_again(put(&file, "f", None)), PersistOutcome::NotDone);
    let link = UfsAttr { link_target: Some((*b"a").into()), ..attr(FileKind::Symlink, 1) };
    std::os::unix::fs::symlink("b", p.under("l")).unwrap();
    let work = PersistWork::MakeSpecial { key: key("l"), expect: None, attr: link };
    assert_eq!(p.run_again(work), PersistOutcome::NotDone);
    let work = PersistWork::MakeDir { key: key("f"), attr: attr(FileKind::Directory, 0) };
    assert_eq!(p.run_again(work), PersistOutcome::NotDone);
}

/// A writer whose daemon was killed may leave new bytes of the same length with the times of before. A further name that
/// still has the old ones, as a copy of its own, is not taken for the copy of the new ones.
#[test]
fn a_copy_that_is_to_be_replaced_is_not_taken_for_the_new_one() {
    let mut p = Persisting::start(Node::start(Setup { renames: false, ..Setup::default() }), config());
    let time = std::time::SystemTime::now();
    let put_at = |name: &str, bytes: &str| {
        std::fs::write(p.under(name), bytes).unwrap();
        std::fs::File::options().write(true).open(p.under(name)).unwrap().set_modified(time).unwrap();
        p.node.control.block_on(stat(&p.node, name)).version
    };
    let older = put_at("second", "older");
    put_at("first", "newer");
    let link = PersistWork::Link { existing: key("first"), to: key("second"), expect: Some(older) };
    assert_eq!(p.run_again(link.clone()), PersistOutcome::NotDone);
    let copied = done_version(p.run(link.clone()));
    assert_eq!(std::fs::read(p.under("second")).unwrap(), b"newer");
    assert_eq!(done_version(p.run_again(link)), copied, "and now it is");
}

async fn stat(node: &Node, name: &str) -> UfsAttr {
    forebay_types::UfsMeta::stat(&*node.worker, MOUNT, &key(name)).await.unwrap().unwrap()
}

#[test]
fn memory_is_bounded_and_parts_go_side_by_side() {
    let mut setup = config();
    // Room for two parts of 8 MiB, of all files together.
    setup.memory = ByteSize::mib(20);
    let mut p = Persisting::start(Node::start(Setup::default()), setup);
    p.node.ufs.rule(Rules { part_takes: Duration::from_millis(50), ..Rules::default() });
    let files: Vec<_> = (0..4).map(|i| dirty(&p.node, &pattern(24 * MIB, i))).collect();
    for (i, at) in files.iter().enumerate() {
        p.hand(put(at, &format!("f{i}"), None));
    }
    for _ in &files {
        done_version(p.outcome());
    }
    assert!(p.node.ufs.parts.load(SeqCst) >= 4);
    for i in 0..4 {
        assert!(std::fs::read(p.under(&format!("f{i}"))).unwrap() == pattern(24 * MIB, i));
    }
}

#[test]
fn stopping_waits_for_what_is_under_way_and_drops_the_rest() {
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(MIB, 8));
    p.hand_and_hold(put(&at, "a", None));
    let released = p.release_soon();
    assert_eq!(p.stop(Duration::from_secs(60)), 0);
    assert!(released.load(SeqCst), "it waited for the upload");
    done_version(p.outcome());
    let mut p = persisting();
    let at = dirty(&p.node, &pattern(MIB, 9));
    p.hand_and_hold(put(&at, "a", None));
    assert_eq!(p.stop(Duration::from_millis(50)), 1);
    let left = || std::fs::read_dir(&p.node.ufs_dir).unwrap().count();
    eventually("its upload is aborted", || left() == 0);
}

#[test]
fn writers_on_a_full_tier_wait_for_what_is_carried_away() {
    let setup = Setup { quota: ByteSize::mib(8), ..Setup::default() };
    let mut p = Persisting::start(Node::start(setup), config());
    let closed = dirty(&p.node, &pattern(6 * MIB, 10));
    p.hand_and_hold(put(&closed, "a", None));
    let released = p.release_soon();
    let next = dirty(&p.node, &pattern(6 * MIB, 11));
    assert!(released.load(SeqCst), "it waited for the upload");
    assert!(p.node.read_all(&next).unwrap() == pattern(6 * MIB, 11));
    done_version(p.outcome());
    let at = open_dirty(&p.node, b"");
    let stuck = (0..8).find_map(|i| p.node.write(&at, i * MIB, &pattern(MIB, i)).err());
    assert_eq!(stuck.map(|error| error.kind()), Some(FsErrorKind::NoSpace), "nothing is being carried");
}
