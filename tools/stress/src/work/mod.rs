//! The workloads. Each is its settings, its phases, and the loop of a lane; the clock is the engine's.

mod checkpoint;
mod files;
mod fuse_io;
mod inside;
mod metadata;
mod models;
mod sizes;
mod small_files;
mod ufs;

pub use checkpoint::CheckpointArgs;
pub use fuse_io::FuseIoArgs;
pub use inside::{ClientIoArgs, WorkerArgs};
pub use metadata::MetadataArgs;
pub use small_files::SmallFilesArgs;
pub use ufs::UfsArgs;
