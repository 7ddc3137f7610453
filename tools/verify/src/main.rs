//! `forebay-verify`: tools that prove what a directory keeps, over any file system.
//!
//! Each subcommand is one proof: `crash` (what was acknowledged outlives a loss), `model` (the file system behaves as
//! POSIX says, by comparison with a reference in memory), `matrix` (every way to open a file works beside every other),
//! `compare` (two trees are equal). `power-loss` shuts an ext4 down as pulling the plug would. None links any part of
//! Forebay, and each is shown to fail on a directory that loses something. Exit status: 0 proven, 1 findings, 2 the
//! tool itself could not go on.
#![deny(unsafe_code)]

mod compare;
mod crash;
mod error;
mod kernel;
mod matrix;
mod model;
mod pattern;
mod rng;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::{During, Error, Result};

#[derive(Debug, Parser)]
#[command(name = "forebay-verify", about = "Proves what a directory keeps, over any file system")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a directory and check after a loss that all acknowledged is there
    #[command(subcommand)]
    Crash(Crash),
    /// Drive a directory and a reference in memory with the same random operations
    Model(model::ModelArgs),
    /// Run a failing run of `model` again
    Replay(model::ReplayArgs),
    /// Use one file in every way beside every other, in every state
    Matrix(matrix::MatrixArgs),
    /// Use a file in one way (what a process of the matrix does)
    #[command(hide = true)]
    MatrixUser(matrix::UserArgs),
    /// Compare two trees: names, kinds, bytes, link targets
    Compare(compare::CompareArgs),
    /// Shut down the ext4 that holds DIR, as a loss of power would (EXT4_IOC_SHUTDOWN without log flush)
    PowerLoss {
        /// A directory on it
        dir: PathBuf,
    },
    /// Store bytes through a shared mapping (what a process of the load does)
    #[command(hide = true)]
    MapWrite { path: PathBuf, offset: u64, len: u64, tag: u64 },
}

#[derive(Debug, Subcommand)]
enum Crash {
    /// Change names and files, and keep the ledger
    Load(crash::LoadArgs),
    /// Compare what is there with the ledger
    Check(crash::CheckArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Command::MatrixUser(args) = &command {
        return matrix::user(args);
    }
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Found(_)) => {
            eprintln!("forebay-verify: {error}");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("forebay-verify: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Crash(Crash::Load(args)) => crash::load(&args),
        Command::Crash(Crash::Check(args)) => crash::check(&args),
        Command::Model(args) => model::model(&args),
        Command::Replay(args) => model::replay(&args),
        Command::Matrix(args) => matrix::matrix(&args),
        Command::MatrixUser(_) => Ok(()),
        Command::Compare(args) => compare::compare(&args),
        Command::PowerLoss { dir } => power_loss(&dir),
        Command::MapWrite { path, offset, len, tag } => {
            crash::map_write(&path, offset, len, tag).during("store through a mapping of", &path)
        }
    }
}

fn power_loss(dir: &Path) -> Result<()> {
    let open = std::fs::File::open(dir).during("open", dir)?;
    kernel::lose_power(&OwnedFd::from(open)).during("shut down the file system of", dir)
}
