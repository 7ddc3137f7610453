//! Who waits for a frame: a bounded queue, served in order.
//!
//! Only the task at the front tries to take a block. A return wakes the front, and a task that was served
//! wakes the next, because one large block may serve several small ones. A large request at the front holds
//! up smaller ones behind it: otherwise a stream of small ones could starve it for ever.

use super::{Arena, Block};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};
use std::task::{Context, Poll, Waker};

#[derive(Debug)]
pub(crate) struct Waiters {
    /// How many there are, read without the lock by everyone who drops a frame.
    count: AtomicUsize,
    queue_len: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    waiting: VecDeque<(u64, Waker)>,
}

impl Queue {
    /// Tickets are given out in ascending order, so the queue is sorted by them.
    fn place_of(&self, ticket: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&ticket, |(t, _)| *t)
    }
}

impl Waiters {
    pub(crate) fn new(queue_len: usize) -> Self {
        Self { count: AtomicUsize::new(0), queue_len, queue: Mutex::default() }
    }

    pub(crate) fn any(&self) -> bool {
        self.count.load(SeqCst) > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Wakes whoever is next. Called after a block came back.
    pub(crate) fn wake_front(&self) {
        // Pairs with the fence in `join`: either the return is seen by the waiter's last try, or the waiter
        // is seen here.
        fence(SeqCst);
        if !self.any() {
            return;
        }
        let front = self.queue.lock().waiting.front().map(|(_, waker)| waker.clone());
        if let Some(waker) = front {
            waker.wake();
        }
    }

    /// Joins the end of the queue, or `None` when it is full.
    fn join(&self, waker: &Waker) -> Option<u64> {
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= self.queue_len {
            return None;
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back((ticket, waker.clone()));
        self.count.store(queue.waiting.len(), SeqCst);
        fence(SeqCst);
        Some(ticket)
    }

    /// Whether `ticket` is at the front; otherwise it will wake this waker when it is.
    fn is_front(&self, ticket: u64, waker: &Waker) -> bool {
        let mut queue = self.queue.lock();
        let Ok(place) = queue.place_of(ticket) else { return false };
        queue.waiting[place].1.clone_from(waker);
        place == 0
    }

    /// Leaves the queue, wherever in it, and lets the next one try.
    fn leave(&self, ticket: u64) {
        let mut queue = self.queue.lock();
        let gone = queue.place_of(ticket).ok().and_then(|place| queue.waiting.remove(place));
        self.count.store(queue.waiting.len(), SeqCst);
        drop(queue);
        drop(gone);
        self.wake_front();
    }
}

/// Waits for a block of one class. Ready with `None` when the queue is full.
pub(super) struct Turn {
    arena: Arena,
    class: u8,
    ticket: Option<u64>,
}

impl Turn {
    pub(super) fn new(arena: Arena, class: u8) -> Self {
        Self { arena, class, ticket: None }
    }
}

impl Future for Turn {
    type Output = Option<Block>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Block>> {
        let shared = self.arena.0;
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => match shared.waiters.join(cx.waker()) {
                Some(ticket) => *self.ticket.insert(ticket),
                None => return Poll::Ready(None),
            },
        };
        if !shared.waiters.is_front(ticket, cx.waker()) {
            return Poll::Pending;
        }
        let Some(block) = shared.blocks.take(self.class) else { return Poll::Pending };
        self.ticket = None;
        shared.waiters.leave(ticket);
        Poll::Ready(Some(block))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.arena.0.waiters.leave(ticket);
        }
    }
}
