//! The cache directory: where it is, whose it is, and that one daemon at a time has it.
//!
//! **Owns** the directory's own two files, `FOREBAY` (which node and which under file system it belongs to,
//! and the version of its layout) and `LOCK` (held with flock(2) while a daemon runs). What lies in its
//! folders `store/` and `meta/` belongs to those crates.
//!
//! **Never does** change a directory that it refuses. A directory that this process made and that never held
//! a served mount is taken away again when the start fails ([`CacheDir::abandon`]).
//!
//! **Why this shape:** a cache with data not yet persisted is the only copy of that data. Opening it for another
//! under file system would carry the data to the wrong place, so the claim is checked before anything is read.

use crate::failure::{Failure, Outcome};
use forebay_types::NodeId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The version of the directory's layout. Another version is refused, never guessed at.
const LAYOUT_VERSION: u32 = 1;
/// Says whose the directory is.
const CLAIM_FILE: &str = "FOREBAY";
/// The claim while it is written.
const PART_FILE: &str = "FOREBAY.part";
/// Held while a daemon runs.
const LOCK_FILE: &str = "LOCK";

/// What `FOREBAY` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    layout: u32,
    node: NodeId,
    ufs: String,
    /// The directory of the tier that is written to, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written_to: Option<PathBuf>,
}

/// A cache directory that this process has for itself until it is dropped.
#[derive(Debug)]
pub(crate) struct CacheDir {
    dir: PathBuf,
    made_here: bool,
    _lock: File,
}

/// Where the cache of an under file system is kept when nobody says: `/var/cache/forebay` for root, else the
/// user's cache directory; below it a name that tells under file systems apart.
pub(crate) fn default_dir(ufs: &str) -> Outcome<PathBuf> {
    let base = if rustix::process::geteuid().is_root() { PathBuf::from("/var/cache") } else { user_cache()? };
    Ok(base.join("forebay").join(name_for(ufs)))
}

fn user_cache() -> Outcome<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache"))).ok_or_else(|| {
        Failure::new("there is no place for the cache: neither XDG_CACHE_HOME nor HOME is set")
            .remedy("name a directory with --cache")
    })
}

/// The last component, for people, and a hash of the whole, to tell `a/data` from `b/data`.
fn name_for(ufs: &str) -> String {
    let last = ufs.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let plain: String =
        last.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(40).collect();
    format!("{}-{:016x}", plain.trim_start_matches('.'), xxhash_rust::xxh3::xxh3_64(ufs.as_bytes()))
}

impl CacheDir {
    /// Makes the directory if it is not there, locks it, and checks or writes whose it is.
    ///
    /// # Errors
    /// Another daemon has it, it belongs to another node, under file system or version, or the disk refuses.
    pub(crate) fn claim(dir: &Path, node: &NodeId, ufs: &str) -> Outcome<Self> {
        let made_here = make(dir)?;
        let claimed = Self::claim_existing(
            dir,
            made_here,
            &Claim { layout: LAYOUT_VERSION, node: node.clone(), ufs: ufs.to_owned(), written_to: None },
        );
        if claimed.is_err() && made_here {
            remove_quietly(dir);
        }
        claimed
    }

    fn claim_existing(dir: &Path, made_here: bool, ours: &Claim) -> Outcome<Self> {
        refuse_foreign_content(dir)?;
        let lock = lock(dir)?;
        match read_claim(dir)? {
            None => write_claim(dir, ours)?,
            Some(theirs) => compare(dir, ours, &theirs)?,
        }
        Ok(Self { dir: dir.to_owned(), made_here, _lock: lock })
    }

    /// Its folder for one part of the node.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Notes that what is written goes to the tier in `dir` from now on, whose content lies in its `folder`.
    ///
    /// # Errors
    /// Another one had it until now, and may hold the only copy of what is not persisted.
    pub(crate) fn settle_written_to(&self, dir: &Path, folder: &str) -> Outcome<()> {
        let claim = read_claim(&self.dir)?.ok_or_else(|| {
            Failure::new(format!("the claim of {} has gone", self.dir.display())).remedy("start again")
        })?;
        let before = claim.written_to.clone().unwrap_or_else(|| self.dir.clone());
        if before == dir {
            return Ok(());
        }
        let here = before == self.dir;
        if !here || self.folder(folder).exists() {
            let done = match here {
                true => format!("delete {}", self.folder(folder).display()),
                false => format!("take the line written_to out of {}", self.dir.join(CLAIM_FILE).display()),
            };
            let cause = format!(
                "what is written goes to {} now, and {} may hold the only copy of what was written before",
                dir.display(),
                before.display()
            );
            return Err(Failure::new(cause).remedy(format!(
                "make that the first tier on a disk again; or start as before, run `forebay fs persist --wait`, \
                 stop, and {done}"
            )));
        }
        write_claim(
            &self.dir,
            &Claim { written_to: Some(dir.to_owned()).filter(|dir| *dir != self.dir), ..claim },
        )
    }

