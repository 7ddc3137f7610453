//! Where phases run: whom they start together with, who may stop them, and who watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a run to leave off, from any thread; the report then holds what was measured until then.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Leave off.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked to.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all phases of a run have in common.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Who may stop them.
    pub(crate) stop: Stop,
    /// Whether a person watches standard error.
    pub(crate) watched: bool,
}

impl Stage {
    /// Shows what is being done beside the phases, like clearing up.
    pub(crate) fn say(&self, what: &str) {
        if self.watched {
            eprint!("\r\x1b[K{what}");
        }
    }

    /// Takes the line of progress away.
    pub(crate) fn clear(&self) {
        self.say("");
    }
}
