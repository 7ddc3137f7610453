//! What one process leaves to the next, so that it goes on with the mount.
//!
//! **Owns** the terms: what the two must agree about, and the order of the descriptors. **Never does** keep anything while
//! nobody serves, nor decide whether to take over: `tools/cli` does both. A process that does not agree takes nothing, and
//! the mount is made anew.

use crate::channel::{Agreed, Granted, granted_before};
use crate::mounting::{Attached, MountSpec, place_of};
use crate::options::MountOptions;
use crate::roll::{self, Entry, OpenedDir, OpenedFile, Place, Roll};
use forebay_types::Ino;
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// The most descriptors of one mount: the device, the roll, and a clone for each shard.
pub const ESTATE_FDS_MAX: usize = 1 + roll::FILES + 1024;

/// What a process leaves: words that the next one reads, and descriptors in an order that both know.
#[derive(Debug)]
pub struct Estate {
    /// What the two must agree about.
    pub terms: Vec<u8>,
    /// The device, the roll, and the clones of the device.
    pub fds: Vec<OwnedFd>,
}

/// Why a mount is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum NotTakenOver {
    /// The process before this one was of another version, or was started otherwise.
    #[error("{0} was otherwise: {1:?} then and {2:?} now")]
    Differs(&'static str, String, String),
    /// The kernel was told something that we would not have.
    #[error("the kernel was promised other things than this version would")]
    OtherPromises,
    /// More was open than the roll could hold.
    #[error("not all that is open is known")]
    Incomplete,
    /// What was left cannot be read.
    #[error("what was left is damaged")]
    Damaged,
    /// The mount is gone.
    #[error("the mount is not there any more")]
    Gone,
    /// The roll cannot be read.
    #[error("the roll of what is open cannot be read: {0}")]
    Roll(#[from] io::Error),
}

/// What the process before this one left, agreed to.
#[derive(Debug)]
pub struct Inherited {
    pub(crate) device: OwnedFd,
    pub(crate) clones: Vec<OwnedFd>,
    pub(crate) granted: Granted,
    pub(crate) attached: Attached,
    pub(crate) entries: Vec<(Place, Entry)>,
    roll: Arc<Roll>,
}

/// The words of the terms, one line each: a name, a space and the value.
const FORMAT: &str = "format";
const SOURCE: &str = "source";
const DIR: &str = "dir";
const OPTIONS: &str = "options";
const MOUNT: &str = "mount";
const BY_FUSERMOUNT: &str = "by-fusermount";
const AGREED: &str = "agreed";

/// The terms of a mount.
pub(crate) fn terms(spec: &MountSpec, attached: &Attached, agreed: Agreed) -> Vec<u8> {
    let Agreed { major, minor, max_readahead, offered, taken } = agreed;
    let lines = [
        (FORMAT, roll::FORMAT.to_string()),
        (SOURCE, spec.source.escape_debug().to_string()),
        (DIR, words_of(attached.dir())),
        (OPTIONS, kernel_options(&spec.options)),
        (MOUNT, attached.device_number().to_string()),
        (BY_FUSERMOUNT, attached.by_fusermount().to_string()),
        (AGREED, format!("{major} {minor} {max_readahead} {offered} {taken}")),
    ];
    lines.iter().flat_map(|(name, value)| format!("{name} {value}\n").into_bytes()).collect()
}

fn words_of(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

/// Those that the kernel was told when the mount was made.
fn kernel_options(options: &MountOptions) -> String {
    let MountOptions { allow_other, read_only, noatime, dev, suid, exec, .. } = options;
    let all = [
        (allow_other, "allow_other"),
        (read_only, "ro"),
        (noatime, "noatime"),
        (dev, "dev"),
        (suid, "suid"),
        (exec, "exec"),
    ];
    let on: Vec<_> = all.iter().filter(|(on, _)| **on).map(|(_, word)| *word).collect();
    on.join(",")
}

/// The version of what processes of this version leave to each other.
pub fn estate_format() -> u32 {
    roll::FORMAT
}

/// The terms, read.
struct Read<'t>(&'t str);

impl<'t> Read<'t> {
    fn value(&self, name: &str) -> Result<&'t str, NotTakenOver> {
        let value = |line: &'t str| line.strip_prefix(name)?.strip_prefix(' ');
        self.0.lines().find_map(value).ok_or(NotTakenOver::Damaged)
    }

    fn demand(&self, name: &'static str, now: &str) -> Result<(), NotTakenOver> {
        match self.value(name)? {
            same if same == now => Ok(()),
            then => Err(NotTakenOver::Differs(name, then.to_owned(), now.to_owned())),
        }
    }

    fn agreed(&self) -> Result<Agreed, NotTakenOver> {
        fn next<T: FromStr>(words: &mut std::str::SplitWhitespace<'_>) -> Result<T, NotTakenOver> {
            words.next().and_then(|word| word.parse().ok()).ok_or(NotTakenOver::Damaged)
        }
        let mut words = self.value(AGREED)?.split_whitespace();
        Ok(Agreed {
            major: next(&mut words)?,
            minor: next(&mut words)?,
            max_readahead: next(&mut words)?,
            offered: next(&mut words)?,
            taken: next(&mut words)?,
        })
    }
}

