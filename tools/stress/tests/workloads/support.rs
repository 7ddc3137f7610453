//! Running a workload as the command line would, and looking at its report.

use clap::Parser;
use forebay_stress::{BenchCommand, Error, Stop};
use serde_json::Value;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: BenchCommand,
}

/// The result of a run, and what it printed.
pub(crate) struct Ran {
    pub(crate) result: Result<(), Error>,
    pub(crate) text: String,
}

/// Runs `forebay bench LINE`, where `DIR` stands for `dir`.
pub(crate) fn run_until(line: &str, dir: &Path, stop: &Stop) -> Ran {
    let words = line.split(' ').map(|word| word.replace("DIR", dir.to_str().unwrap()));
    let cli = Cli::try_parse_from(std::iter::once("bench".to_owned()).chain(words)).unwrap();
    let mut out = Vec::new();
    let result = forebay_stress::run(&cli.command, stop, false, &mut out);
    Ran { result, text: String::from_utf8(out).unwrap() }
}

/// Runs it to its end.
pub(crate) fn run(line: &str, dir: &Path) -> Ran {
    run_until(line, dir, &Stop::default())
}

impl Ran {
    /// The report as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {:?}, {}", self.result, self.text))
    }
}

/// One operation of one phase; all of its numbers were checked for what must always hold.
pub(crate) fn operation<'a>(report: &'a Value, phase: &str, operation: &str) -> &'a Value {
    let phase = report["phases"].as_array().unwrap().iter().find(|found| found["name"] == phase);
    let phase = phase.unwrap_or_else(|| panic!("no such phase in {report}"));
    let found = &phase["operations"][operation];
    let count = found["count"].as_u64().unwrap_or_else(|| panic!("no {operation} in {phase}"));
    let latency = &found["latency_ns"];
    let order = ["min", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.95", "p99.99", "max"];
    let values: Vec<_> = order.iter().map(|key| latency[key].as_u64().unwrap()).collect();
    assert!(values.is_sorted(), "percentiles fall: {latency}");
    let summed = |key: &str| {
        found["over_time"][key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((summed("count"), summed("bytes")), (count, found["bytes"].as_u64().unwrap()), "{found}");
    let seconds = phase["seconds"].as_f64().unwrap();
    assert!((found["rate"].as_f64().unwrap() * seconds - count as f64).abs() < 1e-3 * count as f64);
    found
}

/// An address that nothing listens at. None of those that the kernel gives: on a busy machine it would give the same one to
/// whoever connects to something else meanwhile.
pub(crate) fn free_address() -> String {
    let any = || 10_000 + RandomState::new().build_hasher().finish() % 20_000;
    let mut addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", any()));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("it goes on for ever")
}

/// What a machine can show that is not too busy just then.
pub(crate) fn sometimes(shows: impl FnMut(usize) -> bool) -> bool {
    (0..30).any(shows)
}

/// Waits until a path in `dir` is there; `path` is below the directory in which a run makes its files.
pub(crate) fn until_there(dir: &Path, path: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !dir.join(path).exists() {
        assert!(Instant::now() < deadline, "{path} never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// That nothing is left in a directory.
pub(crate) fn assert_empty(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
