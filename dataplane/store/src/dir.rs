//! The directory of a tier: whose it is, who has it open, how the last process left it.
//!
//! **Owns** the files `tier` and `lock` and the judgement on a directory that is to become a tier or was one. **Never
//! does** change anything in a directory that it refuses. Every refusal names the cause and the remedy.

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::format::tier::TierHeader;
use crate::format::{FORMAT_VERSION, Refused};
use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

const HEADER_FILE: &str = "tier";
const HEADER_NEW_FILE: &str = "tier.new";
const LOCK_FILE: &str = "lock";
pub(crate) const EXTENTS_DIR: &str = "extents";
pub(crate) const SEGMENTS_DIR: &str = "segments";
/// ext4, XFS and others report overlayfs by this number (`OVERLAYFS_SUPER_MAGIC` of linux/magic.h).
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// How often the lock is tried, and the pause after each time.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How the last process left a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastExit {
    /// There was none: the directory is new.
    New,
    /// It synced everything.
    Clean,
    /// The daemon died, the machine did not: all that was written is there.
    DaemonDied,
    /// The machine went down: only what was synced is believed.
    Unclean,
}

/// The kernel stacks FUSE passthrough on one file system only, so not on overlayfs.
pub(crate) fn permits_passthrough(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type as u64 != OVERLAYFS_MAGIC)
}

/// A directory with other people's files in it is never made a tier.
pub(crate) fn refuse_foreign_content(dir: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::io(format!("reading cache directory {}", dir.display()), source);
    if dir.join(HEADER_FILE).exists() {
        return Ok(());
    }
    // What a first start that was cut short leaves, and what mkfs leaves.
    let ours = [LOCK_FILE, HEADER_NEW_FILE, EXTENTS_DIR, SEGMENTS_DIR, "lost+found"];
    for entry in fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let known = ours.iter().any(|ours| name == *ours);
        let holds_extents =
            name == EXTENTS_DIR && fs::read_dir(dir.join(&name)).map_err(io)?.next().is_some();
        if !known || holds_extents {
            return Err(StoreError::NotATier { dir: dir.to_owned() });
        }
    }
    Ok(())
}

/// A process that is just ending, or was just forked from its holder, may have the lock for a moment yet.
fn take_lock(file: &File) -> io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

pub(crate) fn lock_dir(dir: &Path) -> Result<File, StoreError> {
    let io = |source| StoreError::io(format!("locking cache directory {}", dir.display()), source);
    let path = dir.join(LOCK_FILE);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    if !take_lock(&file).map_err(io)? {
        let mut holder = String::new();
        // The holder's number is for people only; without it the error is still right.
        let _ = file.read_to_string(&mut holder);
        let holder = if holder.trim().is_empty() { "(unknown)" } else { holder.trim() };
        return Err(StoreError::Locked { dir: dir.to_owned(), holder: holder.to_owned() });
    }
    file.set_len(0).map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

pub(crate) fn read_header(dir: &Path, cfg: &StoreConfig) -> Result<Option<TierHeader>, StoreError> {
    let path = dir.join(HEADER_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io(format!("reading {}", path.display()), e)),
    };
    let header = TierHeader::decode(&bytes).map_err(|refused| match refused {
        Refused::Version(theirs) => {
            StoreError::ForeignVersion { dir: dir.to_owned(), theirs, ours: FORMAT_VERSION }
        }
        other => StoreError::DamagedHeader { path, reason: format!("{other:?}") },
    })?;
    if header.node != cfg.node {
        return Err(StoreError::ForeignNode {
            dir: dir.to_owned(),
            theirs: header.node,
            ours: cfg.node.clone(),
        });
    }
    Ok(Some(header))
}

/// The header this process works under, and how the one before it ended.
pub(crate) fn next_header(
    cfg: &StoreConfig,
    found: Option<TierHeader>,
    boot_id: [u8; 16],
) -> (TierHeader, LastExit) {
    let Some(old) = found else {
        let node = cfg.node.clone();
        let (page_size, id_mark) = (cfg.page_size, first_id_mark());
        let fresh = TierHeader { node, page_size, boot_id, epoch: 1, clean: false, id_mark };
        return (fresh, LastExit::New);
    };
    let exit = match (old.clean, old.boot_id == boot_id) {
        (true, _) => LastExit::Clean,
        (false, true) => LastExit::DaemonDied,
        (false, false) => LastExit::Unclean,
    };
    // A start that follows the machine's fall bears the boot of before until it has come to its end. If it does not, what
    // it found out is in no memory any more, and the next one has to find it out again.
    let (epoch, boot_id) = match exit {
        LastExit::Unclean => (old.epoch.wrapping_add(1), old.boot_id),
        _ => (old.epoch, boot_id),
    };
    (TierHeader { boot_id, epoch, clean: false, page_size: cfg.page_size, ..old }, exit)
}

/// Where the ids of a new tier begin: somewhere in 2^62, so that they are others than those of a tier that was here before
/// and is lost. The name space may still speak of its extents, and must not find another file's bytes under their ids.
fn first_id_mark() -> u64 {
    const RANDOM_BITS: u32 = 42;
    const STEP_BITS: u32 = 20;
    let random = RandomState::new().hash_one(());
    (random >> (u64::BITS - RANDOM_BITS)).max(1) << STEP_BITS
}

/// Syncs the entries of a directory. Blocks.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces the header so that after a power loss it is the old one or the new one. Blocks.
pub(crate) fn replace_header(dir: &Path, header: &TierHeader) -> io::Result<()> {
    let path = dir.join(HEADER_NEW_FILE);
    let mut file = File::create(&path)?;
    file.write_all(&header.encode())?;
    file.sync_all()?;
    fs::rename(&path, dir.join(HEADER_FILE))?;
    sync_dir(dir)
}

/// The kernel's random id of this boot.
pub(crate) fn boot_id() -> Result<[u8; 16], StoreError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(PATH).map_err(|e| StoreError::io(format!("reading {PATH}"), e))?;
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number =
        u128::from_str_radix(&hex, 16).map_err(|_| StoreError::Config(format!("{PATH} has no id")))?;
    Ok(number.to_be_bytes())
}
