//! What drives every workload and what it measures into: lanes (one thread each), their pace, histograms and series.
//!
//! A workload gives a phase two functions: one that prepares a lane, outside of the measurement, and one that is the
//! lane's loop. Everything about time is here, so that no workload can count in its own way.

mod kind;
mod lane;
mod phase;
mod search;
mod series;
mod stage;

pub(crate) use kind::{Kind, PERCENTILES, needed};
pub(crate) use lane::Lane;
pub(crate) use phase::{Limit, Phase, PhaseSpec};
pub(crate) use search::{Trial, reached, search};
pub(crate) use series::Slot;
pub(crate) use stage::Stage;
pub use stage::Stop;
