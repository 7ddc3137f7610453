//! The commands that need no daemon: they look and print.

pub(crate) mod fs;

use crate::config::{self, Config, FIELDS};
use crate::failure::{Failure, Outcome};
use crate::host::Host;
use forebay_fuse::ChannelChoice;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

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

/// `forebay config list`.
pub(crate) fn config_list(file: Option<&Path>, json: bool) -> Outcome<()> {
    let config = config::load(file, std::env::vars())?;
    if json {
        return print_json(&config);
    }
    let mut text = String::new();
    for field in FIELDS {
        let value = value_of(&config, field.path);
        text += &format!("# {} ({})\n{} = {value}\n", field.meaning, field.variable(), field.path);
    }
    if !config.mounts.is_empty() {
        #[derive(Serialize)]
        struct Mounts<'a> {
            mounts: &'a [config::Mount],
        }
        let mounts = toml::to_string(&Mounts { mounts: &config.mounts });
        text += &format!("\n{}", mounts.expect("mounts are tables of scalars"));
    }
    print(&text)
}

/// The value at a dotted path as TOML writes it; `(unset)` where an optional one is absent.
fn value_of(config: &Config, path: &str) -> String {
    let table = toml::Table::try_from(config).expect("a configuration is a table of tables");
    let (section, key) = path.split_once('.').expect("every path of the field table has a section");
    let value = table.get(section).and_then(|section| section.get(key));
    value.map_or_else(|| "(unset)".to_owned(), ToString::to_string)
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
