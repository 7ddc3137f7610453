//! `forebay upgrade`: has a running daemon go on as another binary.

use super::{print, print_json};
use crate::admin::{self, Request};
use crate::args::UpgradeArguments;
use crate::failure::{Failure, Outcome};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the new binary may take to serve.
const SERVED_WITHIN: Duration = Duration::from_secs(300);
const SERVED_LOOK: Duration = Duration::from_millis(50);

/// Upgrades, and waits until the new binary serves.
///
/// # Errors
/// What the daemon said, or that it did not come up again.
pub(crate) fn run(arguments: &UpgradeArguments) -> Outcome<()> {
    let socket = admin::daemon_of(arguments.on.on.as_deref())?;
    let binary = arguments.binary.as_deref().map(absolute).transpose()?;
    let before = ask(&socket, &Request::Info)?;
    ask(&socket, &Request::Upgrade { binary })?;
    let began = Instant::now();
    let now = loop {
        std::thread::sleep(SERVED_LOOK);
        match ask(&socket, &Request::Info) {
            Ok(now) if now["began"] != before["began"] => break now,
            Ok(now) if now["upgrade_failed"] != before["upgrade_failed"] => {
                let why = now["upgrade_failed"].as_str().unwrap_or_default();
                return Err(Failure::new(format!("the daemon goes on as it was: {why}")));
            }
            Err(failure) if began.elapsed() > SERVED_WITHIN => return Err(failure),
            _ if began.elapsed() > SERVED_WITHIN => {
                return Err(Failure::new(format!("the daemon is the same after {SERVED_WITHIN:?}"))
                    .remedy("see its log"));
            }
            _ => {}
        }
    };
    tell(&now, began.elapsed(), arguments.json)
}

fn tell(now: &Value, took: Duration, json: bool) -> Outcome<()> {
    if json {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        return print_json(&serde_json::json!({
            "pid": now["pid"], "version": now["version"], "took_ms": millis, "taken_over": now["taken_over"],
        }));
    }
    let version = now["version"].as_str().unwrap_or_default();
    print(&format!("process {} is version {version} now, after {:.1} s\n", now["pid"], took.as_secs_f64()))
}

fn ask(socket: &Path, request: &Request) -> Outcome<Value> {
    admin::connect(socket, request)?.finish(|_| {})
}

fn absolute(path: &Path) -> Outcome<std::path::PathBuf> {
    std::fs::canonicalize(path)
        .map_err(|error| Failure::new(format!("cannot find the binary {}: {error}", path.display())))
}
