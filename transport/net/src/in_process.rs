//! The endpoint of the node itself: the worker is called where the request arrived, on the same core.

use crate::{CallError, Endpoint, Local, Service};
use forebay_wire::{Reply, Request};
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Calls a worker of this process directly: no copy, no queue, no other thread.
pub struct InProcess<S> {
    service: Arc<S>,
}

impl<S: Service + Local> InProcess<S> {
    /// An endpoint for `service`.
    pub fn new(service: Arc<S>) -> Self {
        Self { service }
    }
}

impl<S: Service + Local> Endpoint for InProcess<S> {
    fn call<'a>(
        &'a self,
        request: Request<'a>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            match forebay_shard::timeout(within, self.service.serve(request)).await {
                Ok(answer) => answer.map_err(CallError::from),
                Err(_) => Err(CallError::TimedOut(within)),
            }
        })
    }

    fn local(&self) -> Option<&dyn Local> {
        Some(&*self.service)
    }
}
