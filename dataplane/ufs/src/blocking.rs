//! System calls that block, a bounded number at once.

use crate::error::{UfsError, UfsResult};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A door to tokio's blocking threads through which only so many calls go at once.
///
/// A call keeps its place until the system call returns, also when nobody waits for it any more: a hung NFS
/// server takes these places and no more, and whoever finds them taken gets [`UfsError::Timeout`].
#[derive(Debug, Clone)]
pub(crate) struct Blocking {
    places: Arc<Semaphore>,
    wait_max: Duration,
}

impl Blocking {
    pub(crate) fn new(places: usize, wait_max: Duration) -> Self {
        assert!(places > 0, "a pool without a place would never serve a call");
        Self { places: Arc::new(Semaphore::new(places)), wait_max }
    }

    /// Runs `call` on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> UfsResult<T> + Send + 'static,
    ) -> UfsResult<T> {
        let place = tokio::time::timeout(self.wait_max, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| UfsError::Timeout("waiting for a place among the blocking calls".into()))?
            .expect("the semaphore is never closed");
        let mut task = AbortUnstarted(tokio::task::spawn_blocking(move || {
            let _place = place;
            call()
        }));
        (&mut task.0)
            .await
            .map_err(|_| UfsError::Io("a blocking call was abandoned: the runtime is ending".into()))?
    }
}

/// A call that nobody waits for any more and that has not begun is not begun: a change that the caller has
/// given up must not come over whatever was done since.
struct AbortUnstarted<T>(JoinHandle<T>);

impl<T> Drop for AbortUnstarted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hung_call_holds_its_place_and_the_next_one_times_out() {
        let pool = Blocking::new(1, Duration::from_millis(50));
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let held = pool.clone();
        let hung = tokio::spawn(async move { held.run(move || Ok(hang.recv().ok())).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        let refused = pool.run(|| Ok(())).await;
        assert_eq!(refused.unwrap_err().kind(), crate::UfsErrorKind::Timeout);
        release.send(()).unwrap();
        hung.await.unwrap().unwrap();
        pool.run(|| Ok(())).await.unwrap();
    }
}
