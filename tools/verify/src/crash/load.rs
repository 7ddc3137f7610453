//! The load: threads that change their own names and files, one operation at a time, each in the ledger before it
//! is asked for and after it was acknowledged.
//!
//! A thread ends when its time is over or the mount stops answering. It looks at its files in between, and what it
//! sees must be what it was told: a finding there needs no crash at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::choose::{Chooser, SHARED, belongs};
use super::expect::{Expect, Loss};
use super::ledger::Ledger;
use super::perform::Hands;
use super::scan::{Seen, look, scan};
use super::world::{FileState, Op};
use crate::error::{During, Error, Result};

/// What to load, for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Directory to change; a mount's root, or any other
    dir: PathBuf,
    /// Where the ledger is kept; outside of DIR
    #[arg(long)]
    ledger: PathBuf,
    /// Which loss is to come; decides how often the load syncs
    #[arg(long, value_enum, default_value = "daemon")]
    loss: Loss,
    /// Threads, each with names of its own
    #[arg(long, default_value_t = 4)]
    threads: u64,
    /// Ends after this many seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Ends a thread after this many operations
    #[arg(long, default_value_t = u64::MAX)]
    ops: u64,
    /// Seed of all choices; another one each round
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Accept ENOSPC and EDQUOT: look at what was left of the operation, and go on
    #[arg(long)]
    may_be_full: bool,
    /// No hard links
    #[arg(long)]
    no_links: bool,
    /// Acknowledge every fsync without asking for it: shows that a check after a power loss can fail
    #[arg(long)]
    pretend_sync: bool,
    /// The sign that the power goes: what ends once this file exists counts as under way, not as acknowledged
    #[arg(long)]
    until: Option<PathBuf>,
}

/// What one thread did.
#[derive(Clone, Debug, Default)]
struct Tally {
    acked: u64,
    looks: u64,
    refused: u64,
    died: bool,
    findings: Vec<String>,
}

/// Runs the load; findings are printed and counted.
pub(crate) fn load(args: &LoadArgs) -> Result<()> {
    let shared = args.dir.join(SHARED);
    match fs::create_dir_all(&shared) {
        // The loss came before the load began.
        Err(error) if is_cut_off(&error) => {
            return report(vec![Tally { died: true, ..Tally::default() }]);
        }
        made => made.during("make", &shared)?,
    }
    let stop = AtomicBool::new(false);
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let run = |thread| Worker::new(args, thread).and_then(|worker| worker.run(&stop));
        let threads: Vec<_> = (0..args.threads).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker returns its errors")).collect()
    });
    report(tallies.into_iter().collect::<Result<Vec<_>>>()?)
}

/// Whether the daemon behind the mount went away.
fn is_cut_off(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted)
}

fn report(tallies: Vec<Tally>) -> Result<()> {
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let ended = if tallies.iter().any(|tally| tally.died) { "the mount stopped answering" } else { "done" };
    println!(
        "acked {} looked {} refused {}: {ended}",
        sum(|tally| tally.acked),
        sum(|tally| tally.looks),
        sum(|tally| tally.refused)
    );
    let findings: Vec<&String> = tallies.iter().flat_map(|tally| &tally.findings).collect();
    findings.iter().for_each(|finding| println!("FINDING while loading: {finding}"));
    if findings.is_empty() { Ok(()) } else { Err(Error::Found(findings.len())) }
}

struct Worker<'a> {
    args: &'a LoadArgs,
    thread: u64,
    ledger: Ledger,
    expect: Expect,
    chooser: Chooser,
    hands: Hands,
    tally: Tally,
}

