//! One run: every operation on both sides, and a comparison after each.
//!
//! After each operation its outcome and the looks of what it touched are compared; every now and then, after every
//! act on the whole mount, and at the end, all names, bytes and attributes are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;

use super::apply::{Outcome, apply, looks, perform, written};
use super::op::{Act, Op, Outside};
use super::real::{Looks, Real};
use super::reference::{Kind, Reference};

/// Operations between two comparisons of everything.
const COMPARE_ALL_EVERY: usize = 200;
/// The mode of a file that another client puts.
const OUTSIDE_MODE: u32 = 0o644;

/// Commands and places a run needs for acts on the whole mount.
#[derive(Clone, Debug, Default)]
pub(crate) struct Means {
    /// The shell command of each act.
    pub(crate) commands: Vec<(Act, String)>,
    /// The under file system's directory.
    pub(crate) ufs: Option<PathBuf>,
    /// After how long a change there must show.
    pub(crate) ttl: Duration,
}

/// What went wrong, and at which operation.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Index of the operation.
    pub(crate) at: usize,
    /// What differs.
    pub(crate) what: String,
}

/// Runs `ops` in the new directory `name` below `dir`.
pub(crate) fn run(dir: &Path, name: &str, ops: &[Op], means: &Means) -> Result<(), Failure> {
    let root = dir.join(name);
    let failed = |at, what: String| Failure { at, what };
    fs::create_dir(&root).map_err(|error| failed(0, format!("mkdir {}: {error}", root.display())))?;
    let mut run = Run {
        reference: Reference::new(),
        real: Real::new(&root),
        means,
        ufs: means.ufs.as_ref().map(|ufs| ufs.join(name)),
    };
    for (at, op) in ops.iter().enumerate() {
        run.step(op, at as u64).map_err(|what| failed(at, what))?;
        if at % COMPARE_ALL_EVERY == COMPARE_ALL_EVERY - 1 || matches!(op, Op::Act(_) | Op::Outside(_)) {
            run.compare_all(&run.real).map_err(|what| failed(at, what))?;
        }
    }
    run.compare_all(&run.real).map_err(|what| failed(ops.len().saturating_sub(1), what))
}

struct Run<'a> {
    reference: Reference,
    real: Real,
    means: &'a Means,
    ufs: Option<PathBuf>,
}

