//! Carrying what is dirty to the under file systems, behind the scenes.
//!
//! **Owns** the execution of persist tasks: how many run at one time, the memory their parts take, their deadlines,
//! and how a run ends. What is to be carried, in which order, and when to try again, is the name space's
//! ([`PersistLog`]).
//!
//! **Never does** remember a task: one that is cut short is handed out again by the name space, which says so; how
//! it ended is then found out before anything else ([`begun`]).
//!
//! **In and out:** [`ReadyPersister::start`] has tasks taken from the log on the control runtime; bytes are read on the
//! shards, as a front door would read them, and go up in parts; the outcome goes back to the log, and a file that
//! is clean by it is bound to its new content key, so that it is never fetched again.
//!
//! **Why this shape:** one task carries one name from its first byte to the answer of the log, alone; only the
//! bounds are shared. A pipeline of stages would keep more parts in memory and could stop half-way in more ways.

mod begun;
mod carry;
mod conflict;
mod moves;
mod put;
mod settling;
mod source;

use crate::Worker;
use crate::body::Budget;
use crate::counters::add;
use crate::pressure::Drain;
use forebay_shard::ShardHandle;
use forebay_types::{ByteSize, NodeId, PersistLog, Writers};
use futures_util::stream::{self, StreamExt};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Files longer than this are carried [`LONG_AT_ONCE`] at a time: on a slow line more of them would only be late together.
pub(crate) const SHORT_LEN_MAX: ByteSize = ByteSize::mib(1);
const LONG_AT_ONCE: usize = 16;

/// Bounds of the persist engine.
#[derive(Clone, Debug)]
pub struct PersistConfig {
    /// This node, for the names of conflict copies.
    pub node: NodeId,
    /// Tasks carried at one time.
    pub tasks_at_once: usize,
    /// Parts of one file under way at one time.
    pub parts_at_once: usize,
    /// Files of one directory that are copied or taken away at one time, where the store cannot move it as a whole.
    pub files_at_once: usize,
    /// Memory for parts under way. One part may be larger: it then goes alone.
    pub memory: ByteSize,
    /// How long one part may take, the retries of the under file system's own layers included.
    pub part_within: Duration,
    /// How long any other call to an under file system may take.
    pub call_within: Duration,
}

impl PersistConfig {
    /// The defaults for a node of that name.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            tasks_at_once: 64,
            parts_at_once: 4,
            files_at_once: 8,
            memory: ByteSize::mib(128),
            part_within: Duration::from_secs(300),
            call_within: Duration::from_secs(60),
        }
    }
}

macro_rules! persist_counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64),* }

        /// What the persist engine did since it was started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct PersistCounters {
            $($(#[$doc])* pub $name: u64,)*
            /// Tasks under way now.
            pub in_flight: u64,
        }

        impl Counters {
            fn snapshot(&self, in_flight: u64) -> PersistCounters {
                PersistCounters { $($name: self.$name.load(Relaxed),)* in_flight }
            }
        }
    };
}

persist_counters! {
    /// Files put.
    puts,
    /// Bytes of files put.
    put_bytes,
    /// Parts sent.
    parts,
    /// Directories, links and pipes made; names moved; attributes set.
    changes,
    /// Names taken away.
    removals,
    /// Uploads thrown away because the file changed while it was read.
    changed,
    /// Files whose name had been changed in the under file system: ours stand beside theirs.
    conflicts,
    /// Tasks whose result the under file system cannot hold.
    unpersistable,
    /// Tasks that were begun before, and had not taken effect.
    not_done,
    /// Tasks that failed and are tried again.
    failed,
}

/// What every task uses.
pub(crate) struct Engine {
    pub(crate) config: PersistConfig,
    pub(crate) worker: Arc<Worker>,
    pub(crate) control: Handle,
    pub(crate) memory: Budget,
    pub(crate) counters: Counters,
    log: Arc<dyn PersistLog>,
    shards: Vec<ShardHandle>,
    next_shard: AtomicUsize,
    turns: Arc<Semaphore>,
    in_flight: AtomicUsize,
    /// Somebody waits for room: what is clean and not settled cannot be evicted.
    hurried: AtomicBool,
    stopping: AtomicBool,
    /// Turns of those that take more memory and time than most.
    long_turns: Semaphore,
}

/// The persist engine before it takes tasks.
pub struct ReadyPersister {
    engine: Arc<Engine>,
}

/// The running persist engine.
pub struct Persister {
    engine: Arc<Engine>,
    stop: watch::Sender<bool>,
    taker: JoinHandle<()>,
    settler: JoinHandle<()>,
}

impl ReadyPersister {
    /// An engine that carries what `log` hands out. Files are read on `shards`, in turn.
    ///
    /// # Panics
    /// If there are no shards.
    pub fn new(
        config: PersistConfig,
        worker: Arc<Worker>,
        log: Arc<dyn PersistLog>,
        shards: Vec<ShardHandle>,
    ) -> Self {
        assert!(!shards.is_empty(), "files are read on shards");
        let engine = Arc::new(Engine {
            memory: Budget::new(config.memory),
            counters: Counters::default(),
            turns: Arc::new(Semaphore::new(config.tasks_at_once.max(1))),
            next_shard: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            hurried: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            long_turns: Semaphore::new(LONG_AT_ONCE),
            control: worker.control.clone(),
            config,
            worker,
            log,
            shards,
        });
        Self { engine }
    }

