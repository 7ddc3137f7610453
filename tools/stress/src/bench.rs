//! A run under way: the stage its phases play on, and the report they go into.

use crate::engine::{Lane, Phase, PhaseSpec, Stage, Stop};
use crate::error::{Error, Result};
use crate::peers::Peers;
use crate::report::{Fact, Report, Unit};

/// A run under way.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) stage: Stage,
    pub(crate) report: Report,
    pub(crate) peers: Peers,
    /// Why something of what was made is still there.
    pub(crate) left: Option<Error>,
}

impl Bench {
    /// A run that has measured nothing yet.
    pub(crate) fn new(report: Report, stop: Stop, watched: bool) -> Self {
        Self { stage: Stage { stop, watched }, report, peers: Peers::none(), left: None }
    }

    /// Runs a phase on all nodes and reports it.
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

    /// Runs a phase on all nodes; it is not reported as such.
    ///
    /// # Errors
    /// What a lane could not do beside its operations.
    pub(crate) fn attempt<S>(
        &mut self,
        spec: &PhaseSpec,
        prepare: impl Fn(usize) -> Result<S> + Sync,
        body: impl Fn(&mut S, &mut Lane) -> Result<()> + Sync,
    ) -> Result<Phase> {
        self.stage.say(&format!("{}: waiting for the other nodes", spec.name));
        self.peers.meet(&spec.name)?;
        let mine = self.stage.run(spec, prepare, body)?;
        self.peers.merge(mine)
    }

    /// The number of this node, from 0 on.
    pub(crate) fn node(&self) -> usize {
        self.peers.node()
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.peers.nodes()
    }

    /// Reports a number.
    pub(crate) fn fact(&mut self, name: impl Into<String>, value: f64, unit: Unit) {
        self.report.facts.push(Fact { name: name.into(), value, unit });
    }

    /// Takes note of how the clearing up went: what was measured is reported also where something stays.
    pub(crate) fn cleared(&mut self, removed: Result<()>) {
        if let Err(error) = removed {
            self.note(format!("not all that was made is gone: {error}"));
            self.left.get_or_insert(error);
        }
    }

    /// Tells the reader something.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.report.notes.push(note.into());
    }
}
