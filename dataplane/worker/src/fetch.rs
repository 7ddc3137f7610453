//! From the under file system into memory, and from there into the extent.
//!
//! **Owns** the bounds of fetching (requests and bytes under way, the time each may take) and the tasks that do
//! it. A task belongs to no request: whoever asked first may go away, and the others still get their page.
//!
//! **Never does** decide what to fetch: it is given tickets, and every ticket it is given lands.
//!
//! **In and out:** a [`Target`] says where the bytes come from and where they go. The request runs on the control
//! runtime, which writes the body straight into an arena frame; the frame comes back to the shard that began,
//! is put into the extent there, and is handed to the waiters, wherever they are.

use crate::body::{Body, Budget, Room};
use crate::counters::{Counters, add};
use crate::flight::{Flights, Landed, Ticket};
use crate::plan::Run;
use crate::transit::{Transit, Why};
use crate::{WorkerConfig, plan};
use forebay_shard::{Frame, arena, spawn, timeout};
use forebay_store::{Authority, Extent};
use forebay_types::{ContentKey, FsError, FsErrorKind, FsResult, PageSize, UfsKey, UfsVersion};
use forebay_ufs::{Ufs, UfsError};
use std::ops::Range;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// One content of an under file system.
pub(crate) struct Origin {
    pub(crate) ufs: Arc<dyn Ufs>,
    pub(crate) key: UfsKey,
    pub(crate) version: UfsVersion,
    pub(crate) content: ContentKey,
}

/// Where bytes come from and where they go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) origin: Arc<Origin>,
    /// `None`: they are passed on and kept nowhere.
    pub(crate) extent: Option<Arc<Extent>>,
    pub(crate) page_size: PageSize,
    /// How many bytes the under file system has of it.
    pub(crate) len: u64,
}

impl Target {
    /// Whether the content is written to here: then what was fetched may be old by the time it is put away.
    pub(crate) fn is_written_here(&self) -> bool {
        self.extent.as_ref().is_some_and(|extent| extent.authority() == Authority::Here)
    }
}

/// Fetches. Shared by all requests.
pub(crate) struct Fetcher {
    pub(crate) config: WorkerConfig,
    pub(crate) flights: Arc<Flights>,
    pub(crate) budget: Budget,
    /// What is kept nowhere else.
    pub(crate) transit: Transit,
    /// What was just put into its extent.
    pub(crate) landed: Transit,
    pub(crate) counters: Arc<Counters>,
    control: Handle,
    gets: Semaphore,
}

impl Fetcher {
    pub(crate) fn new(config: WorkerConfig, control: Handle, counters: Arc<Counters>) -> Arc<Self> {
        let budget = Budget::new(config.fetch_memory.max(WorkerConfig::FETCH_MEMORY_MIN));
        // A quarter each, for the rest is for what is really under way. What landed may fill more while nobody else
        // wants it, so that a reader's whole window fits: what left it before he came he would have to read from disk.
        let (transit, landed) = (Transit::new(budget.total() / 4), Transit::new(budget.total() / 2));
        let gets = Semaphore::new(config.gets.max(1));
        Arc::new(Self { config, flights: Flights::new(), budget, transit, landed, counters, control, gets })
    }

    /// How many ranged reads are under way.
    pub(crate) fn gets_under_way(&self) -> usize {
        self.config.gets.max(1).saturating_sub(self.gets.available_permits())
    }

    /// Fetches the pages of the tickets, given in order, in as few requests as `run_max` pages each allow. Returns
    /// at once. `room` is the memory for a single run, if the caller has it already.
    pub(crate) fn launch(
        self: &Arc<Self>,
        target: &Target,
        tickets: Vec<Ticket>,
        run_max: u64,
        mut room: Option<Room>,
    ) {
        let runs = plan::runs(tickets.iter().map(Ticket::page), run_max);
        let mut tickets = tickets.into_iter();
        for run in runs {
            let mine: Vec<Ticket> = tickets.by_ref().take(run.pages as usize).collect();
            let (fetcher, target, room) = (Arc::clone(self), target.clone(), room.take());
            spawn(async move { fetcher.carry_out(target, run, mine, room).await });
        }
    }

    async fn carry_out(self: Arc<Self>, target: Target, run: Run, tickets: Vec<Ticket>, room: Option<Room>) {
        let bytes = run.bytes(target.page_size, target.len);
        let outcome = self.fetch(&target, bytes, room).await;
        for ticket in tickets {
            ticket.land(outcome.clone());
        }
    }

