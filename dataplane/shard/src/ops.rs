//! Operations in flight, and who owns their memory meanwhile.
//!
//! **Ownership is the point.** From start to completion the table owns what the kernel works on ([`Held`]);
//! the future holds only a place in the table. Dropping or leaking the future can therefore never free a
//! buffer under the kernel: the entry is marked as abandoned, a cancellation is asked for, and what it held
//! is dropped when the completion comes.

use crate::arena::Frame;
use crate::core::{self, Core};
use crate::driver::Op;
use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What an operation needs until it completes.
#[derive(Debug)]
pub(crate) struct Held {
    /// Keeps the descriptor's number from being reused.
    pub(crate) _file: Arc<std::fs::File>,
    pub(crate) memory: Memory,
}

/// What the kernel may touch until the operation completes.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Nothing.
    None,
    Frame(Frame),
    /// What a command names; its address stays when the box moves.
    Boxed(Box<dyn Any>),
}

#[derive(Debug)]
enum State {
    /// Its future was not polled since it was started.
    Started,
    /// Its future waits.
    Awaited(Waker),
    /// Its future was dropped.
    Abandoned,
    Completed(i32),
}

#[derive(Debug)]
pub(crate) struct InFlight {
    state: State,
    held: Held,
}

/// Starts `op`. `None` off the shards: then `held` comes back.
pub(crate) fn start(op: Op, held: Held) -> Result<Completion, Held> {
    let mut held = Some(held);
    let started = core::with(|core| {
        let held = held.take()?;
        let token = core.ops.borrow_mut().insert(InFlight { state: State::Started, held });
        core.counters().submitted.add_mine(1);
        // SAFETY: the table owns the frame and the file until the token's completion was taken from the
        // driver, whatever becomes of the future.
        unsafe { core.driver.borrow_mut().start(token, op) };
        Some(token)
    });
    match (started.flatten(), held) {
        (Some(token), _) => Ok(Completion { token: Some(token), stays_here: PhantomData }),
        (None, Some(held)) => Err(held),
        (None, None) => unreachable!("what is held is taken only when the operation starts"),
    }
}

/// Books a completion and wakes or cleans up.
pub(crate) fn complete(core: &Core, token: usize, result: i32) {
    core.counters().completed.add_mine(1);
    let mut ops = core.ops.borrow_mut();
    let entry = ops.get_mut(token).expect("the driver completes an operation once");
    match std::mem::replace(&mut entry.state, State::Completed(result)) {
        State::Started => {}
        State::Awaited(waker) => {
            drop(ops);
            waker.wake();
        }
        State::Abandoned => {
            let gone = ops.remove(token);
            drop(ops);
            drop(gone);
        }
        State::Completed(_) => unreachable!("the driver completes an operation once"),
    }
}

/// Operations that the driver has not completed.
pub(crate) fn in_flight(core: &Core) -> usize {
    let ops = core.ops.borrow();
    ops.iter().filter(|(_, entry)| !matches!(entry.state, State::Completed(_))).count()
}

/// Ready with the kernel's result and what the operation held.
#[derive(Debug)]
pub(crate) struct Completion {
    token: Option<usize>,
    /// The table belongs to one thread.
    stays_here: PhantomData<*const ()>,
}

impl Future for Completion {
    type Output = (i32, Held);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(i32, Held)> {
        let token = self.token.expect("a completion is awaited once");
        let taken = core::with(|core| take(core, token, cx.waker()));
        let taken = taken.expect("an operation is awaited on its shard");
        if taken.is_some() {
            self.token = None;
        }
        taken.map_or(Poll::Pending, Poll::Ready)
    }
}

fn take(core: &Core, token: usize, waker: &Waker) -> Option<(i32, Held)> {
    let mut ops = core.ops.borrow_mut();
    let entry = ops.get_mut(token).expect("the entry stays until its future took it");
    match &mut entry.state {
        State::Completed(result) => {
            let result = *result;
            Some((result, ops.remove(token).held))
        }
        State::Awaited(old) => {
            old.clone_from(waker);
            None
        }
        state => {
            *state = State::Awaited(waker.clone());
            None
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let Some(token) = self.token.take() else { return };
        // Off the shard (its thread ended) the table is gone or kept for good; either way nothing is to do.
        let gone = core::with(|core| abandon(core, token));
        drop(gone);
    }
}

fn abandon(core: &Core, token: usize) -> Option<InFlight> {
    let mut ops = core.ops.borrow_mut();
    let entry = ops.get_mut(token)?;
    if let State::Completed(_) = entry.state {
        return Some(ops.remove(token));
    }
    entry.state = State::Abandoned;
    core.driver.borrow_mut().cancel(token);
    None
}