    /// Takes the directory away again if this process made it: for a start that failed before the mount was
    /// served, when nothing in it can be of worth.
    pub(crate) fn abandon(self) {
        if self.made_here {
            remove_quietly(&self.dir);
        }
    }
}

fn denied(dir: &Path, attempt: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot {attempt} the cache directory {}: {error}", dir.display()));
    match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => {
            failure.remedy("the disk is read-only; choose another with --cache")
        }
        std::io::ErrorKind::StorageFull => {
            failure.remedy("the disk is full; free some space, or choose another with --cache")
        }
        _ => failure.remedy("choose a directory you may write with --cache"),
    }
}

/// Whether this call made it. Its parents may be shared, so they stay when the start fails.
fn make(dir: &Path) -> Outcome<bool> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(|e| denied(dir, "make", &e))?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
        Err(error) => Err(denied(dir, "make", &error)),
    }
}

/// A directory with somebody's files and no claim is more likely a slip of the keyboard than a cache.
fn refuse_foreign_content(dir: &Path) -> Outcome<()> {
    let mut entries = std::fs::read_dir(dir).map_err(|e| denied(dir, "read", &e))?;
    let foreign = |name: &std::ffi::OsStr| name != LOCK_FILE && name != PART_FILE && name != "lost+found";
    if dir.join(CLAIM_FILE).exists() || !entries.any(|entry| entry.is_ok_and(|e| foreign(&e.file_name()))) {
        return Ok(());
    }
    Err(Failure::new(format!("{} holds files and is no cache directory of Forebay", dir.display()))
        .remedy("give an empty or a new directory with --cache"))
}

fn lock(dir: &Path) -> Outcome<File> {
    let path = dir.join(LOCK_FILE);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = opened.map_err(|e| denied(dir, "lock", &e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(in_use(dir, &mut file)),
        Err(error) => return Err(denied(dir, "lock", &error.into())),
    }
    let note = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    note.map_err(|e| denied(dir, "write to", &e))?;
    Ok(file)
}

fn in_use(dir: &Path, file: &mut File) -> Failure {
    let mut pid = String::new();
    let holder = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    Failure::new(format!("the cache directory {} is in use by {holder}", dir.display()))
        .remedy("stop that daemon first, or give this one a directory of its own with --cache")
}

fn read_claim(dir: &Path) -> Outcome<Option<Claim>> {
    let path = dir.join(CLAIM_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(denied(dir, "read", &error)),
    };
    toml::from_str(&text).map(Some).map_err(|error| {
        Failure::new(format!("{} is damaged: {}", path.display(), error.message())).remedy(
            "restore the file from a backup; the directory may hold the only copy of data not yet persisted",
        )
    })
}

fn compare(dir: &Path, ours: &Claim, theirs: &Claim) -> Outcome<()> {
    let refuse = |what: String, remedy: &str| {
        let cause = format!("the cache directory {} belongs to {what}", dir.display());
        Err(Failure::new(cause).remedy(remedy))
    };
    if theirs.layout != ours.layout {
        let what = format!("layout version {}, and this binary knows version {}", theirs.layout, ours.layout);
        return refuse(what, "use the binary that made it, or another directory with --cache");
    }
    if theirs.node != ours.node {
        let what = format!("node {}, and this is node {}", theirs.node, ours.node);
        return refuse(
            what,
            "set node.name (FOREBAY_NODE_NAME) if it is the same machine, or give another --cache",
        );
    }
    if theirs.ufs != ours.ufs {
        return refuse(format!("{}, not to {}", theirs.ufs, ours.ufs), "give another directory with --cache");
    }
    Ok(())
}

/// Written beside and renamed, so that a crash leaves either no claim or a whole one.
fn write_claim(dir: &Path, claim: &Claim) -> Outcome<()> {
    let text = toml::to_string(claim).expect("a claim is a table of scalars");
    let (path, part) = (dir.join(CLAIM_FILE), dir.join(PART_FILE));
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, &path))
        .and_then(|()| File::open(dir).and_then(|dir| dir.sync_all()));
    written.map_err(|e| {
        // The failure is already being reported; what is left of the part file is overwritten next time.
        let _ = std::fs::remove_file(&part);
        denied(dir, "write to", &e)
    })
}

