//! Every workload on a real directory, for a short time: that the counts add up, that reports can be read, that what is
//! wrong is found, and that nothing is left behind.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checkpoint;
mod ends;
mod files;
mod inside;
mod metadata;
mod page;
mod support;
mod together;
mod ufs;
