//! What can go wrong, by what the caller can do about it.

use std::{fmt, io, time::Duration};

/// The shards could not be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine forbids io_uring to this process.
    #[error("io_uring is forbidden here ({cause}); {remedy}")]
    Forbidden {
        /// Which rule forbids it.
        cause: String,
        /// What the operator can change.
        remedy: String,
    },
    /// The kernel has no io_uring, or one that is too old.
    #[error("this kernel's io_uring is too old: it refuses {missing}; Forebay needs Linux 6.1 or later")]
    TooOld {
        /// What was refused.
        missing: &'static str,
    },
    /// A ring, its eventfd or a thread could not be made.
    #[error("cannot set up {what}: {source}; {remedy}")]
    Resource {
        /// What was being made.
        what: &'static str,
        /// What the operator can change.
        remedy: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A core in the settings does not exist or is not allowed to this process.
    #[error("core {core} is not one this process may use ({allowed}); change `cores` or the cpuset")]
    Core {
        /// The core that was asked for.
        core: usize,
        /// The cores that there are.
        allowed: String,
    },
    /// The memory for the arena could not be had.
    #[error("cannot allocate an arena of {size}: {source}; lower `arena` or free memory")]
    Arena {
        /// The size that was asked for.
        size: forebay_types::ByteSize,
        /// The system's answer.
        source: io::Error,
    },
    /// A setting is out of range.
    #[error("{0}")]
    Config(String),
}

/// A future was not started. The closure is handed back.
pub enum SpawnError<F> {
    /// The shard's mailbox is full: slow down, or answer "busy".
    Full(F),
    /// The shard was stopped.
    Stopped(F),
}

impl<F> SpawnError<F> {
    /// The closure that was to be run.
    pub fn into_inner(self) -> F {
        match self {
            Self::Full(f) | Self::Stopped(f) => f,
        }
    }
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Stopped(_) => "Stopped",
        })
    }
}

impl<F> fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the shard's mailbox is full",
            Self::Stopped(_) => "the shard was stopped",
        })
    }
}

impl<F> std::error::Error for SpawnError<F> {}

/// A call to another shard brought no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The shard's mailbox is full.
    #[error("the shard's mailbox is full")]
    Full,
    /// The shard was stopped before or while the call ran.
    #[error("the shard was stopped")]
    Stopped,
    /// The call panicked; the panic is in the log.
    #[error("the call panicked")]
    Panicked,
}

/// A blocking call brought no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// No place became free in time: all threads are busy and the queue is full.
    #[error("the pool for blocking calls was full for {0:?}")]
    Busy(Duration),
    /// The pool was stopped.
    #[error("the pool for blocking calls was stopped")]
    Stopped,
    /// The call panicked; the panic is in the log.
    #[error("the blocking call panicked")]
    Panicked,
}

/// The arena gave no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArenaError {
    /// No frame became free in time.
    #[error("the arena had no {len}-byte frame for {waited:?}")]
    Exhausted {
        /// The length that was asked for.
        len: usize,
        /// How long the caller waited.
        waited: Duration,
    },
    /// Too many tasks already wait for a frame.
    #[error("too many tasks wait for a frame")]
    QueueFull,
    /// The length is 0 or above the largest class.
    #[error("a frame has 1 byte to 16 MiB, not {len} bytes")]
    BadLength {
        /// The length that was asked for.
        len: usize,
    },
}

/// The time was up before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time was up")]
pub struct Elapsed;
