//! What can go wrong with an under file system, in kinds a caller can act on.
//!
//! Owns the two error types of the crate: [`UfsError`] for a call, [`OpenError`] for opening a store. A kind
//! says what to do next (give up, look again, wait, tell the user); the text is for people and never holds a
//! credential or a signed URL. Adapters map their store's words to kinds in their own modules.

use forebay_types::{FsError, FsErrorKind, UfsKey};

/// The result of a call to an under file system.
pub type UfsResult<T> = Result<T, UfsError>;

/// A failed call to an under file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UfsError {
    /// There is nothing at the key, or a directory above it is missing.
    #[error("{0}: there is no such file or directory")]
    NotFound(UfsKey),
    /// The content is not of the version asked for or expected: look again. Nothing was changed by the call.
    #[error("{0}: it changed in the under file system")]
    Changed(UfsKey),
    /// The name is taken.
    #[error("{0}: it exists")]
    Exists(UfsKey),
    /// The directory has entries.
    #[error("{0}: the directory is not empty")]
    NotEmpty(UfsKey),
    /// A directory was needed, at the key or above it.
    #[error("{0}: not a directory")]
    NotADirectory(UfsKey),
    /// A directory stands where a file was meant.
    #[error("{0}: is a directory")]
    IsADirectory(UfsKey),
    /// The store refused us. It stays refused until somebody does what `remedy` says.
    #[error("{what}: access denied; {remedy}")]
    Denied {
        /// What was attempted on what.
        what: String,
        /// What an administrator can do about it.
        remedy: String,
    },
    /// The store asked us to slow down.
    #[error("{0}: the store asks to slow down")]
    Throttled(String),
    /// The store cannot be reached, or failed in a way that may pass.
    #[error("{0}: the store is unavailable")]
    Unavailable(String),
    /// A deadline passed; the call may or may not have taken effect.
    #[error("{0}: timed out")]
    Timeout(String),
    /// This store, or this adapter, does not do that. [`crate::Capabilities`] says so beforehand.
    #[error("{0}: not supported by this store")]
    Unsupported(&'static str),
    /// The file is longer than the store takes.
    #[error("{0}: too large for this store")]
    TooLarge(String),
    /// The store can never hold this (its name, its kind): trying again is useless until it changes.
    #[error("cannot be persisted: {0}")]
    Unpersistable(String),
    /// The store or the mount is read-only.
    #[error("{0}: the store is read-only")]
    ReadOnly(String),
    /// The store is full, or a quota is used up.
    #[error("{0}: no space left in the store")]
    NoSpace(String),
    /// The call makes no sense: a part of the wrong length, an upload that lacks bytes.
    #[error("invalid call: {0}")]
    Invalid(String),
    /// The store failed, or answered what its protocol does not allow.
    #[error("{0}")]
    Io(String),
}

/// The kind of a [`UfsError`] without its story, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the kind of the error variant of the same name")]
pub enum UfsErrorKind {
    NotFound,
    Changed,
    Exists,
    NotEmpty,
    NotADirectory,
    IsADirectory,
    Denied,
    Throttled,
    Unavailable,
    Timeout,
    Unsupported,
    TooLarge,
    Unpersistable,
    ReadOnly,
    NoSpace,
    Invalid,
    Io,
}

impl UfsErrorKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::NotFound,
        Self::Changed,
        Self::Exists,
        Self::NotEmpty,
        Self::NotADirectory,
        Self::IsADirectory,
        Self::Denied,
        Self::Throttled,
        Self::Unavailable,
        Self::Timeout,
        Self::Unsupported,
        Self::TooLarge,
        Self::Unpersistable,
        Self::ReadOnly,
        Self::NoSpace,
        Self::Invalid,
        Self::Io,
    ];

    /// A word for it, as a metric's label has it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Changed => "changed",
            Self::Exists => "exists",
            Self::NotEmpty => "not_empty",
            Self::NotADirectory => "not_a_directory",
            Self::IsADirectory => "is_a_directory",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too_large",
            Self::Unpersistable => "unpersistable",
            Self::ReadOnly => "read_only",
            Self::NoSpace => "no_space",
            Self::Invalid => "invalid",
            Self::Io => "io",
        }
    }
}

