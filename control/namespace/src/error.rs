//! Why a name space cannot be opened.

use forebay_meta::MetaError;
use forebay_types::FsError;
use std::path::PathBuf;

/// A name space that did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// Its directory is in use by another process, or twice by this one.
    #[error("the name space in {0} is in use; stop the other daemon first")]
    InUse(PathBuf),
    /// Its directory cannot be used.
    #[error("cannot {attempt} in {dir}: {source}")]
    Storage {
        /// What was attempted.
        attempt: &'static str,
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The metadata engine failed.
    #[error("the metadata engine failed: {0}")]
    Engine(#[from] MetaError),
    /// It was written by another version of Forebay.
    #[error("the metadata has format {found}, this build knows {known}; use the build that wrote it")]
    Format {
        /// The format found.
        found: u64,
        /// The one this build reads and writes.
        known: u64,
    },
    /// The root mount is of another source than asked for.
    #[error("the metadata belongs to a mount of {stored}, not of {asked}; use another cache directory")]
    OtherSource {
        /// The source the metadata is of.
        stored: String,
        /// The source asked for.
        asked: String,
    },
    /// A record cannot be read.
    #[error("the metadata cannot be read: {0}")]
    Records(#[from] FsError),
}
