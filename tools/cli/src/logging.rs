//! Structured logs on standard error. Standard output belongs to what a command was asked for.

use crate::config::{Log, LogFormat};
use crate::failure::{Failure, Outcome};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Changes what is logged while the process runs.
pub(crate) struct LogSwitch(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl LogSwitch {
    /// Logs what `filter` lets through from now on.
    ///
    /// # Errors
    /// A filter that cannot be parsed; nothing changes then.
    pub(crate) fn set(&self, filter: &str) -> Outcome<()> {
        (self.0)(parse(filter)?)
            .map_err(|error| Failure::new(format!("the filter could not be changed: {error}")))
    }
}

fn parse(filter: &str) -> Outcome<EnvFilter> {
    EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(format!("log.filter {filter:?} is no filter: {error}"))
            .remedy("write a level (error, warn, info, debug, trace) or pairs like info,forebay_store=debug")
    })
}

/// Starts the log of this process.
///
/// # Errors
/// A filter that cannot be parsed.
pub(crate) fn start(log: &Log) -> Outcome<LogSwitch> {
    let filter = parse(&log.filter)?;
    let builder =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    Ok(match log.format {
        LogFormat::Text => {
            let builder = builder.with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            LogSwitch(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
        }
        LogFormat::Json => {
            let builder = builder.json().with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            LogSwitch(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
        }
    })
}