impl<'a> Worker<'a> {
    fn new(args: &'a LoadArgs, thread: u64) -> Result<Self> {
        let (ledger, expect) = Ledger::open(&args.ledger, thread, args.loss)?;
        let chooser = Chooser::new(thread, args.seed, args.loss, !args.no_links);
        Ok(Self {
            args,
            thread,
            ledger,
            expect,
            chooser,
            hands: Hands::new(&args.dir, args.pretend_sync),
            tally: Tally::default(),
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Tally> {
        let end = Instant::now() + Duration::from_secs(self.args.seconds);
        while Instant::now() < end && self.tally.acked < self.args.ops && !stop.load(Ordering::Relaxed) {
            if !self.step()? {
                stop.store(true, Ordering::Relaxed);
            }
        }
        self.hands.close_all();
        Ok(self.tally)
    }

    /// One operation or look. False when the thread cannot go on.
    fn step(&mut self) -> Result<bool> {
        if let Some(path) = self.chooser.look(&self.expect.world) {
            return self.look_at(&path);
        }
        let op = self.chooser.next(&self.expect);
        let id = subject(&op).and_then(|path| self.expect.world.id_of(path));
        let seq = self.ledger.begin(&op)?;
        let tag = self.ledger.tag(seq);
        match self.hands.perform(&op, tag, id) {
            // A machine without power tells nobody anything. Ext4 does: a write with O_SYNC that meets the shutdown half way
            // may return well although its blocks were never marked as written (a bare ext4 shows it as well).
            Ok(()) if self.power_goes() => {
                self.tally.died = true;
                Ok(false)
            }
            Ok(()) => {
                self.ledger.ack(seq)?;
                self.expect.acked(&op, tag);
                self.tally.acked += 1;
                Ok(true)
            }
            Err(error) => self.failed(&op, tag, &error),
        }
    }

    fn failed(&mut self, op: &Op, tag: u64, error: &io::Error) -> Result<bool> {
        if self.args.loss == Loss::Power || !self.answers() {
            self.tally.died = true;
            return Ok(false);
        }
        self.hands.close_all();
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            // The storing process can only say that it ended: on a full tier by SIGBUS.
            || matches!(op, Op::MapWrite { .. });
        if !(self.args.may_be_full && full) {
            self.tally.findings.push(format!("{op:?} failed: {error}"));
            return Ok(false);
        }
        self.tally.refused += 1;
        self.expect.in_flight(op, tag);
        self.settle()
    }

    /// After an operation that was refused half way: takes what is there as the new base, if it is allowed.
    fn settle(&mut self) -> Result<bool> {
        let Ok(seen) = scan(&self.args.dir, &|path| path == SHARED || belongs(self.thread, path)) else {
            self.tally.died = true;
            return Ok(false);
        };
        let mine = seen.into_iter().filter(|(path, _)| belongs(self.thread, path)).collect();
        match self.expect.check(&mine) {
            Ok(world) => {
                self.ledger.rebase(&world)?;
                self.expect = Expect::new(self.args.loss, world);
                Ok(true)
            }
            Err(findings) => {
                self.tally.findings.extend(findings);
                Ok(false)
            }
        }
    }

    fn look_at(&mut self, path: &str) -> Result<bool> {
        self.tally.looks += 1;
        let seen = look(&self.args.dir.join(path));
        if let (Ok(Seen::File { data, mode, .. }), Some(file)) = (&seen, self.expect.world.file_at(path)) {
            if *data == file.data && *mode == file.mode {
                return Ok(true);
            }
            self.tally.findings.push(format!("{path}: {}", differs(file, data, *mode)));
            return Ok(false);
        }
        if self.args.loss == Loss::Power || !self.answers() {
            self.tally.died = true;
        } else {
            self.tally.findings.push(format!("{path}: cannot be looked at: {seen:?}"));
        }
        Ok(false)
    }

    fn power_goes(&self) -> bool {
        self.args.until.as_ref().is_some_and(|sign| sign.exists())
    }

    /// Whether the file system behind the directory still answers.
    fn answers(&self) -> bool {
        rustix::fs::statfs(&self.args.dir).is_ok() && Path::new(&self.args.dir).join(SHARED).is_dir()
    }
}

fn differs(want: &FileState, data: &[u8], mode: u32) -> String {
    let first = want.data.iter().zip(data).position(|(a, b)| a != b);
    format!(
        "{} bytes of mode {mode:o}, not {} of mode {:o}; the first wrong byte is {first:?}",
        data.len(),
        want.data.len(),
        want.mode
    )
}

/// The file an operation changes.
fn subject(op: &Op) -> Option<&str> {
    match op {
        Op::Write { path, .. }
        | Op::SyncWrite { path, .. }
        | Op::Truncate { path, .. }
        | Op::Fsync { path } => Some(path),
        _ => None,
    }
}
