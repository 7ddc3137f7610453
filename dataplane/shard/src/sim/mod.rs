//! The runtime in simulation: the shipped executor, timers, mailboxes and file operations over a simulated
//! ring, with a virtual clock and a disk that knows what is durable.
//!
//! **Owns** the world of one run: time, chance, the operations that are under way, the disk. All shards run on
//! the calling thread, in an order drawn anew for each round, so a seed gives the same run again, to the last
//! completion ([`Sim::trace`] is a fingerprint of it).
//!
//! **Never does** real waiting, and never uses a wall clock or real randomness. When no shard has anything to
//! run, the clock jumps to the next completion or timer; when there is none either, the run is stuck, which
//! is an error ([`SimError::Stuck`]) and not a hang.
//!
//! **Why this shape:** bugs of order and of power loss show once in a million runs on real hardware. Here a
//! seed is a run, a minute is thousands of them, and a failure is reproduced by its number. The seam is the
//! driver below the executor, not a mock above it: what is tested is what ships.

mod disk;
mod driver;
mod world;

pub use disk::SimDisk;
pub use world::Faults;

use crate::arena::Arena;
use crate::blocking::Pool;
use crate::core::{self, Core};
use crate::error::StartError;
use crate::handle::ShardHandle;
use crate::run;
use crate::runtime::inboxes;
use driver::SimDriver;
use forebay_types::{ByteSize, ShardId};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::World;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many shards there are.
    pub shards: usize,
    /// The arena, real memory.
    pub arena: ByteSize,
    /// The most messages that may wait for one shard.
    pub mailbox_len: usize,
    /// How long a task waits for a frame, in virtual time.
    pub frame_wait: Duration,
    /// What goes wrong, and how often.
    pub faults: Faults,
}

impl SimConfig {
    /// Two shards and a disk without faults.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shards: 2,
            arena: ByteSize::mib(16),
            mailbox_len: 64,
            frame_wait: Duration::from_secs(10),
            faults: Faults::default(),
        }
    }
}

/// A run that cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// No task can run, nothing is under way and no timer is set: the tasks wait for each other.
    #[error("nothing is left that could happen: the tasks wait for each other")]
    Stuck,
    /// The task panicked.
    #[error("the task ended without a result: it panicked")]
    Lost,
}

/// A process with simulated shards.
pub struct Sim {
    world: Rc<RefCell<World>>,
    cores: Vec<Rc<Core>>,
    handles: Vec<ShardHandle>,
    arena: Arena,
    events: Vec<crate::driver::Event>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sim({} shards, {:?} after the start)", self.cores.len(), self.elapsed())
    }
}

impl Sim {
    /// Starts a process on `disk`: a fresh one, or what a power loss left.
    ///
    /// # Errors
    /// The arena's memory could not be had.
    pub fn start(config: &SimConfig, disk: SimDisk) -> Result<Self, StartError> {
        let queue_len = config.mailbox_len;
        let arena = Arena::new(config.arena, queue_len, config.frame_wait)
            .map_err(|source| StartError::Arena { size: config.arena, source })?;
        let inboxes = inboxes(config.shards, config.mailbox_len)?;
        let pool = Pool::inline(queue_len, config.frame_wait);
        let world = Rc::new(RefCell::new(World::new(config, disk)));
        let core = |(shard, inbox): (usize, &Arc<_>)| {
            let shared = core::Shared {
                inbox: Arc::clone(inbox),
                peers: Arc::clone(&inboxes),
                arena,
                pool: Arc::clone(&pool),
                // The virtual clock stands still while a task runs: no stalls.
                stall_after: Duration::MAX,
            };
            Core::new(shared, Box::new(SimDriver::new(Rc::clone(&world), shard)), false)
        };
        let cores = inboxes.iter().enumerate().map(core).collect();
        let handles = inboxes.iter().map(|inbox| ShardHandle { inbox: Arc::clone(inbox) }).collect();
        Ok(Self { world, cores, handles, arena, events: Vec::new() })
    }

    /// The shards, by id.
    pub fn handles(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// The arena that the shards share.
    pub fn arena(&self) -> Arena {
        self.arena
    }

    /// The disk, to create and open files.
    pub fn disk(&self) -> SimDisk {
        self.world.borrow().disk()
    }

    /// The virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.world.borrow().now()
    }

    /// A fingerprint of all that completed so far: equal for equal seeds and programs.
    pub fn trace(&self) -> u64 {
        self.world.borrow().trace()
    }

    /// Runs `f()` on a shard, and the world with it, until it is ready.
    ///
    /// # Errors
    /// [`SimError`].
    pub fn block_on<Fut, T>(&mut self, shard: ShardId, f: impl FnOnce() -> Fut) -> Result<T, SimError>
    where
        Fut: Future<Output = T> + 'static,
        T: 'static,
    {
        let slot = Rc::new(RefCell::new(None));
        let core = Rc::clone(&self.cores[usize::from(shard.0)]);
        let entered = core::enter(&core);
        let (future, result) = (f(), Rc::clone(&slot));
        core.spawn(Box::pin(async move {
            let value = future.await;
            result.borrow_mut().replace(value);
        }));
        drop(entered);
        loop {
            if let Some(value) = slot.borrow_mut().take() {
                return Ok(value);
            }
            if Rc::strong_count(&slot) == 1 {
                return Err(SimError::Lost);
            }
            if self.is_idle() {
                self.pass_time()?;
            }
            self.round();
        }
    }

    /// Lets the world run for a span of virtual time.
    ///
    /// # Errors
    /// [`SimError`].
    pub fn run_for(&mut self, time: Duration) -> Result<(), SimError> {
        self.block_on(ShardId(0), || crate::sleep(time))
    }

    /// Cuts the power: all tasks are gone, and of what was not synced, chance decides block by block.
    pub fn power_loss(self) -> SimDisk {
        let disk = self.disk();
        let seed = self.world.borrow_mut().draw();
        drop(self);
        disk.lose_power(seed);
        disk
    }

    /// One turn for each shard.
    fn round(&mut self) {
        let order = self.world.borrow_mut().shuffled(self.cores.len());
        for shard in order {
            let core = &self.cores[shard];
            let entered = core::enter(core);
            run::step(core, &mut self.events, false).expect("a simulated ring does not fail");
            drop(entered);
        }
    }

    fn is_idle(&self) -> bool {
        self.cores.iter().all(|core| core.is_idle()) && !self.world.borrow().has_completions()
    }

    /// Moves the clock to whatever happens next.
    fn pass_time(&self) -> Result<(), SimError> {
        let timers = self.cores.iter().filter_map(|core| core.timers.borrow().earliest()).min();
        let mut world = self.world.borrow_mut();
        let timer = timers.map(|at: Instant| world.since_start(at));
        let next = timer.into_iter().chain(world.next_completion()).min().ok_or(SimError::Stuck)?;
        world.advance_to(next);
        Ok(())
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // No operation may touch memory from here on: the frames go back before their completions would come.
        self.world.borrow_mut().forget_operations();
        for core in &self.cores {
            let entered = core::enter(core);
            core.drop_tasks();
            core.inbox.close();
            drop(std::mem::take(&mut *core.ops.borrow_mut()));
            drop(entered);
        }
        self.cores.clear();
        self.arena.retire();
    }
}
