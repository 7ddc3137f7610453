//! Structured logs on standard error. Standard output belongs to what a command was asked for.

use crate::config::{Log, LogFormat};
use crate::failure::{Failure, Outcome};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts the log of this process.
///
/// # Errors
/// A filter that cannot be parsed.
pub(crate) fn start(log: &Log) -> Outcome<()> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| {
        Failure::new(format!("log.filter {:?} is no filter: {error}", log.filter))
            .remedy("write a level (error, warn, info, debug, trace) or pairs like info,forebay_store=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
