//! Operations on names: each on its own, as fast as it goes, at a fixed rate, or searching for the highest rate kept up.
//!
//! Each lane has directories of its own, full of empty files, and goes round them. What an operation uses up is made
//! before it is measured (files to delete), and what it leaves is removed after (files it created, names it changed).

use crate::args::{Site, rate, some};
use crate::bench::Bench;
use crate::command::OnFiles;
use crate::engine::{Lane, Limit, Phase, PhaseSpec, search};
use crate::error::{During, Error, Result};
use crate::report::Search;
use crate::scratch::Scratch;
use clap::{Args, ValueEnum};
use forebay_types::HumanDuration;
use rustix::io::Errno;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = "Examples:
  forebay bench metadata /mnt/data                                      # every operation, as fast as 4 threads can
  forebay bench metadata /mnt/data --ops stat --rate 5000 --duration 30s   # latency counts from the intended start
  forebay bench metadata /mnt/data --ops create,delete --max               # the highest rate that is kept up";

/// The extended attribute that says where the bytes of a file are, on a mount of Forebay.
const LOCATION: &str = "user.forebay.state";

/// `forebay bench metadata`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct MetadataArgs {
    #[command(flatten)]
    #[serde(flatten)]
    site: Site,
    /// Which operations, each on its own.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Operation::value_variants().to_vec())]
    ops: Vec<Operation>,
    /// Threads, each with directories of its own.
    #[arg(long, value_name = "N", default_value = "4", value_parser = some)]
    threads: usize,
    /// Directories of each thread.
    #[arg(long, value_name = "N", default_value = "1", value_parser = some, help_heading = "Files")]
    dirs: usize,
    /// Files in each directory; each is deleted once at most.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = some, help_heading = "Files")]
    files: usize,
    /// Operations a second of all threads and nodes. If absent: each thread begins the next when one has ended.
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with = "max")]
    rate: Option<f64>,
    /// Find the highest rate: double it until less than 98 % is reached, then bisect to 2 %.
    #[arg(long)]
    max: bool,
    /// The rate that --max begins with.
    #[arg(long, value_name = "RATE", default_value = "100", value_parser = rate, requires = "max")]
    from: f64,
    /// What begins within this time is not counted; delete has none.
    #[arg(long, value_name = "TIME", default_value = "0s", help_heading = "Time")]
    warm_up: HumanDuration,
    /// How long each operation, and each rate of --max, is measured.
    #[arg(long, value_name = "TIME", default_value = "5s", help_heading = "Time")]
    duration: HumanDuration,
}

/// An operation on names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Operation {
    /// Create an empty file and close it.
    Create,
    /// Ask for the attributes of a file.
    Stat,
    /// Open a file for reading and close it.
    Open,
    /// List a directory.
    List,
    /// List a directory with the attributes of each entry and where its bytes are.
    ListLocated,
    /// Rename a file within its directory.
    Rename,
    /// Delete a file.
    Delete,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Stat => "stat",
            Self::Open => "open",
            Self::List => "list",
            Self::ListLocated => "list-located",
            Self::Rename => "rename",
            Self::Delete => "delete",
        }
    }

    /// Does it with the lane's next file or directory.
    fn act(self, set: &mut Set) -> io::Result<()> {
        match self {
            Self::Create => set.create(),
            Self::Stat => fs::metadata(set.file()).map(drop),
            Self::Open => File::open(set.file()).map(drop),
            Self::List => list(set.dir(), |_| Ok(())),
            Self::ListLocated => list(set.dir(), located),
            Self::Rename => set.rename(),
            Self::Delete => fs::remove_file(set.file()),
        }
    }
}

impl OnFiles for MetadataArgs {
    const NAME: &'static str = "metadata";

    fn site(&self) -> &Site {
        &self.site
    }

