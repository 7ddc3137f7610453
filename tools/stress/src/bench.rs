//! A run under way: the stage its phases play on, and the report they go into.

use crate::engine::{Lane, Phase, PhaseSpec, Stage, Stop};
use crate::error::{Error, Result};
use crate::report::{Fact, Report, Unit};

/// A run under way.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) stage: Stage,
    pub(crate) report: Report,
    /// The number of this node, from 0 on.
    pub(crate) node: usize,
    /// How many nodes there are.
    pub(crate) nodes: usize,
}

impl Bench {
    /// A run that has measured nothing yet.
    pub(crate) fn new(report: Report, stop: Stop, watched: bool) -> Self {
        Self { stage: Stage { stop, watched }, report, node: 0, nodes: 1 }
    }

    /// Runs a phase and reports it.
    ///
    /// # Errors
    /// What a lane could not do beside its operations; [`Error::Interrupted`] after the phase was reported.
    pub(crate) fn phase<S>(
        &mut self,
        spec: &PhaseSpec,
        prepare: impl Fn(usize) -> Result<S> + Sync,
        body: impl Fn(&mut S, &mut Lane) -> Result<()> + Sync,
    ) -> Result<Phase> {
        let phase = self.attempt(spec, prepare, body)?;
        self.keep(phase.clone()).map(|()| phase)
    }

    /// Reports a phase that was run.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after it was reported.
    pub(crate) fn keep(&mut self, phase: Phase) -> Result<()> {
        self.report.phases.push(phase);
        if self.stage.stop.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Runs a phase that is not reported as such.
    ///
    /// # Errors
    /// What a lane could not do beside its operations.
    pub(crate) fn attempt<S>(
        &mut self,
        spec: &PhaseSpec,
        prepare: impl Fn(usize) -> Result<S> + Sync,
        body: impl Fn(&mut S, &mut Lane) -> Result<()> + Sync,
    ) -> Result<Phase> {
        self.stage.run(spec, prepare, body)
    }

    /// Reports a number.
    pub(crate) fn fact(&mut self, name: impl Into<String>, value: f64, unit: Unit) {
        self.report.facts.push(Fact { name: name.into(), value, unit });
    }

    /// Tells the reader something.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.report.notes.push(note.into());
    }
}
