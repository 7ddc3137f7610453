//! What every workload can be told, and how quantities are given.

use crate::peers::Together;
use clap::Args;
use forebay_types::ByteSize;
use serde::Serialize;
use std::path::PathBuf;

/// What becomes of the result.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Output {
    /// One JSON object instead of tables; latencies are in nanoseconds.
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Write a page with charts as well; one file, no script, nothing fetched from elsewhere.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
}

/// Where a workload on files works.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct Place {
    /// The directory to measure: a mount of Forebay, of another system, or a local file system.
    #[arg(value_name = "DIR")]
    #[serde(skip)]
    pub(crate) dir: PathBuf,
    /// The run works in DIR/forebay-bench-NAME, which must not be there yet. If absent: the name of the workload.
    #[arg(long, value_name = "NAME", help_heading = "Files")]
    pub(crate) name: Option<String>,
    /// Leave the files there at the end.
    #[arg(long, help_heading = "Files")]
    pub(crate) keep: bool,
}

/// What is around a run and no part of what is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Frame {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) together: Together,
}

/// What every workload on files is told: where it works, and what is around it.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct Site {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) frame: Frame,
}

/// Bytes: `64MiB`, or a bare number.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    if let Ok(bytes) = text.parse() {
        return Ok(bytes);
    }
    text.parse::<ByteSize>().map(ByteSize::as_u64).map_err(|error| error.to_string())
}

/// A number above 0 of things that are done at once or in turn.
pub(crate) fn some(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a whole number above 0")),
        Ok(number) => Ok(number),
    }
}

/// Operations a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(format!("{text:?} is not a number of operations a second above 0")),
    }
}

/// `KEY=VALUE`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it like endpoint=http://127.0.0.1:9000")?;
    Ok((key.to_owned(), value.to_owned()))
}
