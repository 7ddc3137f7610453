//! What was asked of a running daemon and outlives it: mounts that were added, paths that are pinned.
//!
//! **Owns** one small file in the cache directory, read at the start and replaced whole with every change: written
//! beside it, synced, renamed, so that a crash leaves the old one or the new one. It may hold credentials of under
//! file systems and is readable by its owner only.
//!
//! **Never does** what was asked: the mounts and the keeper do.

use crate::config::Mount;
use crate::failure::{Failure, Outcome};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Its name in the cache directory.
const FILE: &str = "ASKED";
/// The new one while it is written.
const PART_FILE: &str = "ASKED.part";
/// The version of its layout.
const LAYOUT_VERSION: u32 = 1;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    layout: u32,
    /// Paths below the root of the tree, without slashes around, of which everything is kept here.
    pub(crate) pins: BTreeSet<String>,
    /// Mounts that were added.
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { layout: LAYOUT_VERSION, pins: BTreeSet::new(), mounts: Vec::new() }
    }
}

/// The file, and what it says.
#[derive(Debug)]
pub(crate) struct AskedFile {
    dir: PathBuf,
    now: Mutex<Asked>,
}

impl AskedFile {
    /// Reads what was asked of the daemons before this one in the cache directory `dir`.
    ///
    /// # Errors
    /// It cannot be read, or is of another version.
    pub(crate) fn open(dir: &Path) -> Outcome<Self> {
        let path = dir.join(FILE);
        let now = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Asked::default(),
            Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
        };
        Ok(Self { dir: dir.to_owned(), now: Mutex::new(now) })
    }

    /// What is asked now.
    pub(crate) fn now(&self) -> Asked {
        self.now.lock().clone()
    }

    /// Whether a path below the root is pinned, itself or by one above it.
    pub(crate) fn is_pinned(&self, path: &[u8]) -> bool {
        self.now.lock().pins.iter().any(|pin| is_within(path, pin.as_bytes()))
    }

    /// Changes what is asked, durably. Blocks.
    ///
    /// # Errors
    /// The disk refuses; then nothing has changed.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Asked)) -> Outcome<()> {
        let mut now = self.now.lock();
        let mut next = now.clone();
        change(&mut next);
        write(&self.dir, &next).map_err(|error| {
            let path = self.dir.join(FILE);
            Failure::new(format!("cannot write {}: {error}", path.display()))
                .remedy("free some space on the disk of the cache directory")
        })?;
        *now = next;
        Ok(())
    }
}

/// Whether `path` is `top` or lies below it; everything lies below the empty one.
pub(crate) fn is_within(path: &[u8], top: &[u8]) -> bool {
    top.is_empty() || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn parse(path: &Path, text: &str) -> Outcome<Asked> {
    let damaged = |why: String| {
        Failure::new(format!("{} cannot be read: {why}", path.display()))
            .remedy("use the version of Forebay that wrote it, or take the file away and pin and mount again")
    };
    let asked: Asked = toml::from_str(text).map_err(|error| damaged(error.message().to_owned()))?;
    match asked.layout {
        LAYOUT_VERSION => Ok(asked),
        other => {
            Err(damaged(format!("it has layout version {other}, and this binary knows {LAYOUT_VERSION}")))
        }
    }
}

fn write(dir: &Path, asked: &Asked) -> std::io::Result<()> {
    let text = toml::to_string(asked).expect("what is asked is made of tables, lists and scalars");
    let part = dir.join(PART_FILE);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_asked_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = AskedFile::open(dir.path()).unwrap();
        assert_eq!(file.now(), Asked::default());
        let mut mount = Mount::at_root("s3://bucket/x".into());
        mount.at = "/sets".into();
        mount.options.insert("secret_access_key".into(), "hidden".into());
        file.change(|asked| {
            asked.pins.insert("a/b".into());
            asked.mounts.push(mount);
        })
        .unwrap();
        let again = AskedFile::open(dir.path()).unwrap();
        assert_eq!(again.now(), file.now());
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it may hold credentials");
        let pinned = ["a", "a/b", "a/b/c", "a/bc"].map(|path| again.is_pinned(path.as_bytes()));
        assert_eq!(pinned, [false, true, true, false]);
    }

    #[test]
    fn another_version_and_garbage_are_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for text in ["layout = 7\npins = []\n", "layout = \"x", "layout = 1\npins = []\nmore = 1\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(AskedFile::open(dir.path()).unwrap_err().to_string().contains("remedy"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
