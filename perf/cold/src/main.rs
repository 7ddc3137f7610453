//! `cold-s3`: both ends of a cold read over S3.
//!
//!     cold-s3 serve PORT BYTES [RATE] [DELAY_MS]   one object `/bucket/big` of BYTES pseudo-random bytes
//!     cold-s3 fetch PORT BYTES GETS GET_LEN        fetches it by GETS ranged GETs side by side
//!     cold-s3 read FILE                            reads a file from front to back in pieces of 1 MiB
//!
//! `fetch` and `read` print `BYTES SECONDS CHECKSUM`. RATE is in bytes a second over all connections, 0 for none.
//!
//! **Why a store of its own:** the servers that can be installed serve some 50 to 120 MB/s, so that a run would measure
//! them. This one knows GET with a range, HEAD and an empty listing, and checks neither signature nor path.
//!
//! **The line:** where the kernel has netem, shape the line with it and leave RATE and DELAY_MS out. They are for
//! where it does not: an answer begins DELAY_MS after its request came (a round trip of that length), and the bodies
//! of all connections together pass one bucket of RATE. Windows of TCP that have yet to open are not imitated: both
//! the mount and the bare client are spared that alike.
#![forbid(unsafe_code)]

mod fetch;
mod http;
mod line;
mod serve;

use std::fs::File;
use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What one step brought.
pub(crate) struct Brought {
    pub(crate) bytes: u64,
    pub(crate) checksum: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(story) => {
            eprintln!("cold-s3: {story}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    match words {
        ["serve", port, bytes, line @ ..] => {
            let mut line = line.iter().map(|word| number(word));
            let rate = line.next().unwrap_or(Ok(0))?;
            let delay = Duration::from_millis(line.next().unwrap_or(Ok(0))?);
            serve::serve(port_of(port)?, number(bytes)? as usize, line::Line::new(rate, delay))
        }
        ["fetch", port, bytes, gets, get_len] => {
            let (port, bytes) = (port_of(port)?, number(bytes)?);
            let (gets, get_len) = (number(gets)? as usize, number(get_len)?);
            timed(|| fetch::fetch(port, bytes, gets, get_len))
        }
        ["read", file] => timed(|| read(file)),
        _ => Err("see the head of perf/cold/src/main.rs".into()),
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn port_of(word: &str) -> Result<u16, String> {
    word.parse().map_err(|_| format!("{word:?} is no port"))
}

fn timed(step: impl FnOnce() -> Result<Brought, String>) -> Result<(), String> {
    let began = Instant::now();
    let Brought { bytes, checksum } = step()?;
    println!("{bytes} {:.4} {checksum:016x}", began.elapsed().as_secs_f64());
    Ok(())
}

fn read(path: &str) -> Result<Brought, String> {
    let fail = |error: std::io::Error| format!("{path}: {error}");
    let mut file = File::open(path).map_err(fail)?;
    let mut piece = vec![0; 1 << 20];
    let mut brought = Brought { bytes: 0, checksum: 0 };
    loop {
        let n = file.read(&mut piece).map_err(fail)?;
        if n == 0 {
            return Ok(brought);
        }
        brought.checksum ^= sampled(&piece[..n], brought.bytes);
        brought.bytes += n as u64;
    }
}

/// Bytes between two that are sampled.
const STEP: u64 = 4096;

/// Stands for the bytes at `offset` on: every [`STEP`]th of them, each with its place, in any order. Cheap, so that both
/// ways of reading are measured and not this.
pub(crate) fn sampled(bytes: &[u8], offset: u64) -> u64 {
    let first = offset.next_multiple_of(STEP);
    let places = (first..offset + bytes.len() as u64).step_by(STEP as usize);
    places.map(|at| mixed(at ^ u64::from(bytes[(at - offset) as usize]) << 56)).fold(0, |sum, x| sum ^ x)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
