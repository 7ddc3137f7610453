//! A checkpoint as training jobs write one: every rank writes its file under another name, makes it durable, renames it;
//! when all have, one writes the file that says the checkpoint is whole. Then all is read back and compared.
//!
//! A job stalls from the first write to that last file. In the same round the device is measured, by as many writers of as
//! many bytes past the page cache; the stall divided by what those took is how far the file system is from the floor.

use super::files::{Style, read_file, write_file};
use super::models::Model;
use crate::args::{Site, size, some};
use crate::bench::Bench;
use crate::command::OnFiles;
use crate::data::{BLOCK, Buffer, Pattern, mix};
use crate::engine::{Lane, Phase, PhaseSpec};
use crate::error::{During, Error, Result};
use crate::report::{Place as Ground, Unit};
use crate::scratch::{Scratch, require_room};
use clap::Args;
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "Examples:
  forebay bench checkpoint /mnt/data --device /nvme                     # 8 ranks, 4 GiB in all; /nvme holds the cache
  forebay bench checkpoint /mnt/data --device /nvme --model llama-3-8b --rounds 5
  forebay bench checkpoint /mnt/data --keep && forebay bench checkpoint /mnt/data --check   # verify it later";

/// `forebay bench checkpoint`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct CheckpointArgs {
    #[command(flatten)]
    #[serde(flatten)]
    site: Site,
    /// Ranks on each node; each is a thread with one file.
    #[arg(long, value_name = "N", default_value = "8", value_parser = some)]
    ranks: usize,
    /// Bytes of the whole checkpoint, of all ranks of a node.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size, conflicts_with = "model", help_heading = "Files")]
    size: u64,
    /// As large as the checkpoint of this model, with the states of the optimizer.
    #[arg(long, value_enum, help_heading = "Files")]
    model: Option<Model>,
    /// Only the weights of the model.
    #[arg(long, requires = "model", help_heading = "Files")]
    weights_only: bool,
    /// Bytes of each write and read.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    buffer: u64,
    /// How often to do it all; the report has the medians.
    #[arg(long, value_name = "N", default_value = "1", value_parser = some)]
    rounds: usize,
    /// A directory on the device that the bytes end on, to measure the floor. If absent: DIR.
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    device: Option<PathBuf>,
    /// Read back past the page cache (O_DIRECT).
    #[arg(long)]
    direct_read: bool,
    /// Only read back and verify what an earlier run with --keep and the same settings left.
    #[arg(long, conflicts_with = "keep")]
    check: bool,
}

/// What one round took, in nanoseconds.
struct Round {
    stall: f64,
    floor: f64,
    read: f64,
}

impl OnFiles for CheckpointArgs {
    const NAME: &'static str = "checkpoint";

    fn site(&self) -> &Site {
        &self.site
    }

    fn check(&self) -> Result<()> {
        if self.buffer == 0 || !self.buffer.is_multiple_of(BLOCK as u64) {
            return Err(Error::usage("--buffer is not a multiple of 4KiB", "give one like 1MiB"));
        }
        if self.of_rank() == 0 {
            return Err(Error::usage("--size gives no rank 4KiB", "give a larger size"));
        }
        match &self.device {
            Some(dir) if !dir.is_dir() => {
                Err(Error::usage(format!("{} is no directory", dir.display()), "make it"))
            }
            Some(dir) => require_room(dir, self.bytes()),
            None => Ok(()),
        }
    }

    fn bytes(&self) -> u64 {
        // One checkpoint and the next, before the old one is removed; or one and the floor's files.
        2 * self.total()
    }

    fn reuses(&self) -> bool {
        self.check
    }

    fn run(&self, bench: &mut Bench, scratch: &Scratch) -> Result<()> {
        if self.check {
            return self.read(bench, scratch, None).map(drop);
        }
        self.note_device(bench);
        let rounds =
            (0..self.rounds).map(|round| self.round(bench, scratch, round)).collect::<Result<Vec<_>>>()?;
        self.report(bench, &rounds);
        Ok(())
    }
}

impl CheckpointArgs {
    /// The bytes of a rank: whole blocks, so that it can be read past the page cache.
    fn of_rank(&self) -> u64 {
        let all = self.model.map_or(self.size, |model| model.bytes(self.weights_only));
        all / self.ranks as u64 / BLOCK as u64 * BLOCK as u64
    }

    /// The bytes of all ranks of this node.
    fn total(&self) -> u64 {
        self.of_rank() * self.ranks as u64
    }

    fn device(&self) -> &Path {
        self.device.as_deref().unwrap_or(&self.site.place.dir)
    }

    fn note_device(&self, bench: &mut Bench) {
        let ground = Ground::of(self.device());
        bench.note(format!(
            "the floor was measured on {} ({} of {})",
            ground.target, ground.kind, ground.source
        ));
        if self.device.is_none() && ground.kind.starts_with("fuse") {
            bench.note("that is the file system itself: give the directory of its device with --device");
        }
    }

    fn pattern(&self, node: usize, rank: usize) -> Pattern {
        Pattern::new(mix((node as u64) << 32 | rank as u64), self.buffer as usize)
    }

    /// The device, the checkpoint, and what is read back; the files of the round before go first.
    fn round(&self, bench: &mut Bench, scratch: &Scratch, round: usize) -> Result<Round> {
        let named =
            |name: &str| if self.rounds == 1 { name.to_owned() } else { format!("{name} {}", round + 1) };
        let floor = self.floor(bench, &named("device"))?;
        let written = self.write(bench, scratch, &named("write"))?;
        let committed = self.commit(bench, scratch, &named("commit"))?;
        let read = self.read(bench, scratch, Some(named("read")))?;
        if round + 1 < self.rounds {
            remove_files(&scratch.mine())?;
        }
        Ok(Round {
            stall: (written.wall_ns + committed.wall_ns) as f64,
            floor: floor.wall_ns as f64,
            read: read.wall_ns as f64,
        })
    }

