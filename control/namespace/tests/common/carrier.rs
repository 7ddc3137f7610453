//! Carries persist tasks to a real directory, as the worker does: with versions checked before anything is
//! changed, and files replaced whole.

use super::{DirUfs, attr_of};
use forebay_types::{
    ContentLocation, FileKind, FsResult, MountId, PersistOutcome, PersistTask, PersistWork, UfsAttr, UfsKey,
    UfsVersion,
};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long the queue may take to say what is next, on a busy machine: a sync of the log is in it.
const PATIENCE: Duration = Duration::from_millis(200);

type Carried = Result<Option<UfsAttr>, PersistOutcome>;

pub fn carry(ufs: &DirUfs, task: &PersistTask) -> PersistOutcome {
    let carried = if task.again { look_into(ufs, task) } else { try_carry(ufs, task) };
    match carried {
        Ok(now) => PersistOutcome::Done(now),
        Err(outcome) => outcome,
    }
}

fn failed(error: impl std::fmt::Display) -> PersistOutcome {
    PersistOutcome::Failed(error.to_string())
}

fn there(path: &Path) -> Result<Option<UfsAttr>, PersistOutcome> {
    attr_of(path).map_err(failed)
}

fn expect(path: &Path, version: &Option<UfsVersion>) -> Result<(), PersistOutcome> {
    let found = there(path)?.map(|attr| attr.version);
    if found == *version { Ok(()) } else { Err(PersistOutcome::Conflict(None)) }
}

/// How a task ended that was begun before.
fn look_into(ufs: &DirUfs, task: &PersistTask) -> Carried {
    let there = |key: &UfsKey| there(&ufs.path(task.mount, key));
    let done = |attr: Option<UfsAttr>| attr.map(Some).ok_or(PersistOutcome::NotDone);
    match &task.work {
        PersistWork::Put { content, to, expect, .. } => done(there(to)?.filter(|there| {
            let other = Some(&there.version) != expect.as_ref();
            there.kind == FileKind::Regular && there.size == content.size && other
        })),
        PersistWork::MakeDir { key, .. } => {
            done(there(key)?.filter(|there| there.kind == FileKind::Directory))
        }
        PersistWork::MakeSpecial { key, attr, .. } => {
            done(there(key)?.filter(|there| there.kind == attr.kind && there.link_target == attr.link_target))
        }
        PersistWork::Link { existing, to, .. } => {
            let source = there(existing)?.map(|source| source.version);
            done(there(to)?.filter(|there| Some(&there.version) == source.as_ref()))
        }
        PersistWork::Move { from, to, kind, replaces, .. } => match there(from)? {
            Some(_) => Err(PersistOutcome::NotDone),
            None => done(there(to)?.filter(|there| {
                there.kind == *kind && (replaces.is_none() || Some(&there.version) != replaces.as_ref())
            })),
        },
        PersistWork::SetAttr { key, kind, .. } => match there(key)? {
            Some(there) if there.kind == *kind => try_carry(ufs, task),
            _ => Err(PersistOutcome::NotDone),
        },
        PersistWork::Remove { key, .. } => match there(key)? {
            None => Ok(None),
            Some(_) => Err(PersistOutcome::NotDone),
        },
    }
}

fn try_carry(ufs: &DirUfs, task: &PersistTask) -> Carried {
    let path = |key: &UfsKey| ufs.path(task.mount, key);
    match &task.work {
        PersistWork::Put { content, to, expect: version, attr } => {
            put(ufs, task.mount, content, (&path(to), version), attr)
        }
        PersistWork::MakeDir { key, attr } => {
            let at = path(key);
            match there(&at)? {
                None => std::fs::create_dir(&at).map_err(failed)?,
                Some(attr) if attr.kind == FileKind::Directory => {}
                Some(_) => return Err(PersistOutcome::Conflict(None)),
            }
            if let Some(mode) = attr.mode {
                let mode = std::fs::Permissions::from_mode(u32::from(mode));
                std::fs::set_permissions(&at, mode).map_err(failed)?;
            }
            there(&at)
        }
        PersistWork::MakeSpecial { key, expect: version, attr } => {
            let Some(target) = &attr.link_target else {
                return Err(PersistOutcome::Unpersistable("no pipes here".into()));
            };
            let at = path(key);
            if there(&at)?.is_some_and(|attr| attr.link_target.as_ref() == Some(target)) {
                return there(&at);
            }
            expect(&at, version)?;
            if version.is_some() {
                std::fs::remove_file(&at).map_err(failed)?;
            }
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &at).map_err(failed)?;
            there(&at)
        }
        PersistWork::Link { existing, to, expect: version } => {
            let (from, at) = (path(existing), path(to));
            let (source, target) = (there(&from)?, there(&at)?);
            if source.is_some() && source.map(|attr| attr.version) == target.map(|attr| attr.version) {
                return there(&at);
            }
            expect(&at, version)?;
            if version.is_some() {
                std::fs::remove_file(&at).map_err(failed)?;
            }
            std::fs::hard_link(from, &at).map_err(failed)?;
            there(&at)
        }
        PersistWork::Move { from, to, version, replaces, .. } => {
            let (from, at) = (path(from), path(to));
            if version.is_some() {
                expect(&from, version)?;
            }
            if there(&from)?.is_none() {
                return Err(PersistOutcome::Conflict(None));
            }
            expect(&at, replaces)?;
            std::fs::rename(from, &at).map_err(failed)?;
            there(&at)
        }
        PersistWork::SetAttr { key, kind, attr } => {
            let at = path(key);
            if *kind != FileKind::Directory {
                expect(&at, &Some(attr.version.clone()))?;
            }
            if let (Some(mode), false) = (attr.mode, *kind == FileKind::Symlink) {
                let mode = std::fs::Permissions::from_mode(u32::from(mode));
                std::fs::set_permissions(&at, mode).map_err(failed)?;
            }
            if *kind == FileKind::Directory {
                let since = Duration::new(attr.mtime.secs as u64, attr.mtime.nanos);
                let dir = std::fs::File::open(&at).map_err(failed)?;
                dir.set_modified(SystemTime::UNIX_EPOCH + since).map_err(failed)?;
            }
            there(&at)
        }
        PersistWork::Remove { key, kind, expect: version } => remove(&path(key), *kind, version),
    }
}

