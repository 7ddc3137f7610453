//! What a FUSE mount costs beyond the least it can cost.
//!
//! `serve DIR` mounts a bare FUSE-over-io_uring server, which answers at once and touches nothing: the ceiling; with
//! `--checks` the kernel checks permissions there as it does on a mount of Forebay, with `--from FILE` the bytes that are read come
//! from a file by pread(2), which is the least that a server of bytes does.
//! `load KIND DIR THREADS SECONDS [CACHE]` puts one load on a mount and prints its rate and latency; before it reads, all of
//! what backs the file below CACHE must be in memory. `compare FOREBAY WORK`
//! runs every load on the bare server and on a Forebay mount over each channel, turn by turn for five rounds, and prints
//! medians and their ratios to the bare server. `passthrough FILE DIR` hands one file to the kernel and does nothing else. `takeover DIR` tries how a second server goes on where a killed one
//! stopped.

/// The kernel's interface is the file that Forebay itself has.
#[path = "../../../fuse/src/channel/abi.rs"]
mod abi;
mod bare;
mod compare;
mod load;
mod passthrough;
mod resident;
mod takeover;
mod tree;

use bare::Checks;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tree::Tree;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", dir] => serve(dir, Checks::None, None),
        ["serve", "--checks", dir] => serve(dir, Checks::Kernel, None),
        ["serve", "--from", file, dir] => serve(dir, Checks::None, Some(file)),
        ["passthrough", file, dir] => {
            passthrough::serve(Path::new(file), Path::new(dir)).map_err(|error| error.to_string())
        }
        ["load", kind, dir, threads, seconds] => one_load(kind, dir, threads, seconds, None),
        ["load", kind, dir, threads, seconds, cache] => one_load(kind, dir, threads, seconds, Some(cache)),
        ["takeover", dir] => takeover::run(Path::new(dir)).map_err(|error| error.to_string()),
        ["compare", forebay, work] => compare::compare(Path::new(forebay), Path::new(work)),
        _ => Err("usage: serve [--checks | --from FILE] DIR | passthrough FILE DIR | load KIND DIR THREADS SECONDS [CACHE] | compare FOREBAY WORK | takeover DIR"
            .to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(dir: &str, checks: Checks, from: Option<&str>) -> Result<(), String> {
    let bytes = from.map(File::open).transpose().map_err(|error| error.to_string())?;
    bare::serve(Path::new(dir), checks, &Tree { bytes }).map_err(|error| error.to_string())
}

fn one_load(kind: &str, dir: &str, threads: &str, seconds: &str, cache: Option<&str>) -> Result<(), String> {
    let kind = load::Kind::named(kind).ok_or("KIND is read, create, stat or, on the bare server, list")?;
    let threads = threads.parse().map_err(|_| "THREADS is a number")?;
    let seconds = seconds.parse().map_err(|_| "SECONDS is a number")?;
    let time = Duration::from_secs_f64(seconds);
    let outcome = load::run(kind, Path::new(dir), threads, time, cache.map(Path::new))?;
    println!("{:.0} {:.1} {:.1}", outcome.rate, outcome.median_us, outcome.p99_us);
    Ok(())
}
