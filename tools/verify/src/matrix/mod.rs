//! The matrix: two processes use one file, every way beside every other, in every state of the file. Never EIO, never
//! ENODEV, never SIGBUS, never a wrong byte.
//!
//! A cell is a new file that can be run: a program, with a pattern behind it. Ways and bytes are the concern of
//! [`mod@user`], one process each, so that a signal ends that process alone; this file makes states and judges.

mod user;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::error::{During, Error, Result};
use crate::pattern;
use user::Way;
pub(crate) use user::{UserArgs, user};

/// The program that a cell's file begins with. It takes a number of seconds.
const PROGRAM: &str = "/bin/sleep";
/// The ways that are paired.
const WAYS: [Way; 4] = [Way::Read, Way::Shared, Way::Private, Way::Exec];
/// What the file is when the two meet it.
const STATES: [State; 4] = [State::Cold, State::Filling, State::Resident, State::Written];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Only in the under file system.
    Cold,
    /// Another process is reading it for the first time.
    Filling,
    /// Read to the end before.
    Resident,
    /// Another process has it open and writes.
    Written,
}

/// Where, and how large.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MatrixArgs {
    /// Directory under test
    dir: PathBuf,
    /// The same directory in the under file system, where cold files are put; DIR itself if not given
    #[arg(long)]
    ufs: Option<PathBuf>,
    /// Size of each file
    #[arg(long, default_value_t = 12)]
    mib: u64,
    /// How long both hold the file
    #[arg(long, default_value_t = 30)]
    hold_ms: u64,
    /// Run all cells this many times
    #[arg(long, default_value_t = 1)]
    rounds: u64,
}

/// Runs all cells; findings are printed and counted.
pub(crate) fn matrix(args: &MatrixArgs) -> Result<()> {
    let like = std::env::temp_dir().join(format!("forebay-matrix-{}", std::process::id()));
    make(&like, args.mib << 20)?;
    let mut findings = 0;
    let mut cells = 0;
    for round in 0..args.rounds {
        for state in STATES {
            for (first, second) in WAYS.iter().flat_map(|first| WAYS.map(|second| (*first, second))) {
                cells += 1;
                let name = format!("{round}-{state:?}-{first:?}-{second:?}").to_lowercase();
                for finding in cell(args, &like, &name, state, (first, second))? {
                    println!("FINDING {state:?}: {first:?} beside {second:?}: {finding}");
                    findings += 1;
                }
            }
        }
    }
    fs::remove_file(&like).during("remove", &like)?;
    if findings > 0 {
        return Err(Error::Found(findings));
    }
    println!("{cells} cells: every way works beside every other");
    Ok(())
}

fn make(like: &Path, len: u64) -> Result<()> {
    let mut data = fs::read(PROGRAM).during("read", Path::new(PROGRAM))?;
    let start = data.len() as u64;
    pattern::put(&mut data, 0xCE11, start, len.saturating_sub(start));
    fs::write(like, data).during("write", like)?;
    rustix::fs::chmod(like, rustix::fs::Mode::from_raw_mode(0o755)).during("chmod", like)
}

fn cell(args: &MatrixArgs, like: &Path, name: &str, state: State, ways: (Way, Way)) -> Result<Vec<String>> {
    let (path, source) = (args.dir.join(name), args.ufs.as_ref().unwrap_or(&args.dir).join(name));
    fs::copy(like, &source).during("put", &source)?;
    let mut findings = Vec::new();
    let before = match state {
        State::Cold => None,
        State::Resident => {
            read_all(&path).unwrap_or_else(|error| findings.push(format!("reading it first: {error}")));
            None
        }
        State::Filling => {
            let read = std::thread::scope(|scope| -> Result<_> {
                let reader = scope.spawn(|| read_all(&path));
                findings.extend(pair(args, like, &path, ways, None)?);
                Ok(reader.join().expect("the reader returns its errors"))
            })?;
            findings.extend(read.err().map(|error| format!("the filling reader: {error}")));
            return finish(&path, like, findings);
        }
        State::Written => Some(Running::start(Way::Write, &path, like)?),
    };
    findings.extend(pair(args, like, &path, ways, before)?);
    finish(&path, like, findings)
}

/// The two processes, one after the other, both holding the file for a while.
fn pair(
    args: &MatrixArgs,
    like: &Path,
    path: &Path,
    ways: (Way, Way),
    writer: Option<Running>,
) -> Result<Vec<String>> {
    let mut running: Vec<Running> = writer.into_iter().collect();
    running.push(Running::start(ways.0, path, like)?);
    running.push(Running::start(ways.1, path, like)?);
    std::thread::sleep(Duration::from_millis(args.hold_ms));
    let written = running.len() > 2;
    Ok(running.into_iter().filter_map(|one| one.end(written).err()).collect())
}

fn finish(path: &Path, like: &Path, mut findings: Vec<String>) -> Result<Vec<String>> {
    let want = fs::read(like).during("read", like)?;
    match fs::read(path) {
        Ok(data) if data == want => {}
        Ok(data) => findings.push(format!("afterwards it holds {} other bytes", data.len())),
        Err(error) => findings.push(format!("afterwards: {error}")),
    }
    fs::remove_file(path).unwrap_or_else(|error| findings.push(format!("removing it: {error}")));
    Ok(findings)
}

fn read_all(path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// A process of its own that uses the file.
struct Running {
    way: Way,
    child: Child,
    said: BufReader<ChildStdout>,
    first: String,
}

impl Running {
    /// Starts it and waits until it holds the file or gives up.
    fn start(way: Way, path: &Path, like: &Path) -> Result<Self> {
        let name = format!("{way:?}").to_lowercase();
        let mut command = Command::new("/proc/self/exe");
        command.args(["matrix-user", &name]).arg(path).arg(like).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().during("start a user of", path)?;
        let said = child.stdout.take().ok_or_else(|| Error::Usage("a child without output".to_owned()))?;
        let mut said = BufReader::new(said);
        let mut first = String::new();
        said.read_line(&mut first).during("hear a user of", path)?;
        Ok(Self { way, child, said, first })
    }

    /// Lets it end. The error says what it met.
    fn end(mut self, written: bool) -> std::result::Result<(), String> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        // What cannot be read was not said; the status tells the rest.
        let _ = self.said.read_to_string(&mut rest);
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let said = format!("{}{rest}", self.first);
        let bad = said.lines().find(|line| line.starts_with("bad"));
        match (status.success(), bad) {
            (true, None) if said.contains("busy") && !written => {
                Err(format!("{:?}: ETXTBSY and no writer", self.way))
            }
            (true, None) => Ok(()),
            (_, Some(line)) => Err(line.to_owned()),
            (false, None) => Err(format!("{:?} ended: {status}", self.way)),
        }
    }
}
