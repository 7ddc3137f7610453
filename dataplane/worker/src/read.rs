//! Reading: what is here at once, what is absent once for all who want it.
//!
//! **Owns** the way of a read from the location to a frame. A hit is one read of the extent file on the core where
//! the request arrived. A miss claims the absent pages, has those nobody else is bringing fetched, and puts the
//! frame together from what landed and what was here.

use crate::Worker;
use crate::admit::Admit;
use crate::body::Body;
use crate::counters::add;
use crate::fetch::Target;
use crate::flight::{Claim, Flight, Landed, Ticket};
use crate::here::{Here, Place};
use crate::place::{Keep, content_of, hold_soon};
use crate::plan::{self, Run};
use crate::transit::Why;
use forebay_shard::Frame;
use forebay_store::{Extent, Hold};
use forebay_types::{ByteSize, ContentKey, ContentLocation, FsError, FsErrorKind, FsResult, PageIndex};
use forebay_wire::{ReadPolicy, Reply};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::ops::Range;
use std::sync::Arc;

/// How often a read looks again after pages it had seen were evicted under it.
const ATTEMPTS: usize = 4;

/// Absent pages of one request: those it must bring, and all it waits for.
#[derive(Default)]
struct Claimed {
    mine: Vec<Ticket>,
    flights: Vec<(PageIndex, Arc<Flight>)>,
}

/// Fetched bytes by page.
type Bodies = Vec<(PageIndex, Arc<Body>)>;

fn rank(extent: Option<&Arc<Extent>>, policy: ReadPolicy) {
    if let (Some(extent), Some(priority)) = (extent, policy.priority) {
        extent.rank(priority);
    }
}

impl Worker {
    /// Reads a range, cut off at the end of the file.
    pub(crate) async fn read(
        &self,
        at: &ContentLocation,
        asked: Range<u64>,
        policy: ReadPolicy,
        mut place: Place,
    ) -> FsResult<Frame> {
        let extent = self.find_extent(at)?;
        let range = asked.start..asked.end.min(Self::length(at, extent.as_ref()));
        if range.is_empty() {
            return empty_frame().await;
        }
        add(&self.counters.read_bytes, range.end - range.start);
        rank(extent.as_ref(), policy);
        if let Some(extent) = extent
            && extent.is_resident(range.clone())
            && let Some(frame) = self.here(at, &extent).read(&range, &mut place).await?
        {
            add(&self.counters.reads_hit, 1);
            return Ok(frame);
        }
        add(&self.counters.reads_missed, 1);
        self.read_absent(at, range, policy, place).await
    }

    async fn read_absent(
        &self,
        at: &ContentLocation,
        range: Range<u64>,
        policy: ReadPolicy,
        mut place: Place,
    ) -> FsResult<Frame> {
        let keep = self.admitted(at, |admit, content| admit.may_keep(policy, content, range.start));
        for attempt in 1..=ATTEMPTS {
            let Some(mut target) = self.target(at, keep).await? else {
                return self.read_without_origin(at, range, place).await;
            };
            rank(target.extent.as_ref(), policy);
            if attempt == ATTEMPTS && !target.is_written_here() {
                // The tier loses its pages as fast as it gets them: past it, then.
                target.extent = None;
            }
            let bodies = self.bring(&target, &range).await?;
            if let Some(frame) = self.assemble(at, &target, (&range, &mut place), &bodies).await? {
                return Ok(frame);
            }
        }
        Err(FsError::new(FsErrorKind::Overloaded, "pages are evicted as fast as they are fetched"))
    }

    fn here<'a>(&'a self, at: &ContentLocation, extent: &'a Arc<Extent>) -> Here<'a> {
        Here::new(at, extent, &self.fetch.landed)
    }

    /// Puts a frame together from fetched bodies and the extent; `None` if a page is in neither (it was evicted).
    async fn assemble(
        &self,
        at: &ContentLocation,
        target: &Target,
        (range, place): (&Range<u64>, &mut Place),
        bodies: &Bodies,
    ) -> FsResult<Option<Frame>> {
        if bodies.is_empty() {
            return match &target.extent {
                Some(extent) => self.here(at, extent).read(range, place).await,
                None => Ok(None),
            };
        }
        let mut frame = place.frame_of(range).await?;
        for page in plan::pages_of(range, target.page_size) {
            let page = PageIndex(page);
            let start = target.page_size.start_of(page).max(range.start);
            let piece = start..(target.page_size.start_of(page) + target.page_size.bytes()).min(range.end);
            let into = (piece.start - range.start) as usize..(piece.end - range.start) as usize;
            let body = bodies.iter().find(|(of, _)| *of == page);
            if let Some(bytes) = body.and_then(|(_, body)| body.slice(piece.clone())) {
                frame[into].copy_from_slice(bytes);
                continue;
            }
            let Some(extent) = &target.extent else { return Ok(None) };
            let Some(bytes) = self.here(at, extent).read(&piece, &mut Place::default()).await? else {
                return Ok(None);
            };
            if bytes.len() != into.len() {
                return Ok(None);
            }
            frame[into].copy_from_slice(&bytes);
        }
        Ok(Some(frame))
    }

