//! `forebay`: the one binary, where all parts are put together.
//!
//! **Owns** the command line, the configuration and the life of the daemon: what is started in which order,
//! what happens when a part does not start, and how everything stops.
//!
//! **Never does** any storage work of its own: a line here that touches a user's byte is in the wrong crate.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod asked;
mod audit;
mod bounds;
mod cachedir;
mod cachesize;
mod commands;
mod config;
mod daemon;
mod failure;
mod fdlimit;
mod host;
mod keeper;
mod left_behind;
mod logging;
mod memory;
mod metrics;
mod mount_helper;
mod mounts;
mod parts;
mod plan;
mod progress;
mod secrets;
mod settings;
mod takeover;
mod tiers;
mod walk;

use args::{Arguments, Command};
use clap::Parser;
use config::Config;
use failure::Outcome;
use host::Host;
use plan::Plan;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut called_with = std::env::args_os();
    let outcome = match mount_helper::is_called(called_with.next().as_deref()) {
        true => mount_helper::run(called_with),
        false => secrets::leave_command_line().and_then(|()| run(Arguments::parse().command)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome<()> {
    match command {
        Command::Up(arguments) => up(*arguments),
        Command::Node { config } => serve(&config::load(Some(&config), std::env::vars())?),
        Command::Fs { command } => commands::fs::run(command),
        Command::Mount { command } => commands::mount::run(command),
        Command::Config { command } => commands::settings::run(command),
        Command::Bench { command } => commands::bench::run(&command),
        Command::Info { on: Some(dir), json } => commands::info::of_daemon(&dir, json),
        Command::Info { on: None, json } => commands::info::of_host(json),
        Command::Upgrade(arguments) => commands::upgrade::run(&arguments),
        Command::Custodian { dir, log } => takeover::keep(&dir, &log.of_process()),
        Command::EstateFormat => commands::estate_format(),
        Command::Version { json } => commands::version(json),
    }
}

fn up(arguments: args::UpArguments) -> Outcome<()> {
    if arguments.detached {
        // The leader of a group cannot leave it; nobody then sends this group signals either.
        let _ = rustix::process::setsid();
    }
    serve(&plan::of_up(arguments)?)
}

/// Whatever refuses here has made nothing yet.
fn serve(config: &Config) -> Outcome<()> {
    let log = logging::start(&config.log)?;
    Host::look().require()?;
    daemon::run(config, &Plan::check(config)?, log)
}
