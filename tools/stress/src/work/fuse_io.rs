//! Large files: written, read, written over, read by another node, listed. Each lane has directories and files of its own.

use super::files::{Style, listed, open_to_read, read_at, read_file, rewrite_file, write_file};
use crate::args::{Site, size, some};
use crate::bench::Bench;
use crate::command::OnFiles;
use crate::data::{BLOCK, Buffer, Pattern, mix};
use crate::engine::{Lane, Limit, PhaseSpec};
use crate::error::{During, Error, Result};
use crate::scratch::Scratch;
use clap::{Args, ValueEnum};
use forebay_types::HumanDuration;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  forebay bench fuse-io /mnt/data                                  # 4 threads, 4 files of 64 MiB each
  forebay bench fuse-io /mnt/data --threads 8 --phases write,read --buffer 4KiB --random --duration 10s
  forebay bench fuse-io /nvme --direct --json | jq '.phases[].operations.write.latency_ns.p99'";

/// `forebay bench fuse-io`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct FuseIoArgs {
    #[command(flatten)]
    #[serde(flatten)]
    site: Site,
    /// What to do, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Step::Write, Step::Read, Step::List])]
    phases: Vec<Step>,
    /// Threads, each with files of its own.
    #[arg(long, value_name = "N", default_value = "4", value_parser = some)]
    threads: usize,
    /// Directories of each thread.
    #[arg(long, value_name = "N", default_value = "1", value_parser = some, help_heading = "Files")]
    dirs: usize,
    /// Files in each directory.
    #[arg(long, value_name = "N", default_value = "4", value_parser = some, help_heading = "Files")]
    files: usize,
    /// Bytes of each file.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size, help_heading = "Files")]
    file_size: u64,
    /// Bytes of each read and write.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    buffer: u64,
    /// What begins within this time of each phase is not counted.
    #[arg(long, value_name = "TIME", default_value = "0s", help_heading = "Time")]
    warm_up: HumanDuration,
    /// Go on for so long in each phase, round and round. If absent: each file once.
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    duration: Option<HumanDuration>,
    /// Read and rewrite at random places instead of from the beginning to the end.
    #[arg(long)]
    random: bool,
    /// Past the page cache (O_DIRECT); sizes must be multiples of 4 KiB.
    #[arg(long)]
    direct: bool,
    /// Ask the kernel to forget a file's pages before it is read (POSIX_FADV_DONTNEED).
    #[arg(long)]
    cold: bool,
    /// Close files without fsync; what is measured then is memory for the greater part.
    #[arg(long)]
    no_fsync: bool,
    /// Compare every byte that is read in order with what was written.
    #[arg(long, conflicts_with = "random")]
    verify: bool,
}

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// Write all files, with fsync.
    Write,
    /// Read what this node wrote.
    Read,
    /// Write over what this node wrote, with fsync; at random places with --random.
    Rewrite,
    /// Read what the next node wrote.
    RemoteRead,
    /// List the directories.
    List,
}

/// The files of a node.
struct Files {
    top: PathBuf,
    node: usize,
}

impl Files {
    fn dir(&self, lane: usize, dir: usize) -> PathBuf {
        self.top.join(format!("t{lane}/d{dir}"))
    }
}

impl OnFiles for FuseIoArgs {
    const NAME: &'static str = "fuse-io";

    fn site(&self) -> &Site {
        &self.site
    }

    fn check(&self) -> Result<()> {
        if self.buffer == 0 || self.file_size == 0 {
            return Err(Error::usage("--buffer and --file-size cannot be 0", "give a size like 1MiB"));
        }
        if !self.buffer.is_multiple_of(BLOCK as u64) && (self.direct || self.file_size > self.buffer) {
            return Err(Error::usage("--buffer is not a multiple of 4KiB", "give one like 4KiB or 1MiB"));
        }
        if self.direct && !self.file_size.is_multiple_of(BLOCK as u64) {
            return Err(Error::usage(
                "--direct needs a --file-size that is a multiple of 4KiB",
                "give one like 64MiB",
            ));
        }
        if self.phases.first() != Some(&Step::Write) {
            return Err(Error::usage("the first of --phases must be write", "write the files that are read"));
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        (self.threads * self.dirs * self.files) as u64 * self.file_size
    }

    fn run(&self, bench: &mut Bench, scratch: &Scratch) -> Result<()> {
        let of = |node: usize| Files { top: scratch.of(node), node };
        for step in &self.phases {
            match step {
                Step::Write => self.write(bench, &of(bench.node()))?,
                Step::Read => self.read(bench, "read", &of(bench.node()))?,
                Step::Rewrite => self.rewrite(bench, &of(bench.node()))?,
                Step::RemoteRead if bench.nodes() > 1 => {
                    self.read(bench, "remote-read", &of((bench.node() + 1) % bench.nodes()))?;
                }
                Step::RemoteRead => {
                    return Err(Error::usage("remote-read needs two nodes", "see --coordinate"));
                }
                Step::List => self.list(bench, &of(bench.node()))?,
            }
        }
        Ok(())
    }
}

impl FuseIoArgs {
    fn spec(&self, name: &str) -> PhaseSpec {
        let limit = Limit { warm_up: self.warm_up.0, duration: self.duration.map(|time| time.0) };
        PhaseSpec { name: name.to_owned(), lanes: self.threads, limit, rate: None }
    }