    /// As many bytes by as many writers, past the page cache, made durable.
    fn floor(&self, bench: &mut Bench, name: &str) -> Result<Phase> {
        let node = bench.node();
        let folder = self.device().join(format!("forebay-bench-floor-{}-{node}", std::process::id()));
        fs::create_dir(&folder).during("create", &folder)?;
        let direct = takes_direct(&folder.join("probe"))?;
        if !direct {
            bench.note(format!(
                "{} takes no O_DIRECT: the floor went through the page cache",
                folder.display()
            ));
        }
        let style = Style { direct, ..self.style() };
        let prepare = |rank: usize| Ok((self.pattern(node, rank), folder.join(rank.to_string())));
        let phase = bench.phase(&PhaseSpec::once(name, self.ranks), prepare, |(pattern, path), lane| {
            write_file(lane, style, pattern, path, 0, self.of_rank());
            Ok(())
        });
        let removed = fs::remove_dir_all(&folder).during("remove", &folder);
        phase.and_then(|phase| removed.map(|()| phase))
    }

    fn style(&self) -> Style {
        Style { buffer: self.buffer as usize, direct: false, fsync: true, cold: false }
    }

    fn write(&self, bench: &mut Bench, scratch: &Scratch, name: &str) -> Result<Phase> {
        let (node, top) = (bench.node(), scratch.mine());
        let prepare = |rank: usize| Ok((self.pattern(node, rank), rank));
        bench.phase(&PhaseSpec::once(name, self.ranks), prepare, |(pattern, rank), lane| {
            let path = rank_file(&top, *rank);
            let making = path.with_extension("making");
            if write_file(lane, self.style(), pattern, &making, *rank as u64, self.of_rank()) {
                lane.time("rename", 0, || fs::rename(&making, &path));
            }
            Ok(())
        })
    }

    /// The file that says that the checkpoint is whole, and the directory: the names are durable only with it.
    fn commit(&self, bench: &mut Bench, scratch: &Scratch, name: &str) -> Result<Phase> {
        let top = scratch.mine();
        let content = format!("{} ranks of {} bytes\n", self.ranks, self.of_rank());
        bench.phase(
            &PhaseSpec::once(name, 1),
            |_| Ok(()),
            |(), lane| {
                lane.time("commit", 0, || commit(&top, &content));
                Ok(())
            },
        )
    }

    fn read(&self, bench: &mut Bench, scratch: &Scratch, name: Option<String>) -> Result<Phase> {
        let (node, top) = (bench.node(), scratch.mine());
        let style = Style { direct: self.direct_read, ..self.style() };
        let prepare = |rank: usize| Ok((self.pattern(node, rank), Buffer::new(self.buffer as usize), rank));
        let spec = PhaseSpec::once(name.unwrap_or_else(|| "read".to_owned()), self.ranks);
        bench.phase(&spec, prepare, |(pattern, buffer, rank), lane: &mut Lane| {
            let of = (*rank as u64, self.of_rank());
            read_file(lane, style, buffer, Some(pattern), &rank_file(&top, *rank), of);
            Ok(())
        })
    }

    fn report(&self, bench: &mut Bench, rounds: &[Round]) {
        let total = (self.total() * bench.nodes() as u64) as f64;
        let of = |get: fn(&Round) -> f64| median(rounds.iter().map(get).collect());
        bench.fact("bytes of the checkpoint", total, Unit::Bytes);
        bench.fact("stall: first write to the commit", of(|round| round.stall), Unit::Time);
        bench.fact("floor: bytes / device speed", of(|round| round.floor), Unit::Time);
        bench.fact("device speed", of(|round| round.floor).recip() * total * 1e9, Unit::Throughput);
        bench.fact("stall / floor", of(|round| round.stall / round.floor), Unit::Ratio);
        bench.fact("read back and verified", of(|round| round.read).recip() * total * 1e9, Unit::Throughput);
        if rounds.len() > 1 {
            let ratio = |round: &Round| round.stall / round.floor;
            let fold = |pick: fn(f64, f64) -> f64| rounds.iter().map(ratio).reduce(pick).unwrap_or_default();
            bench.fact("stall / floor, lowest of the rounds", fold(f64::min), Unit::Ratio);
            bench.fact("stall / floor, highest of the rounds", fold(f64::max), Unit::Ratio);
        }
    }
}

fn rank_file(top: &Path, rank: usize) -> PathBuf {
    top.join(format!("rank-{rank}"))
}

fn commit(top: &Path, content: &str) -> io::Result<()> {
    let making = top.join("whole.making");
    fs::write(&making, content)?;
    File::open(&making)?.sync_all()?;
    fs::rename(&making, top.join("whole"))?;
    File::open(top)?.sync_all()
}

/// Whether files of the place can be written past the page cache.
fn takes_direct(probe: &Path) -> Result<bool> {
    let style = Style { buffer: BLOCK, direct: true, fsync: false, cold: false };
    let takes = style.create(probe).is_ok();
    if takes {
        fs::remove_file(probe).during("remove", probe)?;
    }
    Ok(takes)
}

fn remove_files(top: &Path) -> Result<()> {
    for entry in fs::read_dir(top).during("list", top)? {
        let path = entry.during("list", top)?.path();
        fs::remove_file(&path).during("remove", &path)?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
