//! One process that uses a file in one way: it must never meet EIO, ENODEV or SIGBUS, and must see the right bytes.
//!
//! It says `up` once it holds the file, waits until its standard input ends, looks again, and ends with 0. A failure
//! is one line on standard output that begins with `bad`, and status 1; `busy` says that the kernel refused to run a
//! file that is open for writing, or to open for writing one that runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use rustix::io::Errno;

use crate::kernel::{Mapping, Share};

/// A way to use a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// `open` and `read`.
    Read,
    /// A shared mapping for reading.
    Shared,
    /// A private mapping, which is also stored to.
    Private,
    /// Running it.
    Exec,
    /// Writing what is there already, again and again.
    Write,
}

/// What a process of its own is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UserArgs {
    /// How to use the file
    #[arg(value_enum)]
    way: Way,
    /// The file
    path: PathBuf,
    /// A file elsewhere with the bytes it must show
    like: PathBuf,
}

/// Bytes looked at at a time; no divisor of a page of 1 MiB, so that looks cross pages.
const STEP: usize = 700_001;

/// Uses the file.
pub(crate) fn user(args: &UserArgs) -> ExitCode {
    let used = fs::read(&args.like).and_then(|like| match args.way {
        Way::Read => read(&args.path, &like),
        Way::Shared => map(&args.path, &like, Share::Shared),
        Way::Private => map(&args.path, &like, Share::Private),
        Way::Exec => exec(&args.path),
        Way::Write => write(&args.path, &like),
    });
    match used {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::TXTBSY) => {
            say("busy");
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("bad {:?} of {}: {error}", args.way, args.path.display()));
            ExitCode::from(1)
        }
    }
}

fn say(line: &str) {
    let mut out = io::stdout();
    // Who would have read the line is gone when this fails: there is nobody to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Says that the file is held, and waits until the other side lets go.
fn hold() -> io::Result<()> {
    say("up");
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn same(like: &[u8], seen: &[u8], offset: usize) -> io::Result<()> {
    let want = like.get(offset..offset + seen.len()).unwrap_or(&[]);
    if want == seen {
        return Ok(());
    }
    let at = want.iter().zip(seen).position(|(a, b)| a != b).unwrap_or(want.len());
    Err(io::Error::other(format!("wrong bytes from {} on", offset + at)))
}

fn read(path: &Path, like: &[u8]) -> io::Result<()> {
    let file = File::open(path)?;
    let look = || -> io::Result<()> {
        let mut buffer = vec![0; STEP];
        let mut offset = 0;
        loop {
            let n = file.read_at(&mut buffer, offset as u64)?;
            same(like, &buffer[..n], offset)?;
            offset += n;
            if n == 0 {
                return if offset == like.len() {
                    Ok(())
                } else {
                    Err(io::Error::other("the end came too early"))
                };
            }
        }
    };
    // The first bytes only, then held: the rest is met in the state that the other process made.
    let mut first = [0; 4096];
    file.read_exact_at(&mut first, 0)?;
    same(like, &first, 0)?;
    hold()?;
    look()?;
    look()
}

fn map(path: &Path, like: &[u8], share: Share) -> io::Result<()> {
    let file = File::open(path)?;
    let map = Mapping::new(&file, like.len(), share)?;
    let look = |from: usize| -> io::Result<()> {
        let mut buffer = vec![0; STEP];
        for offset in (from..like.len()).step_by(STEP) {
            let n = STEP.min(like.len() - offset);
            map.read(offset, &mut buffer[..n]);
            same(like, &buffer[..n], offset)?;
        }
        Ok(())
    };
    let mut first = [0; 4096];
    map.read(0, &mut first);
    same(like, &first, 0)?;
    hold()?;
    look(0)?;
    if share == Share::Private {
        map.write(0, b"only in this process");
    }
    look(4096)
}

fn exec(path: &Path) -> io::Result<()> {
    let run =
        |seconds: &str| Command::new(path).arg(seconds).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let mut long = run("60")?;
    let held = hold();
    let short = run("0.01").and_then(|mut short| short.wait());
    long.kill()?;
    long.wait()?;
    held?;
    let status = short?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the program ended: {status}"))) }
}

fn write(path: &Path, like: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let all = || -> io::Result<()> {
        for offset in (0..like.len()).step_by(STEP) {
            file.write_all_at(&like[offset..(offset + STEP).min(like.len())], offset as u64)?;
        }
        Ok(())
    };
    all()?;
    let over = std::thread::spawn(hold);
    while !over.is_finished() {
        all()?;
    }
    file.sync_data()
}
