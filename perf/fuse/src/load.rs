//! The loads: each thread does one call after the other and notes how long each took.

use crate::resident;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// The file that is read and looked at; it is there, and so long at least.
pub const FILE: &str = "data";
pub const FILE_LEN: u64 = 64 << 20;
/// Names that are made begin so; the bare server knows none of them before.
pub const NEW: &str = "new";

/// Directories of the bare server that are listed begin so, and have so many names.
pub const LISTED: &str = "dir-";
pub const NAMES: u64 = 1000;
/// Each client lists so many of them in turn.
const DIRS_EACH: usize = 25;
/// What follows [`LISTED`] in the name of the first of them; the others count on from there.
const FIRST_LISTED: u8 = b'0';

const READ_LEN: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 4 KiB at pseudo-random places, past the page cache (O_DIRECT).
    Read,
    /// A new file, made, opened and closed.
    Create,
    /// The attributes of one file.
    Stat,
    /// All names of a directory.
    List,
}

#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Calls a second, of all threads.
    pub rate: f64,
    pub median_us: f64,
    pub p99_us: f64,
}

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "read" => Some(Self::Read),
            "create" => Some(Self::Create),
            "stat" => Some(Self::Stat),
            "list" => Some(Self::List),
            _ => None,
        }
    }
}

/// A buffer as O_DIRECT wants it.
#[repr(align(4096))]
struct Aligned([u8; READ_LEN]);

/// SplitMix64.
fn place(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % (FILE_LEN / READ_LEN as u64) * READ_LEN as u64
}

/// Puts the load on the mount. Reads find the file in memory: where `cache` has what backs it, all of that is held there.
pub fn run(
    kind: Kind,
    dir: &Path,
    threads: usize,
    time: Duration,
    cache: Option<&Path>,
) -> Result<Outcome, String> {
    // Open all the while, so that the file keeps the mode it has: read through the daemon.
    let open = File::open(dir.join(FILE)).map_err(|error| error.to_string())?;
    let mut _in_memory = None;
    if kind == Kind::Read {
        fill(&open)?;
        warm(&dir.join(FILE))?;
        _in_memory = cache.map(|cache| resident::hold(cache, FILE_LEN)).transpose()?;
    }
    let barrier = Barrier::new(threads);
    let begun = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let one = |thread| {
            scope.spawn({
                let barrier = &barrier;
                move || {
                    stay(thread)?;
                    barrier.wait();
                    lane(kind, dir, thread, time)
                }
            })
        };
        let lanes: Vec<_> = (0..threads).map(one).collect();
        lanes.into_iter().map(|lane| lane.join().expect("no lane panics")).collect::<Result<Vec<_>, _>>()
    })?;
    let took = begun.elapsed();
    let mut all: Vec<u32> = latencies.into_iter().flatten().collect();
    all.sort_unstable();
    let at = |share: f64| f64::from(all[((all.len() - 1) as f64 * share) as usize]) / 1000.0;
    Ok(Outcome { rate: all.len() as f64 / took.as_secs_f64(), median_us: at(0.5), p99_us: at(0.99) })
}

/// Reads everything once, so that the daemon has it.
fn fill(file: &File) -> Result<(), String> {
    let mut buffer = vec![0; 1 << 20];
    for at in (0..FILE_LEN).step_by(buffer.len()) {
        file.read_exact_at(&mut buffer, at).map_err(|error| format!("reading the file: {error}"))?;
    }
    Ok(())
}

/// Reads everything once as it will be read: long reads of what was fetched go past the page cache of what backs it, so
/// that only short ones bring it into memory.
fn warm(path: &Path) -> Result<(), String> {
    let (file, mut buffer) = (direct(path)?, Box::new(Aligned([0; READ_LEN])));
    for at in (0..FILE_LEN).step_by(READ_LEN) {
        file.read_exact_at(&mut buffer.0, at).map_err(|error| format!("warming the file: {error}"))?;
    }
    Ok(())
}

/// The file, read past the page cache of the mount.
fn direct(path: &Path) -> Result<File, String> {
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path);
    file.map_err(|error| error.to_string())
}

/// Keeps a client on one core. With a core to spare the scheduler else moves it at each answer, or not at all, and what is
/// measured is that.
fn stay(thread: usize) -> Result<(), String> {
    let cpus = std::thread::available_parallelism().map_err(|error| error.to_string())?.get();
    // From the last one on: the threads of a daemon that have no core of their own gather on the first.
    crate::bare::pin(cpus - 1 - thread % cpus).map_err(|error| format!("pinning a client: {error}"))
}

/// One thread's calls, in nanoseconds each.
fn lane(kind: Kind, dir: &Path, thread: usize, time: Duration) -> Result<Vec<u32>, String> {
    let (path, pid) = (dir.join(FILE), std::process::id());
    let direct = direct(&path)?;
    let (mut buffer, mut state) = (Box::new(Aligned([0; READ_LEN])), thread as u64);
    let mut latencies = Vec::with_capacity(1 << 20);
    let end = Instant::now() + time;
    let mut before = Instant::now();
    while before < end {
        let done = match kind {
            Kind::Read => direct.read_exact_at(&mut buffer.0, place(&mut state)),
            Kind::Stat => std::fs::metadata(&path).map(drop),
            Kind::Create => {
                let name = format!("{NEW}-{pid}-{thread}-{}", latencies.len());
                File::create_new(dir.join(name)).map(drop)
            }
            Kind::List => list(dir, thread * DIRS_EACH + latencies.len() % DIRS_EACH),
        };
        done.map_err(|error| format!("{kind:?}: {error}"))?;
        let after = Instant::now();
        latencies.push(u32::try_from((after - before).as_nanos()).unwrap_or(u32::MAX));
        before = after;
    }
    Ok(latencies)
}

/// Lists a directory of the bare server, which must have all its names.
fn list(dir: &Path, number: usize) -> std::io::Result<()> {
    let name = [LISTED.as_bytes(), &[FIRST_LISTED + number as u8]].concat();
    let listed = dir.join(std::ffi::OsStr::from_bytes(&name));
    let names = std::fs::read_dir(listed)?.try_fold(0, |names, entry| entry.map(|_| names + 1))?;
    if names == NAMES {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("{names} names instead of {NAMES}")))
    }
}
