//! What keeps a measurement from being made. An operation that fails while it is measured is no such error: it is counted.

use std::path::{Path, PathBuf};

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed that is not part of what is measured.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was being done, like `create`.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The settings contradict each other or the place.
    #[error("{cause}")]
    Usage {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        remedy: String,
    },
    /// Operations failed, or bytes were not what was written; the report says which.
    #[error("{0} operations failed or gave wrong bytes")]
    Failed(u64),
    /// Somebody asked to stop.
    #[error("stopped before the end; the report holds what was measured until then")]
    Interrupted,
    /// Another node of the run cannot go on with this one.
    #[error("{name} {why}")]
    Peer {
        /// Which node.
        name: String,
        /// What is with it.
        why: String,
    },
    /// A lane of a phase panicked.
    #[error("a lane of the phase `{0}` panicked")]
    Panicked(String),
}

/// Result of a step of a run.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Settings that cannot be: what is wrong, and what to do.
    pub(crate) fn usage(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Usage { cause: cause.into(), remedy: remedy.into() }
    }

    /// What the person at the keyboard can do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Usage { remedy, .. } => Some(remedy),
            _ => None,
        }
    }
}

/// Says of an I/O error what was being done and with which file.
pub(crate) trait During<T> {
    /// Wraps the error, if there is one.
    fn during(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::Io { what, path: path.to_owned(), source: error.into() })
    }
}
