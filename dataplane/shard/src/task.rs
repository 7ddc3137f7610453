//! Tasks, and the wakes that reach them from any thread.
//!
//! A task's future stays in its shard's table; what others hold is a [`TaskRef`], the part that may be shared.
//! `queued` coalesces wakes: a task is in at most one queue, once, so the list of remote wakes is bounded by
//! the number of tasks and needs no allocation: the link is in the task itself.

use crate::{core, inbox::Inbox};
use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::task::Wake;

/// The shareable part of a task.
#[derive(Debug)]
pub(crate) struct TaskRef {
    /// Its place in the shard's table, valid as long as the table's entry refers back to this.
    pub(crate) key: usize,
    /// Set while the task waits to be polled, and for good when it has finished: then wakes go nowhere.
    queued: AtomicBool,
    next: AtomicPtr<TaskRef>,
    inbox: Arc<Inbox>,
}

impl TaskRef {
    /// A task that is about to be queued for the first time.
    pub(crate) fn new(key: usize, inbox: Arc<Inbox>) -> Arc<Self> {
        Arc::new(Self { key, queued: AtomicBool::new(true), next: AtomicPtr::new(ptr::null_mut()), inbox })
    }

    /// Called right before a poll: wakes from now on queue the task again.
    pub(crate) fn begin_poll(&self) {
        // A swap, not a store: it reads the waker's swap, so what the waker wrote before is seen by the poll.
        self.queued.swap(false, AcqRel);
    }

    /// Called when the future is gone.
    pub(crate) fn finish(&self) {
        self.queued.store(true, Release);
    }
}

impl Wake for TaskRef {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, AcqRel) {
            return;
        }
        if let Some(task) = core::queue_here(self) {
            let inbox = Arc::clone(&task.inbox);
            inbox.push_woken(task);
        }
    }
}

impl TaskRef {
    /// The shard it belongs to.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }
}

/// Tasks woken by other threads: a lock-free stack, emptied as a whole by the shard.
#[derive(Debug, Default)]
pub(crate) struct WokenList {
    head: AtomicPtr<TaskRef>,
}

impl WokenList {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Acquire).is_null()
    }

    /// Adds a task that was marked as queued by the caller, so that it is in no other list.
    pub(crate) fn push(&self, task: Arc<TaskRef>) {
        let raw = Arc::into_raw(task).cast_mut();
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: `raw` came from an Arc whose count this list now holds.
            unsafe { (*raw).next.store(head, Relaxed) };
            match self.head.compare_exchange_weak(head, raw, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes all, in the order in which they were pushed, and appends them to `ready`.
    pub(crate) fn drain_into(&self, ready: &mut VecDeque<Arc<TaskRef>>) {
        let mut next = self.head.swap(ptr::null_mut(), Acquire);
        let start = ready.len();
        while !next.is_null() {
            // SAFETY: every pointer in the list came from `Arc::into_raw` in `push`, and the swap above took
            // the whole list, so each is turned back exactly once.
            let task = unsafe { Arc::from_raw(next) };
            next = task.next.load(Relaxed);
            ready.push_back(task);
        }
        ready.make_contiguous()[start..].reverse();
    }
}

impl Drop for WokenList {
    fn drop(&mut self) {
        self.drain_into(&mut VecDeque::new());
    }
}
