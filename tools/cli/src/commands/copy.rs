//! `forebay fs cp`: copies through the mount, and shows how far it is.
//!
//! **Never does** anything that `cp` could not: a file is written beside its name and renamed, so that nobody sees
//! half of it and an upload behind the scenes finds one change.

use super::fs::report;
use crate::admin::Progress;
use crate::args::CopyArguments;
use crate::failure::{Failure, Outcome};
use crate::progress::Meter;
use serde_json::json;
use std::fs::{File, FileTimes, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// One read and one write.
const CHUNK_LEN: usize = 1 << 20;

/// One thing to copy.
struct Item {
    from: PathBuf,
    to: PathBuf,
    found: std::fs::Metadata,
}

/// Copies.
///
/// # Errors
/// The first file that could not be copied; those before it are there.
pub(crate) fn run(arguments: &CopyArguments) -> Outcome<()> {
    let (to, from) = arguments.paths.split_last().expect("clap asks for two paths at least");
    let mut items = Vec::new();
    for source in from {
        gather(source, &target_of(source, to, from.len())?, arguments.recursive, &mut items)?;
    }
    let mut copier = Copier::new(&items, arguments.json);
    for item in &items {
        copier.copy(item).map_err(|error| {
            let (from, to) = (item.from.display(), item.to.display());
            Failure::new(format!("cannot copy {from} to {to}: {error}"))
                .remedy(format!("{} files were copied before; mend it and copy again", copier.done.files))
        })?;
    }
    // The times of a directory change with what is copied into it, so they are set last, the deepest first.
    for item in items.iter().rev().filter(|item| item.found.is_dir()) {
        let kept = File::open(&item.to).and_then(|dir| keep_times(&dir, &item.found));
        kept.map_err(|error| {
            Failure::new(format!("cannot set the times of {}: {error}", item.to.display()))
        })?;
    }
    let done = copier.done;
    drop(copier);
    let result = json!({ "files": done.files, "bytes": done.bytes });
    report(arguments.json, &result, &format!("copied {} files, {} bytes", done.files, done.bytes))
}

/// Where a source goes: to the name given, or into the directory given.
fn target_of(source: &Path, to: &Path, sources: usize) -> Outcome<PathBuf> {
    if to.is_dir() {
        let name = source.file_name().map(ToOwned::to_owned);
        let name = name.or_else(|| Some(std::fs::canonicalize(source).ok()?.file_name()?.to_owned()));
        let name = name.ok_or_else(|| Failure::new(format!("{} has no name to copy", source.display())))?;
        return Ok(to.join(name));
    }
    match sources {
        1 => Ok(to.to_owned()),
        _ => Err(Failure::new(format!("{} is not a directory", to.display()))
            .remedy("several files can be copied only into a directory that exists")),
    }
}

fn gather(from: &Path, to: &Path, recursive: bool, items: &mut Vec<Item>) -> Outcome<()> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", from.display()));
    let found = std::fs::metadata(from).map_err(failed)?;
    if found.is_dir() && !recursive {
        return Err(Failure::new(format!("{} is a directory", from.display())).remedy("copy it with -r"));
    }
    refuse_itself(from, to, found.is_dir())?;
    gather_all(Item { from: from.to_owned(), to: to.to_owned(), found }, items)
}

/// A copy into itself would never end; a file copied onto itself would be for nothing.
fn refuse_itself(from: &Path, to: &Path, is_dir: bool) -> Outcome<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let parent = to.parent().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let target = real(to).or_else(|| Some(real(parent?)?.join(to.file_name()?)));
    let (Some(source), Some(target)) = (real(from), target) else { return Ok(()) };
    if source == target || (is_dir && target.starts_with(&source)) {
        let cause = format!("{} would be copied into itself", from.display());
        return Err(Failure::new(cause).remedy("choose a target outside of it"));
    }
    Ok(())
}

fn gather_all(item: Item, items: &mut Vec<Item>) -> Outcome<()> {
    let dir = item.found.is_dir().then(|| (item.from.clone(), item.to.clone()));
    items.push(item);
    let Some((from, to)) = dir else { return Ok(()) };
    let failed = |error: std::io::Error| Failure::new(format!("cannot list {}: {error}", from.display()));
    for entry in std::fs::read_dir(&from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let found = entry.metadata().map_err(failed)?;
        gather_all(Item { from: entry.path(), to: to.join(entry.file_name()), found }, items)?;
    }
    Ok(())
}

struct Copier {
    done: Progress,
    meter: Meter,
    chunk: Vec<u8>,
}

