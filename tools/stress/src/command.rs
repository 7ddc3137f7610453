//! The workloads by name, and the frame around each: settings checked, folder made, phases run, folder removed, report shown.

use crate::args::{Frame, Output, Site};
use crate::bench::Bench;
use crate::engine::Stop;
use crate::error::{During, Error, Result};
use crate::peers::gather;
use crate::report::{Place, Report};
use crate::scratch::{Scratch, require_room};
use crate::work::{
    CheckpointArgs, ClientIoArgs, FuseIoArgs, MetadataArgs, SmallFilesArgs, UfsArgs, WorkerArgs,
};
use clap::Subcommand;
use serde::Serialize;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Write large files with fsync, read them again, list them.
    FuseIo(Box<FuseIoArgs>),
    /// Create, stat, open, list, rename and delete: at a fixed rate, as fast as it goes, or the highest rate kept up.
    Metadata(Box<MetadataArgs>),
    /// Write a checkpoint as a training job does, read it back and verify it; how long the job stalls.
    Checkpoint(Box<CheckpointArgs>),
    /// Create, list, stat, read and delete very many files, with sizes as data sets have them.
    SmallFiles(Box<SmallFilesArgs>),
    /// Put, stat, list, read and delete in an under file system itself, by its URL: what there is to be cached.
    Ufs(Box<UfsArgs>),
    /// Ask a worker for pages, cold, in order and at random: the data path without kernel and client.
    Worker(Box<WorkerArgs>),
    /// Write and read through a client in this process: the data path without the kernel.
    ClientIo(Box<ClientIoArgs>),
}

/// Something that can be measured.
pub(crate) trait Workload: Serialize {
    /// Its name on the command line.
    const NAME: &'static str;
    /// With whom, and what becomes of the result.
    fn frame(&self) -> &Frame;
    /// What is measured.
    fn ground(&self) -> Place;
    /// Whether the settings go together, and what is needed is there.
    ///
    /// # Errors
    /// They do not, or it is not.
    fn check(&self) -> Result<()>;
    /// Makes what is needed, runs the phases, and removes what was made.
    ///
    /// # Errors
    /// What is not part of what is measured; [`Error::Interrupted`] where it was left off.
    fn run(&self, bench: &mut Bench) -> Result<()>;
}

/// A workload on the files of a directory.
pub(crate) trait OnFiles: Serialize {
    /// Its name on the command line.
    const NAME: &'static str;
    /// Where it works, with whom, and what becomes of the result.
    fn site(&self) -> &Site;
    /// Whether the settings go together.
    ///
    /// # Errors
    /// They do not.
    fn check(&self) -> Result<()>;
    /// The most bytes that are there at a time, on this node.
    fn bytes(&self) -> u64;
    /// Whether it works with what an earlier run kept.
    fn reuses(&self) -> bool {
        false
    }
    /// Runs the phases in a folder of its own.
    ///
    /// # Errors
    /// What is not part of what is measured; [`Error::Interrupted`] where it was left off.
    fn run(&self, bench: &mut Bench, scratch: &Scratch) -> Result<()>;
}

impl<W: OnFiles> Workload for W {
    const NAME: &'static str = W::NAME;

    fn frame(&self) -> &Frame {
        &self.site().frame
    }

    fn ground(&self) -> Place {
        Place::of(&self.site().place.dir)
    }

    fn check(&self) -> Result<()> {
        OnFiles::check(self)?;
        let dir = &self.site().place.dir;
        require_dir(dir)?;
        if self.reuses() { Ok(()) } else { require_room(dir, self.bytes()) }
    }

    fn run(&self, bench: &mut Bench) -> Result<()> {
        let place = &self.site().place;
        let (dir, name) = (place.dir.as_path(), place.name.as_deref().unwrap_or(W::NAME));
        let scratch = if self.reuses() {
            Scratch::find(dir, name, bench.node())?
        } else {
            Scratch::make(dir, name, bench.node(), place.keep)?
        };
        let outcome = OnFiles::run(self, bench, &scratch);
        bench.stage.say("removing what was made");
        bench.cleared(scratch.remove());
        outcome
    }
}

/// Runs a workload, clears up, and writes the report to `out`. Progress goes to standard error if somebody `watched` it.
///
/// # Errors
/// What kept it from being measured; or, after the report, that operations failed or that `stop` ended it early.
pub fn run(command: &BenchCommand, stop: &Stop, watched: bool, out: &mut dyn Write) -> Result<()> {
    match command {
        BenchCommand::FuseIo(args) => framed(&**args, stop, watched, out),
        BenchCommand::Metadata(args) => framed(&**args, stop, watched, out),
        BenchCommand::Checkpoint(args) => framed(&**args, stop, watched, out),
        BenchCommand::SmallFiles(args) => framed(&**args, stop, watched, out),
        BenchCommand::Ufs(args) => framed(&**args, stop, watched, out),
        BenchCommand::Worker(args) => framed(&**args, stop, watched, out),
        BenchCommand::ClientIo(args) => framed(&**args, stop, watched, out),
    }
}

fn framed<W: Workload>(work: &W, stop: &Stop, watched: bool, out: &mut dyn Write) -> Result<()> {
    work.check()?;
    let Frame { output, together } = work.frame();
    require_page(output)?;
    let settings = serde_json::to_value(work).expect("settings are a table of scalars");
    let mut bench = Bench::new(Report::new(W::NAME, settings, work.ground()), stop.clone(), watched);
    gather(together, &mut bench)?;
    let outcome = work.run(&mut bench);
    let outcome = bench.peers.part(outcome);
    bench.stage.clear();
    finish(bench, outcome, output, out)
}

fn require_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    Err(Error::usage(format!("{} is no directory", dir.display()), "make it, or mount something there"))
}

/// A page that cannot be written is better known before the run than after it.
fn require_page(output: &Output) -> Result<()> {
    output.html.as_ref().map_or(Ok(()), |path| fs::write(path, "").during("write", path))
}

/// Shows what was measured, also where it ended early.
fn finish(mut bench: Bench, outcome: Result<()>, output: &Output, out: &mut dyn Write) -> Result<()> {
    bench.report.interrupted = matches!(outcome, Err(Error::Interrupted));
    if outcome.is_ok() || bench.report.interrupted {
        match bench.node() {
            0 => show(&bench.report, output, out)?,
            node => eprintln!("node {node} has ended; the coordinator has the report of all"),
        }
    }
    outcome?;
    match bench.report.errors() {
        0 => bench.left.map_or(Ok(()), Err),
        errors => Err(Error::Failed(errors)),
    }
}

fn show(report: &Report, output: &Output, out: &mut dyn Write) -> Result<()> {
    let text = if output.json { format!("{}\n", report.to_json()) } else { report.to_table() };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that went away (`| head`) is no failure of ours.
        Err(source) if source.kind() != ErrorKind::BrokenPipe => {
            return Err(Error::Io { what: "write to", path: "standard output".into(), source });
        }
        _ => {}
    }
    output.html.as_ref().map_or(Ok(()), |path| fs::write(path, report.to_html()).during("write", path))
}
