//! The endpoint of the node itself: it calls where it stands, and gives up in time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use forebay_net::{Backing, CallError, Endpoint, InProcess, Local, Service, Space};
use forebay_shard::{Frame, ShardHandle, Shards, ShardsConfig};
use forebay_types::{ByteSize, ContentLocation, ExtentId, FsError, FsErrorKind};
use forebay_wire::{Epoch, Op, Refusal, Reply, Request};
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers a discard after as many milliseconds as the extent's number says, on the shard that asks.
struct Slow;

impl Service for Slow {
    fn serve<'a>(&'a self, request: Request<'a>) -> LocalBoxFuture<'a, Result<Reply, Refusal>> {
        Box::pin(async move {
            if request.epoch != Epoch::ALONE {
                return Err(Refusal::StaleEpoch(Epoch::ALONE));
            }
            match request.op {
                Op::Discard { extent } => forebay_shard::sleep(Duration::from_millis(extent.0)).await,
                _ => return Err(FsErrorKind::Unsupported.into()),
            }
            Ok(Reply::Len(forebay_shard::current().map_or(u64::MAX, |shard| u64::from(shard.0))))
        })
    }
}

impl Local for Slow {
    fn backing(&self, _: &ContentLocation) -> Option<Backing> {
        None
    }
    fn read_now(&self, _: &ContentLocation, _: u64, _: Option<i32>, frame: Frame) -> Result<Frame, Frame> {
        Err(frame)
    }
    fn end_write(&self, _: ExtentId, _: bool) {}
    fn publish(&self, _: ExtentId, _: bool) {}
    fn rank(&self, _: ExtentId, _: i32) {}

    fn space(&self) -> Space {
        Space { total: 5, available: 3 }
    }
}

fn shards() -> Shards {
    let config = ShardsConfig { cores: vec![0, 1], arena: ByteSize::mib(16), ..ShardsConfig::default() };
    Shards::start(&config).unwrap()
}

fn discard(shard: &ShardHandle, epoch: Epoch, takes_ms: u64, within: Duration) -> Result<Reply, CallError> {
    let call = move || async move {
        let endpoint = InProcess::new(Arc::new(Slow));
        endpoint.call(Request { epoch, op: Op::Discard { extent: ExtentId(takes_ms) } }, within).await
    };
    shard.block_on(call).unwrap()
}

#[test]
fn a_call_is_served_where_it_is_made() {
    let shards = shards();
    for shard in shards.handles() {
        let reply = discard(shard, Epoch::ALONE, 1, Duration::from_secs(60)).unwrap();
        assert!(matches!(reply, Reply::Len(served) if served == u64::from(shard.id().0)), "{reply:?}");
    }
}

#[test]
fn a_worker_that_hangs_costs_its_callers_the_deadline_and_no_more() {
    let shards = shards();
    let began = Instant::now();
    let error =
        discard(&shards.handles()[0], Epoch::ALONE, 3_600_000, Duration::from_millis(30)).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(FsError::from(error).kind(), FsErrorKind::TimedOut);
}

#[test]
fn a_stale_view_is_told_the_newer_one() {
    let shards = shards();
    let error = discard(&shards.handles()[0], Epoch(0), 1, Duration::from_secs(60)).unwrap_err();
    assert_eq!(error.newer_epoch(), Some(Epoch::ALONE));
    assert_eq!(FsError::from(error).kind(), FsErrorKind::Unavailable);
}

#[test]
fn what_only_this_process_has_is_there() {
    let endpoint = InProcess::new(Arc::new(Slow));
    assert_eq!(endpoint.local().unwrap().space(), Space { total: 5, available: 3 });
}
