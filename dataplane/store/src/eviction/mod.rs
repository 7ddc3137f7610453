//! What to evict next: small plug-ins that never see I/O.
//!
//! **Owns** the order in which cached units should go, one [`Policy`] a tier. **Never does** I/O, never locks, never
//! knows extents: a unit is a 64-bit fingerprint of a content and a region of it, so that a policy with a memory of
//! what it evicted (S3-FIFO's ghosts) knows it again when it comes back under another extent.
//!
//! **How data comes in and leaves:** the store reports `insert`, `access` and `remove`, and asks `pick` when it needs
//! room. Units in use are taken out by the store and inserted again when they are free, so a policy never scans
//! over them.
//!
//! **Why this shape:** a policy that yields one victim at a time needs no callback into the store, can be driven by a
//! recorded trace, and can be compared with a slow textbook version step by step.

mod lfu;
mod lrfu;
mod lru;
mod queue;
mod ranked;
mod s3fifo;
mod sieve;
#[cfg(test)]
mod textbook;
#[cfg(test)]
mod traces;

pub(crate) use ranked::Ranked;

use serde::{Deserialize, Serialize};

/// An order of eviction over units of some weight in bytes.
pub trait Policy: Send + std::fmt::Debug {
    /// Takes in a unit that was just put into the cache. A unit that is already there counts as accessed.
    fn insert(&mut self, unit: u64, weight: u64);
    /// A unit was used. Without effect on a unit that is not there.
    fn access(&mut self, unit: u64);
    /// A unit left the cache for another reason than this policy's choice.
    fn remove(&mut self, unit: u64);
    /// Takes out the unit that should go next.
    fn pick(&mut self) -> Option<u64>;
    /// How many units there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which policy a tier uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvictionKind {
    /// Three FIFO queues with a quick way out for what is used once (Yang et al., SOSP 2023).
    #[default]
    S3Fifo,
    /// Least recently used.
    Lru,
    /// Least frequently used; the least recent of those.
    Lfu,
    /// Frequency that fades with time (Lee et al., IEEE ToC 2001).
    Lrfu,
    /// One FIFO queue with a moving hand (Zhang et al., NSDI 2024).
    Sieve,
}

impl EvictionKind {
    /// An empty policy for a tier of `capacity` bytes.
    pub fn policy(self, capacity: u64) -> Box<dyn Policy> {
        match self {
            Self::S3Fifo => Box::new(s3fifo::S3Fifo::new(capacity)),
            Self::Lru => Box::new(lru::Lru::default()),
            Self::Lfu => Box::new(lfu::Lfu::default()),
            Self::Lrfu => Box::new(lrfu::Lrfu::default()),
            Self::Sieve => Box::new(sieve::Sieve::default()),
        }
    }
}
