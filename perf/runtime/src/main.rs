//! The same direct reads of the same file on bare io_uring, on glommio and on Forebay's shards.
//!
//! `compare FILE` runs every engine in a process of its own, turn by turn for five rounds, and prints medians
//! and their ratios to bare io_uring. `run ENGINE FILE BLOCK DEPTH SECONDS` is one such turn. All engines
//! keep DEPTH reads of BLOCK bytes in flight on one core, at the same pseudo-random offsets.

mod bare;
mod compare;
mod forebay;
mod glommio_;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The core that the measured thread is pinned to.
pub const CORE: usize = 0;
/// The memory that each engine may use for buffers.
pub const MEMORY: usize = 64 << 20;

/// One turn of one engine.
#[derive(Debug, Clone)]
pub struct Job {
    pub file: PathBuf,
    pub block: usize,
    pub depth: usize,
    pub time: Duration,
}

/// Where the next read goes: SplitMix64, so that every engine reads the same blocks.
#[derive(Debug)]
pub struct Offsets {
    state: u64,
    blocks: u64,
    block: u64,
}

impl Offsets {
    /// For one of the reads in flight.
    pub fn new(job: &Job, lane: usize) -> Self {
        let len = std::fs::metadata(&job.file).expect("the file is there").len();
        Self { state: lane as u64, blocks: len / job.block as u64, block: job.block as u64 }
    }
}

impl Iterator for Offsets {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((z ^ (z >> 31)) % self.blocks * self.block)
    }
}

/// Opens the file as all engines do.
pub fn open_direct(file: &Path) -> std::fs::File {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(file);
    opened.expect("the file opens with O_DIRECT")
}

/// Measures from the first read to the last, without what an engine needs to set itself up.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    cpu: f64,
}

impl Meter {
    /// Right before the first read.
    pub fn start() -> Self {
        Self { begun: Instant::now(), cpu: cpu_seconds() }
    }

    /// Right after the last; prints the number of reads, the time, and the CPU time of the process.
    pub fn stop(self, reads: u64) {
        println!("{reads} {} {}", self.begun.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
    }
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn run(engine: &str, job: &Job) {
    match engine {
        "bare" => bare::run(job),
        "glommio" => glommio_::run(job),
        "forebay" => forebay::run(job),
        other => panic!("no engine {other}: bare, glommio or forebay"),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", engine, file, block, depth, seconds] => {
            let number = |text: &str| text.parse().expect("a number");
            let time = Duration::from_secs(number(seconds) as u64);
            run(engine, &Job { file: file.into(), block: number(block), depth: number(depth), time });
            ExitCode::SUCCESS
        }
        ["compare", file] => compare::run(Path::new(file)),
        _ => {
            eprintln!("usage: compare FILE | run ENGINE FILE BLOCK DEPTH SECONDS");
            ExitCode::FAILURE
        }
    }
}
