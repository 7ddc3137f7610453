//! Carrying what is dirty to a real directory, with a log that the test fills.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod begun;
#[path = "../common/mod.rs"]
mod common;
mod engine;
mod files;
mod meanwhile;
mod names;
mod settling;
