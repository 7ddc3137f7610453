//! A shard as its own thread sees it, and the functions that find it from inside a task.

use crate::arena::Arena;
use crate::blocking::Pool;
use crate::counters::Counters;
use crate::driver::Driver;
use crate::inbox::Inbox;
use crate::ops::InFlight;
use crate::task::TaskRef;
use crate::timers::Timers;
use forebay_types::ShardId;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// A task's entry in the table of its shard.
pub(crate) struct Task {
    pub(crate) shared: Arc<TaskRef>,
    pub(crate) waker: Waker,
    /// Out of its place while it is polled.
    pub(crate) future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// What a shard shares with the rest of its runtime.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) inbox: Arc<Inbox>,
    /// All shards of this runtime, by id.
    pub(crate) peers: Arc<[Arc<Inbox>]>,
    pub(crate) arena: Arena,
    pub(crate) pool: Arc<Pool>,
    pub(crate) stall_after: Duration,
}

/// The state of a shard. No borrow of a cell is held while foreign code (a future, its drop) runs.
pub(crate) struct Core {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) peers: Arc<[Arc<Inbox>]>,
    pub(crate) arena: Arena,
    /// Whether the arena is registered with the driver.
    pub(crate) registered: bool,
    pub(crate) pool: Arc<Pool>,
    pub(crate) driver: RefCell<Box<dyn Driver>>,
    pub(crate) tasks: RefCell<Slab<Task>>,
    pub(crate) ready: RefCell<VecDeque<Arc<TaskRef>>>,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) ops: RefCell<Slab<InFlight>>,
    /// Tasks that want to know when the runtime stops.
    pub(crate) stop_wakers: RefCell<Vec<Waker>>,
    pub(crate) stall_after: Duration,
    /// The time when the loop last looked at the clock: before the present poll.
    pub(crate) looked: Cell<Instant>,
    /// Set when the shard takes no more tasks, not even its own.
    pub(crate) ended: Cell<bool>,
}

thread_local!(static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) });

/// Makes `core` this thread's shard until the guard is dropped.
pub(crate) fn enter(core: &Rc<Core>) -> Entered {
    let before = CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(core)));
    Entered { before }
}

/// Puts the previous shard of the thread (usually none) back when dropped.
pub(crate) struct Entered {
    before: Option<Rc<Core>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        let mine = CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), before));
        drop(mine);
    }
}

/// Runs `f` on this thread's shard; `None` on a foreign thread.
pub(crate) fn with<R>(f: impl FnOnce(&Core) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.borrow().as_deref().map(f)).ok().flatten()
}

/// As [`with`], if this thread's shard is the one that `owner` belongs to.
pub(crate) fn with_owner<R>(owner: &Weak<Inbox>, f: impl FnOnce(&Core) -> R) -> Option<R> {
    with(|core| std::ptr::eq(owner.as_ptr(), Arc::as_ptr(&core.inbox)).then(|| f(core))).flatten()
}

/// The shard that this thread is, if it is one.
pub fn current() -> Option<ShardId> {
    with(|core| core.inbox.id)
}

/// The time: the shard's clock on a shard (which a simulation turns), the machine's elsewhere.
pub fn now() -> Instant {
    with(|core| core.driver.borrow().now()).unwrap_or_else(Instant::now)
}

/// The time when the shard took up what it is doing now, at no cost: a turn is over within a fraction of a millisecond.
/// Elsewhere the machine's time.
pub fn turn_began() -> Instant {
    with(|core| core.looked.get()).unwrap_or_else(Instant::now)
}

/// Starts a task on this shard. It runs after the current one gave up its turn. A panic in it is logged,
/// counted, and ends this task only.
///
/// # Panics
/// On a thread that is no shard: use [`crate::ShardHandle::try_spawn`] there.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let spawned = with(|core| core.spawn(Box::pin(future)));
    spawned.expect("spawn is called on a shard thread");
}

/// Queues a task that became ready, if it belongs to this thread; otherwise hands it back.
pub(crate) fn queue_here(task: Arc<TaskRef>) -> Option<Arc<TaskRef>> {
    let mut task = Some(task);
    with(|core| {
        if task.as_ref().is_some_and(|t| Arc::ptr_eq(t.inbox(), &core.inbox)) {
            core.ready.borrow_mut().extend(task.take());
        }
    });
    task
}

/// Rings a peer's bell through this thread's ring. False: this thread has no ring that could.
pub(crate) fn ring_peer(peer: &Inbox) -> bool {
    let ring = |core: &Core| core.inbox.group == peer.group && core.driver.borrow_mut().ring_peer(peer);
    with(ring).unwrap_or(false)
}

impl Core {
    pub(crate) fn new(shared: Shared, driver: Box<dyn Driver>, registered: bool) -> Rc<Self> {
        Rc::new(Self {
            inbox: shared.inbox,
            peers: shared.peers,
            arena: shared.arena,
            registered,
            pool: shared.pool,
            looked: Cell::new(driver.now()),
            driver: RefCell::new(driver),
            tasks: RefCell::default(),
            ready: RefCell::default(),
            timers: RefCell::default(),
            ops: RefCell::default(),
            stop_wakers: RefCell::default(),
            stall_after: shared.stall_after,
            ended: Cell::new(false),
        })
    }

    /// Whether there is nothing to run before a completion, a timer or another shard brings something.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.borrow().is_empty() && !self.inbox.has_news()
    }

    /// Looks at the clock.
    pub(crate) fn look(&self) -> Instant {
        let now = self.driver.borrow().now();
        self.looked.set(now);
        now
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inbox.counters
    }

    pub(crate) fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        if self.ended.get() {
            // Dropped like the tasks that were there when the shard ended.
            return drop(future);
        }
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let shared = TaskRef::new(entry.key(), Arc::clone(&self.inbox));
        let waker = Waker::from(Arc::clone(&shared));
        entry.insert(Task { shared: Arc::clone(&shared), waker, future: Some(future) });
        self.counters().spawned.add_mine(1);
        self.ready.borrow_mut().push_back(shared);
    }

    /// Drops all tasks. Their destructors may still use the shard, but start nothing new.
    pub(crate) fn drop_tasks(&self) -> usize {
        self.ended.set(true);
        let tasks: Vec<Task> = self.tasks.borrow_mut().drain().collect();
        tasks.iter().for_each(|task| task.shared.finish());
        let dropped = tasks.len();
        drop(tasks);
        self.counters().finished.add_mine(dropped as u64);
        self.ready.borrow_mut().clear();
        dropped
    }
}
