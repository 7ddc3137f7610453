//! Questions to the UFS, each asked once for all who wait for the same answer.
//!
//! **Owns** the questions on their way. A question lives as long as somebody waits for its answer, and no
//! longer: who comes after the last one went asks anew, so that nobody gets an answer older than his question
//! by more than its own time on the way. Every question has a deadline.
//!
//! **Who asks:** the first who waits. If he goes away before the answer comes, the next one asks again. A future
//! that all of them poll together would not do: it is polled by one at a time, and when it is woken while that one
//! is at it, the others hear of it only through him, who may go away instead of polling once more.

use forebay_types::{DirPage, FsError, FsErrorKind, FsResult, MountId, PageToken, UfsAttr, UfsKey, UfsMeta};
use futures_timer::Delay;
use futures_util::future::{Either, select};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::OnceCell;

type Answer = FsResult<Option<UfsAttr>>;
type Flight = OnceCell<Answer>;

/// The way to the UFS.
pub(crate) struct Flights {
    ufs: Arc<dyn UfsMeta>,
    deadline: Duration,
    stats: Mutex<HashMap<(MountId, UfsKey), Weak<Flight>>>,
}

impl Flights {
    pub(crate) fn new(ufs: Arc<dyn UfsMeta>, deadline: Duration) -> Self {
        Self { ufs, deadline, stats: Mutex::default() }
    }

    /// What the UFS has at `key`.
    pub(crate) async fn stat(&self, mount: MountId, key: UfsKey) -> Answer {
        let flight = self.board(mount, &key);
        let asked = flight.get_or_init(|| self.ufs.stat(mount, &key));
        let answer = in_time(self.deadline, async { asked.await.clone() }).await;
        let mut stats = self.stats.lock();
        // Only this very flight: another may have set off after it landed.
        let at = (mount, key);
        if stats.get(&at).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&flight))) {
            stats.remove(&at);
        }
        answer
    }

    /// What is at some keys, or below them, was changed by us: who asks from now on asks anew.
    pub(crate) fn overtaken(&self, mount: MountId, keys: &[UfsKey], below: bool) {
        let hit = |at: &UfsKey| keys.iter().any(|key| at == key || (below && at.is_within(key)));
        self.stats.lock().retain(|(of, at), _| *of != mount || !hit(at));
    }

    /// The same by a question of one's own, asked after the call began.
    pub(crate) async fn stat_anew(&self, mount: MountId, key: &UfsKey) -> Answer {
        in_time(self.deadline, self.ufs.stat(mount, key)).await
    }

    /// What is at a key that a listing has shown to be a file or a link.
    pub(crate) async fn stat_listed(&self, mount: MountId, key: &UfsKey) -> Answer {
        in_time(self.deadline, self.ufs.stat_listed(mount, key)).await
    }

    fn board(&self, mount: MountId, key: &UfsKey) -> Arc<Flight> {
        let mut stats = self.stats.lock();
        let at = (mount, key.clone());
        let underway = stats.get(&at).and_then(Weak::upgrade);
        if let Some(underway) = underway.filter(|flight| !flight.initialized()) {
            return underway;
        }
        let flight = Arc::new(Flight::new());
        // Flights that were abandoned leave dead references behind; they go before the map grows.
        if stats.len() == stats.capacity() {
            stats.retain(|_, known| known.strong_count() > 0);
        }
        stats.insert(at, Arc::downgrade(&flight));
        flight
    }

    /// A page of a listing. Not shared: each listing has its own place.
    pub(crate) async fn list(
        &self,
        mount: MountId,
        key: &UfsKey,
        from: Option<PageToken>,
        limit: usize,
    ) -> FsResult<DirPage> {
        in_time(self.deadline, self.ufs.list(mount, key, from, limit)).await
    }
}

async fn in_time<T>(deadline: Duration, answer: impl Future<Output = FsResult<T>>) -> FsResult<T> {
    match select(pin!(answer), Delay::new(deadline)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => Err(FsError::new(FsErrorKind::TimedOut, "the under file system did not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::BoxFuture;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::{Context, Poll, Waker};
    use std::thread::sleep;

    /// Long enough for another thread to do its part.
    const A_WHILE: Duration = Duration::from_millis(100);

    /// The first question is woken in the middle of its first poll; all others are answered at once.
    #[derive(Default)]
    struct Woken {
        asked: AtomicU64,
        polled: Mutex<Option<Sender<()>>>,
    }

    impl UfsMeta for Woken {
        fn stat<'a>(&'a self, _: MountId, _: &'a UfsKey) -> BoxFuture<'a, Answer> {
            if self.asked.fetch_add(1, SeqCst) > 0 {
                return Box::pin(async { Ok(None) });
            }
            Box::pin(poll_fn(|cx| match self.polled.lock().take() {
                None => Poll::Ready(Ok(None)),
                Some(polled) => {
                    polled.send(()).unwrap();
                    sleep(A_WHILE);
                    cx.waker().wake_by_ref();
                    sleep(A_WHILE);
                    Poll::Pending
                }
            }))
        }

        fn list<'a>(
            &'a self,
            _: MountId,
            _: &'a UfsKey,
            _: Option<PageToken>,
            _: usize,
        ) -> BoxFuture<'a, FsResult<DirPage>> {
            Box::pin(async { Err(FsErrorKind::Unsupported.into()) })
        }
    }

    fn in_flight() -> (Arc<Flights>, Receiver<()>) {
        let (polled, begun) = channel();
        let ufs = Woken { polled: Mutex::new(Some(polled)), ..Woken::default() };
        (Arc::new(Flights::new(Arc::new(ufs), Duration::from_secs(60))), begun)
    }

    #[test]
    fn who_goes_away_leaves_nobody_waiting() {
        let (flights, begun) = in_flight();
        let key = UfsKey::new(*b"k").unwrap();
        let (tell, told) = channel();
        let (second, other_key) = (Arc::clone(&flights), key.clone());
        std::thread::spawn(move || {
            begun.recv().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            tell.send(runtime.block_on(second.stat(MountId::ROOT, other_key))).unwrap();
        });
        let mut first = Box::pin(flights.stat(MountId::ROOT, key));
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(first);
        let answer = told.recv_timeout(Duration::from_secs(10)).expect("the other one gets an answer");
        assert_eq!(answer.unwrap(), None);
    }

    #[test]
    fn those_who_wait_for_the_same_ask_once() {
        let (flights, _begun) = in_flight();
        let key = UfsKey::new(*b"k").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let two = async {
            futures_util::join!(flights.stat(MountId::ROOT, key.clone()), flights.stat(MountId::ROOT, key))
        };
        let answers = runtime.block_on(two);
        assert_eq!((answers.0.unwrap(), answers.1.unwrap()), (None, None));
        assert!(flights.stats.lock().is_empty());
    }
}
