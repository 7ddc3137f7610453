//! The engine that carries, on a miniature node and a log that the test fills, and short words for what it is given.

use crate::common::watched::HELD;
use crate::common::{MIB, MOUNT, Node, Rules, eventually, node};
use forebay_types::{
    BoxFuture, ByteSize, ContentKey, ContentLocation, FileKind, FsResult, Generation, Ino, NodeId,
    PersistLog, PersistOutcome, PersistTask, PersistWork, Settled, TimeSpec, UfsAttr, UfsKey, UfsVersion,
};
use forebay_worker::{PersistConfig, Persister};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{Mutex, RwLock, mpsc};

/// Hands out what the test gives it, and keeps what came of it.
pub(crate) struct TestLog {
    pub(crate) tasks: Mutex<mpsc::Receiver<PersistTask>>,
    pub(crate) done: mpsc::Sender<PersistOutcome>,
    pub(crate) begun: Vec<PersistTask>,
    pub(crate) answer: Settled,
    /// Whoever has it alone keeps the log from answering.
    pub(crate) answers: Arc<RwLock<()>>,
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

pub(crate) struct Persisting {
    pub(crate) node: Node,
    tasks: mpsc::Sender<PersistTask>,
    done: mpsc::Receiver<PersistOutcome>,
    pub(crate) answers: Arc<RwLock<()>>,
    pub(crate) persister: Option<Persister>,
}

impl Persisting {
    pub(crate) fn start(node: Node, config: PersistConfig) -> Self {
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

    pub(crate) fn hand(&self, work: PersistWork) {
        self.hand_as(work, false);
    }

    /// `again`: it was begun before, and nobody knows how it ended.
    fn hand_as(&self, work: PersistWork, again: bool) {
        self.tasks.blocking_send(task(work, again)).unwrap();
    }

    /// The same, until a part of its upload is under way, which waits for other rules.
    pub(crate) fn hand_and_hold(&self, work: PersistWork) {
        self.node.ufs.rule(Rules { part_takes: HELD, ..Rules::default() });
        self.hand(work);
        eventually("a part is under way", || self.node.ufs.parts.load(SeqCst) > 0);
    }

    /// Lets what is held go on a while after this returned; the flag says that it may.
    pub(crate) fn release_soon(&self) -> Arc<AtomicBool> {
        let (ufs, released) = (Arc::clone(&self.node.ufs), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&released);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            flag.store(true, SeqCst);
            ufs.rule(Rules::default());
        });
        released
    }

    pub(crate) fn outcome(&mut self) -> PersistOutcome {
        let outcome = self
            .node
            .control
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), self.done.recv()).await });
        outcome.expect("the engine answers in time").unwrap()
    }

    pub(crate) fn run(&mut self, work: PersistWork) -> PersistOutcome {
        self.hand(work);
        self.outcome()
    }

    pub(crate) fn run_again(&mut self, work: PersistWork) -> PersistOutcome {
        self.hand_as(work, true);
        self.outcome()
    }

    pub(crate) fn under(&self, name: &str) -> std::path::PathBuf {
        self.node.ufs_dir.join(name)
    }

    pub(crate) fn stop(&mut self, grace: Duration) -> usize {
        let persister = self.persister.take().unwrap();
        self.node.control.block_on(persister.stop(grace))
    }
}

pub(crate) fn task(work: PersistWork, again: bool) -> PersistTask {
    PersistTask {
        id: 1,
        mount: MOUNT,
        ino: Ino(7),
        generation: Generation(1),
        again,
        believed: Duration::ZERO,
        work,
    }
}

pub(crate) fn config() -> PersistConfig {
    let mut config = PersistConfig::new(NodeId::new("n1").unwrap());
    config.memory = ByteSize::mib(16);
    config
}

pub(crate) fn persisting() -> Persisting {
    Persisting::start(node(), config())
}

pub(crate) fn key(name: &str) -> UfsKey {
    UfsKey::new(name.as_bytes()).unwrap()
}

pub(crate) fn attr(kind: FileKind, size: u64) -> UfsAttr {
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
pub(crate) fn dirty(node: &Node, bytes: &[u8]) -> ContentLocation {
    let at = open_dirty(node, bytes);
    let extent = at.extent.unwrap();
    node.on_shard(move |client| async move { client.end_write(extent, true) });
    at
}

/// A file that was written here and is still open.
pub(crate) fn open_dirty(node: &Node, bytes: &[u8]) -> ContentLocation {
    let at = node.born();
    for (i, piece) in bytes.chunks(MIB as usize).enumerate() {
        node.write(&at, i as u64 * MIB, piece).unwrap();
    }
    ContentLocation { size: bytes.len() as u64, ..at }
}

pub(crate) fn put(content: &ContentLocation, to: &str, expect: Option<UfsVersion>) -> PersistWork {
    let attr = attr(FileKind::Regular, content.size);
    PersistWork::Put { content: content.clone(), to: key(to), expect, attr }
}

pub(crate) fn done_version(outcome: PersistOutcome) -> UfsVersion {
    match outcome {
        PersistOutcome::Done(Some(attr)) => attr.version,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn clean(name: &str, version: UfsVersion, size: u64) -> ContentLocation {
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
pub(crate) fn bound(node: &Node, at: &ContentLocation) -> bool {
    let (ufs_key, version) = at.ufs.clone().unwrap();
    let content = ContentKey::of(MOUNT, &ufs_key, &version);
    (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        node.store.find(&content).is_some()
    })
}

pub(crate) async fn stat(node: &Node, name: &str) -> UfsAttr {
    forebay_types::UfsMeta::stat(&*node.worker, MOUNT, &key(name)).await.unwrap().unwrap()
}
