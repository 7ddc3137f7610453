//! Threads that read the engine for callers who may not block.
//!
//! **Owns** a few threads and a bounded queue. A read of the engine may fault a page in from the disk, and a
//! shard that waited for that would hold up everyone on its core.

use forebay_types::{FsError, FsErrorKind, FsResult};
use futures_timer::Delay;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// The pool.
pub(crate) struct Readers {
    queue: Option<Sender<Job>>,
    places: Arc<Semaphore>,
    deadline: Duration,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn start(threads: usize, queue_len: usize, deadline: Duration) -> std::io::Result<Self> {
        let (queue, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let spawn = |n| {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name(format!("fby-meta-{n}")).spawn(move || run(&waiting))
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), places: Arc::new(Semaphore::new(queue_len)), deadline, threads })
    }

    /// Runs `read` on one of the threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> FsResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let stopped = || FsError::from(FsErrorKind::ShuttingDown);
        let acquired = Arc::clone(&self.places).try_acquire_owned();
        let place = match acquired {
            Ok(place) => place,
            Err(_) => {
                let wait = pin!(Arc::clone(&self.places).acquire_owned());
                match select(wait, Delay::new(self.deadline)).await {
                    Either::Left((place, _)) => place.map_err(|_| stopped())?,
                    Either::Right(_) => {
                        return Err(FsError::new(
                            FsErrorKind::Overloaded,
                            "too many reads of the metadata engine",
                        ));
                    }
                }
            }
        };
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move || {
            // Who no longer waits for the answer does not want it.
            let _ = reply.send(read());
            drop(place);
        });
        self.queue.as_ref().ok_or_else(stopped)?.send(job).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a metadata reader panicked");
            }
        }
    }
}

fn run(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
