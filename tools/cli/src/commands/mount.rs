//! `forebay mount`: the under file systems of a running daemon.

use super::fs::{report, show};
use super::{print, print_json};
use crate::admin::{self, Request};
use crate::args::{AddArguments, MountCommand, On, SetArguments};
use crate::config::{self, Mount};
use crate::failure::{Failure, Outcome};
use crate::secrets;
use forebay_namespace::Policy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Runs one of the commands.
///
/// # Errors
/// What the daemon said.
pub(crate) fn run(command: MountCommand) -> Outcome<()> {
    match command {
        MountCommand::Add(arguments) => add(arguments),
        MountCommand::Remove { path, json } => {
            let target = admin::locate(&path)?;
            let at = tree_path(&target.path)?;
            let result = asked(&target.socket, &Request::MountRemove { at })?;
            report(json, &result, &format!("taken away: {}", path.display()))
        }
        MountCommand::List { on, json } => list(&on, json),
        MountCommand::Set(arguments) => set(arguments),
    }
}

fn asked(socket: &Path, request: &Request) -> Outcome<Value> {
    admin::connect(socket, request)?.finish(|_| {})
}

/// A path below the root of the tree as the name space has it.
fn tree_path(path: &[u8]) -> Outcome<String> {
    match std::str::from_utf8(path) {
        Ok(path) => Ok(format!("/{path}")),
        Err(_) => Err(Failure::new(format!("the path {} is not UTF-8", path.escape_ascii()))
            .remedy("mount at a path with plain names")),
    }
}

fn add(arguments: AddArguments) -> Outcome<()> {
    let target = admin::locate(&arguments.path)?;
    let ufs = absolute(&arguments.ufs)?;
    let mut options: BTreeMap<_, _> = arguments.ufs_options.into_iter().collect();
    if arguments.ufs_options_from_stdin {
        options.extend(secrets::from_stdin()?);
    }
    let mount = Mount {
        at: tree_path(&target.path)?,
        policy: config::with_policy(&Policy::default(), &arguments.policy)?,
        options,
        ..Mount::at_root(ufs)
    };
    let text = format!("mounted {} on {}", arguments.ufs, arguments.path.display());
    let result = asked(&target.socket, &Request::MountAdd { mount: Box::new(mount) })?;
    report(arguments.json, &result, &text)
}

/// The daemon stands elsewhere: a path is made absolute before it is told.
fn absolute(ufs: &str) -> Outcome<String> {
    if ufs.contains("://") {
        return Ok(ufs.to_owned());
    }
    let path = std::path::absolute(ufs).map_err(|e| Failure::new(format!("cannot resolve {ufs}: {e}")))?;
    path.into_os_string().into_string().map_err(|name| {
        Failure::new(format!("the path {} is not UTF-8", name.display()))
            .remedy("reach it by a link with a plain name")
    })
}

fn set(arguments: SetArguments) -> Outcome<()> {
    let target = admin::locate(&arguments.path)?;
    let path = tree_path(&target.path)?;
    let result = asked(&target.socket, &Request::MountSet { path, changes: arguments.changes })?;
    show(&result, arguments.json)
}

fn list(on: &On, json: bool) -> Outcome<()> {
    let socket = admin::daemon_of(on.on.as_deref())?;
    let result = asked(&socket, &Request::MountList)?;
    if json {
        return print_json(&result);
    }
    let mut text = String::new();
    for mount in result["mounts"].as_array().into_iter().flatten() {
        let field = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
        text += &format!(
            "{:<20} {} ({}, {} dirty names)\n",
            field("at"),
            field("ufs"),
            field("origin"),
            mount["dirty_names"]
        );
        text += &settings("", &mount["policy"]);
        for (prefix, change) in mount["prefixes"].as_object().into_iter().flatten() {
            text += &settings(&format!("{prefix}: "), change);
        }
    }
    for pin in result["pins"].as_array().into_iter().flatten() {
        text += &format!("/{:<19} pinned\n", pin.as_str().unwrap_or_default());
    }
    print(&text)
}

/// `    write_mode=write-back metadata_ttl=60s ...`
fn settings(label: &str, policy: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| match value {
        Value::Null => None,
        Value::String(text) => Some(format!("{key}={text}")),
        other => Some(format!("{key}={other}")),
    };
    let pairs: Vec<_> = policy.as_object().into_iter().flatten().filter_map(pair).collect();
    format!("    {label}{}\n", pairs.join(" "))
}
