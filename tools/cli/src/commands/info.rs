//! `forebay info`: what this host can do, and what a daemon does with it.

use super::{print, print_json};
use crate::admin::{self, Request};
use crate::failure::Outcome;
use crate::host::Host;
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
    if json {
        let mut all = serde_json::to_value(&host).expect("a host is a table of scalars");
        all["fuse_channel"] = channel.kind.name().into();
        all["fuse_channel_why"] = channel.why.into();
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
        ("open files", "open_files"),
        ("promotions", "promotions"),
        ("demotions", "demotions"),
    ];
    let mut shown: String = figures.iter().map(|(what, key)| row(what, &text(&known[*key]))).collect();
    for mount in known["mounts"].as_array().into_iter().flatten() {
        shown += &row("mount", &format!("{} at {}", text(&mount["ufs"]), text(&mount["at"])));
    }
    for tier in known["tiers"].as_array().into_iter().flatten() {
        let size = |key: &str| ByteSize::mib(tier[key].as_u64().unwrap_or_default() >> 20);
        let (name, kind) = (text(&tier["name"]), text(&tier["kind"]));
        let used = format!("{} of {} in {} extents", size("used"), size("quota"), text(&tier["extents"]));
        shown += &row("tier", &format!("{name} ({kind}): {used}, {} only here", size("only_here")));
    }
    print(&shown)
}

fn row(what: &str, value: &str) -> String {
    format!("{what:<17} {value}\n")
}