    fn style(&self) -> Style {
        Style { buffer: self.buffer as usize, direct: self.direct, fsync: !self.no_fsync, cold: self.cold }
    }

    /// The pattern of the files of a lane of a node.
    fn pattern(&self, node: usize, lane: usize) -> Pattern {
        Pattern::new(mix((node as u64) << 32 | lane as u64), self.buffer.min(self.file_size) as usize)
    }

    /// The paths of a lane, with the tag of each.
    fn paths(&self, files: &Files, lane: usize) -> Vec<(PathBuf, u64)> {
        let numbers = (0..self.dirs).flat_map(|dir| (0..self.files).map(move |file| (dir, file)));
        let path = |(dir, file)| files.dir(lane, dir).join(format!("f{file}"));
        numbers.map(path).zip(0u64..).collect()
    }

    fn write(&self, bench: &mut Bench, files: &Files) -> Result<()> {
        let prepare = |lane: usize| {
            for dir in 0..self.dirs {
                let dir = files.dir(lane, dir);
                fs::create_dir_all(&dir).during("create", &dir)?;
            }
            Ok((self.pattern(files.node, lane), self.paths(files, lane)))
        };
        bench.phase(&self.spec("write"), prepare, |(pattern, paths), lane| {
            for round in 0.. {
                for (path, tag) in paths.iter() {
                    // The first round is always done, since the files are needed.
                    if lane.stopped() || round > 0 && !lane.go_on() {
                        return Ok(());
                    }
                    write_file(lane, self.style(), pattern, path, *tag, self.file_size);
                }
                if self.duration.is_none() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn read(&self, bench: &mut Bench, name: &str, files: &Files) -> Result<()> {
        let prepare = |lane: usize| {
            let pattern = self.verify.then(|| self.pattern(files.node, lane));
            Ok((Buffer::new(self.buffer as usize), pattern, self.paths(files, lane)))
        };
        bench.phase(&self.spec(name), prepare, |(buffer, pattern, paths), lane| {
            self.each(lane, paths, |lane, path, tag, seed| {
                if self.random {
                    self.read_randomly(lane, buffer, path, seed);
                } else {
                    read_file(lane, self.style(), buffer, pattern.as_mut(), path, (tag, self.file_size));
                }
            });
            Ok(())
        })?;
        Ok(())
    }

    fn rewrite(&self, bench: &mut Bench, files: &Files) -> Result<()> {
        let prepare = |lane: usize| Ok((self.pattern(files.node, lane), self.paths(files, lane)));
        bench.phase(&self.spec("rewrite"), prepare, |(pattern, paths), lane| {
            self.each(lane, paths, |lane, path, tag, seed| {
                rewrite_file(lane, self.style(), pattern, (path, tag), self.buffers(seed));
            });
            Ok(())
        })?;
        Ok(())
    }

    /// Does something with each file of a lane, round and round for as long as the phase lasts; `act` gets the path, the tag,
    /// and a number that no other file and round has.
    fn each(
        &self,
        lane: &mut Lane,
        paths: &[(PathBuf, u64)],
        mut act: impl FnMut(&mut Lane, &Path, u64, u64),
    ) {
        for round in 0.. {
            for (path, tag) in paths {
                if !lane.go_on() {
                    return;
                }
                act(lane, path, *tag, mix(*tag ^ round << 32));
            }
            if self.duration.is_none() {
                return;
            }
        }
    }

    /// The offset and length of as many buffers as a file has: in order, or each at random.
    fn buffers(&self, seed: u64) -> impl Iterator<Item = (u64, usize)> {
        let (len, buffer, random) = (self.file_size, self.buffer, self.random);
        // At random, all have the full length.
        let count = if random { (len / buffer).max(1) } else { len.div_ceil(buffer) };
        (0..count).map(move |number| {
            let place = if random { mix(seed.wrapping_add(number)) % count } else { number };
            let offset = place * buffer;
            (offset, buffer.min(len - offset) as usize)
        })
    }

    /// As many reads as the file has buffers, each at a random one.
    fn read_randomly(&self, lane: &mut Lane, buffer: &mut Buffer, path: &Path, seed: u64) {
        let Some(file) = open_to_read(lane, self.style(), path) else { return };
        for (number, (offset, len)) in self.buffers(seed).enumerate() {
            if number > 0 && !lane.go_on() || !read_at(lane, &file, buffer.head_mut(len), offset) {
                return;
            }
        }
    }

    fn list(&self, bench: &mut Bench, files: &Files) -> Result<()> {
        let dirs = |lane: usize| Ok((0..self.dirs).map(|dir| files.dir(lane, dir)).collect::<Vec<_>>());
        bench.phase(&self.spec("list"), dirs, |dirs, lane| {
            loop {
                for dir in dirs.iter() {
                    if !lane.go_on() {
                        return Ok(());
                    }
                    lane.time("list", 0, || listed(dir, self.files));
                }
                if self.duration.is_none() {
                    return Ok(());
                }
            }
        })?;
        Ok(())
    }
}
