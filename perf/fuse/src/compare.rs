//! Every load on every server, turn by turn.

use crate::load::{FILE, FILE_LEN};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const ROUNDS: usize = 5;
const SECONDS: &str = "1";
/// Name, load, threads.
const LOADS: [(&str, &str, usize); 4] = [
    ("4 KiB read, 1 client", "read", 1),
    ("4 KiB read, 8 clients", "read", 8),
    ("create+close, 1 client", "create", 1),
    ("stat, 1 client", "stat", 1),
];
/// The first three are the bare server: as it is, with the kernel asking it what it asks Forebay, and with the bytes of a file.
const SERVERS: [&str; 6] = [BARE, CHECKED, READING, "uring", "dev-fuse", "fuser"];
const BARE: &str = "bare uring";
const CHECKED: &str = "bare uring, checks";
const READING: &str = "bare uring, reads the page";

struct Server {
    child: Child,
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Prints the table.
pub fn compare(forebay: &Path, work: &Path) -> Result<(), String> {
    let mut rates = vec![vec![Vec::new(); SERVERS.len()]; LOADS.len()];
    let mut latencies = rates.clone();
    for round in 0..ROUNDS {
        for (at, server) in SERVERS.iter().enumerate() {
            for (load, (_, kind, threads)) in LOADS.iter().enumerate() {
                if *server == READING && *kind != "read" {
                    continue;
                }
                let scratch = work.join(format!("{round}-{at}-{load}"));
                let mount = start(server, forebay, &scratch)?;
                // The bare server has no file behind it.
                let cache = (!server.starts_with(BARE)).then(|| scratch.join("cache"));
                let (rate, latency) = turn(&mount.dir, kind, *threads, cache.as_deref())?;
                drop(mount);
                // ext4 without a journal takes no inode that was freed in the last minute, and looks at each of them anew
                // for every file that is made: thousands of them go only after the last round.
                let gone = if *kind == "create" { scratch.join("ufs") } else { scratch };
                let _ = fs::remove_dir_all(gone);
                rates[load][at].push(rate);
                latencies[load][at].push(latency);
            }
        }
    }
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        let _ = fs::remove_dir_all(entry.path());
    }
    println!(
        "| load | server | calls/s | median us | rate of bare | the same with checks | latency of bare |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (load, (name, ..)) in LOADS.iter().enumerate() {
        for (at, server) in SERVERS.iter().enumerate() {
            if rates[load][at].is_empty() {
                continue;
            }
            let ratio = |all: &[Vec<f64>], to: usize| {
                median(all[at].iter().zip(&all[to]).map(|(a, b)| a / b).collect())
            };
            let (rate, latency) = (median(rates[load][at].clone()), median(latencies[load][at].clone()));
            let (of_bare, of_checked) = (ratio(&rates[load], 0), ratio(&rates[load], 1));
            let slower = ratio(&latencies[load], 0);
            println!(
                "| {name} | {server} | {rate:.0} | {latency:.1} | {of_bare:.2} | {of_checked:.2} | {slower:.2} |"
            );
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn start(server: &str, forebay: &Path, scratch: &Path) -> Result<Server, String> {
    let dir = scratch.join("mnt");
    for name in ["mnt", "ufs", "cache"] {
        fs::create_dir_all(scratch.join(name)).map_err(|error| error.to_string())?;
    }
    let file = scratch.join("ufs").join(FILE);
    fs::write(&file, vec![7; FILE_LEN as usize]).map_err(|error| error.to_string())?;
    let mut command = if server.starts_with(BARE) {
        let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
        command.arg("serve").args((server == CHECKED).then_some("--checks"));
        if server == READING {
            command.arg("--from").arg(file);
        }
        command.arg(&dir);
        command
    } else {
        let mut command = Command::new(forebay);
        let options = format!("channel={server},attr_timeout=0,entry_timeout=0");
        command.arg("up").arg(scratch.join("ufs")).arg(&dir).arg("--cache").arg(scratch.join("cache"));
        command.args(["-o", &options, "--log", "warn", "--write-mode", "transient"]);
        command
    };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let out = child.stdout.take().expect("it is piped");
    let server = Server { child, dir };
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
    if line.starts_with("ready") { Ok(server) } else { Err(format!("the server did not come up: {line}")) }
}

/// The rate and the median latency, by a process of its own.
fn turn(dir: &Path, kind: &str, threads: usize, cache: Option<&Path>) -> Result<(f64, f64), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["load", kind]).arg(dir).args([&threads.to_string(), SECONDS]).args(cache);
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [rate, median, _] => Ok((rate, median)),
        _ => Err(format!("the load failed: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