impl UfsError {
    /// The kind without the story.
    pub const fn kind(&self) -> UfsErrorKind {
        match self {
            Self::NotFound(_) => UfsErrorKind::NotFound,
            Self::Changed(_) => UfsErrorKind::Changed,
            Self::Exists(_) => UfsErrorKind::Exists,
            Self::NotEmpty(_) => UfsErrorKind::NotEmpty,
            Self::NotADirectory(_) => UfsErrorKind::NotADirectory,
            Self::IsADirectory(_) => UfsErrorKind::IsADirectory,
            Self::Denied { .. } => UfsErrorKind::Denied,
            Self::Throttled(_) => UfsErrorKind::Throttled,
            Self::Unavailable(_) => UfsErrorKind::Unavailable,
            Self::Timeout(_) => UfsErrorKind::Timeout,
            Self::Unsupported(_) => UfsErrorKind::Unsupported,
            Self::TooLarge(_) => UfsErrorKind::TooLarge,
            Self::Unpersistable(_) => UfsErrorKind::Unpersistable,
            Self::ReadOnly(_) => UfsErrorKind::ReadOnly,
            Self::NoSpace(_) => UfsErrorKind::NoSpace,
            Self::Invalid(_) => UfsErrorKind::Invalid,
            Self::Io(_) => UfsErrorKind::Io,
        }
    }

    /// Whether the same call may succeed a little later without anybody changing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Unavailable(_) | Self::Timeout(_))
    }
}

impl From<UfsError> for FsError {
    fn from(error: UfsError) -> Self {
        let kind = match error.kind() {
            UfsErrorKind::NotFound => FsErrorKind::NotFound,
            UfsErrorKind::Changed => FsErrorKind::Stale,
            UfsErrorKind::Exists => FsErrorKind::Exists,
            UfsErrorKind::NotEmpty => FsErrorKind::NotEmpty,
            UfsErrorKind::NotADirectory => FsErrorKind::NotADirectory,
            UfsErrorKind::IsADirectory => FsErrorKind::IsADirectory,
            UfsErrorKind::Denied => FsErrorKind::AccessDenied,
            UfsErrorKind::Throttled | UfsErrorKind::Unavailable => FsErrorKind::Unavailable,
            UfsErrorKind::Timeout => FsErrorKind::TimedOut,
            UfsErrorKind::Unsupported | UfsErrorKind::Unpersistable => FsErrorKind::Unsupported,
            UfsErrorKind::TooLarge => FsErrorKind::FileTooLarge,
            UfsErrorKind::ReadOnly => FsErrorKind::ReadOnly,
            UfsErrorKind::NoSpace => FsErrorKind::NoSpace,
            UfsErrorKind::Invalid => FsErrorKind::Invalid,
            UfsErrorKind::Io => FsErrorKind::Io,
        };
        Self::new(kind, error)
    }
}

/// Why an under file system cannot be opened. Each message names the cause and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The text names no store we know how to read.
    #[error("{url:?} is not an under file system: {reason}; write a directory's path, file:///dir{SCHEMES}")]
    Url {
        /// What the user gave, without any credential.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store is known, but this build has no adapter for it.
    #[error("{scheme}:// is not in this build: build forebay with the feature `{feature}`")]
    NotBuilt {
        /// The scheme of the URL.
        scheme: String,
        /// The cargo feature that brings the adapter.
        feature: &'static str,
    },
    /// An option is unknown or its value makes no sense.
    #[error("option {option:?} of {url}: {reason}")]
    Option {
        /// The store.
        url: String,
        /// The option's name; its value may be a secret and is not shown.
        option: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// There is no such directory, bucket or container.
    #[error("{url}: {what} does not exist; {remedy}")]
    NotFound {
        /// The store.
        url: String,
        /// What is missing.
        what: &'static str,
        /// What to do.
        remedy: String,
    },
    /// No credentials were found, or the store refused them.
    #[error("{url}: {reason}; {remedy}")]
    Denied {
        /// The store.
        url: String,
        /// What the store said.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The store cannot be reached.
    #[error("{url}: cannot be reached: {reason}; {remedy}")]
    Unreachable {
        /// The store.
        url: String,
        /// What failed.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

const SCHEMES: &str = ", s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_distinct_labels() {
        let labels: std::collections::BTreeSet<_> = UfsErrorKind::ALL.iter().map(|k| k.label()).collect();
        assert_eq!(labels.len(), UfsErrorKind::ALL.len());
    }

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        assert!(UfsError::Throttled("get a".into()).is_transient());
        assert!(!UfsError::Changed(UfsKey::root()).is_transient());
        assert!(!UfsError::Io("bad disk".into()).is_transient());
    }
}
