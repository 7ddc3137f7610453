//! The thread-per-core runtime of Forebay, on io_uring.
//!
//! **Owns** the shards (one pinned thread a core, each with one ring and one executor for `!Send` futures),
//! their timers and mailboxes, the file operations that run on the rings, the process's arena of registered
//! memory, and the bounded pool for calls that block.
//!
//! **Never does** anything that knows what the bytes mean: no tiers, no extents, no protocol. It never spins
//! while idle, never frees a buffer that the kernel may still write, and never shows an SQE to its users.
//!
//! **In and out:** a front door starts futures with [`ShardHandle::try_spawn`] or [`ShardHandle::call`];
//! futures do I/O through [`File`] with [`Frame`]s from the [`Arena`]; what blocks goes through [`blocking()`].
//! A waker may be used from any thread; it crosses by a lock-free list and rings the shard's bell only when
//! the shard sleeps.
//!
//! **Why this shape:** a wakeup across cores costs about 20 us and a page read from the device 80, so a
//! request stays on the core on which it arrived, and everything that completes for that core completes on
//! one ring. A work-stealing runtime was refused for that reason; `docs/decisions/0001` compares the
//! thread-per-core runtimes that exist.

mod arena;
mod blocking;
mod config;
mod core;
mod counters;
mod device;
mod driver;
mod error;
pub mod fault;
mod file;
mod handle;
mod inbox;
mod offshard;
mod ops;
mod run;
mod runqueue;
mod runtime;
pub mod sim;
mod sleep;
mod stop;
mod task;
mod timers;
mod uring;
mod watch;

pub use arena::{Arena, Backing, FRAME_LEN_MAX, FRAME_LEN_MIN, FixedFrame, Frame, arena};
pub use blocking::blocking;
pub use config::ShardsConfig;
pub use core::{current, now, spawn, turn_began};
pub use counters::ShardCounters;
pub use device::{Device, Wakes};
pub use driver::{COMMAND_DATA_LEN, Command};
pub use error::{ArenaError, BlockingError, CallError, Elapsed, SpawnError, StartError};
pub use file::{Allocate, File, READ_NOW_LEN_MAX};
pub use handle::ShardHandle;
pub use runtime::{Shards, StopReport};
pub use sleep::{Sleep, Timeout, sleep, sleep_until, timeout, yield_now};
pub use stop::{StopRequested, stop_requested};
