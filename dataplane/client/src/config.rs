//! What can be set about a client.

use crate::readahead::ReadAheadConfig;
use std::time::Duration;

/// Deadlines and windows. The deadlines are the last resort: the worker has tighter ones of its own for what it
/// waits for, so these only end calls to a worker that hangs.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// For a read or a write, whose absent pages may have to be fetched.
    pub io_within: Duration,
    /// For making data durable: as long as a slow disk may take for all that is dirty.
    pub sync_within: Duration,
    /// For one slice of a file that is fetched whole.
    pub complete_within: Duration,
    /// Read-ahead.
    pub read_ahead: ReadAheadConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            io_within: Duration::from_secs(120),
            sync_within: Duration::from_secs(600),
            complete_within: Duration::from_secs(600),
            read_ahead: ReadAheadConfig::default(),
        }
    }
}