impl Copier {
    fn new(items: &[Item], quiet: bool) -> Self {
        let files = items.iter().filter(|item| item.found.is_file());
        let done = Progress {
            files_total: files.clone().count() as u64,
            bytes_total: files.map(|item| item.found.len()).sum(),
            ..Progress::default()
        };
        Self { done, meter: Meter::new("copy", quiet), chunk: vec![0; CHUNK_LEN] }
    }

    fn copy(&mut self, item: &Item) -> std::io::Result<()> {
        let kind = item.found.file_type();
        if kind.is_dir() {
            return make_dir(&item.to, &item.found);
        }
        if kind.is_symlink() {
            return copy_link(&item.from, &item.to);
        }
        if !kind.is_file() {
            return Err(std::io::Error::new(
                ErrorKind::Unsupported,
                "it is neither file, directory nor link",
            ));
        }
        let part = beside(&item.to);
        let copied = self.copy_bytes(item, &part).and_then(|()| std::fs::rename(&part, &item.to));
        if copied.is_err() {
            // The failure is being reported; what is left of the part is not worth a second one.
            let _ = std::fs::remove_file(&part);
        }
        copied?;
        self.done.files += 1;
        self.meter.show(self.done);
        Ok(())
    }

    fn copy_bytes(&mut self, item: &Item, part: &Path) -> std::io::Result<()> {
        let mut from = File::open(&item.from)?;
        let mode = item.found.permissions().mode() & 0o7777;
        let mut to = OpenOptions::new().write(true).create_new(true).mode(mode).open(part)?;
        loop {
            let len = match from.read(&mut self.chunk) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            to.write_all(&self.chunk[..len])?;
            self.done.bytes += len as u64;
            self.meter.show(self.done);
        }
        // The umask took its share of the mode at the creation.
        to.set_permissions(item.found.permissions())?;
        keep_times(&to, &item.found)
    }
}

fn make_dir(to: &Path, like: &std::fs::Metadata) -> std::io::Result<()> {
    match std::fs::create_dir(to) {
        Ok(()) => std::fs::set_permissions(to, like.permissions()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && to.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn copy_link(from: &Path, to: &Path) -> std::io::Result<()> {
    let (target, part) = (std::fs::read_link(from)?, beside(to));
    symlink(target, &part)?;
    std::fs::rename(&part, to)
}

fn keep_times(to: &File, like: &std::fs::Metadata) -> std::io::Result<()> {
    to.set_times(FileTimes::new().set_accessed(like.accessed()?).set_modified(like.modified()?))
}

/// A name of this process's own in the same directory.
fn beside(to: &Path) -> PathBuf {
    let name = xxhash_rust::xxh3::xxh3_64(to.as_os_str().as_encoded_bytes());
    to.with_file_name(format!(".forebay-cp-{}-{name:016x}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(paths: &[&Path]) -> Outcome<()> {
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        run(&CopyArguments { paths, recursive: true, json: true })
    }

    #[test]
    fn a_tree_is_copied_with_modes_times_and_links() {
        let base = tempfile::tempdir().unwrap();
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::write(from.join("a/b/f"), vec![7; 3 << 20]).unwrap();
        std::fs::set_permissions(from.join("a/b/f"), std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("b/f", from.join("a/l")).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
        for path in ["a/b/f", "a/b", "a"] {
            let times = FileTimes::new().set_modified(then).set_accessed(then);
            File::open(from.join(path)).unwrap().set_times(times).unwrap();
        }
        copy(&[&from, &to]).unwrap();
        assert_eq!(std::fs::read(to.join("a/b/f")).unwrap(), vec![7; 3 << 20]);
        let found = std::fs::metadata(to.join("a/b/f")).unwrap();
        assert_eq!((found.permissions().mode() & 0o7777, found.modified().unwrap()), (0o640, then));
        assert_eq!(std::fs::metadata(to.join("a")).unwrap().modified().unwrap(), then);
        assert_eq!(std::fs::read_link(to.join("a/l")).unwrap(), Path::new("b/f"));
        copy(&[&from, &to]).unwrap();
        assert!(
            to.join("from/a/b/f").exists(),
            "the second time the directory is there, and it goes into it"
        );
    }

    #[test]
    fn what_would_never_end_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("d");
        std::fs::create_dir(&dir).unwrap();
        assert!(copy(&[&dir, &dir.join("inside")]).unwrap_err().to_string().contains("into itself"));
        let file = dir.join("f");
        std::fs::write(&file, "x").unwrap();
        assert!(copy(&[&file, &file]).unwrap_err().to_string().contains("into itself"));
        assert!(
            copy(&[&file, &dir, &base.path().join("none")])
                .unwrap_err()
                .to_string()
                .contains("not a directory")
        );
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }
}
