//! An under file system itself, by its URL: what a cache in front of it has to be held against.
//!
//! It is reached as the daemon reaches it, with the same retries and limits; each lane is a thread that waits for one call after
//! the other.

use crate::args::{Frame, size, some};
use crate::bench::Bench;
use crate::command::Workload;
use crate::data::{Pattern, mix};
use crate::engine::{Lane, Limit, PhaseSpec};
use crate::error::{Error, Result};
use crate::report::Place;
use crate::store::{Store, Tree};
use clap::{Args, ValueEnum};
use forebay_types::{HumanDuration, UfsKey, UfsVersion};
use forebay_ufs::{Expect, PutSpec, Ufs, UfsError, UfsResult};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

const EXAMPLES: &str = "Examples:
  forebay bench ufs s3://bucket/prefix --threads 16
  forebay bench ufs s3://bucket --ufs-option endpoint=http://127.0.0.1:9000 --file-size 256MiB --files 2
  forebay bench ufs /data --phases put,stat,list,delete --file-size 4KiB --files 1000";

/// The length of the pieces that content is made of.
const PIECE: usize = 1 << 20;
/// The most names of a page of a listing.
const PAGE: usize = 1000;

/// `forebay bench ufs`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct UfsArgs {
    /// The under file system: s3://bucket/prefix, gs://bucket, az://container, file:///dir or a plain path.
    #[arg(value_name = "UFS")]
    #[serde(skip)]
    url: String,
    /// An option of the under file system, like endpoint=http://127.0.0.1:9000; may be repeated.
    #[arg(long = "ufs-option", value_name = "KEY=VALUE", value_parser = crate::args::key_value)]
    #[serde(skip)]
    options: Vec<(String, String)>,
    #[command(flatten)]
    #[serde(skip)]
    frame: Frame,
    /// What to do, in this order. What is left at the end is deleted.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Step::value_variants().to_vec())]
    phases: Vec<Step>,
    /// Threads, each with files of its own in a directory of its own.
    #[arg(long, value_name = "N", default_value = "4", value_parser = some)]
    threads: usize,
    /// Files of each thread.
    #[arg(long, value_name = "N", default_value = "16", value_parser = some, help_heading = "Files")]
    files: usize,
    /// Bytes of each file.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size, help_heading = "Files")]
    file_size: u64,
    /// Bytes of each read.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    buffer: u64,
    /// Read at random places instead of from the beginning to the end.
    #[arg(long)]
    random: bool,
    /// Works in forebay-bench-NAME below UFS.
    #[arg(long, value_name = "NAME", default_value = "ufs", help_heading = "Files")]
    name: String,
    /// What begins within this time of each phase is not counted.
    #[arg(long, value_name = "TIME", default_value = "0s", help_heading = "Time")]
    warm_up: HumanDuration,
    /// Go on for so long with stat, list and read, round and round. If absent: each file once.
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    duration: Option<HumanDuration>,
}

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// Put each file, durably.
    Put,
    /// Ask for the attributes of each file.
    Stat,
    /// List the directories.
    List,
    /// Read each file and compare it.
    Read,
    /// Delete each file.
    Delete,
}

impl Workload for UfsArgs {
    const NAME: &'static str = "ufs";

    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn ground(&self) -> Place {
        Place::ufs(&self.url)
    }

    fn check(&self) -> Result<()> {
        if self.buffer == 0 || self.file_size == 0 {
            return Err(Error::usage("--buffer and --file-size cannot be 0", "give a size like 1MiB"));
        }
        if self.phases.first() != Some(&Step::Put) {
            return Err(Error::usage("the first of --phases must be put", "put the files that are read"));
        }
        Ok(())
    }

    fn run(&self, bench: &mut Bench) -> Result<()> {
        let store = Store::open(&self.url, &self.options, self.threads)?;
        let tree = Tree::make(&store, &self.name, bench.node(), self.threads)?;
        let versions = (0..self.threads).map(|_| Mutex::default()).collect::<Vec<_>>();
        let run = Run { args: self, store: &store, tree: &tree, versions: &versions };
        let outcome = self.phases.iter().try_for_each(|step| run.phase(bench, *step));
        bench.stage.say("removing what was put");
        bench.cleared(tree.remove(&store));
        outcome
    }
}

/// A run under way.
struct Run<'a> {
    args: &'a UfsArgs,
    store: &'a Store,
    tree: &'a Tree,
    /// What was put, by lane and number.
    versions: &'a [Mutex<Vec<UfsVersion>>],
}

/// What a lane works with.
struct Hand {
    keys: Vec<UfsKey>,
    pattern: Pattern,
    buffer: Vec<u8>,
    expected: Vec<u8>,
}

