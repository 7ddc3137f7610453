//! Questions to the UFS, each asked once for all who wait for the same answer.
//!
//! **Owns** the questions on their way. A question lives as long as somebody waits for its answer, and no
//! longer: who comes after the last one went asks anew, so that nobody gets an answer older than his question
//! by more than its own time on the way. Every question has a deadline.

use forebay_types::{
    BoxFuture, DirPage, FsError, FsErrorKind, FsResult, MountId, PageToken, UfsAttr, UfsKey, UfsMeta,
};
use futures_timer::Delay;
use futures_util::FutureExt;
use futures_util::future::{Either, Shared, WeakShared, select};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

type Answer = FsResult<Option<UfsAttr>>;
type Flight = Shared<BoxFuture<'static, Answer>>;
type Underway = HashMap<(MountId, UfsKey), WeakShared<BoxFuture<'static, Answer>>>;

/// The way to the UFS.
pub(crate) struct Flights {
    ufs: Arc<dyn UfsMeta>,
    deadline: Duration,
    stats: Mutex<Underway>,
}

impl Flights {
    pub(crate) fn new(ufs: Arc<dyn UfsMeta>, deadline: Duration) -> Self {
        Self { ufs, deadline, stats: Mutex::default() }
    }

    /// What the UFS has at `key`.
    pub(crate) async fn stat(&self, mount: MountId, key: UfsKey) -> Answer {
        let flight = self.board(mount, &key);
        let answer = flight.clone().await;
        let mut stats = self.stats.lock();
        // Only this very flight: another may have set off after it landed.
        if let Some(known) = stats.get(&(mount, key.clone())).and_then(WeakShared::upgrade)
            && known.ptr_eq(&flight)
        {
            stats.remove(&(mount, key));
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

    fn board(&self, mount: MountId, key: &UfsKey) -> Flight {
        let mut stats = self.stats.lock();
        let at = (mount, key.clone());
        if let Some(underway) = stats.get(&at).and_then(WeakShared::upgrade) {
            return underway;
        }
        let (ufs, deadline, key) = (Arc::clone(&self.ufs), self.deadline, key.clone());
        let ask = async move { in_time(deadline, ufs.stat(mount, &key)).await };
        let flight = ask.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            // Flights that were abandoned leave dead references behind; they go before the map grows.
            if stats.len() == stats.capacity() {
                stats.retain(|_, known| known.upgrade().is_some());
            }
            stats.insert(at, weak);
        }
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
