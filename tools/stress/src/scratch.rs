//! The folder of a run within the directory that is measured: made at its start, removed at its end.
//!
//! Every node of a run has a folder of its own in it. A folder that is there already is never touched: it may be kept from
//! an earlier run, or in use by another.

use crate::error::{During, Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a folder is tried to be removed into which something is still put, and the pause between two tries.
const REMOVE_WITHIN: Duration = Duration::from_secs(10);
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// Where a run works.
#[derive(Debug)]
pub(crate) struct Scratch {
    top: PathBuf,
    node: usize,
    keep: bool,
}

impl Scratch {
    /// Makes the folder of this node in `dir`.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    pub(crate) fn make(dir: &Path, name: &str, node: usize, keep: bool) -> Result<Self> {
        let scratch = Self { top: dir.join(format!("forebay-bench-{name}")), node, keep };
        match fs::create_dir(&scratch.top) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
        .during("create", &scratch.top)?;
        let mine = scratch.of(node);
        match fs::create_dir(&mine) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::usage(
                format!("{} is there already", mine.display()),
                "remove it if no other run uses it, or give this run another --name",
            )),
            made => made.during("create", &mine).map(|()| scratch),
        }
    }

    /// Takes the folder that an earlier run kept; it stays when this one ends.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn find(dir: &Path, name: &str, node: usize) -> Result<Self> {
        let scratch = Self { top: dir.join(format!("forebay-bench-{name}")), node, keep: true };
        let mine = scratch.of(node);
        if mine.is_dir() {
            return Ok(scratch);
        }
        Err(Error::usage(
            format!("{} is not there", mine.display()),
            "run once with --keep and the same settings",
        ))
    }

    /// The folder of a node.
    pub(crate) fn of(&self, node: usize) -> PathBuf {
        self.top.join(format!("node-{node}"))
    }

    /// The folder of this node.
    pub(crate) fn mine(&self) -> PathBuf {
        self.of(self.node)
    }

    /// Removes what this node made, unless it is to be kept.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(crate) fn remove(self) -> Result<()> {
        if self.keep {
            return Ok(());
        }
        remove_all(&self.mine())?;
        match fs::remove_dir(&self.top) {
            // Other nodes still have theirs in it; the last one takes it away.
            Err(error) if !matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {
                Err(error).during("remove", &self.top)
            }
            _ => Ok(()),
        }
    }
}

/// Removes a folder with all that is in it. A helper thread of a store that was closed a moment ago may still be at the
/// end of what it had begun in it.
fn remove_all(folder: &Path) -> Result<()> {
    let until = Instant::now() + REMOVE_WITHIN;
    loop {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < until => {
                std::thread::sleep(REMOVE_PAUSE);
            }
            removed => return removed.during("remove", folder),
        }
    }
}

/// Refuses to begin what would fill the file system of `dir`.
///
/// # Errors
/// There is not so much room.
pub(crate) fn require_room(dir: &Path, bytes: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).during("look at", dir)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    let shown = |bytes: u64| crate::units::bytes(bytes as f64);
    Err(Error::usage(
        format!("this run writes {}, and {} has {} free", shown(bytes), dir.display(), shown(free)),
        "ask for less, or measure a larger file system",
    ))
}
