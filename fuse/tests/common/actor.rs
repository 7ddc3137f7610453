//! A second process that uses a file in one of several ways and holds it so.
//!
//! The test binary starts itself again with the way and the path in the environment; the test named `actor` then
//! plays the part. It says `held` when it has read the whole file, holds it until its standard input ends, reads it
//! once more, and says `done`. What fails is said as `errno N`. A fault in a map (the form that an I/O error takes
//! there) kills it by SIGBUS.

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const WAY: &str = "FOREBAY_ACTOR_WAY";
const PATH: &str = "FOREBAY_ACTOR_PATH";

/// How a process uses a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Opens and reads it.
    Open,
    /// Maps it shared, read-only.
    SharedMap,
    /// Maps it shared and writable, and writes what is there already.
    SharedWriteMap,
    /// Maps it privately and writes to its copy.
    PrivateMap,
    /// Opens it to read and write past the page cache (`O_DIRECT`), and writes what is there already.
    Direct,
    /// Opens it so, maps it shared and writable, and writes what is there already.
    DirectMap,
    /// Runs it.
    Exec,
}

impl Way {
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::SharedMap,
        Self::SharedWriteMap,
        Self::PrivateMap,
        Self::Direct,
        Self::DirectMap,
        Self::Exec,
    ];

    /// Whether it opens the file for writing.
    pub fn writes(self) -> bool {
        matches!(self, Self::SharedWriteMap | Self::Direct | Self::DirectMap)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SharedMap => "shared",
            Self::SharedWriteMap => "shared-write",
            Self::PrivateMap => "private",
            Self::Direct => "direct",
            Self::DirectMap => "direct-map",
            Self::Exec => "exec",
        }
    }
}

/// What became of a use.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It read what it should.
    Fine,
    /// A call failed.
    Errno(i32),
    /// It read something else.
    Wrong(String),
    /// It was killed.
    Signal(i32),
}

/// A process that holds a file.
pub struct Actor {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    way: Way,
}

impl Actor {
    /// Starts using `path`; an error if the first use failed.
    pub fn start(way: Way, path: &Path) -> Result<Self, Outcome> {
        let spawned = if way == Way::Exec { exec(path) } else { play(way, path) };
        let mut child = spawned.map_err(|error| Outcome::Errno(error.raw_os_error().unwrap_or(0)))?;
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut actor = Self { child, out, way };
        match actor.expect("held") {
            Outcome::Fine => Ok(actor),
            failed => Err(failed),
        }
    }

    /// Lets it use the file once more and end.
    pub fn end(mut self) -> Outcome {
        let outcome = if self.way == Way::Exec { self.echo("done") } else { self.close_and_expect("done") };
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        match (outcome, status.signal()) {
            (_, Some(signal)) => Outcome::Signal(signal),
            (outcome, None) => outcome,
        }
    }

    fn close_and_expect(&mut self, word: &str) -> Outcome {
        drop(self.child.stdin.take());
        self.expect(word)
    }

    /// A running `cat` shows that it runs by what it repeats.
    fn echo(&mut self, word: &str) -> Outcome {
        let stdin = self.child.stdin.as_mut().unwrap();
        if let Err(error) = stdin.write_all(format!("{word}\n").as_bytes()) {
            return Outcome::Errno(error.raw_os_error().unwrap_or(0));
        }
        self.expect(word)
    }

