//! `forebay bench`: measures a path, as `forebay-stress` does it.

use crate::failure::{Failure, Outcome};
use forebay_stress::{BenchCommand, Error};
use std::io::IsTerminal;

/// Runs a workload and prints its report.
pub(crate) fn run(command: &BenchCommand) -> Outcome<()> {
    let stop = forebay_stress::stop_on_signals()
        .map_err(|error| Failure::new(format!("cannot listen to signals: {error}")))?;
    let watched = std::io::stderr().is_terminal();
    forebay_stress::run(command, &stop, watched, &mut std::io::stdout().lock()).map_err(of_bench)
}

fn of_bench(error: Error) -> Failure {
    let failure = Failure::new(&error);
    match error.remedy() {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}
