//! The errors a caller of the file system can act on.
//!
//! Kinds, not codes: `fuse/` turns a kind into an errno and a gateway turns it into an HTTP status, and
//! nobody else knows either. The context is for people and says what was attempted on what.

use std::fmt;

/// The result of a file-system operation.
pub type FsResult<T> = Result<T, FsError>;

/// What went wrong, in terms a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FsErrorKind {
    /// No such file, directory or attribute's inode.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotADirectory,
    /// A directory stands where it may not.
    IsADirectory,
    /// The directory has entries.
    NotEmpty,
    /// The caller's rights do not permit it (owner-only operations).
    NotPermitted,
    /// The file's mode does not permit it.
    AccessDenied,
    /// The mount or policy is read-only.
    ReadOnly,
    /// The request makes no sense (bad offset, bad flag, directory moved into itself).
    Invalid,
    /// A name or path is too long.
    NameTooLong,
    /// The file would be too large.
    FileTooLarge,
    /// Too many hard links.
    TooManyLinks,
    /// The two paths are on different mounts.
    CrossesMounts,
    /// No extended attribute of that name.
    NoAttribute,
    /// The buffer offered is too small.
    OutOfRange,
    /// In use: a mount point, or a file that cannot change mode while open.
    Busy,
    /// The tier is full and nothing can drain or be evicted.
    NoSpace,
    /// The quota of the mount or prefix is used up.
    QuotaExceeded,
    /// The inode is gone (its version was replaced, its handle outlived it).
    Stale,
    /// The under file system or this build does not do that.
    Unsupported,
    /// The under file system cannot be reached just now; trying again may help.
    Unavailable,
    /// A deadline passed.
    TimedOut,
    /// Data or metadata failed its checksum and no good copy was found.
    Corrupt,
    /// The storage under us failed.
    Io,
    /// The operation was interrupted by the caller.
    Interrupted,
    /// The daemon is shutting down.
    ShuttingDown,
    /// An internal bound is reached; the caller should wait and repeat.
    Overloaded,
}

impl FsErrorKind {
    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut | Self::Overloaded | Self::Interrupted)
    }
}

/// A failed file-system operation: its kind, and for people what was attempted.
#[derive(Clone)]
pub struct FsError {
    kind: FsErrorKind,
    /// Empty for the everyday kinds (a lookup that finds nothing allocates nothing).
    context: Option<Box<str>>,
}

impl FsError {
    /// An error with its story.
    pub fn new(kind: FsErrorKind, context: impl fmt::Display) -> Self {
        Self { kind, context: Some(context.to_string().into_boxed_str()) }
    }

    /// What a caller can act on.
    pub const fn kind(&self) -> FsErrorKind {
        self.kind
    }

    /// Puts what was attempted before what went wrong.
    #[must_use]
    pub fn during(self, attempt: impl fmt::Display) -> Self {
        let context = match &self.context {
            Some(inner) => format!("{attempt}: {inner}"),
            None => attempt.to_string(),
        };
        Self { kind: self.kind, context: Some(context.into_boxed_str()) }
    }
}

impl From<FsErrorKind> for FsError {
    fn from(kind: FsErrorKind) -> Self {
        Self { kind, context: None }
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.context {
            Some(context) => write!(f, "{context} ({:?})", self.kind),
            None => write!(f, "{:?}", self.kind),
        }
    }
}

impl fmt::Debug for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for FsError {}

impl From<std::io::Error> for FsError {
    /// Maps what the local file system says to what a caller can do about it.
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let kind = match error.kind() {
            E::NotFound => FsErrorKind::NotFound,
            E::AlreadyExists => FsErrorKind::Exists,
            E::PermissionDenied => FsErrorKind::AccessDenied,
            E::StorageFull => FsErrorKind::NoSpace,
            E::QuotaExceeded => FsErrorKind::QuotaExceeded,
            E::ReadOnlyFilesystem => FsErrorKind::ReadOnly,
            E::NotADirectory => FsErrorKind::NotADirectory,
            E::IsADirectory => FsErrorKind::IsADirectory,
            E::DirectoryNotEmpty => FsErrorKind::NotEmpty,
            E::FileTooLarge => FsErrorKind::FileTooLarge,
            E::InvalidInput => FsErrorKind::Invalid,
            E::TimedOut => FsErrorKind::TimedOut,
            E::Interrupted => FsErrorKind::Interrupted,
            E::StaleNetworkFileHandle => FsErrorKind::Stale,
            E::Unsupported => FsErrorKind::Unsupported,
            E::TooManyLinks => FsErrorKind::TooManyLinks,
            E::CrossesDevices => FsErrorKind::CrossesMounts,
            _ => FsErrorKind::Io,
        };
        Self::new(kind, error)
    }
}