    /// Whether an extent may be made for what this read wants.
    fn admitted(&self, at: &ContentLocation, ask: impl FnOnce(&Admit, ContentKey) -> bool) -> Keep {
        let Some(content) = content_of(at) else { return Keep::No };
        if ask(&self.admit, content) { Keep::Yes } else { Keep::No }
    }

    /// A location that the under file system does not have: a file born here, or one without any bytes.
    async fn read_without_origin(
        &self,
        at: &ContentLocation,
        range: Range<u64>,
        mut place: Place,
    ) -> FsResult<Frame> {
        let Some(extent) = self.find_extent(at)? else {
            let mut frame = place.frame_of(&range).await?;
            frame.fill(0);
            return Ok(frame);
        };
        let lost = || {
            FsError::new(FsErrorKind::Io, format!("extent {} lost bytes that are nowhere else", extent.id()))
        };
        self.here(at, &extent).read(&range, &mut place).await?.ok_or_else(lost)
    }

    /// Has the absent pages of a range fetched and waits for them; returns those whose bytes came along.
    async fn bring(&self, target: &Target, range: &Range<u64>) -> FsResult<Bodies> {
        let mut bodies = Bodies::new();
        let mut wanted = absent(target, range);
        wanted.retain(|page| match self.in_transit(target, *page) {
            Some(body) => {
                bodies.push((*page, body));
                false
            }
            None => true,
        });
        let claimed = self.claim_absent(target, wanted);
        let run_max = plan::run_max(range.end - range.start, target.page_size, self.get_len());
        self.fetch.launch(target, claimed.mine, run_max, None);
        for (page, flight) in claimed.flights {
            if let Landed::Body(body) = flight.wait().await? {
                bodies.push((page, body));
            }
        }
        Ok(bodies)
    }

    /// A page that was fetched a moment ago and kept nowhere.
    fn in_transit(&self, target: &Target, page: PageIndex) -> Option<Arc<Body>> {
        if target.is_written_here() {
            return None;
        }
        let bytes = Run { first: page, pages: 1 }.bytes(target.page_size, target.len);
        let at_least = if target.extent.is_some() { Why::Refused } else { Why::NotToBeKept };
        self.fetch.transit.find(target.origin.content, at_least, bytes)
    }

    /// Claims pages: those nobody is bringing become ours.
    fn claim_absent(&self, target: &Target, pages: impl IntoIterator<Item = PageIndex>) -> Claimed {
        let mut claimed = Claimed::default();
        for page in pages {
            match self.fetch.flights.claim(target.flight_key(page)) {
                Claim::Theirs(flight) => {
                    add(&self.counters.flights_joined, 1);
                    claimed.flights.push((page, flight));
                }
                // It landed between the look and the claim.
                Claim::Mine(ticket) if !is_absent(target, page) => ticket.land(Ok(Landed::InExtent)),
                Claim::Mine(ticket) => {
                    claimed.flights.push((page, ticket.flight()));
                    claimed.mine.push(ticket);
                }
            }
        }
        claimed
    }

    fn get_len(&self) -> u64 {
        self.config.get_len.as_u64()
    }

    /// Begins to fetch what is absent of a range, a piece of a window; memory that is short cuts it.
    pub(crate) async fn prefetch(
        &self,
        at: &ContentLocation,
        range: Range<u64>,
        window: ByteSize,
        policy: ReadPolicy,
    ) -> FsResult<Reply> {
        if let Some(extent) = self.find_extent(at)?
            && extent.is_resident(range.clone())
        {
            return Ok(Reply::Prefetch { started: 0, covered_to: range.end });
        }
        let keep = self.admitted(at, |admit, content| admit.may_keep_ahead(policy, content, range.start));
        let Some(target) = self.target(at, keep).await? else {
            return Ok(Reply::Prefetch { started: 0, covered_to: range.end });
        };
        rank(target.extent.as_ref(), policy);
        let (range, wanted_to) = (self.cut_to_memory(&target, &range), range.end);
        let run_max = plan::run_max(window.as_u64(), target.page_size, self.get_len());
        let (mut started, mut covered_to) = (0, range.end);
        for run in plan::runs(absent(&target, &range), run_max) {
            match self.prefetch_run(&target, &run) {
                Some(bytes) => started += bytes,
                None => {
                    covered_to = target.page_size.start_of(run.first).max(range.start);
                    break;
                }
            }
        }
        add(&self.counters.ahead_pressed, u64::from(covered_to < wanted_to));
        Ok(Reply::Prefetch { started, covered_to })
    }