impl Run<'_> {
    fn phase(&self, bench: &mut Bench, step: Step) -> Result<()> {
        let args = self.args;
        let (name, repeats) = match step {
            Step::Put => ("put", false),
            Step::Stat => ("stat", true),
            Step::List => ("list", true),
            Step::Read => ("read", true),
            Step::Delete => ("delete", false),
        };
        let duration = args.duration.filter(|_| repeats).map(|time| time.0);
        let limit =
            Limit { warm_up: if repeats { args.warm_up.0 } else { Limit::default().warm_up }, duration };
        let spec = PhaseSpec { name: name.to_owned(), lanes: args.threads, limit, rate: None };
        let node = bench.node();
        bench.phase(
            &spec,
            |lane| self.hand(node, lane),
            |hand, lane| {
                let turns = if step == Step::List { 1 } else { hand.keys.len() };
                loop {
                    for number in 0..turns {
                        if !lane.go_on() {
                            return Ok(());
                        }
                        self.step(step, hand, number, lane);
                    }
                    if duration.is_none() {
                        return Ok(());
                    }
                }
            },
        )?;
        Ok(())
    }

    fn hand(&self, node: usize, lane: usize) -> Result<Hand> {
        let keys = (0..self.args.files).map(|number| self.tree.file(lane, number)).collect();
        let pattern = Pattern::new(mix((node as u64) << 32 | lane as u64), PIECE);
        let buffer = vec![0; self.args.buffer.min(self.args.file_size) as usize];
        Ok(Hand { keys, pattern, expected: buffer.clone(), buffer })
    }

    fn step(&self, step: Step, hand: &mut Hand, number: usize, lane: &mut Lane) {
        match step {
            Step::Put => self.put(hand, number, lane),
            Step::Stat => self.stat(&hand.keys[number], lane),
            Step::List => self.list(lane),
            Step::Read => self.read(hand, number, lane),
            Step::Delete => {
                lane.time("delete", 0, || {
                    self.store.wait(|ufs| ufs.delete(&hand.keys[number], &Expect::Any))
                });
            }
        }
    }

    /// Each part is timed, and the whole of the file from its begin to its finish.
    fn put(&self, hand: &mut Hand, number: usize, lane: &mut Lane) {
        let whole = lane.begin();
        let (key, len) = (&hand.keys[number], self.args.file_size);
        let spec = PutSpec { len, expect: Expect::Absent, ..PutSpec::default() };
        let Some(mut upload) = lane.time("begin", 0, || self.store.wait(|ufs| ufs.begin_put(key, &spec)))
        else {
            return;
        };
        let part_len = upload.part_len();
        for part in 0..len.div_ceil(part_len) {
            let mut bytes = vec![0; part_len.min(len - part * part_len) as usize];
            hand.pattern.fill(number as u64, part * part_len, &mut bytes);
            let sent =
                lane.time("part", bytes.len() as u64, || self.store.run(upload.part(part, bytes.into())));
            if sent.is_none() || lane.stopped() {
                return;
            }
        }
        if let Some(version) = lane.time("finish", 0, || self.store.run(upload.finish())) {
            self.versions[lane.index].lock().unwrap_or_else(PoisonError::into_inner).push(version);
            lane.end("put", whole, 0, Ok::<_, UfsError>(()));
        }
    }

    fn stat(&self, key: &UfsKey, lane: &mut Lane) {
        let found = lane.time("stat", 0, || self.store.wait(|ufs| ufs.stat(key)));
        let len = found.map(|attr| attr.map(|attr| attr.size));
        if let Some(len) = len.filter(|len| *len != Some(self.args.file_size)) {
            lane.fail("verify", format!("{key} has {len:?} bytes and should have {}", self.args.file_size));
        }
    }

    /// All pages of the lane's directory.
    fn list(&self, lane: &mut Lane) {
        let dir = self.tree.dir(lane.index);
        let found = lane.time("list", 0, || self.store.wait(|ufs| count(ufs, &dir)));
        if let Some(found) = found.filter(|found| *found != self.args.files) {
            lane.fail("verify", format!("{dir} lists {found} files and has {}", self.args.files));
        }
    }

    fn read(&self, hand: &mut Hand, number: usize, lane: &mut Lane) {
        let version =
            self.versions[lane.index].lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned();
        let Some(version) = version else { return };
        let (key, len) = (&hand.keys[number], self.args.file_size);
        let reads = len.div_ceil(hand.buffer.len() as u64);
        for turn in 0..reads {
            if turn > 0 && !lane.go_on() {
                return;
            }
            let place = if self.args.random { mix(turn ^ (number as u64) << 32) % reads } else { turn };
            let offset = place * hand.buffer.len() as u64;
            let part = (len - offset).min(hand.buffer.len() as u64) as usize;
            let into = &mut hand.buffer[..part];
            let done = lane
                .time("read", part as u64, || self.store.wait(|ufs| ufs.read(key, &version, offset, into)));
            let Some(done) = done else { return };
            hand.pattern.fill(number as u64, offset, &mut hand.expected[..part]);
            if hand.buffer[..done] != hand.expected[..part] {
                lane.fail("verify", format!("{key} holds other bytes than were put, in {part} at {offset}"));
            }
        }
    }
}

async fn count(ufs: &dyn Ufs, dir: &UfsKey) -> UfsResult<usize> {
    let (mut found, mut from) = (0, None);
    loop {
        let page = ufs.list(dir, from.as_ref(), PAGE).await?;
        found += page.entries.len();
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(found),
        }
    }
}
