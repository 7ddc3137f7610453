//! The loop of a shard: take in what came, poll what is ready, turn the ring, sleep when there is nothing.

use crate::core::{Core, Task};
use crate::driver::{Event, Patience};
use crate::inbox::Phase;
use crate::ops;
use crate::task::TaskRef;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Polls between two turns of the ring: enough to batch submissions, few enough that completions do not wait.
const POLLS_PER_TURN: usize = 128;
/// Letters taken in between two turns.
const LETTERS_PER_TURN: usize = 128;
/// How long polls may go on before completions are looked at.
const TIME_PER_TURN: Duration = Duration::from_micros(500);
/// How long an ending shard waits for the kernel to let go of buffers.
const LAST_COMPLETIONS_WAIT: Duration = Duration::from_secs(2);

/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// How a shard ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Tasks that were dropped unfinished.
    pub(crate) dropped: usize,
    /// Operations that the kernel still had: their buffers are never reused.
    pub(crate) in_flight: usize,
}

/// Runs the shard until it is told to end.
///
/// # Errors
/// The ring became unusable. The tasks are dropped all the same.
pub(crate) fn run(core: &Core) -> io::Result<Ended> {
    let mut events = Vec::with_capacity(256);
    let outcome = loop {
        match step(core, &mut events, true) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let ended = end(core, &mut events);
    outcome.map(|()| ended)
}

/// One round of the loop; `may_sleep` is false in a simulation, which decides itself when time passes.
/// False: the shard's work is over.
///
/// # Errors
/// As [`run`].
pub(crate) fn step(core: &Core, events: &mut Vec<Event>, may_sleep: bool) -> io::Result<bool> {
    let phase = core.inbox.phase();
    take_letters(core);
    core.inbox.drain_woken(&mut core.ready.borrow_mut());
    poll_ready(core);
    if phase >= Phase::Draining {
        wake_stop_waiters(core);
    }
    if phase == Phase::Ending {
        return Ok(false);
    }
    let idle = core.ready.borrow().is_empty();
    let asleep = idle && may_sleep && core.inbox.fall_asleep(phase);
    turn(core, if asleep { patience(core) } else { Patience::None }, events)?;
    if asleep {
        core.inbox.wake_up();
    }
    core.look();
    fire_timers(core);
    Ok(true)
}

fn patience(core: &Core) -> Patience {
    let earliest = core.timers.borrow().earliest();
    let Some(at) = earliest else { return Patience::Unlimited };
    match at.saturating_duration_since(core.looked.get()) {
        Duration::ZERO => Patience::None,
        time => Patience::UpTo(time),
    }
}

fn take_letters(core: &Core) {
    for _ in 0..LETTERS_PER_TURN {
        let Some(letter) = core.inbox.take_letter() else { return };
        // The closure makes the task's future; its panic is that of a task.
        guarded(core, letter);
        core.inbox.letter_done();
    }
}

/// Runs foreign code; a panic is logged by the hook, counted, and goes no further.
fn guarded<R>(core: &Core, f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(panic) => {
            core.counters().panicked.add_mine(1);
            let message = panic_message(&*panic);
            tracing::error!(shard = %core.inbox.id, message, "a task panicked; the others go on");
            None
        }
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

fn poll_ready(core: &Core) {
    let mut before = core.looked.get();
    let enough = before + TIME_PER_TURN;
    for _ in 0..POLLS_PER_TURN {
        let Some(task) = core.ready.borrow_mut().pop_front() else { return };
        poll_task(core, &task, before);
        let after = core.look();
        note_stall(core, before, after);
        before = after;
        if after >= enough {
            return;
        }
    }
}

fn note_stall(core: &Core, before: Instant, after: Instant) {
    let held = after.saturating_duration_since(before);
    if held <= core.stall_after {
        return core.inbox.watch.look(after);
    }
    let waited = core.inbox.watch.waited();
    core.inbox.watch.note_waited();
    if held.saturating_sub(waited) <= core.stall_after {
        core.counters().starved.add_mine(1);
        tracing::debug!(shard = %core.inbox.id, ?held, ?waited, "others had the core of a shard for long");
    } else {
        core.counters().stalls.add_mine(1);
        core.counters().stalled_nanos.add_mine(held.as_nanos() as u64);
        tracing::warn!(shard = %core.inbox.id, ?held, ?waited, "a task held its shard for too long");
    }
}

fn poll_task(core: &Core, shared: &Arc<TaskRef>, now: Instant) {
    let Some((mut future, waker)) = take_future(core, shared) else { return };
    core.counters().polls.add_mine(1);
    shared.begin_poll();
    core.inbox.watch.begin(now);
    let polled = guarded(core, || future.as_mut().poll(&mut Context::from_waker(&waker)));
    let finished = !matches!(polled, Some(Poll::Pending));
    if finished {
        guarded(core, || drop(future));
        finish_task(core, shared);
    } else if let Some(task) = core.tasks.borrow_mut().get_mut(shared.key) {
        task.future = Some(future);
    }
    core.inbox.watch.end();
}

type LentFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Takes the future out of its place, unless the entry belongs to another task by now.
fn take_future(core: &Core, shared: &Arc<TaskRef>) -> Option<(LentFuture, Waker)> {
    let mut tasks = core.tasks.borrow_mut();
    let task = tasks.get_mut(shared.key).filter(|task| Arc::ptr_eq(&task.shared, shared))?;
    Some((task.future.take()?, task.waker.clone()))
}

fn finish_task(core: &Core, shared: &Arc<TaskRef>) {
    shared.finish();
    let gone: Option<Task> = core.tasks.borrow_mut().try_remove(shared.key);
    drop(gone);
    core.counters().finished.add_mine(1);
}

fn turn(core: &Core, patience: Patience, events: &mut Vec<Event>) -> io::Result<()> {
    if patience != Patience::None {
        core.counters().sleeps.add_mine(1);
    }
    core.driver.borrow_mut().turn(patience, events)?;
    for event in events.drain(..) {
        match event {
            Event::Done { token, result } => ops::complete(core, token, result),
            Event::BellFailed { peer } => core.peers[usize::from(peer.0)].ring_by_eventfd(),
        }
    }
    Ok(())
}

fn fire_timers(core: &Core) {
    if core.timers.borrow().earliest().is_none() {
        return;
    }
    let now = core.looked.get();
    loop {
        let due = core.timers.borrow_mut().pop_due(now);
        let Some(waker) = due else { return };
        waker.wake();
    }
}

fn wake_stop_waiters(core: &Core) {
    let waiting = std::mem::take(&mut *core.stop_wakers.borrow_mut());
    waiting.into_iter().for_each(Waker::wake);
}

/// Drops what is left, and waits for the kernel to give back what it works on.
fn end(core: &Core, events: &mut Vec<Event>) -> Ended {
    core.inbox.close();
    let dropped = guarded(core, || core.drop_tasks()).unwrap_or(0);
    let give_up = Instant::now() + LAST_COMPLETIONS_WAIT;
    while ops::in_flight(core) > 0 && Instant::now() < give_up {
        if turn(core, Patience::UpTo(LOOK), events).is_err() {
            break;
        }
    }
    let in_flight = ops::in_flight(core);
    if in_flight > 0 {
        tracing::error!(shard = %core.inbox.id, in_flight, "the kernel still holds buffers: they are given up");
        // Never dropped: the kernel may write into these frames at any time.
        std::mem::forget(std::mem::take(&mut *core.ops.borrow_mut()));
    }
    Ended { dropped, in_flight }
}
