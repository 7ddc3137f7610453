//! Very many small files, once through the life of a data set: created, listed, looked at, read, deleted.
//!
//! Nothing is kept in memory for each file: its name, size and bytes follow from its number, so that millions cost no more
//! than thousands.

use super::files::listed;
use super::sizes::Sizes;
use crate::args::{Site, some};
use crate::bench::Bench;
use crate::command::OnFiles;
use crate::data::{BLOCK, Buffer, Pattern};
use crate::engine::{Lane, PhaseSpec};
use crate::error::{During, Error, Result};
use crate::report::Unit;
use crate::scratch::Scratch;
use clap::{Args, ValueEnum};
use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const EXAMPLES: &str = "Examples:
  forebay bench small-files /mnt/data                              # 10000 files of 100 KiB
  forebay bench small-files /mnt/data --count 1000000 --sizes lognormal:110KiB,0.6 --threads 16
  forebay bench small-files /mnt/data --sizes 4KiB*70,64KiB*25,1MiB*5 --fsync
  forebay bench small-files /mnt/data --phases create --keep           # then mount anew, to read cold:
  forebay bench small-files /mnt/data --phases list,stat,read,delete --kept
  forebay bench small-files /mnt/data --then 'forebay fs persist --wait \"$DIR\"'   # timed, after the files were made";

/// Bits of a file's number within its lane; those above number the lane.
const NUMBERS_BITS: u32 = 40;

/// `forebay bench small-files`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct SmallFilesArgs {
    #[command(flatten)]
    #[serde(flatten)]
    site: Site,
    /// Files in all, on each node.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = some, help_heading = "Files")]
    count: usize,
    /// Their sizes: 100KiB, 4KiB-1MiB (evenly), lognormal:MEDIAN,SIGMA, or shares like 4KiB*70,64KiB*30.
    #[arg(long, value_name = "SIZES", default_value = "100KiB", help_heading = "Files")]
    sizes: Sizes,
    /// Files in each directory.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = some, help_heading = "Files")]
    files_per_dir: usize,
    /// Threads, each with directories of its own.
    #[arg(long, value_name = "N", default_value = "4", value_parser = some)]
    threads: usize,
    /// What to do, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Step::value_variants().to_vec())]
    phases: Vec<Step>,
    /// Make each file durable before it is closed.
    #[arg(long)]
    fsync: bool,
    /// Read in random order, as a shuffled data set is.
    #[arg(long)]
    shuffle: bool,
    /// Ask the kernel to forget a file's pages before it is read (POSIX_FADV_DONTNEED).
    #[arg(long)]
    cold: bool,
    /// Work with the files that an earlier run with --keep and the same settings left; --phases without create.
    #[arg(long, conflicts_with_all = ["keep", "then"])]
    kept: bool,
    /// A shell command to run, and time, when the files were created; DIR holds where they are.
    #[arg(long, value_name = "COMMAND")]
    then: Option<String>,
}

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// Create each file, write it, close it.
    Create,
    /// List each directory.
    List,
    /// Ask for the attributes of each file.
    Stat,
    /// Open, read, compare and close each file.
    Read,
    /// Delete each file.
    Delete,
}

/// The files of a lane.
struct Share {
    top: PathBuf,
    count: usize,
    per_dir: usize,
    /// Tells this lane's files from those of all other lanes and nodes.
    first: u64,
    /// The file it is at.
    number: usize,
    pattern: Pattern,
    buffer: Buffer,
}

impl Share {
    fn dir(&self, dir: usize) -> PathBuf {
        self.top.join(format!("d{dir}"))
    }

    fn path(&self) -> PathBuf {
        self.dir(self.number / self.per_dir).join(format!("f{}", self.number))
    }

    /// What the size and the bytes of the file follow from.
    fn tag(&self) -> u64 {
        self.first | self.number as u64
    }
}

impl OnFiles for SmallFilesArgs {
    const NAME: &'static str = "small-files";

    fn site(&self) -> &Site {
        &self.site
    }

    fn check(&self) -> Result<()> {
        if self.kept && self.phases.contains(&Step::Create) {
            return Err(Error::usage(
                "--kept has its files already",
                "give --phases without create, like list,stat,read",
            ));
        }
        if !self.kept && self.phases.first() != Some(&Step::Create) {
            return Err(Error::usage(
                "the first of --phases must be create",
                "create the files first, or see --kept",
            ));
        }
        Ok(())
    }

    fn reuses(&self) -> bool {
        self.kept
    }

    fn bytes(&self) -> u64 {
        // What a sample of the sizes promises, each as its file system stores it.
        let sample = 1000;
        let mean =
            (0..sample).map(|number| self.sizes.of(number).next_multiple_of(BLOCK as u64)).sum::<u64>()
                / sample;
        mean * self.count as u64
    }

    fn run(&self, bench: &mut Bench, scratch: &Scratch) -> Result<()> {
        let top = scratch.mine();
        for step in &self.phases {
            match step {
                Step::Create => self.create(bench, &top)?,
                Step::List => self.list(bench, &top)?,
                Step::Stat => {
                    self.each_file(bench, &top, "stat", |_, lane, path, size| stat(lane, path, size))?
                }
                Step::Read => self.each_file(bench, &top, "read", |share, lane, path, size| {
                    self.read_one(share, lane, path, size);
                })?,
                Step::Delete => self.each_file(bench, &top, "delete", |_, lane, path, _| {
                    lane.time("delete", 0, || fs::remove_file(path));
                })?,
            }
            if let (Step::Create, Some(command)) = (step, &self.then) {
                then(bench, command, &top)?;
            }
        }
        Ok(())
    }
}

