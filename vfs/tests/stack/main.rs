//! The file system over its real parts: shards, a store on a real directory, a real directory as under file system,
//! the engine, the name space and the worker. Only the kernel is missing: what it would do to a passthrough file the
//! tests do to the very file that the open gave them.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test fails by panicking, and is nobody's library")]

mod carrying;
mod discarding;
mod failing;
mod faulty;
mod names;
mod opening;
mod outside;
mod recovering;
mod short;
mod stress;
mod support;
mod through;
mod times;
mod writing;
