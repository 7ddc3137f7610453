//! What can go wrong in an engine, in terms the home can act on.

use forebay_types::{FsError, FsErrorKind};

/// A failed call of an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The store, or the disk under it, is full.
    #[error("the metadata store is full: {0}")]
    NoSpace(String),
    /// A value does not match its checksum, or the store's own structure is broken.
    #[error("the metadata store is damaged: {0}")]
    Corrupt(String),
    /// The store holds something else than the batch expected; nothing was changed.
    #[error("the metadata store holds something else at {key}")]
    PreconditionFailed {
        /// The key, escaped.
        key: String,
    },
    /// A key is empty or longer than [`crate::KEY_LEN_MAX`].
    #[error("a key of {len} bytes: the metadata store takes 1 to {}", crate::KEY_LEN_MAX)]
    InvalidKey {
        /// The key's length in bytes.
        len: usize,
    },
    /// The store is open already, in this process or another.
    #[error("the metadata store in {0} is open already")]
    InUse(String),
    /// The storage under the store failed.
    #[error("the metadata store cannot {attempt}: {source}")]
    Storage {
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<MetaError> for FsError {
    fn from(error: MetaError) -> Self {
        let kind = match error {
            MetaError::NoSpace(_) => FsErrorKind::NoSpace,
            MetaError::Corrupt(_) => FsErrorKind::Corrupt,
            MetaError::PreconditionFailed { .. } => FsErrorKind::Stale,
            MetaError::InvalidKey { .. } => FsErrorKind::NameTooLong,
            MetaError::InUse(_) => FsErrorKind::Busy,
            MetaError::Storage { .. } => FsErrorKind::Io,
        };
        Self::new(kind, error)
    }
}
