//! `forebay info`: what this host can do, and what a daemon does with it.

use super::{print, print_json};
use crate::admin::{self, Request};
use crate::failure::Outcome;
use crate::host::Host;
use crate::memory;
use forebay_fuse::ChannelChoice;
use forebay_types::ByteSize;
use serde_json::Value;
use std::path::Path;

/// What this host can do.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn of_host(json: bool) -> Outcome<()> {
    let host = Host::look();
    let channel = forebay_fuse::probe_channel(ChannelChoice::default());
    let there = memory::available();
    let budget = memory::default_budget(there);
    if json {
        let mut all = serde_json::to_value(&host).expect("a host is a table of scalars");
        all["fuse_channel"] = channel.kind.name().into();
        all["fuse_channel_why"] = channel.why.into();
        all["memory"] = there.as_u64().into();
        all["memory_budget_default"] = budget.as_u64().into();
        return print_json(&all);
    }
    let yes = |is: bool| if is { "yes" } else { "no" };
    let limit = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let rows = [
        ("kernel", format!("{} (6.1 or newer needed: {})", host.kernel, yes(host.kernel_suffices))),
        ("io_uring", yes(host.io_uring).to_owned()),
        ("FUSE", yes(host.fuse).to_owned()),
        ("FUSE passthrough", yes(host.passthrough).to_owned()),
        ("FUSE channel", format!("{} ({})", channel.kind, channel.why)),
        ("cores", host.cores.to_string()),
        (
            "memory",
            format!(
                "{}; a daemon takes {budget} of it unless node.memory says otherwise",
                mib(there.as_u64())
            ),
        ),
        ("open files", format!("{}, at most {}", limit(host.open_files.0), limit(host.open_files.1))),
    ];
    print(&rows.map(|(what, value)| row(what, &value)).concat())
}

/// What the daemon of a mount does.
///
/// # Errors
/// None is there, or it does not answer.
pub(crate) fn of_daemon(on: &Path, json: bool) -> Outcome<()> {
    let known = admin::connect(&admin::daemon_of(Some(on))?, &Request::Info)?.finish(|_| {})?;
    if json {
        return print_json(&known);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let figures = [
        ("version", "version"),
        ("node", "node"),
        ("pid", "pid"),
        ("mounted on", "dir"),
        ("FUSE passthrough", "passthrough"),
        ("FUSE channel", "channel"),
        ("takeover", "takeover"),
        ("open files", "open_files"),
        ("promotions", "promotions"),
        ("demotions", "demotions"),
    ];
    let mut shown: String = figures.iter().map(|(what, key)| row(what, &text(&known[*key]))).collect();
    for mount in known["mounts"].as_array().into_iter().flatten() {
        shown += &row("mount", &format!("{} at {}", text(&mount["ufs"]), text(&mount["at"])));
    }
    for tier in known["tiers"].as_array().into_iter().flatten() {
        let size = |key: &str| mib(tier[key].as_u64().unwrap_or_default());
        let (name, kind) = (text(&tier["name"]), text(&tier["kind"]));
        let used = format!("{} of {} in {} extents", size("used"), size("quota"), text(&tier["extents"]));
        shown += &row("tier", &format!("{name} ({kind}): {used}, {} only here", size("only_here")));
    }
    print(&(shown + &memory_rows(&known["memory"])))
}

/// The budget, and each part with what is in use of it.
fn memory_rows(memory: &Value) -> String {
    let size = |of: &Value, key: &str| mib(of[key].as_u64().unwrap_or_default());
    let from = memory["budget_from"].as_str().unwrap_or_default();
    let mut rows =
        row("memory", &format!("{} of {} ({from})", size(memory, "resident"), size(memory, "budget")));
    for part in memory["parts"].as_array().into_iter().flatten() {
        let held = if part["held"] == true { "" } else { ", a part that is not held to it" };
        let set_by = part["set_by"].as_str().map(|key| format!(" ({key})")).unwrap_or_default();
        let line = format!("{} of {}{set_by}{held}", size(part, "used"), size(part, "limit"));
        rows += &row(&format!("- {}", part["part"].as_str().unwrap_or_default()), &line);
    }
    rows
}

/// In whole MiB, which is enough for people.
fn mib(bytes: u64) -> ByteSize {
    ByteSize::mib(bytes >> 20)
}

fn row(what: &str, value: &str) -> String {
    format!("{what:<17} {value}\n")
}
