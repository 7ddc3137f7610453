//! The commands: what is asked of a daemon, of a mount or of this host, and printed.

pub(crate) mod bench;
mod check;
mod copy;
pub(crate) mod fs;
pub(crate) mod mount;
mod remove;
pub(crate) mod settings;

use crate::failure::{Failure, Outcome};
use crate::host::Host;
use forebay_fuse::ChannelChoice;
use serde::Serialize;
use std::io::Write;

/// Writes to standard output; a reader that went away (`| head`) is no failure of ours.
pub(super) fn print(text: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

pub(super) fn print_json(value: &impl Serialize) -> Outcome<()> {
    let text = serde_json::to_string(value).expect("our own structures have string keys only");
    print(&format!("{text}\n"))
}

/// `forebay info`.
pub(crate) fn info(json: bool) -> Outcome<()> {
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
    print(&rows.map(|(what, value)| format!("{what:<17} {value}\n")).concat())
}

/// `forebay version`.
pub(crate) fn version(json: bool) -> Outcome<()> {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        return print_json(&serde_json::json!({ "version": version }));
    }
    print(&format!("forebay {version}\n"))
}