    /// Finds out how everything ended that the last process had begun, so that the name space knows what the under
    /// file systems have before anybody sees it. Yields how many there were.
    ///
    /// As many are looked into at one time as are carried at one time: tasks that are begun together never cross, and
    /// a store that is slow to answer for one name must not keep the whole start waiting for it in turn.
    ///
    /// # Errors
    /// Why one could not be settled: the under file system does not answer. Those under way are dropped then; they
    /// stay in the log, and the next start asks for them again.
    pub async fn settle_begun(&self) -> Result<usize, String> {
        let begun = self.engine.log.begun();
        let count = begun.len();
        let settling = stream::iter(begun).map(|task| async move { self.engine.settle(&task).await });
        let mut settling = settling.buffer_unordered(self.engine.config.tasks_at_once.max(1));
        while let Some(settled) = settling.next().await {
            settled?;
        }
        Ok(count)
    }

    /// Begins to take tasks.
    pub fn start(self) -> Persister {
        let engine = self.engine;
        let drain: Weak<dyn Drain> = Arc::downgrade(&engine) as Weak<dyn Drain>;
        engine.worker.pressure.drained_by(drain);
        engine.log.give_way_to(Arc::downgrade(&engine.worker) as Weak<dyn Writers>);
        let (stop, stopping) = watch::channel(false);
        let taker = engine.control.spawn(take_tasks(Arc::clone(&engine), stopping));
        let settler = engine.control.spawn(Arc::clone(&engine).settle_later());
        Persister { engine, stop, taker, settler }
    }
}

impl Persister {
    /// An engine that takes tasks at once, over a log that has nothing begun.
    ///
    /// # Panics
    /// If there are no shards.
    pub fn start(
        config: PersistConfig,
        worker: Arc<Worker>,
        log: Arc<dyn PersistLog>,
        shards: Vec<ShardHandle>,
    ) -> Self {
        ReadyPersister::new(config, worker, log, shards).start()
    }

    /// What it did since it was started.
    pub fn counters(&self) -> PersistCounters {
        self.engine.counters.snapshot(self.engine.in_flight.load(Relaxed) as u64)
    }

    /// Memory that parts under way take just now, in bytes.
    pub fn memory_used(&self) -> u64 {
        self.engine.memory.used()
    }

    /// Has the store know as clean what was carried, as much as can be done within two seconds.
    pub async fn settle_carried(&self) {
        self.engine.settle_last().await;
    }

    /// Takes no more tasks and waits for those under way, at most for `grace`; the rest are dropped, which aborts
    /// their uploads. They stay in the log. Returns how many were dropped. What was carried and cannot
    /// be settled in time is fetched again when it is next read.
    pub async fn stop(self, grace: Duration) -> usize {
        // Nobody listens any more if the taker is gone already.
        let _ = self.stop.send(true);
        let all = self.engine.config.tasks_at_once.max(1);
        self.engine.stopping.store(true, Relaxed);
        let idle = self.engine.turns.acquire_many(all as u32);
        let all_ended = forebay_shard::timeout(grace, idle).await.is_ok();
        self.engine.settle_last().await;
        if all_ended { 0 } else { self.engine.in_flight.load(Relaxed) }
    }
}

impl Drop for Persister {
    /// Without [`Persister::stop`] before, tasks under way are dropped, and stay in the log.
    fn drop(&mut self) {
        self.taker.abort();
        self.settler.abort();
    }
}

/// Hands tasks to their own futures until it is told to stop. Those futures belong to this one and end with it.
async fn take_tasks(engine: Arc<Engine>, mut stopping: watch::Receiver<bool>) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let task = async {
            // A turn first: a task that was handed out is one that the log thinks is being carried.
            let turn = Arc::clone(&engine.turns).acquire_owned().await;
            (engine.log.next().await, turn)
        };
        let (task, turn) = tokio::select! {
            next = task => next,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let Ok(turn) = turn else { break };
        let engine = Arc::clone(&engine);
        engine.in_flight.fetch_add(1, Relaxed);
        tasks.spawn(async move {
            // A failure was reported to the log, which has it tried again.
            let _ = engine.settle(&task).await;
            engine.in_flight.fetch_sub(1, Relaxed);
            drop(turn);
        });
    }
    while tasks.join_next().await.is_some() {}
}

impl Drain for Engine {
    fn hurry(&self) -> bool {
        let unsettled = self.worker.sessions.any_carried();
        self.hurried.store(unsettled, Relaxed);
        self.log.hurry() || self.in_flight.load(Relaxed) > 0 || unsettled
    }
}

impl Engine {
    /// The shard on which the next file is read.
    pub(crate) fn shard(&self) -> &ShardHandle {
        &self.shards[self.next_shard.fetch_add(1, Relaxed) % self.shards.len()]
    }

    pub(crate) fn count(&self, counter: &AtomicU64) {
        add(counter, 1);
    }
}
