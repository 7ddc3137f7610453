//! The check after a restart: every thread's names and files against its ledger.

use std::path::PathBuf;

use super::choose::{SHARED, belongs};
use super::expect::Loss;
use super::ledger::Ledger;
use super::scan::{Seen, scan};
use crate::error::{During, Error, Result};

/// What to compare with what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Directory that the load changed
    dir: PathBuf,
    /// Its ledger
    #[arg(long)]
    ledger: PathBuf,
    /// What was lost
    #[arg(long, value_enum, default_value = "daemon")]
    loss: Loss,
    /// Leave the ledger as it is; otherwise what was seen becomes the base of the next load
    #[arg(long)]
    keep: bool,
}

/// Compares; findings are printed and counted.
pub(crate) fn check(args: &CheckArgs) -> Result<()> {
    let seen = scan(&args.dir, &|path| !path.starts_with('.')).during("read", &args.dir)?;
    let threads = Ledger::threads(&args.ledger)?;
    let mut findings = Vec::new();
    let mut found = Vec::new();
    for thread in 0..threads {
        let (ledger, expect) = Ledger::open(&args.ledger, thread, args.loss)?;
        let mine = seen.iter().filter(|(path, _)| belongs(thread, path));
        match expect.check(&mine.map(|(path, seen)| (path.clone(), seen.clone())).collect()) {
            Ok(world) => found.push((ledger, world)),
            Err(wrong) => findings.extend(wrong.into_iter().map(|one| format!("thread {thread}: {one}"))),
        }
    }
    let nobodys =
        seen.keys().filter(|path| *path != SHARED && !(0..threads).any(|thread| belongs(thread, path)));
    findings.extend(nobodys.map(|path| format!("{path}: nobody made it")));
    if !findings.is_empty() {
        findings.iter().for_each(|finding| println!("FINDING {finding}"));
        return Err(Error::Found(findings.len()));
    }
    if !args.keep {
        found.iter_mut().try_for_each(|(ledger, world)| ledger.rebase(world))?;
    }
    let files = seen.values().filter(|one| matches!(one, Seen::File { .. })).count();
    println!("{} names and {files} files are as they may be", seen.len());
    Ok(())
}
