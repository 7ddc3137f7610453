//! The data path with calls that fail, hang or are merely noted.

use forebay_net::{CallError, Endpoint, InProcess, Local};
use forebay_types::{FsError, FsErrorKind};
use forebay_wire::{Op, Refusal, Reply, Request};
use forebay_worker::Worker;
use futures_util::future::LocalBoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The data path, with calls that fail or hang as a test says.
pub struct Faulty {
    pub inner: InProcess<Worker>,
    pub faults: Arc<Mutex<Vec<Fault>>>,
    pub seen: Arc<Mutex<Vec<&'static str>>>,
}

/// What happens to the next call of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails before anything was done.
    Fail(&'static str, FsErrorKind),
    /// It does not return for a while.
    Hang(&'static str, Duration),
}

impl Fault {
    fn op(self) -> &'static str {
        match self {
            Self::Fail(op, _) | Self::Hang(op, _) => op,
        }
    }
}

fn op_name(op: &Op<'_>) -> &'static str {
    match op {
        Op::Read { .. } => "read",
        Op::BeginWrite { .. } => "begin_write",
        Op::Create { .. } => "create",
        Op::Write { .. } => "write",
        Op::Sync { .. } => "sync",
        Op::Truncate { .. } => "truncate",
        Op::Adopt { .. } => "adopt",
        Op::Discard { .. } => "discard",
        _ => "other",
    }
}

impl Endpoint for Faulty {
    fn call<'a>(
        &'a self,
        request: Request<'a>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CallError>> {
        Box::pin(async move {
            let name = op_name(&request.op);
            self.seen.lock().unwrap().push(name);
            let fault = {
                let mut faults = self.faults.lock().unwrap();
                let at = faults.iter().position(|fault| fault.op() == name);
                at.map(|at| faults.remove(at))
            };
            match fault {
                Some(Fault::Fail(_, kind)) => return Err(Refusal::from(FsError::from(kind)).into()),
                Some(Fault::Hang(_, time)) => forebay_shard::sleep(time).await,
                None => {}
            }
            self.inner.call(request, within).await
        })
    }

    fn local(&self) -> Option<&dyn Local> {
        self.inner.local()
    }
}
