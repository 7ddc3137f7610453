//! Holding requests back in the kernel, so that those which are here come to their end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// The way in by one descriptor of a session. While all are shut nothing is read, and the kernel has everybody wait.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: AtomicBool,
    inside: AtomicUsize,
}

impl Gate {
    /// Lets nothing in from now on, but for what is being read in this moment.
    pub(crate) fn shut(&self) {
        self.shut.store(true, SeqCst);
    }

    /// Lets requests in again.
    pub(crate) fn open(&self) {
        self.shut.store(false, SeqCst);
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(SeqCst)
    }

    /// A request came in.
    pub(super) fn enter(&self) {
        self.inside.fetch_add(1, SeqCst);
    }

    /// One was answered.
    pub(super) fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
    }

    /// Requests that came in and are not answered.
    pub(crate) fn inside(&self) -> usize {
        self.inside.load(SeqCst)
    }
}
