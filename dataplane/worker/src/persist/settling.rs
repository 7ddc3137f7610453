//! Having the store know that what was carried is clean: at once, or when there is nothing better to do.
//!
//! **Owns** the choice. As long as every turn of the engine is taken, names wait that are nowhere but here, and short files are
//! settled behind them ([`crate::later`]): when the engine has turns to give, when room is short, when they have waited for
//! [`WAITED_MAX`], and at a stop. **Never does** lose one: what cannot wait is settled on the spot.

use super::Engine;
use super::source::Sent;
use crate::later::{Taken, Unsettled};
use forebay_types::{ContentKey, ExtentId};
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often it is looked whether those that wait can be settled.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks in a row that find the engine with turns to give before they are settled.
const QUIET_LOOKS: u32 = 2;
/// The shortest rest after some were settled at leisure.
const REST_MIN: Duration = Duration::from_millis(1);
/// How long one waits at the most.
const WAITED_MAX: Duration = Duration::from_secs(30);
/// How long packing waits after something that was put off as well.
const PACK_PUT_OFF: Duration = Duration::from_secs(1);
/// What a stop settles them for at the most; the others are fetched again when they are next read.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// Settled at one time, and between two looks while the engine is at work.
const AT_ONCE: usize = 8;

impl Engine {
    /// The bytes of an extent are those of the new version, which the log has recorded: it is found by that from now on, and
    /// may be evicted soon.
    pub(super) async fn bind_carried(&self, one: Option<Unsettled>) {
        let Some(one) = one else { return };
        let later = self.is_at_full_tilt() && self.worker.has_room() && self.worker.may_wait(&one);
        let now = if later { self.worker.later.put(one) } else { Err(self.worker.later.taken(one)) };
        match now {
            Ok(()) => self.worker.store.put_off_packing(PACK_PUT_OFF),
            Err(taken) => self.settle_extent(taken).await,
        }
    }

    /// Whether every turn is taken, and there will be a next one.
    fn is_at_full_tilt(&self) -> bool {
        self.turns.available_permits() == 0 && !self.stopping.load(Relaxed)
    }

    /// What is told of a content while its extent is not settled.
    pub(super) fn unsettled(&self, carried: (ContentKey, u64, ExtentId, Sent)) -> Unsettled {
        let (content, len, id, Sent { checksums, writers }) = carried;
        let _told = self.worker.sessions.tell_carried(content, id, writers);
        Unsettled { content, id, len, checksums, writers, _told }
    }

    async fn settle_extent(&self, taken: Taken) {
        let (worker, id) = (Arc::clone(&self.worker), taken.one().id);
        let settled = self.shard().call(move || async move { worker.settle_taken(taken).await }).await;
        match settled {
            Ok(Ok(())) => {}
            // It was deleted meanwhile, or is fetched again when it is read: nothing is lost.
            Ok(Err(error)) => tracing::debug!(extent = %id, %error, "a persisted extent was not bound"),
            Err(error) => tracing::debug!(extent = %id, %error, "a persisted extent was not bound"),
        }
    }

    /// Settles some of those that have waited for `at_least`; false if there were none.
    async fn settle_some(&self, at_least: Duration) -> bool {
        let these = self.worker.later.take_first(AT_ONCE, at_least);
        let some = !these.is_empty();
        let settling = stream::iter(these).map(|one| self.settle_extent(one));
        settling.buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
        some
    }

    /// Settles all that wait now. What cannot be settled just now waits again, and is not tried for ever.
    async fn settle_waiting(&self) {
        for _ in 0..self.worker.later.len().div_ceil(AT_ONCE) {
            self.settle_some(Duration::ZERO).await;
        }
    }

    /// Settles what can be before a stop.
    pub(super) async fn settle_last(&self) {
        let settled = tokio::time::timeout(STOP_WITHIN, self.settle_waiting()).await;
        let left = self.worker.later.len();
        if settled.is_err() || left > 0 {
            tracing::info!(left, "files that were just carried are fetched again when they are next read");
        }
    }

    /// Settles what waits as there is time for it, until it is dropped.
    pub(super) async fn settle_later(self: Arc<Self>) {
        let mut quiet = 0;
        loop {
            self.worker.later.some().await;
            tokio::time::sleep(LOOK_EVERY).await;
            quiet = if self.is_at_full_tilt() { 0 } else { quiet + 1 };
            if self.hurried.swap(false, Relaxed) || !self.worker.has_room() {
                self.settle_waiting().await;
            } else if quiet < QUIET_LOOKS {
                self.settle_overdue().await;
            } else {
                self.settle_at_leisure().await;
            }
        }
    }

    /// Settles those that have waited for long, for as long as the time between two looks.
    async fn settle_overdue(&self) {
        let until = Instant::now() + LOOK_EVERY;
        while Instant::now() < until && self.settle_some(WAITED_MAX).await {}
    }

    /// Settles what waits as long as the engine has turns to give, half of the time: who reads what was just carried comes first.
    async fn settle_at_leisure(&self) {
        loop {
            let began = Instant::now();
            if self.is_at_full_tilt() || !self.settle_some(Duration::ZERO).await {
                return;
            }
            tokio::time::sleep(began.elapsed().max(REST_MIN)).await;
        }
    }
}
