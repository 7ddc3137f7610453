//! `forebay fs`: what a person asks about the files of a mount.
//!
//! Listings, copies and removals go through the mount itself, like those of any other program; the state of a file is
//! an extended attribute. What only the daemon can do is asked over its admin socket.

use super::{check, copy, print, print_json, print_on, remove};
use crate::admin::{self, Request};
use crate::args::{FsCommand, Steer};
use crate::failure::{Failure, Outcome};
use crate::progress::Meter;
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where Forebay shows the state of a file.
const STATE_XATTR: &str = "user.forebay.state";
/// One read of `cat`.
const CHUNK_LEN: usize = 1 << 20;
/// Entries that are sorted at a time: a directory with more of them is shown in pieces, and never held whole.
const SORTED_MAX: usize = 10_000;
/// The longest state.
const STATE_LEN_MAX: usize = 256;

/// Runs one of the commands.
///
/// # Errors
/// What the mount or the daemon said.
pub(crate) fn run(command: FsCommand) -> Outcome<()> {
    match command {
        FsCommand::Ls { path, json } => list(&path, json),
        FsCommand::Stat { path, json } => {
            let result = ask(&path, "stat", true, |path| Request::Stat { path })?;
            show(&result, json)
        }
        FsCommand::Load(steer) => steer_files(&steer, "load", |path| Request::Load { path }),
        FsCommand::Free(steer) => steer_files(&steer, "free", |path| Request::Free { path }),
        FsCommand::Persist { what, wait } => {
            steer_files(&what, "persist", |path| Request::Persist { path, wait })
        }
        FsCommand::Cat { paths, offset, length } => {
            paths.iter().try_for_each(|path| cat(path, offset, length))
        }
        FsCommand::Cp(arguments) => copy::run(&arguments),
        FsCommand::Rm(arguments) => remove::run(&arguments),
        FsCommand::Pin(steer) => steer_files(&steer, "pin", |path| Request::Pin { path }),
        FsCommand::Unpin(steer) => steer_files(&steer, "unpin", |path| Request::Unpin { path }),
        FsCommand::Check(steer) => check::run(&steer),
    }
}

/// The result of a command that did its work: an object for scripts, a sentence for people.
pub(super) fn report(json: bool, result: &serde_json::Value, text: &str) -> Outcome<()> {
    if json { print_json(result) } else { print(&format!("{text}\n")) }
}

fn cat(path: &Path, offset: u64, length: Option<u64>) -> Outcome<()> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    if offset > 0 {
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    }
    let mut chunk = vec![0; CHUNK_LEN];
    let mut left = length.unwrap_or(u64::MAX);
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_LEN);
        let len = match file.read(&mut chunk[..wanted]) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        left -= len as u64;
        match out.write_all(&chunk[..len]) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|e| Failure::new(format!("cannot write to standard output: {e}")))?,
        }
    }
    Ok(())
}

pub(super) fn steer_files(
    steer: &Steer,
    what: &'static str,
    request: impl FnOnce(Vec<u8>) -> Request,
) -> Outcome<()> {
    let result = ask(&steer.path, what, steer.json, request)?;
    show(&result, steer.json)
}

pub(super) fn ask(
    path: &Path,
    what: &'static str,
    quiet: bool,
    request: impl FnOnce(Vec<u8>) -> Request,
) -> Outcome<serde_json::Value> {
    let target = admin::locate(path)?;
    let mut meter = Meter::new(what, quiet);
    let conversation = admin::connect(&target.socket, &request(target.path))?;
    conversation.finish(|progress| meter.show(progress))
}

/// An object as `name value` rows for people, or as it is for scripts.
pub(super) fn show(result: &serde_json::Value, json: bool) -> Outcome<()> {
    let Some(fields) = result.as_object().filter(|_| !json) else { return print_json(result) };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let row = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => format!("{name:<width$} {text}\n"),
        other => format!("{name:<width$} {other}\n"),
    };
    print(&fields.iter().map(row).collect::<String>())
}

/// One file of a listing.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    kind: &'static str,
    size: u64,
    mode: String,
    state: String,
}

fn list(path: &Path, json: bool) -> Outcome<()> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot list {}: {error}", path.display()));
    let of = path.symlink_metadata().map_err(failed)?;
    if !of.is_dir() {
        return show_listed(&mut vec![describe(path, &of)], json).map(drop);
    }
    let mut listed = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A file that went away since it was listed is no failure of the listing.
        let Ok(found) = entry.metadata() else { continue };
        listed.push(describe(&entry.path(), &found));
        if listed.len() == SORTED_MAX && !show_listed(&mut listed, json)? {
            return Ok(());
        }
    }
    show_listed(&mut listed, json).map(drop)
}

/// Shows what was listed so far and lets go of it; false if nobody reads any more.
fn show_listed(listed: &mut Vec<Listed>, json: bool) -> Outcome<bool> {
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |file: Listed| match json {
        true => serde_json::to_string(&file).expect("our own structures have string keys only") + "\n",
        false => format!("{} {:>14} {:<8} {}\n", file.mode, file.size, file.state, file.name),
    };
    print_on(&listed.drain(..).map(row).collect::<String>())
}

fn describe(path: &Path, found: &std::fs::Metadata) -> Listed {
    let kind = match found.file_type() {
        kind if kind.is_dir() => "directory",
        kind if kind.is_file() => "file",
        kind if kind.is_symlink() => "symlink",
        _ => "special",
    };
    let name = path.file_name().unwrap_or(path.as_os_str());
    Listed {
        name: name.as_bytes().escape_ascii().to_string(),
        kind,
        size: found.size(),
        mode: format!("{:06o}", found.mode()),
        state: state_of(path),
    }
}

/// `-` where there is none: a file system that is not ours, or a kind that has no state.
fn state_of(path: &Path) -> String {
    let mut value = vec![0; STATE_LEN_MAX];
    match rustix::fs::lgetxattr(path, STATE_XATTR, &mut value) {
        Ok(len) => String::from_utf8_lossy(&value[..len]).into_owned(),
        Err(_) => "-".to_owned(),
    }
}