fn remove_quietly(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "the unused cache directory could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn refusal(dir: &Path, name: &str, ufs: &str) -> String {
        CacheDir::claim(dir, &node(name), ufs).unwrap_err().to_string()
    }

    #[test]
    fn one_daemon_at_a_time_and_always_the_same_owner() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/cache");
        let held = CacheDir::claim(&dir, &node("n1"), "/data").unwrap();
        let pid = std::process::id().to_string();
        let busy = refusal(&dir, "n1", "/data");
        assert!(busy.contains("in use by process") && busy.contains(&pid), "{busy}");
        drop(held);
        assert!(refusal(&dir, "n2", "/data").contains("belongs to node n1, and this is node n2"));
        assert!(refusal(&dir, "n1", "/other").contains("belongs to /data, not to /other"));
        CacheDir::claim(&dir, &node("n1"), "/data").unwrap();
    }

    #[test]
    fn the_tier_that_may_hold_an_only_copy_is_not_forgotten() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("cache");
        let held = CacheDir::claim(&dir, &node("n1"), "/data").unwrap();
        let (one, other) = (base.path().join("one"), base.path().join("other"));
        held.settle_written_to(&dir, "store").unwrap();
        held.settle_written_to(&one, "store").unwrap();
        held.settle_written_to(&one, "store").unwrap();
        let refused = held.settle_written_to(&other, "store").unwrap_err().to_string();
        assert!(
            refused.contains("may hold the only copy") && refused.contains("the line written_to"),
            "{refused}"
        );
        assert!(held.settle_written_to(&dir, "store").is_err());
        let claim = std::fs::read_to_string(dir.join(CLAIM_FILE)).unwrap();
        let lines: String =
            claim.lines().filter(|l| !l.starts_with("written_to")).map(|l| format!("{l}\n")).collect();
        std::fs::write(dir.join(CLAIM_FILE), lines).unwrap();
        std::fs::create_dir(dir.join("store")).unwrap();
        let refused = held.settle_written_to(&other, "store").unwrap_err().to_string();
        assert!(refused.contains(&format!("delete {}", dir.join("store").display())), "{refused}");
        std::fs::remove_dir(dir.join("store")).unwrap();
        held.settle_written_to(&other, "store").unwrap();
    }

    #[test]
    fn another_version_and_a_damaged_claim_are_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let claim = dir.path().join(CLAIM_FILE);
        for (text, said) in [
            ("layout = 99\nnode = \"n1\"\nufs = \"/data\"\n", "layout version 99"),
            ("layout = \"x", "is damaged"),
        ] {
            std::fs::write(&claim, text).unwrap();
            let refused = refusal(dir.path(), "n1", "/data");
            assert!(refused.contains(said), "{refused}");
            assert_eq!(std::fs::read_to_string(&claim).unwrap(), text);
        }
    }

    #[test]
    fn a_directory_with_other_files_is_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(refusal(dir.path(), "n1", "/data").contains("is no cache directory"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_abandoned_start_leaves_nothing_it_made() {
        let base = tempfile::tempdir().unwrap();
        let fresh = base.path().join("fresh");
        CacheDir::claim(&fresh, &node("n1"), "/data").unwrap().abandon();
        assert!(!fresh.exists());
        let kept = base.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        CacheDir::claim(&kept, &node("n1"), "/data").unwrap().abandon();
        assert!(kept.join(CLAIM_FILE).exists());
    }

    #[test]
    fn names_tell_under_file_systems_apart() {
        assert!(name_for("/a/data/").starts_with("data-"));
        assert_ne!(name_for("/a/data"), name_for("/b/data"));
        assert!(!name_for("s3://b/../x?y").contains(['/', '?']));
    }
}
