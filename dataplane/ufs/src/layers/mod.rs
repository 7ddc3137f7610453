//! What stands between a caller and an adapter, the same for every store.
//!
//! **Owns** [`Governed`], which every store that [`crate::open()`] returns is wrapped in: calls at once are
//! bounded, each attempt has a deadline, transient failures are retried with jittered back-off, bytes flow no
//! faster than asked, changes are refused on a read-only mount, and all of it is counted. With the feature
//! `faults` also `FaultyUfs`, which lies and fails on demand, for tests.
//!
//! **Never does** anything a particular store would need: no status code and no errno is known here.
//!
//! **Why one wrapper and not five:** each concern is a small type of its own with its own tests (`retry`,
//! `pace`, `stats`), but five wrappers would forward the same fourteen calls five times, and their order,
//! which matters (a retry must wait for its place again, the deadline must not count the pacing), would be
//! left to whoever stacks them.

#[cfg(feature = "faults")]
mod faults;
mod governed;
mod op;
mod pace;
mod retry;
mod stats;

#[cfg(feature = "faults")]
pub use faults::{Fault, FaultPlan, FaultRule, FaultyUfs};
pub use governed::Governed;
pub use op::Op;
pub use retry::RetryPolicy;
#[cfg(feature = "objects")]
pub(crate) use retry::{Attempts, Repeat};
pub use stats::{LATENCY_BUCKETS, OpSnapshot, StatsSnapshot, UfsStats};
