//! The end of bytes that no name leads to any more.
//!
//! **Owns** the queue of unlinked files whose bytes are to go, and the one task that lets them go. An extent is freed
//! only after the record that took its last name away is on the disk: the tier's file system makes a removal durable
//! when it likes, and power lost in between would bring the name back without its bytes.
//!
//! **Never does** decide that a file is to go: [`crate::closes`] does, and the orphan record that the name space keeps
//! until then has the next start repeat what this one did not come to.
//!
//! **Why this shape:** an unlink that synced the log itself would cost a disk's turn each. So the doomed gather for a
//! moment, and one sync, which is free if the metadata engine has caught up meanwhile, is for all of them. The queue
//! is bounded: when it is long, or the tier is nearly full of what cannot be evicted, who unlinks waits for its end.

use crate::Vfs;
use forebay_types::{ExtentId, FsErrorKind, FsResult, Ino};
use futures_util::future::select;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::Notify;

/// So many files may wait before who unlinks more has to wait too.
const WAITING_MAX: usize = 4096;
/// Files that are let go of at the same time, so that the home gets their records in batches.
const AT_ONCE: usize = 32;
/// Below this share of the tiers' space, in percent, room counts for more than the cost of a sync.
const TIGHT_PERCENT: u64 = 25;
/// How long who needs room waits for what is about to be freed.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How often, and how far apart, room is looked for again: a file that was closed and unlinked a moment ago may be on
/// its way to us still.
const ROOM_TRIES: usize = 5;
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// The pause after a failure.
const TROUBLE_PAUSE: Duration = Duration::from_millis(500);

/// An unlinked file that nobody has open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doomed {
    pub(crate) ino: Ino,
    pub(crate) extent: Option<ExtentId>,
}

/// What is to go.
#[derive(Default)]
pub(crate) struct Discards {
    state: Mutex<State>,
    /// Somebody waits for room.
    hurry: Notify,
    /// The queue is empty.
    empty: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<Doomed>,
    under_way: usize,
    is_worked_on: bool,
    is_hurried: bool,
}

impl Discards {
    /// Puts a file into the queue; says whether a task has to be started for it.
    fn push(&self, doomed: Doomed) -> bool {
        let mut state = self.state.lock();
        state.waiting.push(doomed);
        !std::mem::replace(&mut state.is_worked_on, true)
    }

    /// Takes all that waits. `None`: there is nothing left to do, and the next push starts another task.
    fn take(&self) -> Option<Vec<Doomed>> {
        let mut state = self.state.lock();
        state.under_way = 0;
        if state.waiting.is_empty() {
            (state.is_worked_on, state.is_hurried) = (false, false);
            self.empty.notify_waiters();
            return None;
        }
        let taken = std::mem::take(&mut state.waiting);
        state.under_way = taken.len();
        Some(taken)
    }

    fn put_back(&self, left: impl IntoIterator<Item = Doomed>) {
        self.state.lock().waiting.extend(left);
    }

    fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.under_way
    }

    /// Lets some more gather, unless somebody waits.
    async fn gather(&self, moment: Duration) {
        let hurried = self.hurry.notified();
        if !self.state.lock().is_hurried {
            let _ = forebay_shard::timeout(moment, hurried).await;
        }
    }

    /// Waits until all of it is gone.
    async fn wait_empty(&self) {
        let emptied = self.empty.notified();
        let mut emptied = pin!(emptied);
        emptied.as_mut().enable();
        {
            let mut state = self.state.lock();
            if !state.is_worked_on {
                return;
            }
            state.is_hurried = true;
        }
        self.hurry.notify_one();
        if forebay_shard::timeout(ROOM_WAIT, emptied).await.is_err() {
            tracing::warn!("the bytes of unlinked files are freed slowly");
        }
    }
}

impl Vfs {
    /// Has the bytes of an unlinked file freed soon.
    pub(crate) fn doom(&self, doomed: Doomed) {
        if self.discards.push(doomed) {
            let vfs = Weak::clone(&self.this);
            forebay_shard::spawn(async move {
                // What a stop leaves, the next start finds as orphans.
                select(pin!(discard_all(vfs)), forebay_shard::stop_requested()).await;
            });
        }
    }

    /// Waits for what is about to be freed, if there is much of it or room is short.
    pub(crate) async fn room_from_discards(&self) {
        let waiting = self.discards.len();
        if waiting >= WAITING_MAX || (waiting > 0 && self.is_tight()) {
            self.discards.wait_empty().await;
        }
    }

    /// Does what needs room, again where there was none a moment ago.
    ///
    /// # Errors
    /// `NoSpace` if there is none still; those of `attempt`.
    pub(crate) async fn with_room<T>(&self, attempt: impl AsyncFn() -> FsResult<T>) -> FsResult<T> {
        for _ in 1..ROOM_TRIES {
            self.room_from_discards().await;
            match attempt().await {
                Err(error) if error.kind() == FsErrorKind::NoSpace => forebay_shard::sleep(ROOM_PAUSE).await,
                other => return other,
            }
        }
        self.room_from_discards().await;
        attempt().await
    }

    fn is_tight(&self) -> bool {
        let (total, available) = self.client.space();
        available < total / 100 * TIGHT_PERCENT
    }

    /// Makes the ends of their names durable, and lets them go. Yields those that are left.
    async fn discard(&self, doomed: Vec<Doomed>) -> Vec<Doomed> {
        if let Err(error) = self.names.sync().await {
            tracing::warn!(%error, "the bytes of unlinked files stay: their names cannot be made durable");
            return doomed;
        }
        let let_go = |doomed: Doomed| async move { self.let_go_of(doomed).await.err().map(|_| doomed) };
        stream::iter(doomed)
            .map(let_go)
            .buffer_unordered(AT_ONCE)
            .filter_map(|left| async move { left })
            .collect()
            .await
    }

    /// The bytes go first: a crash in between leaves an orphan record, which recovery finds and repeats.
    async fn let_go_of(&self, doomed: Doomed) -> FsResult<()> {
        let Doomed { ino, extent } = doomed;
        let gone = async {
            if let Some(extent) = extent {
                self.client.discard(extent).await?;
            }
            self.names.release_orphan(ino).await
        };
        gone.await.inspect_err(|error| {
            tracing::warn!(%ino, %error, "the bytes of an unlinked file could not be freed yet");
        })
    }
}

async fn discard_all(vfs: Weak<Vfs>) {
    loop {
        let Some(vfs) = vfs.upgrade() else { return };
        vfs.discards.gather(vfs.config.discard_gather).await;
        let Some(doomed) = vfs.discards.take() else { return };
        let left = vfs.discard(doomed).await;
        if !left.is_empty() {
            vfs.discards.put_back(left);
            drop(vfs);
            forebay_shard::sleep(TROUBLE_PAUSE).await;
        }
    }
}
