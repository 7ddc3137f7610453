//! Why a proving tool stopped.

use std::path::{Path, PathBuf};

/// What ends a run of a proving tool without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call of the tool itself failed; it proves nothing about the directory.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A ledger or report file cannot be understood.
    #[error("{path} is not a ledger of this tool: {why}")]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory broke a promise; the findings were printed.
    #[error("{0} finding(s)")]
    Found(usize),
    /// The tool was asked for something that cannot be done.
    #[error("{0}")]
    Usage(String),
}

/// Result of a step of a proving tool.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Says of an I/O error what was being done and with which file.
pub(crate) trait During<T> {
    /// Wraps the error, if there is one.
    fn during(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::Io { what, path: path.to_owned(), source: e.into() })
    }
}
