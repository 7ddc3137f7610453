//! The seam between the executor and what completes its operations: a kernel's ring, or a simulated one.
//!
//! Everything above it (executor, timers, mailboxes, [`crate::File`]) is the same code on both. An operation
//! is named by a token; the driver answers with the token and the kernel's result, `-errno` on failure. The
//! clock belongs to the driver too, so that a simulation can turn it.

use crate::inbox::Inbox;
use forebay_types::ShardId;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Names an operation in flight: its place in the shard's table.
pub(crate) type Token = usize;

/// A piece of memory that an operation reads or writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) address: *mut u8,
    pub(crate) len: u32,
    /// The registered buffer of this shard's ring that it lies in.
    pub(crate) registered: Option<u16>,
}

/// An operation, as typed as the ring needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Read {
        fd: RawFd,
        span: Span,
        offset: u64,
    },
    Write {
        fd: RawFd,
        span: Span,
        offset: u64,
    },
    Sync {
        fd: RawFd,
        data_only: bool,
    },
    Allocate {
        fd: RawFd,
        mode: i32,
        offset: u64,
        len: u64,
    },
    /// Completes once the descriptor has one of `events`; the result is which.
    Poll {
        fd: RawFd,
        events: u32,
    },
    /// A command to the driver behind the descriptor.
    Command {
        fd: RawFd,
        command: Command,
    },
}

/// What a command carries beside its descriptor; the meaning of all of it is the kernel driver's.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Which command.
    pub code: u32,
    /// The bytes in the entry itself (`sqe->cmd`).
    pub data: [u8; COMMAND_DATA_LEN],
    /// An address (`sqe->addr`), often that of an iovec array, or 0.
    pub address: u64,
    /// Its length (`sqe->len`) in the driver's unit.
    pub len: u32,
}

/// The bytes of a command that fit in an entry of 128 bytes.
pub const COMMAND_DATA_LEN: usize = 80;

/// What the driver has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// An operation completed with the kernel's result.
    Done { token: Token, result: i32 },
    /// A peer could not be rung through the ring.
    BellFailed { peer: ShardId },
}

/// How long [`Driver::turn`] may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until something completes, a peer rings, or the time is up.
    UpTo(Duration),
    /// Until something completes or a peer rings.
    Unlimited,
}

/// Completes operations for one shard.
pub(crate) trait Driver {
    /// Queues an operation for the next [`Self::turn`].
    ///
    /// # Safety
    /// The memory and the descriptor that `op` names stay valid until its [`Event::Done`] was returned.
    unsafe fn start(&mut self, token: Token, op: Op);

    /// Asks that an operation end soon. It still completes, with whatever result.
    fn cancel(&mut self, token: Token);

    /// Wakes a peer. False: this driver cannot, use the peer's eventfd.
    fn ring_peer(&mut self, peer: &Inbox) -> bool;

    /// Submits what is queued, waits as told, and appends what happened.
    ///
    /// # Errors
    /// The ring is unusable: the shard must end.
    fn turn(&mut self, patience: Patience, events: &mut Vec<Event>) -> io::Result<()>;

    /// Whether the files of its operations are the kernel's, so that what their page cache has can be read past it.
    fn reads_page_cache(&self) -> bool {
        false
    }

    /// The shard's clock.
    fn now(&self) -> Instant;
}