impl SmallFilesArgs {
    fn share(&self, node: usize, top: &Path, lane: usize) -> Share {
        // The first lanes take one more where the count does not divide.
        let count = self.count / self.threads + usize::from(lane < self.count % self.threads);
        let first = ((node * self.threads + lane) as u64) << NUMBERS_BITS;
        let largest = self.sizes.max().max(1) as usize;
        Share {
            top: top.join(format!("t{lane}")),
            count,
            per_dir: self.files_per_dir,
            first,
            number: 0,
            pattern: Pattern::new(first, largest),
            buffer: Buffer::new(largest),
        }
    }

    /// One phase over the files of all lanes: `act` gets the path and the size of each in turn.
    fn each_file(
        &self,
        bench: &mut Bench,
        top: &Path,
        name: &str,
        act: impl Fn(&mut Share, &mut Lane, &Path, u64) + Sync,
    ) -> Result<()> {
        let shuffled = name == "read" && self.shuffle;
        let node = bench.node();
        bench.phase(
            &PhaseSpec::once(name, self.threads),
            |lane| Ok(self.share(node, top, lane)),
            |share, lane| {
                for turn in 0..share.count {
                    if lane.stopped() {
                        break;
                    }
                    share.number = if shuffled { shuffle(turn, share.count) } else { turn };
                    let (path, size) = (share.path(), self.sizes.of(share.tag()));
                    act(share, lane, &path, size);
                }
                Ok(())
            },
        )?;
        Ok(())
    }

    fn create(&self, bench: &mut Bench, top: &Path) -> Result<()> {
        self.each_file(bench, top, "create", |share, lane, path, size| {
            if share.number.is_multiple_of(share.per_dir) {
                lane.time("mkdir", 0, || fs::create_dir_all(path.parent().unwrap_or(top)));
            }
            let tag = share.tag();
            let bytes = share.pattern.at(tag, 0, size as usize);
            lane.time("create", size, || create(path, bytes, self.fsync));
        })
    }

    fn list(&self, bench: &mut Bench, top: &Path) -> Result<()> {
        let node = bench.node();
        bench.phase(
            &PhaseSpec::once("list", self.threads),
            |lane| Ok(self.share(node, top, lane)),
            |share, lane| {
                for dir in 0..share.count.div_ceil(share.per_dir) {
                    if lane.stopped() {
                        break;
                    }
                    let expected = share.per_dir.min(share.count - dir * share.per_dir);
                    let path = share.dir(dir);
                    lane.time("list", 0, || listed(&path, expected));
                }
                Ok(())
            },
        )?;
        Ok(())
    }

    fn read_one(&self, share: &mut Share, lane: &mut Lane, path: &Path, size: u64) {
        let size = size as usize;
        if self.cold {
            // A file system that cannot forget the pages is measured as it is.
            let _ = File::open(path).map(|file| fadvise(&file, 0, None, Advice::DontNeed));
        }
        let into = share.buffer.head_mut(size);
        if lane.time("read", size as u64, || read(path, into)).is_none() {
            return;
        }
        let tag = share.tag();
        if let Err(why) = share.pattern.check(tag, 0, size, share.buffer.head(size)) {
            lane.fail("verify", format!("{}: {why}", path.display()));
        }
    }
}

fn create(path: &Path, bytes: &[u8], fsync: bool) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    if fsync { file.sync_all() } else { Ok(()) }
}

fn read(path: &Path, into: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.read_exact(into)?;
    // As programs do that do not know the size beforehand; a file that is too long shows.
    match file.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other(format!("{} is longer than what was written", path.display()))),
    }
}

fn stat(lane: &mut Lane, path: &Path, size: u64) {
    let found = lane.time("stat", 0, || fs::metadata(path));
    if let Some(len) = found.map(|of| of.len()).filter(|len| *len != size) {
        lane.fail("verify", format!("{} has {len} bytes and should have {size}", path.display()));
    }
}

/// Runs a command between two phases, and reports how long it took.
fn then(bench: &mut Bench, command: &str, top: &Path) -> Result<()> {
    bench.stage.say(command);
    let begun = Instant::now();
    // Standard output is the report's alone.
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("DIR", top).stdout(io::stderr());
    let status = shell.status().during("run", Path::new("sh"))?;
    let took = begun.elapsed();
    if !status.success() {
        return Err(Error::usage(format!("`{command}` ended with {status}"), "run it by hand to see why"));
    }
    bench.fact(format!("`{command}` after create"), took.as_nanos() as f64, Unit::Time);
    Ok(())
}

/// Where `turn` comes in a random order of `count`: a bijection, without a table of all.
fn shuffle(turn: usize, count: usize) -> usize {
    let bits = usize::BITS - (count - 1).leading_zeros();
    let mask = (1_usize << bits) - 1;
    let mut at = turn;
    loop {
        // Odd factors and shifts to the right are bijections within the bits; what falls outside goes round again.
        at = at.wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask;
        at ^= at >> (bits / 2).max(1);
        at = at.wrapping_mul(0xBF58_476D_1CE4_E5B9) & mask;
        if at < count {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_order_has_every_file_once() {
        for count in [1, 2, 3, 64, 1000, 1023] {
            let mut order: Vec<_> = (0..count).map(|turn| shuffle(turn, count)).collect();
            let sorted = order.is_sorted();
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
            assert!(count < 64 || !sorted);
        }
    }
}
