//! Metrics for Prometheus: what is exported, and the port it is exported on.
//!
//! **Owns** the names of the metrics and the translation of the parts' own counters into them. **Never does** any
//! counting: the parts count, each where it happens, and a scrape takes a snapshot, so that a hot path pays nothing.
//!
//! **A word on hits:** the daemon sees no READ of a passthrough file. So there are opens by mode and reads *that came
//! to the daemon*, hit and missed; nothing is called a hit that nobody counted.

mod page;
mod server;
mod upkeep;

pub(crate) use page::Sources;
pub(crate) use server::MetricsServer;
