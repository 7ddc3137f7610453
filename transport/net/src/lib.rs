//! How a request reaches a worker.
//!
//! **Owns** the [`Endpoint`] that a client calls, the [`Service`] that a worker offers, and [`InProcess`], the
//! endpoint of the node itself. A peer's endpoint (TCP, RDMA) is another implementation of the same trait.
//!
//! **Never does** routing (that is the client's) and never looks into a message.
//!
//! **In and out:** a [`forebay_wire::Request`] with the time it may take; the reply, or why there is none.
//! Every call has a deadline, so no caller can wait for ever on a worker that went away.
//!
//! **Why this shape:** futures are `!Send` and boxed: a call stays on the core on which the request arrived,
//! and one allocation is far below the cost of the smallest read. Generic endpoints would make the client a
//! different type for each transport, which a ring of mixed peers cannot be.
#![forbid(unsafe_code)]

mod in_process;
mod local;

pub use in_process::InProcess;
pub use local::{Backing, Local, Space};

use forebay_types::{FsError, FsErrorKind};
use forebay_wire::{Epoch, Refusal, Reply, Request};
use futures_util::future::LocalBoxFuture;
use std::time::Duration;

/// A worker as a client sees it.
pub trait Endpoint: Send + Sync + 'static {
    /// Sends a request and waits for the answer, at most for `within`. Polled on a shard. Dropping the future
    /// gives up waiting; what the worker had begun for others goes on.
    fn call<'a>(
        &'a self,
        request: Request<'a>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CallError>>;

    /// What can only be had from a worker in this very process; `None` for a peer.
    fn local(&self) -> Option<&dyn Local>;
}

/// What a worker offers to its endpoints.
pub trait Service: Send + Sync + 'static {
    /// Does what the request asks. Polled on a shard.
    fn serve<'a>(&'a self, request: Request<'a>) -> LocalBoxFuture<'a, Result<Reply, Refusal>>;
}

/// Why a call brought no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The worker refused or failed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The deadline passed. The operation may or may not have taken effect.
    #[error("the worker did not answer within {0:?}")]
    TimedOut(Duration),
}

impl CallError {
    /// The newer epoch, if the worker refused because the client's view is stale.
    pub const fn newer_epoch(&self) -> Option<Epoch> {
        match self {
            Self::Refused(Refusal::StaleEpoch(epoch)) => Some(*epoch),
            _ => None,
        }
    }
}

impl From<CallError> for FsError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(Refusal::Failed(error)) => error,
            CallError::Refused(refusal @ Refusal::StaleEpoch(_)) => {
                Self::new(FsErrorKind::Unavailable, refusal)
            }
            CallError::TimedOut(_) => Self::new(FsErrorKind::TimedOut, error),
        }
    }
}
