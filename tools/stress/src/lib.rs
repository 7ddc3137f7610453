//! The workloads and reports of `forebay bench`.
//!
//! **Owns** the workloads, the clock they are measured by, and how results are shown.
//!
//! **Never does** anything to the daemon it measures: the workloads on files go through a path, by the calls every program
//! has, so that a mount of Forebay, one of another system and a local file system are measured by the same command.
//!
//! **How it goes**: [`run`] takes a [`BenchCommand`], makes a folder in the place that is measured, runs phases (`engine`:
//! one thread a lane, plain blocking calls, since that is what the programs do that use such a mount), removes the
//! folder, and prints. Whatever fails while it is measured is counted and reported, and makes the run fail at its end.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod command;
mod data;
mod engine;
mod error;
mod node;
mod peers;
mod report;
mod scratch;
mod signal;
mod store;
mod units;
mod work;

pub use command::{BenchCommand, run};
pub use engine::Stop;
pub use error::{Error, Result};
pub use signal::stop_on_signals;
pub use work::{CheckpointArgs, ClientIoArgs, FuseIoArgs, MetadataArgs, SmallFilesArgs, UfsArgs, WorkerArgs};