impl Inherited {
    /// Agrees to go on with a mount, if it is the one that `spec` would make.
    ///
    /// # Errors
    /// Why not. The descriptors are closed then.
    pub fn accept(estate: Estate, spec: &MountSpec) -> Result<Self, NotTakenOver> {
        let terms = std::str::from_utf8(&estate.terms).map_err(|_| NotTakenOver::Damaged)?;
        let read = Read(terms);
        read.demand(FORMAT, &roll::FORMAT.to_string())?;
        read.demand(SOURCE, &spec.source.escape_debug().to_string())?;
        read.demand(OPTIONS, &kernel_options(&spec.options))?;
        let (dir, device_number) = place_of(&spec.dir).ok_or(NotTakenOver::Gone)?;
        read.demand(DIR, &words_of(&dir))?;
        if read.value(MOUNT)? != device_number.to_string() {
            return Err(NotTakenOver::Gone);
        }
        let by_fusermount = read.value(BY_FUSERMOUNT)? == true.to_string();
        let granted = granted_before(read.agreed()?).ok_or(NotTakenOver::OtherPromises)?;
        Self::with(estate.fds, granted, Attached::found(dir, device_number, by_fusermount))
    }

    fn with(fds: Vec<OwnedFd>, granted: Granted, attached: Attached) -> Result<Self, NotTakenOver> {
        let mut fds = fds.into_iter();
        let device = fds.next().ok_or(NotTakenOver::Damaged)?;
        let of_roll: Vec<_> = fds.by_ref().take(roll::FILES).collect();
        let of_roll = <[OwnedFd; roll::FILES]>::try_from(of_roll).map_err(|_| NotTakenOver::Damaged)?;
        let (roll, entries) = Roll::open(of_roll)?;
        if entries.iter().any(|(_, entry)| matches!(entry, Entry::Incomplete)) {
            return Err(NotTakenOver::Incomplete);
        }
        Ok(Self { device, clones: fds.collect(), granted, attached, entries, roll: Arc::new(roll) })
    }

    /// The roll, which goes on.
    pub fn roll(&self) -> Arc<Roll> {
        Arc::clone(&self.roll)
    }

    /// The inodes that are open.
    pub fn open_inodes(&self) -> HashSet<Ino> {
        let ino = |(_, entry): &(Place, Entry)| match entry {
            Entry::File(OpenedFile { ino, .. }) | Entry::Dir(OpenedDir { ino, .. }) => Some(*ino),
            Entry::Incomplete | Entry::Inode { .. } | Entry::Exchange { .. } => None,
        };
        self.entries.iter().filter_map(ino).collect()
    }

    /// The records of inodes that stood in no engine.
    pub fn records(&self) -> Vec<(Ino, Box<[u8]>)> {
        let record = |(_, entry): &(Place, Entry)| match entry {
            Entry::Inode { ino, record } => Some((*ino, record.clone())),
            Entry::Incomplete | Entry::File(_) | Entry::Dir(_) | Entry::Exchange { .. } => None,
        };
        self.entries.iter().filter_map(record).collect()
    }
}
