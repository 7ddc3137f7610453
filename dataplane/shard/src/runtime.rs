//! Starting and stopping: the threads, their cores, the arena and the pool, as one thing.
//!
//! A start either gives all shards, running, or an error and nothing: every thread makes its own ring (it must
//! be the ring's only user) and reports, and the first refusal stops the others. A stop goes in two phases:
//! *draining*, in which tasks may finish and reach each other, then *ending*, in which they are dropped.

use crate::Backing;
use crate::arena::Arena;
use crate::blocking::Pool;
use crate::config::ShardsConfig;
use crate::core::{self, Core};
use crate::counters::ShardCounters;
use crate::error::StartError;
use crate::handle::ShardHandle;
use crate::inbox::{Inbox, Phase};
use crate::run::{self, Ended};
use crate::uring::Uring;
use crate::watch::Watcher;
use forebay_types::ShardId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How often a stop looks whether the tasks are done.
const DRAIN_LOOK: Duration = Duration::from_millis(1);
/// What threads get after the deadline to end by themselves before they are left behind.
const END_GRACE: Duration = Duration::from_secs(3);

/// The shards of this process.
#[derive(Debug)]
pub struct Shards {
    handles: Vec<ShardHandle>,
    arena: Arena,
    pool: Arc<Pool>,
    watcher: Option<Watcher>,
    ends: mpsc::Receiver<(ShardId, io::Result<Ended>)>,
    /// Keeps the numbers of the rings valid for as long as a shard may ring another.
    rings: Vec<OwnedFd>,
    stopped: bool,
}

/// How a stop went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopReport {
    /// Tasks that were not finished at the deadline and were dropped.
    pub tasks_dropped: usize,
    /// Operations that the kernel had not completed: their frames are lost to the arena.
    pub ops_abandoned: usize,
    /// Threads (shards and blocking calls) that did not end and were left behind.
    pub threads_left: usize,
}

/// What a shard's thread is made of.
struct Plan {
    core_id: usize,
    ring_entries: u32,
    shared: core::Shared,
}

impl Shards {
    /// Starts one pinned shard a core.
    ///
    /// # Errors
    /// [`StartError`]: each says what the operator can change. Nothing is left running.
    pub fn start(config: &ShardsConfig) -> Result<Self, StartError> {
        if let Some(fault) = config.fault() {
            return Err(StartError::Config(fault));
        }
        let cores = usable_cores(&config.cores)?;
        let arena = Arena::new(config.arena, config.frame_queue_len, config.frame_wait)
            .map_err(|source| StartError::Arena { size: config.arena, source })?;
        warn_of_small_pages(arena);
        let started = Self::start_on(config, &cores, arena);
        if started.is_err() {
            arena.retire();
        }
        started
    }

