//! The commands: what is asked of a daemon, of a mount or of this host, and printed.

pub(crate) mod bench;
mod check;
mod copy;
pub(crate) mod fs;
pub(crate) mod info;
pub(crate) mod mount;
mod remove;
pub(crate) mod settings;
pub(crate) mod upgrade;

use crate::failure::{Failure, Outcome};
use serde::Serialize;
use std::io::Write;

/// Writes to standard output; a reader that went away (`| head`) is no failure of ours.
pub(super) fn print(text: &str) -> Outcome<()> {
    print_on(text).map(drop)
}

/// [`print()`] that tells whether anybody still reads.
pub(super) fn print_on(text: &str) -> Outcome<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!("cannot write to standard output: {error}"))),
    }
}

pub(super) fn print_json(value: &impl Serialize) -> Outcome<()> {
    let text = serde_json::to_string(value).expect("our own structures have string keys only");
    print(&format!("{text}\n"))
}

/// `forebay version`.
pub(crate) fn version(json: bool) -> Outcome<()> {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        return print_json(&serde_json::json!({ "version": version }));
    }
    print(&format!("forebay {version}\n"))
}

/// `forebay estate-format`: what this binary can go on with.
pub(crate) fn estate_format() -> Outcome<()> {
    print(&format!("{}\n", forebay_fuse::estate_format()))
}
