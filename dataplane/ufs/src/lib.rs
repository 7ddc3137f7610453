//! Under file systems behind one trait.
//!
//! **Owns** the only way to durable storage: what is at a key, what is in a directory, ranged reads of one
//! version, conditional puts in parts, removal, and the attributes a store can hold ([`Ufs`]). Adapters turn
//! that into calls of a store; layers around an adapter add retries, deadlines, bounds and counters, the same
//! for every store ([`layers`]).
//!
//! **Never does** caching, never knows an inode or an extent, never decides what to do about a conflict: it
//! says [`UfsError::Changed`] and leaves both contents where they are. Credentials never reach a log, an error
//! text or a `Debug` output.
//!
//! **How data comes in and leaves:** every call runs on a tokio runtime. Bytes read go into a buffer lent by
//! the caller, which is filled once; bytes written come as [`bytes::Bytes`] parts that the caller numbers, so
//! that it may send several at once. System calls that block run on tokio's blocking threads behind a
//! semaphore, so a store that hangs holds up a bounded number of threads and nobody else.
//!
//! **Why this shape:** object_store's trait has no modes, links, renames of directories or conditional
//! multipart uploads, and a POSIX directory under it would lose them. So the trait here speaks of files as a
//! file system knows them and says by [`Capabilities`] what a store cannot hold; object_store serves inside
//! the object adapters only.
#![forbid(unsafe_code)]

mod blocking;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
pub mod layers;
#[cfg(feature = "objects")]
mod objects;
mod open;
mod options;
mod parts;
mod posix;
mod ufs;

pub use error::{OpenError, UfsError, UfsErrorKind, UfsResult};
pub use layers::{RetryPolicy, StatsSnapshot, UfsStats};
pub use open::open;
pub use options::{Attributes, UfsOptions};
pub use posix::{PosixUfs, scratch_memory};
pub use ufs::{
    AttrChange, Capabilities, ConditionalPut, Expect, ListPage, PutAttrs, PutSpec, Space, Ufs, Upload,
};
