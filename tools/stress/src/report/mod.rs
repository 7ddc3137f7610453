//! What a run found, and how it is shown: as tables, as JSON, as a page.
//!
//! A report holds measured numbers only. Where one is worked out from others, like a ratio, its name says from which.

mod html;
mod json;
mod place;
mod table;

use crate::engine::{Phase, Trial};
pub(crate) use place::{Place, System};
use serde_json::Value;

/// A number beside the histograms.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// What it is, in words.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: Unit,
}

/// What a fact counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes a second.
    Throughput,
    /// Nanoseconds.
    Time,
    /// One number divided by another.
    Ratio,
}

/// The search for the highest rate of one operation.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// The operation.
    pub(crate) operation: String,
    /// The rates that were tried, in their order.
    pub(crate) trials: Vec<Trial>,
    /// The highest that was reached, in operations a second.
    pub(crate) found: f64,
}

/// All that a run found.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Which workload it was.
    pub(crate) workload: &'static str,
    /// What it was told.
    pub(crate) settings: Value,
    /// Where it ran.
    pub(crate) place: Place,
    /// On which machines.
    pub(crate) systems: Vec<System>,
    /// When it began, by the clock of this node.
    pub(crate) begun: String,
    /// Somebody stopped it before its end.
    pub(crate) interrupted: bool,
    /// What was measured, in order.
    pub(crate) phases: Vec<Phase>,
    /// Searches for the highest rate.
    pub(crate) searches: Vec<Search>,
    /// Numbers beside those.
    pub(crate) facts: Vec<Fact>,
    /// What a reader has to know to judge the numbers.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// A report with nothing measured yet.
    pub(crate) fn new(workload: &'static str, settings: Value, place: Place) -> Self {
        Self {
            workload,
            settings,
            place,
            systems: vec![System::this()],
            begun: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            interrupted: false,
            phases: Vec::new(),
            searches: Vec::new(),
            facts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Operations that failed, or whose bytes were wrong.
    pub(crate) fn errors(&self) -> u64 {
        self.phases.iter().map(Phase::errors).sum()
    }

    /// For people.
    pub(crate) fn to_table(&self) -> String {
        table::render(self)
    }

    /// For people, with charts.
    pub(crate) fn to_html(&self) -> String {
        html::render(self)
    }

    /// For scripts.
    pub(crate) fn to_json(&self) -> Value {
        json::render(self)
    }
}

impl Fact {
    /// The number with its unit, for people.
    fn shown(&self) -> String {
        use crate::units::{bytes, time};
        match self.unit {
            Unit::Bytes => bytes(self.value),
            Unit::Throughput => format!("{}/s", bytes(self.value)),
            Unit::Time => time(self.value),
            Unit::Ratio => format!("{:.3}", self.value),
        }
    }
}

impl Unit {
    /// Its name in JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Throughput => "bytes/s",
            Self::Time => "ns",
            Self::Ratio => "ratio",
        }
    }
}
