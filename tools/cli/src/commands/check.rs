//! `forebay fs check`: shows the differences one by one, then the sums.

use super::fs::show;
use super::{print, print_json};
use crate::admin::{self, Request};
use crate::args::Steer;
use crate::failure::{Failure, Outcome};
use crate::progress::Meter;
use serde_json::Value;

/// Sums that need a person.
const ALARMING: [&str; 4] = ["set_aside", "failing", "unpersistable", "unknown"];

/// Checks.
///
/// # Errors
/// What the daemon said; or that something was found that needs a person.
pub(crate) fn run(steer: &Steer) -> Outcome<()> {
    let target = admin::locate(&steer.path)?;
    let mut meter = Meter::new("check", steer.json);
    let conversation = admin::connect(&target.socket, &Request::Check { path: target.path })?;
    let mut findings = Vec::new();
    let mut shown = Ok(());
    let mut sums = conversation.finish_hearing(
        |progress| meter.show(progress),
        |finding| match steer.json {
            true => findings.push(finding),
            false => shown = print(&line(&finding)),
        },
    )?;
    drop(meter);
    shown?;
    let alarming: Vec<_> = ALARMING.iter().filter(|kind| sums[**kind].as_u64().unwrap_or(0) > 0).collect();
    match steer.json {
        true => {
            sums["findings"] = Value::Array(findings);
            print_json(&sums)?;
        }
        false => show(&sums, false)?,
    }
    if alarming.is_empty() {
        return Ok(());
    }
    let kinds: Vec<_> = alarming.iter().map(|kind| kind.replace('_', " ")).collect();
    Err(Failure::new(format!("some files need a look: {}", kinds.join(", ")))
        .remedy("do as each finding above advises"))
}

fn line(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    format!(
        "{:<13} {}: {}\n              -> {}\n",
        text("finding"),
        text("path"),
        text("why"),
        text("advice")
    )
}