    /// What is kept nowhere has to fit the short queue in which it waits for its reader.
    fn cut_to_memory(&self, target: &Target, range: &Range<u64>) -> Range<u64> {
        let most = self.fetch.transit.capacity() / 2;
        match target.extent {
            Some(_) => range.clone(),
            None => range.start..range.end.min(range.start.saturating_add(most)),
        }
    }

    /// Begins one run, if there is memory to spare; says how many bytes that is.
    fn prefetch_run(&self, target: &Target, run: &Run) -> Option<u64> {
        let bytes = run.bytes(target.page_size, target.len);
        let len = bytes.end.saturating_sub(bytes.start);
        if len == 0 || self.in_transit(target, run.first).is_some() {
            return Some(0);
        }
        let room = self.fetch.take_room_ahead(len as usize)?;
        let pages = (run.first.0..run.first.0 + run.pages).map(PageIndex);
        let claimed = self.claim_absent(target, pages);
        let mine = claimed.mine.len() as u64;
        self.fetch.launch(target, claimed.mine, run.pages, Some(room));
        Some(len.min(mine * target.page_size.bytes()))
    }

    /// Fetches all that is absent of a range into the extent; returns how many bytes that took.
    pub(crate) async fn complete(&self, at: &ContentLocation, range: Range<u64>) -> FsResult<u64> {
        let Some(target) = self.target(at, Keep::Yes).await? else { return Ok(0) };
        let no_space = || FsError::new(FsErrorKind::NoSpace, "the tiers are full of what is in use");
        let extent = target.extent.as_ref().ok_or_else(no_space)?;
        let _stays = hold_soon(extent, Hold::Filling).await?;
        let run_max = plan::run_max(range.end.saturating_sub(range.start), target.page_size, self.get_len());
        let runs = plan::runs(absent(&target, &range), run_max);
        let fetches = runs.into_iter().map(|run| self.complete_run(&target, run));
        let at_once = self.config.gets.div_ceil(2);
        let fetched = stream::iter(fetches).buffer_unordered(at_once);
        let fetched = fetched.try_fold(0, |sum, bytes| async move { Ok(sum + bytes) }).await?;
        if extent.is_resident(range) { Ok(fetched) } else { Err(no_space()) }
    }

    async fn complete_run(&self, target: &Target, run: Run) -> FsResult<u64> {
        let claimed = self.claim_absent(target, (run.first.0..run.first.0 + run.pages).map(PageIndex));
        let brought: u64 = claimed.mine.iter().map(|t| target.page_size.len_of(t.page(), target.len)).sum();
        self.fetch.launch(target, claimed.mine, run.pages, None);
        for (_, flight) in claimed.flights {
            flight.wait().await?;
        }
        Ok(brought)
    }

    /// Has the absent pages that `range` touches put into the extent of the location, for a writer.
    pub(crate) async fn bring_for_write(&self, at: &ContentLocation, pages: &[PageIndex]) -> FsResult<()> {
        let lost = || FsError::new(FsErrorKind::Io, "a page that nobody has is absent");
        let target = self.target(at, Keep::Yes).await?.ok_or_else(lost)?;
        let claimed = self.claim_absent(&target, pages.iter().copied());
        self.fetch.launch(&target, claimed.mine, 1, None);
        for (_, flight) in claimed.flights {
            flight.wait().await?;
        }
        Ok(())
    }
}

/// The absent pages of a range, in order.
fn absent(target: &Target, range: &Range<u64>) -> Vec<PageIndex> {
    match &target.extent {
        // A page whose first part is absent is absent for what was written behind it too.
        Some(extent) => extent.missing(range.clone()),
        None => {
            let range = range.start..range.end.min(target.len).max(range.start);
            plan::pages_of(&range, target.page_size).map(PageIndex).collect()
        }
    }
}

fn is_absent(target: &Target, page: PageIndex) -> bool {
    let start = target.page_size.start_of(page);
    target.extent.as_ref().is_none_or(|extent| !extent.is_resident(start..start + 1))
}

/// A frame has at least one byte of memory, whatever its length.
async fn empty_frame() -> FsResult<Frame> {
    let mut frame = Place::default().frame_of(&(0..1)).await?;
    frame.truncate(0);
    Ok(frame)
}