impl Run<'_> {
    fn step(&mut self, op: &Op, place: u64) -> Result<(), String> {
        match op {
            Op::Act(act) => return self.act(*act),
            Op::Outside(outside) => return self.outside(outside, place),
            Op::SeekHoles { slot } => return self.holes(*slot, op),
            _ => {}
        }
        let within = match op {
            Op::MapRead { slot, offset, len } | Op::MapWrite { slot, offset, len } => {
                self.reference.within(*slot, *offset, *len)
            }
            Op::CopyRange { from, from_offset, len, .. } => self.reference.within(*from, *from_offset, *len),
            _ => 0,
        };
        let want = apply(&mut self.reference, op, place);
        let got = perform(&mut self.real, op, place, within);
        agree(&want, &got, op)?;
        self.touched(op)
    }

    fn holes(&self, slot: usize, op: &Op) -> Result<(), String> {
        let Ok(holes) = self.real.holes(slot) else {
            let open = self.reference.is_open(slot);
            return if open { Err(format!("{op:?}: failed on an open file")) } else { Ok(()) };
        };
        let Kind::File(data) = &self.reference.slot_inode(slot).map_err(|_| "a closed slot has holes")?.kind
        else {
            return Err("a slot is no file".to_owned());
        };
        let zero = |(start, end): &(u64, u64)| {
            data.get(*start as usize..*end as usize).is_some_and(|hole| hole.iter().all(|byte| *byte == 0))
        };
        match holes.iter().find(|hole| !zero(hole)) {
            Some(hole) => Err(format!("{op:?}: {hole:?} is called a hole and holds data")),
            None => Ok(()),
        }
    }

    /// Compares the looks of the paths an operation named, and of the slot.
    fn touched(&self, op: &Op) -> Result<(), String> {
        match op {
            Op::Rename { from, to, .. } | Op::Link { from, to } => {
                self.look(from)?;
                self.look(to)
            }
            Op::Open { path, .. }
            | Op::Truncate { path, .. }
            | Op::Mkdir { path, .. }
            | Op::Unlink { path }
            | Op::Rmdir { path }
            | Op::Symlink { path, .. }
            | Op::Chmod { path, .. }
            | Op::Chown { path, .. }
            | Op::SetTimes { path, .. } => self.look(path),
            Op::Write { slot, .. } | Op::SetLen { slot, .. } | Op::Allocate { slot, .. } => {
                let (want, got) = (self.reference.slot_inode(*slot), self.real.handle_stat(*slot));
                match (want, got) {
                    (Ok(want), Ok(got)) => same_looks("the slot", &looks(want, Some(&got)), &got),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn look(&self, path: &str) -> Result<(), String> {
        match (self.reference.stat(path, false), self.real.stat(path, false)) {
            (Ok(want), Ok(got)) => same_looks(path, &looks(want, Some(&got)), &got),
            (Err(want), Err(got)) if want == got => Ok(()),
            (want, got) => Err(format!("{path}: {got:?}, not {:?}", want.map(|inode| looks(inode, None)))),
        }
    }

    /// Every name, byte and attribute.
    fn compare_all(&self, real: &Real) -> Result<(), String> {
        let mut dirs = vec![String::new()];
        for (path, inode) in self.reference.tree() {
            let got =
                real.stat(&path, false).map_err(|errno| format!("{path}: {errno}, though it is there"))?;
            same_looks(&path, &looks(inode, Some(&got)), &got)?;
            match &inode.kind {
                Kind::Dir(_) => dirs.push(path.clone()),
                Kind::File(data) => {
                    let got = real.content(&path).map_err(|errno| format!("{path}: {errno} at reading"))?;
                    same_bytes(&path, data, &got)?;
                }
                Kind::Link(target) => {
                    let got = real.read_link(&path);
                    if got.as_ref() != Ok(target) {
                        return Err(format!("{path}: leads to {got:?}, not to {target}"));
                    }
                }
                Kind::Fifo => continue,
            }
            if !matches!(inode.kind, Kind::Link(_)) {
                let want: Vec<&String> = inode.xattrs.keys().collect();
                let got = real.list_xattr(&path).map_err(|errno| format!("{path}: listxattr: {errno}"))?;
                if want != got.iter().collect::<Vec<_>>() {
                    return Err(format!("{path}: attributes {got:?}, not {want:?}"));
                }
            }
        }
        for dir in dirs {
            let (want, got) = (self.reference.list(&dir), real.list(&dir));
            if want != got {
                return Err(format!("the names in '{dir}' are {got:?}, not {want:?}"));
            }
        }
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        if matches!(act, Act::Restart | Act::Kill) {
            self.reference.close_all();
            self.real.close_all();
        }
        if act == Act::Persist {
            // A file with a writer is not carried.
            for slot in self.reference.writers() {
                self.reference.close(slot);
                self.real.close(slot);
            }
        }
        let Some((_, command)) = self.means.commands.iter().find(|(one, _)| *one == act) else {
            return Ok(());
        };
        shell(command)?;
        if act == Act::Persist { self.compare_ufs() } else { Ok(()) }
    }

    /// What was persisted is there in its native layout: names, bytes, link targets, modes, owners and times.
    fn compare_ufs(&self) -> Result<(), String> {
        let Some(ufs) = &self.ufs else { return Ok(()) };
        let there = Real::new(ufs);
        for (path, inode) in self.reference.tree() {
            let says = |what: String| format!("under file system: {path}: {what}");
            if let Kind::File(_) | Kind::Dir(_) = &inode.kind {
                let got = there.stat(&path, false).map_err(|errno| says(errno.to_string()))?;
                let want = Looks { links: got.links, ..looks(inode, Some(&got)) };
                same_looks(&path, &want, &got).map_err(|what| format!("under file system: {what}"))?;
            }
            match &inode.kind {
                Kind::File(data) => {
                    let got = there.content(&path).map_err(|errno| says(errno.to_string()))?;
                    same_bytes(&path, data, &got).map_err(|what| format!("under file system: {what}"))?;
                }
                Kind::Link(target) if there.read_link(&path).as_ref() != Ok(target) => {
                    return Err(says(format!("{:?}, not {target}", there.read_link(&path))));
                }
                Kind::Dir(_) => {
                    let mut want = self.reference.list(&path).map_err(|errno| says(errno.to_string()))?;
                    let got = there.list(&path).map_err(|errno| says(errno.to_string()))?;
                    // Pipes are not carried: nothing could read them from there.
                    want.retain(|name| self.carried(&format!("{path}/{name}")));
                    let got: Vec<String> =
                        got.into_iter().filter(|name| self.carried(&format!("{path}/{name}"))).collect();
                    if want != got {
                        return Err(says(format!("holds {got:?}, not {want:?}")));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn carried(&self, path: &str) -> bool {
        !matches!(self.reference.stat(path, false).map(|inode| &inode.kind), Ok(Kind::Fifo))
    }

    fn outside(&mut self, change: &Outside, place: u64) -> Result<(), String> {
        self.act(Act::Persist)?;
        let Some(ufs) = self.ufs.clone() else { return Ok(()) };
        let (want, got) = match change {
            Outside::Put { path, len } => {
                let data = written(place, 0, *len);
                let blocked =
                    self.reference.stat(path, false).is_ok_and(|inode| !matches!(inode.kind, Kind::File(_)));
                if blocked || self.behind_pipe(path) {
                    return Ok(());
                }
                let got = put_outside(&ufs, path, &data);
                (self.reference.replace_outside(path, data, OUTSIDE_MODE), got)
            }
            Outside::Remove { path } => {
                let file =
                    self.reference.stat(path, false).is_ok_and(|inode| matches!(inode.kind, Kind::File(_)));
                if !file {
                    return Ok(());
                }
                (self.reference.unlink(path), Real::new(&ufs).unlink(path))
            }
            Outside::Mkdir { path } => {
                if self.behind_pipe(path) || self.reference.stat(path, false).is_ok() {
                    return Ok(());
                }
                (self.reference.mkdir(path, 0o755), Real::new(&ufs).mkdir(path, 0o755))
            }
            Outside::Chmod { path, mode } if self.has_attributes(path) => {
                (self.reference.chmod(path, *mode), Real::new(&ufs).chmod(path, *mode))
            }
            Outside::Chown { path, uid, gid } if self.has_attributes(path) => {
                (self.reference.chown(path, *uid, *gid), Real::new(&ufs).chown(path, *uid, *gid))
            }
            Outside::DirTime { path, mtime } if self.is_dir(path) => {
                let got = Real::new(&ufs).set_times(path, *mtime, *mtime);
                (self.reference.set_times(path, *mtime, *mtime), got)
            }
            Outside::Chmod { .. } | Outside::Chown { .. } | Outside::DirTime { .. } => return Ok(()),
        };
        if want != got {
            return Err(format!("{change:?}: {got:?} in the under file system, not {want:?}"));
        }
        std::thread::sleep(self.means.ttl);
        // What others did to one name of a file with several shows in its count of links once that name was looked at.
        let (Outside::Put { path, .. }
        | Outside::Remove { path }
        | Outside::Mkdir { path }
        | Outside::Chmod { path, .. }
        | Outside::Chown { path, .. }
        | Outside::DirTime { path, .. }) = change;
        self.look(path)
    }

    /// Whether the under file system has the path as the mount does, and attributes of it that others may change.
    fn has_attributes(&self, path: &str) -> bool {
        let kind = self.reference.stat(path, false).map(|inode| &inode.kind);
        matches!(kind, Ok(Kind::File(_) | Kind::Dir(_)))
    }

    fn is_dir(&self, path: &str) -> bool {
        matches!(self.reference.stat(path, false).map(|inode| &inode.kind), Ok(Kind::Dir(_)))
    }

    fn behind_pipe(&self, path: &str) -> bool {
        self.reference.stat(path, true).err() == Some(Errno::NOTDIR) || !self.carried(path)
    }
}

fn put_outside(ufs: &Path, path: &str, data: &[u8]) -> Result<(), Errno> {
    let temporary = ufs.with_extension("outside");
    let moved = fs::write(&temporary, data)
        .and_then(|()| fs::set_permissions(&temporary, fs::Permissions::from_mode(OUTSIDE_MODE)))
        .and_then(|()| fs::rename(&temporary, ufs.join(path)));
    moved.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn shell(command: &str) -> Result<(), String> {
    match Command::new("sh").arg("-c").arg(command).status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("`{command}` ended: {other:?}")),
    }
}

fn agree(want: &Outcome, got: &Outcome, op: &Op) -> Result<(), String> {
    match (want, got) {
        (Outcome::Looks(want), Outcome::Looks(got)) => {
            // Lengths of directories and unknown times differ by right; `touched` compares with what is known.
            let (a, b) =
                ((want.kind, want.mode, want.owner, want.links), (got.kind, got.mode, got.owner, got.links));
            let len = want.kind == 'f' && want.len != got.len;
            if a == b && !len { Ok(()) } else { Err(format!("{op:?}: {got:?}, not {want:?}")) }
        }
        (Outcome::Bytes(want), Outcome::Bytes(got)) => same_bytes(&format!("{op:?}"), want, got),
        (want, got) if want == got => Ok(()),
        (Outcome::Bytes(want), got) => Err(format!("{op:?}: {got:?}, not {} bytes", want.len())),
        (want, Outcome::Bytes(got)) => Err(format!("{op:?}: {} bytes, not {want:?}", got.len())),
        (want, got) => Err(format!("{op:?}: {got:?}, not {want:?}")),
    }
}

fn same_looks(path: &str, want: &Looks, got: &Looks) -> Result<(), String> {
    if want == got { Ok(()) } else { Err(format!("{path}: {got:?}, not {want:?}")) }
}

fn same_bytes(path: &str, want: &[u8], got: &[u8]) -> Result<(), String> {
    if want == got {
        return Ok(());
    }
    let at = want.iter().zip(got).position(|(a, b)| a != b);
    let zeros = got.iter().zip(want).filter(|(got, want)| **got == 0 && **want != 0).count();
    let wrong = got.iter().zip(want).filter(|(got, want)| got != want).count();
    Err(format!(
        "{path}: {} bytes, not {}; {wrong} differ, {zeros} of them zero; the first at {at:?}",
        got.len(),
        want.len()
    ))
}
