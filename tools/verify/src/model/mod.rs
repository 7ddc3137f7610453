//! The model test: a directory and a plain reference in memory get the same random operations and must agree.
//!
//! Owns the generator, the reference, the comparison and the shortening of a failing run. Every choice follows from
//! the seed, so a seed is a test case; a failure is written as a list of operations that `replay` runs again. Refused:
//! proptest, whose tree of shrinkable values would hold 100k operations and shrink by re-running whole mounts for
//! hours: leaving pieces out under a time limit is enough, since every operation has a meaning in every state.

mod apply;
mod generate;
mod op;
mod real;
mod reference;
mod run;
mod shrink;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{During, Error, Result};
use generate::{Menu, generate};
use op::{Act, Op};
use run::{Failure, Means, run};

/// What the names of the model's attributes begin with.
const XATTR_PREFIX: &str = "user.model.";
/// How many attributes a file may have.
const XATTRS: u8 = 4;

/// Where to run and what to do to the mount.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// Directory to work in; each run makes one of its own there
    dir: PathBuf,
    /// Shell command that persists all that is dirty and waits for it
    #[arg(long)]
    persist: Option<String>,
    /// Shell command that drops what is cached
    #[arg(long)]
    evict: Option<String>,
    /// Shell command that ends the daemon in order and starts it again
    #[arg(long)]
    restart: Option<String>,
    /// Shell command that kills the daemon and starts it again
    #[arg(long)]
    kill: Option<String>,
    /// Shell command that drops the kernel's caches
    #[arg(long)]
    drop_caches: Option<String>,
    /// The directory that DIR shows, as seen in the under file system: compare with it and change it behind the mount
    #[arg(long, requires = "persist")]
    ufs: Option<PathBuf>,
    /// Milliseconds after which such a change must show
    #[arg(long, default_value_t = 1500)]
    ttl_ms: u64,
    /// Seconds to spend on making a failing run shorter
    #[arg(long, default_value_t = 60)]
    shrink_seconds: u64,
}

/// Random runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    place: Place,
    /// First seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Operations a seed
    #[arg(long, default_value_t = 10_000)]
    ops: usize,
    /// One in this many operations acts on the mount as a whole, when a command for it is given
    #[arg(long, default_value_t = 300)]
    act_every: u64,
    /// No hard links
    #[arg(long)]
    no_links: bool,
    /// No times of directories
    #[arg(long)]
    no_dir_times: bool,
    /// Where to write a failing run
    #[arg(long, default_value = ".")]
    failures: PathBuf,
}

/// A run from a file.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    place: Place,
    /// The file that a failing run wrote
    file: PathBuf,
}

impl Place {
    fn means(&self) -> Means {
        let given = [
            (Act::Persist, &self.persist),
            (Act::Evict, &self.evict),
            (Act::Restart, &self.restart),
            (Act::Kill, &self.kill),
            (Act::DropCaches, &self.drop_caches),
        ];
        let commands = given.into_iter().filter_map(|(act, command)| Some((act, command.clone()?))).collect();
        Means { commands, ufs: self.ufs.clone(), ttl: Duration::from_millis(self.ttl_ms) }
    }

    /// A run in a directory of its own, which is removed if it passes.
    fn attempt(&self, name: &str, ops: &[Op]) -> std::result::Result<(), Failure> {
        run(&self.dir, name, ops, &self.means())?;
        let root = self.dir.join(name);
        let removed = fs::remove_dir_all(&root);
        removed.map_err(|error| Failure { at: ops.len().saturating_sub(1), what: format!("rm -r: {error}") })
    }
}

/// Runs seeds; the first that fails is made shorter, printed and written to a file.
pub(crate) fn model(args: &ModelArgs) -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::empty());
    let acts = args.place.means().commands.iter().map(|(act, _)| *act).collect();
    let menu = Menu {
        acts,
        outside: args.place.ufs.is_some(),
        act_every: args.act_every,
        links: !args.no_links,
        dir_times: !args.no_dir_times,
    };
    for seed in args.seed..args.seed + args.seeds {
        let ops = generate(seed, args.ops, &menu);
        match args.place.attempt(&format!("seed-{seed}"), &ops) {
            Ok(()) => println!("seed {seed}: {} operations agree", ops.len()),
            Err(failure) => return report(args, seed, ops, failure),
        }
    }
    Ok(())
}

fn report(args: &ModelArgs, seed: u64, ops: Vec<Op>, failure: Failure) -> Result<()> {
    println!("FINDING seed {seed}, operation {}: {}", failure.at, failure.what);
    let mut number = 0;
    let again = |ops: &[Op]| {
        number += 1;
        args.place.attempt(&format!("seed-{seed}-shrink-{number}"), ops)
    };
    let limit = Duration::from_secs(args.place.shrink_seconds);
    let (ops, failure) = shrink::shrink(ops, failure, limit, again);
    let path = args.failures.join(format!("seed-{seed}.json"));
    write(&path, &ops)?;
    println!("shortened to {} operations, in {}: {}", ops.len(), path.display(), failure.what);
    ops.iter().take(40).for_each(|op| println!("  {op:?}"));
    Err(Error::Found(1))
}

fn write(path: &Path, ops: &[Op]) -> Result<()> {
    let lines =
        ops.iter().map(|op| serde_json::to_string(op).expect("an operation of plain values has a JSON form"));
    fs::write(path, lines.collect::<Vec<_>>().join("\n") + "\n").during("write", path)
}

/// Runs a failing run again.
pub(crate) fn replay(args: &ReplayArgs) -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::empty());
    let text = fs::read_to_string(&args.file).during("read", &args.file)?;
    let bad = |error: serde_json::Error| Error::Ledger { path: args.file.clone(), why: error.to_string() };
    let ops =
        text.lines().map(|line| serde_json::from_str(line).map_err(bad)).collect::<Result<Vec<Op>>>()?;
    let name = format!("replay-{}", std::process::id());
    match args.place.attempt(&name, &ops) {
        Ok(()) => {
            println!("{} operations agree", ops.len());
            Ok(())
        }
        Err(failure) => {
            println!("FINDING operation {} ({:?}): {}", failure.at, ops.get(failure.at), failure.what);
            Err(Error::Found(1))
        }
    }
}
