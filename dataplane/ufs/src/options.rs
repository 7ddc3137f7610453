//! How to open an under file system.

use crate::layers::RetryPolicy;
use forebay_types::ByteSize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a mount asks of its store.
#[derive(Clone, PartialEq, Eq)]
pub struct UfsOptions {
    /// Refuse every change.
    pub read_only: bool,
    /// How many calls may be with the store at once; the rest wait their turn.
    pub concurrency: usize,
    /// How long one attempt of a call may take, waiting for a place included.
    pub call_timeout: Duration,
    /// How transient failures are retried.
    pub retry: RetryPolicy,
    /// The most bytes a second that are read; `None`: as many as come.
    pub read_bandwidth: Option<ByteSize>,
    /// The most bytes a second that are written; `None`: as many as go.
    pub write_bandwidth: Option<ByteSize>,
    /// How long opening may take to reach the store.
    pub connect_timeout: Duration,
    /// A temporary file of an upload that nobody holds and that is older than this is swept.
    pub stale_upload_after: Duration,
    /// The shortest part of a multipart upload; longer where the file would have too many of them.
    pub part_len_min: ByteSize,
    /// Options of the store itself, as `-o` or the configuration gives them: `endpoint`, `region`, `profile`,
    /// `access_key_id`, ... Values may be secrets and are never printed.
    pub store: BTreeMap<String, String>,
}

impl Default for UfsOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            concurrency: 64,
            call_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            read_bandwidth: None,
            write_bandwidth: None,
            connect_timeout: Duration::from_secs(10),
            stale_upload_after: Duration::from_secs(3600),
            part_len_min: ByteSize::mib(8),
            store: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for UfsOptions {
    /// Shows the names of the store's options only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UfsOptions")
            .field("read_only", &self.read_only)
            .field("concurrency", &self.concurrency)
            .field("call_timeout", &self.call_timeout)
            .field("store", &self.store.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut options = UfsOptions::default();
        options.store.insert("secret_access_key".into(), "hunter2".into());
        let shown = format!("{options:?}");
        assert!(shown.contains("secret_access_key") && !shown.contains("hunter2"), "{shown}");
    }
}
