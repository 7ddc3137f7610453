//! `forebay fs rm`: removes through the mount.

use super::fs::report;
use crate::admin::{self, Request};
use crate::args::RemoveArguments;
use crate::failure::{Failure, Outcome};
use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;

/// What was removed.
#[derive(Default)]
struct Tally {
    files: u64,
    dirs: u64,
}

/// Removes.
///
/// # Errors
/// The first thing that could not be removed; what stood before it is gone.
pub(crate) fn run(arguments: &RemoveArguments) -> Outcome<()> {
    let mut tally = Tally::default();
    for path in &arguments.paths {
        let found = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound && arguments.force => continue,
            found => found.map_err(|error| cannot(path, &error))?,
        };
        match (found.is_dir(), arguments.recursive) {
            (false, _) => remove_file(path, &mut tally)?,
            (true, true) => {
                refuse_mounts(path)?;
                remove_dir(path, &mut tally)?;
            }
            (true, false) => {
                let cause = format!("{} is a directory", path.display());
                return Err(Failure::new(cause).remedy("remove it and all that is in it with -r"));
            }
        }
    }
    let Tally { files, dirs } = tally;
    let text = format!("removed {files} files and {dirs} directories");
    report(arguments.json, &json!({ "files": files, "directories": dirs }), &text)
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot remove {}: {error}", path.display()))
}

/// Below a mount point lies another under file system, whose content nobody meant who names a directory around it.
fn refuse_mounts(path: &Path) -> Outcome<()> {
    let target = admin::locate(path)?;
    let known = admin::connect(&target.socket, &Request::MountList)?.finish(|_| {})?;
    let places = known["mounts"].as_array().into_iter().flatten().filter_map(|mount| mount["at"].as_str());
    let inside = |at: &&str| crate::asked::is_within(at.trim_start_matches('/').as_bytes(), &target.path);
    match places.into_iter().find(inside) {
        None => Ok(()),
        Some("/") => Err(Failure::new(format!("{} is the mount itself", path.display()))
            .remedy("name what in it is to go")),
        Some(at) => Err(Failure::new(format!("{} holds the mount at {at}", path.display()))
            .remedy("take that away first: forebay mount remove")),
    }
}

fn remove_file(path: &Path, tally: &mut Tally) -> Outcome<()> {
    std::fs::remove_file(path).map_err(|error| cannot(path, &error))?;
    tally.files += 1;
    Ok(())
}

fn remove_dir(path: &Path, tally: &mut Tally) -> Outcome<()> {
    for entry in std::fs::read_dir(path).map_err(|error| cannot(path, &error))? {
        let entry = entry.map_err(|error| cannot(path, &error))?;
        match entry.file_type().map_err(|error| cannot(&entry.path(), &error))?.is_dir() {
            true => remove_dir(&entry.path(), tally)?,
            false => remove_file(&entry.path(), tally)?,
        }
    }
    std::fs::remove_dir(path).map_err(|error| cannot(path, &error))?;
    tally.dirs += 1;
    Ok(())
}
