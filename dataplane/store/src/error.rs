//! What can go wrong in the store, in terms a caller can act on.

use forebay_types::{ExtentId, FsError, FsErrorKind, NodeId, PageIndex};
use std::io;
use std::path::PathBuf;

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The tier is full and nothing in it can be evicted: serve the read without caching it.
    #[error("tier {tier} is full and everything in it is in use")]
    NoSpace {
        /// The tier's name.
        tier: String,
    },
    /// Another process has the directory.
    #[error(
        "cache directory {} is in use by process {holder}; stop that process or give another directory", dir.display()
    )]
    Locked {
        /// The tier's directory.
        dir: PathBuf,
        /// What the lock file says of the holder.
        holder: String,
    },
    /// The directory belongs to another node.
    #[error(
        "cache directory {} belongs to node {theirs}, this is {ours}; give an empty directory, or start with that \
         node name if this is the same machine renamed", dir.display()
    )]
    ForeignNode {
        /// The tier's directory.
        dir: PathBuf,
        /// The node in its header.
        theirs: NodeId,
        /// This node.
        ours: NodeId,
    },
    /// The directory was written by another version.
    #[error(
        "cache directory {} has format {theirs}, this build reads {ours}; use the build that wrote it, persist what \
         is dirty there, then empty the directory", dir.display()
    )]
    ForeignVersion {
        /// The tier's directory.
        dir: PathBuf,
        /// The version in its header.
        theirs: u32,
        /// The version of this build.
        ours: u32,
    },
    /// The directory has files, and no tier header: it is something else.
    #[error("{} is not empty and is no cache directory (no file `tier`); give an empty directory", dir.display())]
    NotATier {
        /// The directory.
        dir: PathBuf,
    },
    /// The header file is damaged.
    #[error(
        "the header {} is damaged ({reason}); if nothing here is still to be persisted, empty the directory", path.display()
    )]
    DamagedHeader {
        /// The header file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// No such extent: it was removed or evicted. Fetch again.
    #[error("extent {0} is gone")]
    Gone(ExtentId),
    /// The page is not here. Fetch it.
    #[error("page {} of extent {extent} is not here", page.0)]
    NotResident {
        /// The extent.
        extent: ExtentId,
        /// The page.
        page: PageIndex,
    },
    /// The page's bytes do not have its checksum. A clean page was dropped: fetch it again.
    #[error("page {} of extent {extent} failed its checksum", page.0)]
    Corrupt {
        /// The extent.
        extent: ExtentId,
        /// The page.
        page: PageIndex,
    },
    /// The extent was not verified since an unclean boot: call [`crate::Extent::verify`] first.
    #[error("extent {0} is to be verified before it is opened for passthrough")]
    Unverified(ExtentId),
    /// The extent is in use in a way that does not permit this.
    #[error("extent {extent} is in use: {what}")]
    Busy {
        /// The extent.
        extent: ExtentId,
        /// What was attempted.
        what: &'static str,
    },
    /// The request makes no sense.
    #[error("invalid request to the store: {0}")]
    Invalid(&'static str),
    /// No buffer or no helper within the deadline.
    #[error("{what}: no resources within the deadline ({source})")]
    Overloaded {
        /// What was attempted.
        what: &'static str,
        /// What the runtime said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system under the tier failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted on what.
        what: String,
        /// What the file system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Wraps an I/O error; a full file system is [`StoreError::NoSpace`].
    pub(crate) fn io(what: impl std::fmt::Display, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { tier: format!("({what}: {source})") }
            }
            _ => Self::Io { what: what.to_string(), source },
        }
    }
}

impl From<StoreError> for FsError {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let kind = match &error {
            E::NoSpace { .. } => FsErrorKind::NoSpace,
            E::Gone(_) => FsErrorKind::Stale,
            E::Corrupt { .. } => FsErrorKind::Corrupt,
            E::Busy { .. } | E::Locked { .. } => FsErrorKind::Busy,
            E::Overloaded { .. } => FsErrorKind::Overloaded,
            E::NotResident { .. } | E::Unverified(_) => FsErrorKind::Unavailable,
            E::Io { source, .. } => FsError::from(io::Error::from(source.kind())).kind(),
            _ => FsErrorKind::Invalid,
        };
        FsError::new(kind, error)
    }
}