fn remove(at: &PathBuf, kind: FileKind, version: &Option<UfsVersion>) -> Carried {
    let Some(found) = there(at)? else { return Ok(None) };
    if version.as_ref().is_some_and(|version| found.version != *version) {
        return Err(PersistOutcome::Conflict(None));
    }
    let removed = match kind {
        FileKind::Directory => std::fs::remove_dir(at),
        _ => std::fs::remove_file(at),
    };
    match removed {
        Ok(()) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => Err(PersistOutcome::Conflict(None)),
        Err(e) => Err(failed(e)),
    }
}

fn put(
    ufs: &DirUfs,
    mount: MountId,
    content: &ContentLocation,
    (to, expected): (&Path, &Option<UfsVersion>),
    _attr: &UfsAttr,
) -> Carried {
    let mut bytes = match (&content.extent, &content.ufs) {
        (None, Some((key, version))) => {
            let from = ufs.path(mount, key);
            let found = there(&from)?.map(|attr| attr.version);
            assert_eq!(found.as_ref(), Some(version), "the content is not where it is said to be");
            std::fs::read(from).map_err(failed)?
        }
        (Some(extent), _) => extent.0.to_le_bytes().to_vec(),
        (None, None) => Vec::new(),
    };
    bytes.resize(content.size as usize, 0);
    let before = there(to)?.map(|attr| attr.version);
    if before != *expected {
        return Err(beside(to, &bytes));
    }
    let part = to.with_file_name(".part");
    std::fs::write(&part, bytes).map_err(failed)?;
    std::fs::rename(&part, to).map_err(failed)?;
    there(to)
}

fn beside(to: &Path, bytes: &[u8]) -> PersistOutcome {
    let mut name = to.file_name().unwrap().to_owned();
    name.push(".conflict-test");
    let beside = to.with_file_name(name);
    if let Err(error) = std::fs::write(&beside, bytes) {
        return failed(error);
    }
    PersistOutcome::Conflict(None)
}

/// Runs tasks until nothing is left that is due.
pub async fn carry_all(world: &super::World) -> FsResult<usize> {
    carry_some(world, usize::MAX).await
}

/// Runs at most `max` tasks.
pub async fn carry_some(world: &super::World, max: usize) -> FsResult<usize> {
    use forebay_types::PersistLog;
    let names = world.names();
    let (mut count, mut idle) = (0, 0);
    // A name that fails for ever must not keep the test.
    let max = max.min(300);
    while count < max && idle < 4 && names.dirty_stats().names > 0 {
        let task = tokio::time::timeout(PATIENCE, names.next()).await;
        let Ok(task) = task else {
            // Back-off and delays are of the clock, which stands still unless it is turned.
            world.clock.advance(Duration::from_secs(10));
            idle += 1;
            continue;
        };
        let outcome = carry(&world.ufs, &task);
        names.finish(&task, outcome).await?;
        (count, idle) = (count + 1, 0);
    }
    Ok(count)
}

/// Takes a task, if there is one.
pub async fn take(world: &super::World) -> Option<PersistTask> {
    use forebay_types::PersistLog;
    let names = world.names();
    if names.dirty_stats().names == 0 {
        return None;
    }
    tokio::time::timeout(PATIENCE, names.next()).await.ok()
}

/// Finds out how everything ended that was begun before the last crash.
pub async fn settle_begun(world: &super::World) {
    use forebay_types::PersistLog;
    let names = world.names();
    for task in names.begun() {
        let outcome = carry(&world.ufs, &task);
        assert!(!matches!(outcome, PersistOutcome::Failed(_)), "{task:?} was not settled: {outcome:?}");
        names.finish(&task, outcome).await.unwrap();
    }
}
