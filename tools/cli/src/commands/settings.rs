//! `forebay config`: the settings, those of a file or those of a running daemon.

use super::fs::show;
use super::{print, print_json};
use crate::admin::{self, Request};
use crate::args::ConfigCommand;
use crate::config::{self, FIELDS};
use crate::failure::Outcome;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Runs one of the commands.
///
/// # Errors
/// A fault of the configuration, or what the daemon said.
pub(crate) fn run(command: ConfigCommand) -> Outcome<()> {
    match command {
        ConfigCommand::List { config, on: None, json } => list_file(config.as_deref(), json),
        ConfigCommand::List { on: Some(on), json, .. } => {
            let result = ask(Some(&on), &Request::ConfigList)?;
            if json { print_json(&result) } else { print(&rows(&result)) }
        }
        ConfigCommand::Get { key, on, json } => {
            let result = ask(on.on.as_deref(), &Request::ConfigGet { key })?;
            if json { print_json(&result) } else { print(&format!("{}\n", plain(&result["value"]))) }
        }
        ConfigCommand::Set { key, value, on, json } => {
            show(&ask(on.on.as_deref(), &Request::ConfigSet { key, value })?, json)
        }
    }
}

fn ask(on: Option<&Path>, request: &Request) -> Outcome<Value> {
    admin::connect(&admin::daemon_of(on)?, request)?.finish(|_| {})
}

/// A value as a shell wants it: text without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "(unset)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn when(live: bool) -> &'static str {
    if live { "live" } else { "at start" }
}

fn rows(result: &Value) -> String {
    let row = |setting: &Value| {
        let text = |key: &str| setting[key].as_str().unwrap_or_default().to_owned();
        let when = when(setting["live"].as_bool().unwrap_or_default());
        let value = plain(&setting["value"]);
        format!("# {} ({}, {when})\n{} = {value}\n", text("meaning"), text("variable"), text("key"))
    };
    result["settings"].as_array().into_iter().flatten().map(row).collect()
}

fn list_file(file: Option<&Path>, json: bool) -> Outcome<()> {
    let config = config::load(file, std::env::vars())?;
    if json {
        return print_json(&config);
    }
    let mut text = String::new();
    for field in FIELDS {
        let value =
            config.value_of(field.path).map_or_else(|| "(unset)".to_owned(), |value| value.to_string());
        let (variable, when) = (field.variable(), when(field.live));
        text += &format!("# {} ({variable}, {when})\n{} = {value}\n", field.meaning, field.path);
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