    async fn fetch(&self, target: &Target, bytes: Range<u64>, room: Option<Room>) -> FsResult<Landed> {
        let len = (bytes.end - bytes.start) as usize;
        let room = match room {
            Some(room) => room,
            None => self.take_room(len).await?,
        };
        let turn = timeout(self.config.turn_within, self.gets.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(FsError::new(
                FsErrorKind::Overloaded,
                "too many requests to the under file system wait",
            ));
        };
        let frame = arena().frame(len).await.map_err(|e| FsError::new(FsErrorKind::Overloaded, e))?;
        let frame = self.get(target, bytes.start, frame).await?;
        self.put_away(target, bytes.start, frame, room).await
    }

    /// Room for a body that nobody waits for yet, if there is some: a quarter stays free for those who wait right now.
    pub(crate) fn take_room_ahead(&self, len: usize) -> Option<Room> {
        let quarter = self.budget.total() / 4;
        self.budget.try_take(len, quarter).or_else(|| {
            self.landed.shrink_to(quarter);
            self.budget.try_take(len, quarter)
        })
    }

    /// Room for a body, at the cost of what is only kept for convenience.
    async fn take_room(&self, len: usize) -> FsResult<Room> {
        if let Some(room) = self.budget.try_take(len, 0) {
            return Ok(room);
        }
        self.landed.clear();
        if let Some(room) = self.budget.try_take(len, 0) {
            return Ok(room);
        }
        self.transit.clear();
        self.budget.take(len, self.config.turn_within).await
    }

    /// One ranged read, on the control runtime, straight into the frame.
    async fn get(&self, target: &Target, start: u64, mut frame: Frame) -> FsResult<Frame> {
        let (origin, within, wanted) = (Arc::clone(&target.origin), self.config.get_within, frame.len());
        add(&self.counters.ufs_gets, 1);
        let request = self.control.spawn(async move {
            let read = origin.ufs.read(&origin.key, &origin.version, start, &mut frame);
            let read = tokio::time::timeout(within, read).await;
            (read, frame)
        });
        let (read, mut frame) = request.await.map_err(|error| {
            let kind = if error.is_cancelled() { FsErrorKind::ShuttingDown } else { FsErrorKind::Io };
            FsError::new(kind, error)
        })?;
        let result = match read {
            Ok(Ok(n)) if n == wanted => Ok(n),
            Ok(Ok(n)) => Err(FsError::new(FsErrorKind::Stale, format!("it ends {} bytes early", wanted - n))),
            Ok(Err(error)) => Err(read_error(error)),
            Err(_) => Err(FsError::new(FsErrorKind::TimedOut, format!("no answer within {within:?}"))),
        };
        match result {
            Ok(n) => {
                add(&self.counters.ufs_get_bytes, n as u64);
                frame.truncate(n);
                Ok(frame)
            }
            Err(error) => {
                add(&self.counters.ufs_get_errors, 1);
                Err(error.during(format_args!("reading {} at {start}", target.origin.key)))
            }
        }
    }

    /// Puts fetched bytes into the extent. Bytes that cannot be kept are still served.
    async fn put_away(&self, target: &Target, start: u64, frame: Frame, room: Room) -> FsResult<Landed> {
        let Some(extent) = &target.extent else {
            let body = Arc::new(Body::new(frame, start, room));
            add(&self.counters.fetched_uncached, 1);
            self.transit.keep(target.origin.content, Why::NotToBeKept, &body);
            return Ok(Landed::Body(body));
        };
        match extent.fill(target.page_size.page_of(start), frame).await {
            // The waiters look for it here and there: a body that each of them held until his other pages came would
            // keep the memory that those pages wait for.
            Ok(frame) => {
                let body = Arc::new(Body::new(frame, start, room));
                self.landed.keep(target.origin.content, Why::Landed, &body);
                Ok(Landed::InExtent)
            }
            Err((error, frame)) => {
                add(&self.counters.fetched_uncached, 1);
                tracing::debug!(extent = %extent.id(), %error, "fetched bytes are served without being kept");
                let body = Arc::new(Body::new(frame, start, room));
                if !target.is_written_here() {
                    self.transit.keep(target.origin.content, Why::Refused, &body);
                }
                Ok(Landed::Body(body))
            }
        }
    }
}

/// A content that is gone or another one by now is the same to a reader: his version cannot be had any more.
fn read_error(error: UfsError) -> FsError {
    match error {
        UfsError::NotFound(_) | UfsError::Changed(_) | UfsError::IsADirectory(_) => {
            FsError::new(FsErrorKind::Stale, error)
        }
        other => other.into(),
    }
}
