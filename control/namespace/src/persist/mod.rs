//! Carrying what is ours to the under file systems: what is to be done, in which order, and what came of it.
//!
//! **Owns** the queue of names that differ from what the UFS has. A name is in the queue (durably, a key `q`)
//! from the mutation that made it differ to the one that records that it no longer does. What is to be done
//! for it is worked out only when somebody asks for work ([`mod@derive`]), from the name's dentry, its shadow and
//! the inode's record, so that a file that was written and renamed meanwhile is put once, under its last name.
//!
//! **What was handed out is durable** before anybody acts on it ([`mod@begun`]). Until its outcome is recorded the
//! state of the name is what it was before; if the outcome stays unknown, because the UFS did not answer or the
//! process died, the same task is handed out again, marked so, and the worker finds out how it ended. After a
//! start that happens before the name space is served.
//!
//! **Never does** the work: the worker takes tasks and reports outcomes ([`forebay_types::PersistLog`]).
//!
//! **Order.** Tasks on one name never run side by side, nor does anything below a directory that is being moved
//! or removed. A name waits for its directory to be made or moved, for content of another inode that still is
//! at its key to be moved away, for writers to close, and, with `persist_order = checkpoint`, a small file for
//! every large one that was closed before. Names that wait for another name are woken by it.
//!
//! **Failures** are tried again with back-off; a name that keeps failing is set aside, shown, tried slowly,
//! and holds up nobody but what cannot be done without it.

mod barrier;
mod begun;
pub(crate) mod derive;
mod finish;
mod port;
pub(crate) mod queue;

pub(crate) use begun::load_begun;

pub use barrier::{BarrierReport, DirtyStats};