    fn start_on(config: &ShardsConfig, cores: &[usize], arena: Arena) -> Result<Self, StartError> {
        let inboxes = inboxes(cores.len(), config.mailbox_len)?;
        let pool = Pool::start(config.blocking_threads, config.blocking_queue_len, config.blocking_wait)
            .map_err(|source| resource("the threads for blocking calls", source))?;
        let (ended, ends) = mpsc::channel();
        let handles = inboxes.iter().map(|inbox| ShardHandle { inbox: Arc::clone(inbox) }).collect();
        let rings = Vec::new();
        let mut shards =
            Self { handles, arena, pool: Arc::clone(&pool), watcher: None, ends, rings, stopped: false };
        let mut refusal = None;
        for (inbox, core_id) in inboxes.iter().zip(cores) {
            let shared = core::Shared {
                inbox: Arc::clone(inbox),
                peers: Arc::clone(&inboxes),
                arena,
                pool: Arc::clone(&pool),
                stall_after: config.stall_after,
            };
            let plan = Plan { core_id: *core_id, ring_entries: config.ring_entries, shared };
            match start_thread(plan, ended.clone()) {
                Ok(ring) => shards.rings.push(ring),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        if let Some(error) = refusal {
            shards.end(Duration::ZERO);
            return Err(error);
        }
        shards.watcher = Watcher::start(inboxes, config.stall_after)
            .map_err(|error| tracing::warn!(%error, "no thread to watch for stuck tasks"))
            .ok();
        arena.publish();
        pool.publish();
        Ok(shards)
    }

    /// The shards, by id.
    pub fn handles(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// The memory that they share.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// What each shard counted so far, by id.
    pub fn counters(&self) -> Vec<ShardCounters> {
        self.handles.iter().map(ShardHandle::counters).collect()
    }

    /// Blocking calls that wait for a thread.
    pub fn blocking_pending(&self) -> usize {
        self.pool.pending()
    }

    /// Lets the tasks finish until `deadline`, then drops those that are left, and waits until the kernel
    /// gave back what it worked on. Tasks that run for ever end by [`crate::stop_requested`].
    pub fn stop(mut self, deadline: Duration) -> StopReport {
        self.end(deadline)
    }

    fn end(&mut self, deadline: Duration) -> StopReport {
        self.stopped = true;
        self.handles.iter().for_each(|handle| handle.inbox.advance(Phase::Draining));
        self.drain(Instant::now() + deadline);
        self.handles.iter().for_each(|handle| handle.inbox.advance(Phase::Ending));
        let give_up = Instant::now() + END_GRACE;
        let mut report = self.collect_ends(give_up);
        report.threads_left += self.pool.stop(give_up);
        self.watcher = None;
        if report.threads_left > 0 {
            tracing::error!(?report, "threads were left behind at the stop");
            // They may still use these: keep them for good.
            std::mem::take(&mut self.rings).into_iter().for_each(std::mem::forget);
        } else {
            self.handles.iter().for_each(|handle| handle.inbox.set_ring(-1));
            self.rings.clear();
            self.arena.retire();
        }
        report
    }

    /// Waits until no shard has a task or a letter, seen twice with nothing started in between.
    fn drain(&self, deadline: Instant) {
        let mut idle_at = None;
        while Instant::now() < deadline {
            let counted =
                self.handles.iter().map(|handle| handle.inbox.idle_at()).collect::<Option<Vec<u64>>>();
            if counted.is_some() && counted == idle_at {
                return;
            }
            idle_at = counted;
            thread::sleep(DRAIN_LOOK);
        }
    }

    fn collect_ends(&self, give_up: Instant) -> StopReport {
        let mut report = StopReport::default();
        for _ in 0..self.rings.len() {
            let left = give_up.saturating_duration_since(Instant::now());
            match self.ends.recv_timeout(left) {
                Ok((_, Ok(ended))) => {
                    report.tasks_dropped += ended.dropped;
                    report.ops_abandoned += ended.in_flight;
                }
                Ok((shard, Err(error))) => {
                    tracing::error!(%shard, %error, "the shard ended by a ring failure")
                }
                Err(_) => report.threads_left += 1,
            }
        }
        report
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        if !self.stopped {
            self.end(Duration::ZERO);
        }
    }
}

impl Inbox {
    /// How many tasks there ever were, if none is left.
    fn idle_at(&self) -> Option<u64> {
        let finished = self.counters.finished.get();
        let spawned = self.counters.spawned.get();
        (self.letters_pending() == 0 && spawned == finished).then_some(spawned)
    }
}

/// The inboxes of a new runtime.
pub(crate) fn inboxes(count: usize, mailbox_len: usize) -> Result<Arc<[Arc<Inbox>]>, StartError> {
    static GROUPS: AtomicU64 = AtomicU64::new(0);
    let group = GROUPS.fetch_add(1, Relaxed);
    let inbox = |id| Inbox::new(ShardId(id as u16), group, mailbox_len);
    (0..count).map(inbox).collect::<io::Result<_>>().map_err(|source| resource("an eventfd", source))
}

fn resource(what: &'static str, source: io::Error) -> StartError {
    let remedy = "raise the limits on threads and open files (systemd: TasksMax=, LimitNOFILE=)";
    StartError::Resource { what, remedy, source }
}

/// The cores to use: those asked for, each checked, or all that there are.
fn usable_cores(asked: &[usize]) -> Result<Vec<usize>, StartError> {
    let set = sched_getaffinity(None).map_err(|e| resource("the list of cores", e.into()))?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    if let Some(&core) = asked.iter().find(|core| !allowed.contains(core)) {
        let allowed = allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        return Err(StartError::Core { core, allowed });
    }
    Ok(if asked.is_empty() { allowed } else { asked.to_vec() })
}

fn warn_of_small_pages(arena: Arena) {
    if arena.backing() == Backing::Small {
        tracing::warn!(
            "the arena is in 4 KiB pages: large direct I/O runs at about half speed. Set \
             /sys/kernel/mm/transparent_hugepage/enabled to madvise, or reserve pages by vm.nr_hugepages"
        );
    }
}

/// Starts a shard's thread and waits for its word that the ring is there.
fn start_thread(
    plan: Plan,
    ended: mpsc::Sender<(ShardId, io::Result<Ended>)>,
) -> Result<OwnedFd, StartError> {
    let (ready, is_ready) = mpsc::channel();
    let name = format!("forebay-{}", plan.shared.inbox.id);
    let thread = thread::Builder::new().name(name);
    thread.spawn(move || shard_thread(plan, &ready, &ended)).map_err(|e| resource("a thread", e))?;
    is_ready.recv().unwrap_or_else(|_| {
        Err(resource("a shard", io::Error::other("its thread ended before the ring was made")))
    })
}

fn shard_thread(
    plan: Plan,
    ready: &mpsc::Sender<Result<OwnedFd, StartError>>,
    ended: &mpsc::Sender<(ShardId, io::Result<Ended>)>,
) {
    let inbox = Arc::clone(&plan.shared.inbox);
    let made = make_core(plan).and_then(|(core, ring)| {
        inbox.set_ring(ring.as_raw_fd());
        ready.send(Ok(ring)).map_err(|_| resource("a shard", io::Error::other("the start was given up")))?;
        Ok(core)
    });
    let core = match made {
        Ok(core) => core,
        // If nobody listens the start has failed already.
        Err(error) => return drop(ready.send(Err(error))),
    };
    inbox.watch.account_for_this_thread();
    let entered = core::enter(&core);
    let outcome = catch_unwind(AssertUnwindSafe(|| run::run(&core))).unwrap_or_else(|panic| {
        // Not a task: those are caught one by one. The kernel may be writing into frames whose owners this
        // unwinding would free, and requests would hang; a death at once loses nothing that was promised.
        tracing::error!(shard = %inbox.id, message = run::panic_message(&*panic), "the executor failed");
        std::process::abort()
    });
    drop(entered);
    drop(core);
    // As above.
    drop(ended.send((inbox.id, outcome)));
}

fn make_core(plan: Plan) -> Result<(Rc<Core>, OwnedFd), StartError> {
    let mut set = CpuSet::new();
    set.set(plan.core_id);
    sched_setaffinity(None, &set).map_err(|e| resource("the pinning of a thread to its core", e.into()))?;
    let shared = plan.shared;
    let (ring, registered) = Uring::new(plan.ring_entries, shared.arena, Arc::clone(&shared.inbox))?;
    let duplicate = ring.duplicate().map_err(|e| resource("a descriptor", e))?;
    Ok((Core::new(shared, Box::new(ring), registered), duplicate))
}
