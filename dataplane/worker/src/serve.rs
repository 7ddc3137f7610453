//! From a message to the operation it names, and back.

use crate::Worker;
use crate::here::Place;
use forebay_net::Service;
use forebay_types::FsResult;
use forebay_wire::{Epoch, Op, Refusal, Reply, Request};
use futures_util::future::LocalBoxFuture;

impl Service for Worker {
    fn serve<'a>(&'a self, request: Request<'a>) -> LocalBoxFuture<'a, Result<Reply, Refusal>> {
        Box::pin(async move {
            if request.epoch != Epoch::ALONE {
                return Err(Refusal::StaleEpoch(Epoch::ALONE));
            }
            self.carry_out(request.op).await.map_err(Refusal::from)
        })
    }
}

impl Worker {
    async fn carry_out(&self, op: Op<'_>) -> FsResult<Reply> {
        match op {
            Op::Read { at, offset, len, policy, into } => self
                .read(at, offset..offset.saturating_add(len as u64), policy, Place::new(into))
                .await
                .map(Reply::Bytes),
            Op::Prefetch { at, range, window, policy } => self.prefetch(at, range, window, policy).await,
            Op::Complete { at, range } => self.complete(at, range).await.map(Reply::Fetched),
            Op::BeginWrite { at } => self.begin_write(at).await.map(Reply::Extent),
            Op::Create { expected_len: _ } => self.create().await.map(Reply::Extent),
            Op::Write { at, offset, frame } => self.write(at, offset, frame).await,
            Op::Sync { at } => done(self.sync(at).await),
            Op::Truncate { at, len } => done(self.truncate(at, len).await),
            Op::Allocate { at, mode, range } => done(self.allocate(at, mode, range).await),
            Op::Seek { at, offset, to } => self.seek(at, offset, to).await.map(Reply::Offset),
            Op::CopyRange { from, from_offset, to, to_offset, len } => {
                self.copy_range((from, from_offset), (to, to_offset), len).await.map(Reply::Len)
            }
            Op::Adopt { extent } => self.adopt(extent).map(Reply::Times),
            Op::Resident { at } => self.resident_bytes(at).map(Reply::Len),
            Op::Evict { at } => self.evict(at).await.map(Reply::Len),
            Op::Discard { extent } => done(self.discard(extent).await),
        }
    }
}

fn done(result: FsResult<()>) -> FsResult<Reply> {
    result.map(|()| Reply::Done)
}
