//! The pool for calls that block: opening, renaming, unlinking, listing, a database, DNS.
//!
//! Bounded twice: so many threads, so many calls that wait. Who finds it full waits for a place, in order,
//! with a deadline. A call that has begun cannot be stopped; dropping its future leaves it to finish.

use crate::core;
use crate::error::BlockingError;
use crate::run::panic_message;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// The pool of one `Shards`.
#[derive(Debug)]
pub(crate) struct Pool {
    places: Arc<Semaphore>,
    /// Calls run at once on the calling thread: for a simulation, which has one thread and no wall clock.
    inline: bool,
    wait_max: Duration,
    state: Mutex<State>,
    /// A job came, or the pool stops.
    news: Condvar,
    /// A thread ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Job, OwnedSemaphorePermit)>,
    threads: usize,
    stopping: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} jobs wait, {} threads", self.jobs.len(), self.threads)
    }
}

/// The pools of the shards that run, oldest first.
static LIVE: RwLock<Vec<Arc<Pool>>> = RwLock::new(Vec::new());

/// Runs a call that blocks on the pool and brings its result back. May be awaited on any executor; on a
/// foreign thread the pool is that of the shards started last.
///
/// # Errors
/// [`BlockingError::Busy`] when no place became free within `blocking_wait`.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, BlockingError> {
    let pool = core::with(|core| Arc::clone(&core.pool)).or_else(|| LIVE.read().last().cloned());
    let pool = pool.ok_or(BlockingError::Stopped)?;
    let acquired = crate::timeout(pool.wait_max, Arc::clone(&pool.places).acquire_owned()).await;
    let place = acquired.map_err(|_| BlockingError::Busy(pool.wait_max))?;
    let place = place.map_err(|_| BlockingError::Stopped)?;
    let (sender, receiver) = oneshot::channel();
    pool.push(Box::new(move || drop(sender.send(caught(f)))), place)?;
    receiver.await.map_err(|_| BlockingError::Stopped)?
}

fn caught<T>(f: impl FnOnce() -> T) -> Result<T, BlockingError> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        tracing::error!(message = panic_message(&*panic), "a blocking call panicked");
        BlockingError::Panicked
    })
}

impl Pool {
    fn new(places: usize, wait_max: Duration, inline: bool) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            inline,
            wait_max,
            state: Mutex::default(),
            news: Condvar::new(),
            ended: Condvar::new(),
        })
    }

    /// A pool without threads, for a simulation.
    pub(crate) fn inline(queue_len: usize, wait_max: Duration) -> Arc<Self> {
        Self::new(queue_len, wait_max, true)
    }

    pub(crate) fn start(threads: usize, queue_len: usize, wait_max: Duration) -> io::Result<Arc<Self>> {
        let pool = Self::new(threads + queue_len, wait_max, false);
        for n in 0..threads {
            let mine = Arc::clone(&pool);
            pool.state.lock().threads += 1;
            let thread = std::thread::Builder::new().name(format!("forebay-block-{n}"));
            if let Err(error) = thread.spawn(move || mine.run()) {
                pool.state.lock().threads -= 1;
                pool.stop(Instant::now());
                return Err(error);
            }
        }
        Ok(pool)
    }

    pub(crate) fn publish(self: &Arc<Self>) {
        LIVE.write().push(Arc::clone(self));
    }

    /// Calls that wait or run.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().jobs.len()
    }

    fn push(&self, job: Job, place: OwnedSemaphorePermit) -> Result<(), BlockingError> {
        if self.inline {
            job();
            drop(place);
            return Ok(());
        }
        let mut state = self.state.lock();
        if state.stopping {
            return Err(BlockingError::Stopped);
        }
        state.jobs.push_back((job, place));
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    fn run(&self) {
        while let Some((job, place)) = self.next() {
            job();
            drop(place);
        }
        self.state.lock().threads -= 1;
        self.ended.notify_all();
    }

    fn next(&self) -> Option<(Job, OwnedSemaphorePermit)> {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            self.news.wait(&mut state);
        }
    }

    /// Drops the calls that have not begun, waits for the others, and says how many threads were left behind.
    pub(crate) fn stop(self: &Arc<Self>, give_up: Instant) -> usize {
        LIVE.write().retain(|live| !Arc::ptr_eq(live, self));
        self.places.close();
        let mut state = self.state.lock();
        state.stopping = true;
        let unbegun = std::mem::take(&mut state.jobs);
        self.news.notify_all();
        while state.threads > 0 && !self.ended.wait_until(&mut state, give_up).timed_out() {}
        let left = state.threads;
        drop(state);
        drop(unbegun);
        left
    }
}
