//! The real binary on real directories, used through the real mount. Needs root and /dev/fuse.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod bench;
mod by_mount;
mod commands;
mod files;
mod keeping;
mod memory;
mod mounting;
mod posix;
mod reading_back;
mod restart;
mod settings;
mod steering;
mod support;
mod takeover;
mod tiers;
mod up;
