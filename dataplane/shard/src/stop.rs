//! How a task learns that the runtime stops.

use crate::core;
use crate::inbox::Phase;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Ready once [`crate::Shards::stop`] was called: a task that runs for ever awaits it beside its work, and
/// ends. Until the stop's deadline everything still works; then the tasks that are left are dropped.
///
/// Off the shards it is never ready.
pub fn stop_requested() -> StopRequested {
    StopRequested(())
}

/// The future of [`stop_requested`].
#[derive(Debug)]
pub struct StopRequested(());

impl Future for StopRequested {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let stopping = core::with(|core| {
            let stopping = core.inbox.phase() >= Phase::Draining;
            if !stopping {
                remember(&mut core.stop_wakers.borrow_mut(), cx);
            }
            stopping
        });
        if stopping == Some(true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One waker a task is enough, however often the task is polled.
fn remember(wakers: &mut Vec<std::task::Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}
