//! Handing the mount over to another binary, in place: this process becomes it.
//!
//! **The order:** the binary says that it can go on with what is left to it; requests are held back in the kernel until those
//! that are here are answered; then it is executed, and finds the mount with the custodian as after a death. Whatever goes
//! wrong before that leaves everything as it was; what was not answered in time is asked again.
//!
//! **Why in place:** the process keeps its number, its parent and its standard output, so a service manager and a terminal
//! see the daemon that they started.

use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::secrets;
use forebay_fuse::{FuseMount, estate_format};
use forebay_namespace::Namespace;
use forebay_worker::Persister;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The hidden command by which a binary tells what it can go on with.
pub(crate) const FORMAT_COMMAND: &str = "estate-format";
/// How long it may take to say so.
const SAID_WITHIN: Duration = Duration::from_secs(10);
const SAID_LOOK: Duration = Duration::from_millis(10);
/// How long requests that are here may take to end. The others wait in the kernel meanwhile.
pub(crate) const DRAINED_WITHIN: Duration = Duration::from_secs(5);
/// So that whoever asked hears that it begins.
const ANSWER_FIRST: Duration = Duration::from_millis(100);

/// What is needed to become another binary.
pub(crate) struct Handover {
    pub(crate) mount: Arc<FuseMount>,
    pub(crate) names: Arc<Namespace>,
    persister: Weak<Persister>,
    runtime: Handle,
    options: Vec<OsString>,
    failed: Mutex<Option<String>>,
}

impl Handover {
    /// To be called on the control runtime.
    pub(crate) fn new(
        (mount, names): (Arc<FuseMount>, Arc<Namespace>),
        persister: Weak<Persister>,
        config: &Config,
    ) -> Self {
        let options = config.mounts.iter().flat_map(|mount| &mount.options);
        let options = options.map(|(key, value)| OsString::from(format!("{key}={value}")));
        let options = options.filter(|option| secrets::is_secret(option)).collect();
        Self { mount, names, persister, runtime: Handle::current(), options, failed: Mutex::default() }
    }

    /// Why the last one failed, if it did after it had begun.
    pub(crate) fn failed(&self) -> Option<String> {
        self.failed.lock().clone()
    }

    /// Begins to become `binary`, or what lies at the place of ours now. Blocks for some milliseconds.
    ///
    /// # Errors
    /// Nobody could go on with the mount, or the binary could not.
    pub(crate) fn begin(self: &Arc<Self>, binary: Option<PathBuf>) -> Outcome<Value> {
        if self.mount.estate().map_err(Failure::new)?.is_none() {
            return Err(Failure::new("no other process can take this mount over").remedy(
                "see `takeover` of `forebay info --on DIR`; stop the daemon and start the new one instead",
            ));
        }
        let binary = binary.map_or_else(our_place, Ok)?;
        demand_format(&binary)?;
        let (this, path) = (Arc::clone(self), binary.clone());
        let begun = std::thread::Builder::new().name("handover".into()).spawn(move || this.hand_over(&path));
        begun.map_err(|error| Failure::new(format!("cannot begin: {error}")))?;
        Ok(json!({ "pid": std::process::id(), "binary": binary }))
    }

    /// Comes back only if it fails; the daemon goes on then.
    fn hand_over(&self, binary: &Path) {
        std::thread::sleep(ANSWER_FIRST);
        if let Some(persister) = self.persister.upgrade() {
            // Who comes next knows of what was carried only if it is settled. Requests are served meanwhile.
            self.runtime.block_on(persister.settle_carried());
        }
        let began = Instant::now();
        let left = self.mount.hold_back(DRAINED_WITHIN);
        if let Err(error) = self.names.flush() {
            tracing::warn!(%error, "the log is replayed by the next binary");
        }
        tracing::info!(?binary, left, held_back = ?began.elapsed(), "handing over");
        let error = match self.command(binary) {
            Ok(mut command) => command.exec().to_string(),
            Err(failure) => failure.to_string(),
        };
        self.mount.go_on();
        tracing::error!(?binary, error, "the binary cannot be executed: this one goes on");
        *self.failed.lock() = Some(error);
    }

    fn command(&self, binary: &Path) -> Outcome<Command> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let mut command = Command::new(binary);
        command.arg0(name).args(arguments);
        if std::env::args_os().any(|argument| argument == secrets::FROM_STDIN) {
            command.stdin(secrets::stdin_of(&self.options)?);
        }
        Ok(command)
    }
}

/// Where our binary was started from; another one may lie there now.
fn our_place() -> Outcome<PathBuf> {
    const REPLACED: &str = " (deleted)";
    let path = std::env::current_exe().map_err(|error| {
        Failure::new(format!("cannot find our own binary: {error}")).remedy("give --binary")
    })?;
    let text = path.to_str().and_then(|text| text.strip_suffix(REPLACED));
    Ok(text.map_or_else(|| path.clone(), PathBuf::from))
}

/// Refuses a binary that could not go on: then the mount would be made anew, and whoever has files open would lose them.
fn demand_format(binary: &Path) -> Outcome<()> {
    let cannot = |why: String| {
        Failure::new(format!("{} cannot take this mount over: {why}", binary.display())).remedy(
            "give a binary of Forebay with --binary; or stop the daemon and start the new one instead",
        )
    };
    let said = ask_format(binary).map_err(|error| cannot(error.to_string()))?;
    match said.trim().parse::<u32>() {
        Ok(format) if format == estate_format() => Ok(()),
        _ => Err(cannot(format!("it knows format {:?} and not {}", said.trim(), estate_format()))),
    }
}

fn ask_format(binary: &Path) -> std::io::Result<String> {
    let mut command = Command::new(binary);
    command.arg(FORMAT_COMMAND).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > SAID_WITHIN {
            child.kill()?;
        }
        std::thread::sleep(SAID_LOOK);
    }
    let mut said = String::new();
    // No more than a number is expected; the pipe holds that.
    if let Some(out) = child.stdout.take() {
        out.take(64).read_to_string(&mut said)?;
    }
    Ok(said)
}