    fn expect(&mut self, word: &str) -> Outcome {
        if self.way == Way::Exec && word == "held" {
            return self.echo("ready");
        }
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).unwrap() == 0 {
                let status = self.child.wait().unwrap();
                return status.signal().map_or(Outcome::Wrong(format!("{status}")), Outcome::Signal);
            }
            // The test harness of the child prints lines of its own around the actor's.
            let line = line.trim().trim_start_matches("test actor ... ");
            if let Some(errno) = line.strip_prefix("errno ") {
                return Outcome::Errno(errno.parse().unwrap());
            }
            if let Some(what) = line.strip_prefix("wrong ") {
                return Outcome::Wrong(what.to_owned());
            }
            if line == word || self.way == Way::Exec {
                return Outcome::Fine;
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exec(path: &Path) -> std::io::Result<Child> {
    Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

fn play(way: Way, path: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["actor", "--exact", "--nocapture", "--ignored", "--test-threads=1"])
        .env(WAY, way.name())
        .env(PATH, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

/// The body of the ignored test `actor`: plays the part that the environment names.
pub fn perform() {
    let Ok(name) = std::env::var(WAY) else { return };
    let path = std::env::var_os(PATH).unwrap();
    let way = *Way::ALL.iter().find(|way| way.name() == name).unwrap();
    let result = match way {
        Way::Open => hold_open(Path::new(&path)),
        Way::Direct => hold_direct(Path::new(&path)),
        _ => hold_map(Path::new(&path), way),
    };
    match result {
        Ok(()) => println!("\ndone"),
        Err(error) => println!("\nerrno {}", error.raw_os_error().unwrap_or(0)),
    }
}

fn hold_open(path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut first = Vec::new();
    file.read_to_end(&mut first)?;
    hold();
    let mut again = vec![0; first.len()];
    file.read_exact_at(&mut again, 0)?;
    compare(&first, &again);
    Ok(())
}

fn hold_direct(path: &Path) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap();
    let (mut first, mut again) = (vec![0; len + 4096], vec![0; len + 4096]);
    let (first, again) = (aligned(&mut first, len), aligned(&mut again, len));
    file.read_exact_at(first, 0)?;
    file.write_all_at(&first[len / 2..], len as u64 / 2)?;
    hold();
    file.read_exact_at(again, 0)?;
    compare(first, again);
    Ok(())
}

/// The part of a longer buffer that begins where `O_DIRECT` wants it.
fn aligned(buffer: &mut [u8], len: usize) -> &mut [u8] {
    let skip = buffer.as_ptr().align_offset(4096);
    &mut buffer[skip..skip + len]
}

fn hold_map(path: &Path, way: Way) -> std::io::Result<()> {
    let direct = if way == Way::DirectMap { libc::O_DIRECT } else { 0 };
    let file = File::options().read(true).write(way.writes()).custom_flags(direct).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap();
    let (protection, flags) = match way {
        Way::SharedMap => (ProtFlags::READ, MapFlags::SHARED),
        Way::SharedWriteMap | Way::DirectMap => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
        _ => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE),
    };
    // SAFETY: a fresh mapping of `len` bytes at an address of the kernel's choice; nobody shortens the file.
    let address = unsafe { mmap(std::ptr::null_mut(), len, protection, flags, &file, 0) }?;
    // SAFETY: the mapping is readable over its whole length and lives until the munmap below; other processes may
    // write the bytes meanwhile, but only to the value that they have.
    let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), len) };
    let first = bytes.to_vec();
    if way != Way::SharedMap {
        for at in (0..len).step_by(4096) {
            // SAFETY: within the mapping, which is writable; a volatile write of the byte that is there.
            unsafe { address.cast::<u8>().add(at).write_volatile(first[at]) };
        }
    }
    hold();
    let mut through_file = vec![0; len + 4096];
    let through_file = aligned(&mut through_file, len);
    file.read_exact_at(through_file, 0)?;
    compare(&first, bytes);
    compare(&first, through_file);
    // SAFETY: the mapping made above, to which no reference is used from here on.
    unsafe { munmap(address, len) }?;
    Ok(())
}

fn hold() {
    println!("\nheld");
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).unwrap();
}

fn compare(first: &[u8], second: &[u8]) {
    if let Some(at) = first.iter().zip(second).position(|(a, b)| a != b) {
        println!("\nwrong byte {at} changed from {} to {}", first[at], second[at]);
    }
}