    fn check(&self) -> Result<()> {
        if self.duration.0.is_zero() {
            return Err(Error::usage("--duration cannot be 0", "give a time like 5s"));
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn run(&self, bench: &mut Bench, scratch: &Scratch) -> Result<()> {
        let top = scratch.mine();
        self.fill(bench, &top)?;
        for operation in &self.ops {
            if self.max {
                self.highest(bench, &top, *operation)?;
            } else {
                let phase = self.measure(bench, &top, *operation, self.rate)?;
                bench.keep(phase)?;
            }
            if *operation == Operation::Delete {
                self.fill(bench, &top)?;
            }
        }
        Ok(())
    }
}

impl MetadataArgs {
    fn set(&self, top: &Path, lane: usize) -> Set {
        let top = top.join(format!("t{lane}"));
        Set {
            dirs: (0..self.dirs).map(|dir| top.join(format!("d{dir}"))).collect(),
            files: self.files,
            next: 0,
        }
    }

    /// Makes all files that are not there.
    fn fill(&self, bench: &mut Bench, top: &Path) -> Result<()> {
        let spec = PhaseSpec::once("making files", self.threads);
        let filled = bench.stage.run(&spec, |lane| Ok(self.set(top, lane)), |set, lane| set.fill(lane))?;
        if bench.stage.stop.is_set() {
            return Err(Error::Interrupted);
        }
        match filled.kinds.iter().find_map(|(_, kind)| kind.first_error()) {
            Some(why) => Err(Error::usage(
                format!("the files cannot be made: {why}"),
                "see that DIR can be written to",
            )),
            None => Ok(()),
        }
    }

    /// Measures one operation, and puts things in order after it.
    fn measure(
        &self,
        bench: &mut Bench,
        top: &Path,
        operation: Operation,
        rate: Option<f64>,
    ) -> Result<Phase> {
        let uses_up = operation == Operation::Delete;
        let warm_up = if uses_up { Duration::ZERO } else { self.warm_up.0 };
        let spec = PhaseSpec {
            name: operation.name().to_owned(),
            lanes: self.threads,
            limit: Limit { warm_up, duration: Some(self.duration.0) },
            rate: rate.map(|rate| rate / bench.nodes() as f64),
        };
        let most = if uses_up { self.dirs * self.files } else { usize::MAX };
        let phase = bench.attempt(
            &spec,
            |lane| Ok(self.set(top, lane)),
            |set, lane| {
                while set.next < most && lane.go_on() {
                    lane.time(operation.name(), 0, || operation.act(set));
                }
                Ok(())
            },
        )?;
        if matches!(operation, Operation::Create | Operation::Rename) {
            let tidy = PhaseSpec::once("putting in order", self.threads);
            bench.stage.run(&tidy, |lane| Ok(self.set(top, lane)), |set, _| set.tidy())?;
        }
        Ok(phase)
    }

    /// Searches for the highest rate; the report has the trial that reached it.
    fn highest(&self, bench: &mut Bench, top: &Path, operation: Operation) -> Result<()> {
        let mut best: Option<Phase> = None;
        let (found, trials) = search(self.from, |target| {
            if operation == Operation::Delete {
                self.fill(bench, top)?;
            }
            let phase = self.measure(bench, top, operation, Some(target))?;
            if bench.stage.stop.is_set() {
                return Ok(None);
            }
            let achieved = phase.kind(operation.name()).map_or(0.0, |kind| phase.rate(kind));
            let better = best.as_ref().is_none_or(|best| best.target < Some(target));
            if better && crate::engine::reached(target, achieved) {
                best = Some(phase);
            }
            Ok(Some(achieved))
        })?;
        bench.report.searches.push(Search { operation: operation.name().to_owned(), trials, found });
        best.map_or(Ok(()), |phase| bench.keep(phase))
    }
}

/// The files of a lane, and which comes next.
struct Set {
    dirs: Vec<PathBuf>,
    files: usize,
    next: usize,
}

impl Set {
    /// The next file, round and round; neighbours are in different directories.
    fn file(&mut self) -> PathBuf {
        let number = self.next;
        self.next += 1;
        self.dirs[number % self.dirs.len()].join(format!("f{}", number / self.dirs.len() % self.files))
    }

    /// The next directory.
    fn dir(&mut self) -> &Path {
        let number = self.next;
        self.next += 1;
        &self.dirs[number % self.dirs.len()]
    }

    /// Creates a file that is not there.
    fn create(&mut self) -> io::Result<()> {
        let number = self.next;
        self.next += 1;
        let path = self.dirs[number % self.dirs.len()].join(format!("new{number}"));
        OpenOptions::new().write(true).create_new(true).open(path).map(drop)
    }

    /// Renames the next file; the next time round, it gets its first name back.
    fn rename(&mut self) -> io::Result<()> {
        let back = self.next / self.dirs.len() / self.files % 2 == 1;
        let plain = self.file();
        let other = plain.with_extension("renamed");
        if back { fs::rename(other, plain) } else { fs::rename(plain, other) }
    }

    /// Makes the directories and files that are not there.
    fn fill(&mut self, lane: &mut Lane) -> Result<()> {
        for dir in &self.dirs {
            fs::create_dir_all(dir).during("create", dir)?;
        }
        for _ in 0..self.dirs.len() * self.files {
            if lane.stopped() {
                break;
            }
            let path = self.file();
            lane.time("create", 0, || match OpenOptions::new().write(true).create_new(true).open(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            });
        }
        Ok(())
    }

    /// Removes what was created, and gives renamed files their first names.
    fn tidy(&self) -> Result<()> {
        for dir in &self.dirs {
            for entry in fs::read_dir(dir).during("list", dir)? {
                let path = entry.during("list", dir)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with("new") {
                    fs::remove_file(&path).during("remove", &path)?;
                } else if name.ends_with(".renamed") {
                    fs::rename(&path, path.with_extension("")).during("rename", &path)?;
                }
            }
        }
        Ok(())
    }
}

fn list(dir: &Path, mut each: impl FnMut(&fs::DirEntry) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        each(&entry?)?;
    }
    Ok(())
}

/// The attributes of an entry and where its bytes are; that a file system does not say is an answer too.
fn located(entry: &fs::DirEntry) -> io::Result<()> {
    entry.metadata()?;
    let mut value = [0_u8; 256];
    match rustix::fs::lgetxattr(entry.path(), LOCATION, &mut value) {
        Ok(_) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
