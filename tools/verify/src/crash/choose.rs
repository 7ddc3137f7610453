//! Chooses the next operation of a thread: always one that a correct file system carries out.

use super::expect::{Expect, Loss};
use super::world::{Node, Op, World, parent};
use crate::rng::Rng;

/// Files a thread keeps at most.
const FILES: usize = 20;
/// Directories of its own a thread keeps at most.
const DIRS: usize = 4;
/// The longest file. Two pages of 1 MiB and a bit: writes cross a page border, and some files span three pages.
const LEN_MAX: u64 = (2 << 20) + 70_000;
/// Earlier states of one file after which a sync is due.
const UNSYNCED_MAX: usize = 8;

/// The directory of a thread's own.
pub(crate) fn home(thread: u64) -> String {
    format!("t{thread}")
}

/// The directory in which all threads have names.
pub(crate) const SHARED: &str = "shared";

/// Whether a name belongs to a thread.
pub(crate) fn belongs(thread: u64, path: &str) -> bool {
    let home = home(thread);
    path == home
        || path.strip_prefix(&home).is_some_and(|rest| rest.starts_with('/'))
        || path.strip_prefix(SHARED).is_some_and(|rest| rest.starts_with(&format!("/{home}-")))
}

/// One thread's chooser.
#[derive(Debug)]
pub(crate) struct Chooser {
    thread: u64,
    rng: Rng,
    loss: Loss,
    links: bool,
}

impl Chooser {
    /// The chooser of `thread`; with `links` it gives files second names.
    pub(crate) const fn new(thread: u64, seed: u64, loss: Loss, links: bool) -> Self {
        Self { thread, rng: Rng::new(seed ^ (thread << 32)), loss, links }
    }

    /// Whether the load should look at a file now, and at which.
    pub(crate) fn look(&mut self, world: &World) -> Option<String> {
        if self.rng.one_in(6) { self.a_file(world) } else { None }
    }

    /// The next operation.
    pub(crate) fn next(&mut self, expect: &Expect) -> Op {
        let world = &expect.world;
        if !world.names.contains_key(&home(self.thread)) {
            return Op::Mkdir { path: home(self.thread) };
        }
        loop {
            if let Some(op) = self.try_next(expect, world) {
                return op;
            }
        }
    }

    fn try_next(&mut self, expect: &Expect, world: &World) -> Option<Op> {
        let sync = if self.loss == Loss::Power { 12 } else { 2 };
        match self.rng.weighted(&[12, 18, 10, 5, 8, 10, 3, 2, 6, 2, 2, 2, sync, sync / 2, sync / 3]) {
            0 if world.files.len() < FILES => {
                Some(Op::Create { path: self.new_name(world), mode: self.mode() })
            }
            1 => self.write(expect),
            2 => {
                let path = self.a_file(world)?;
                let room = LEN_MAX.saturating_sub(world.file_at(&path)?.data.len() as u64);
                (room > 0).then(|| Op::Append { path, len: self.rng.length(room) })
            }
            3 => self.map_write(world),
            4 => {
                let path = self.a_file(world)?;
                let len = world.file_at(&path)?.data.len() as u64;
                let len = if self.rng.one_in(3) { self.rng.length(LEN_MAX) } else { self.rng.below(len + 1) };
                Some(Op::Truncate { path, len })
            }
            5 => self.rename_file(world),
            6 => self.rename_dir(world),
            7 if self.links => Some(Op::Link { from: self.a_file(world)?, to: self.new_name(world) }),
            8 => self.unlink(world),
            9 => {
                let path = self.new_name(world);
                Some(Op::Symlink { path, target: format!("../to/{}", self.rng.below(1000)) })
            }
            10 => self.directory(world),
            11 => Some(Op::Chmod { path: self.a_file(world)?, mode: self.mode() }),
            12 => Some(Op::Fsync { path: self.a_file(world)? }),
            13 => Some(Op::FsyncDir { path: self.a_dir(world) }),
            14 => {
                let path = self.a_file(world)?;
                let now = world.file_at(&path)?.data.len() as u64;
                Some(Op::SyncWrite { path, len: now.max(self.rng.length(LEN_MAX)) })
            }
            _ => None,
        }
    }

    fn write(&mut self, expect: &Expect) -> Option<Op> {
        let path = self.a_file(&expect.world)?;
        if expect.unsynced(&path) > UNSYNCED_MAX {
            return Some(Op::Fsync { path });
        }
        let now = expect.world.file_at(&path)?.data.len() as u64;
        let offset = match self.rng.below(4) {
            0 => 0,
            1 => now,
            2 => self.rng.below(now + 1),
            _ => self.rng.below(LEN_MAX - 1),
        };
        let offset = offset.min(LEN_MAX - 1);
        Some(Op::Write { path, offset, len: self.rng.length(LEN_MAX - offset) })
    }

    fn map_write(&mut self, world: &World) -> Option<Op> {
        let path = self.a_file(world)?;
        let now = world.file_at(&path)?.data.len() as u64;
        if now == 0 {
            return None;
        }
        let offset = self.rng.below(now);
        Some(Op::MapWrite { path, offset, len: self.rng.length(now - offset) })
    }

    fn rename_file(&mut self, world: &World) -> Option<Op> {
        let from = self.a_file(world)?;
        let to = if self.rng.one_in(2) { self.a_file(world)? } else { self.new_name(world) };
        // Two names of one file: POSIX leaves both, and nothing would be learned.
        (world.id_of(&from) != world.id_of(&to)).then_some(Op::Rename { from, to })
    }

    fn rename_dir(&mut self, world: &World) -> Option<Op> {
        let dirs = self.dirs_below(world);
        let from = self.rng.pick(&dirs)?.clone();
        let to = format!("{}/d{}", home(self.thread), self.rng.below(2 * DIRS as u64));
        (!world.names.contains_key(&to)).then_some(Op::Rename { from, to })
    }

    fn unlink(&mut self, world: &World) -> Option<Op> {
        let names = world.names.iter().filter(|(_, node)| **node != Node::Dir).map(|(path, _)| path.clone());
        Some(Op::Unlink { path: self.rng.pick(&names.collect::<Vec<_>>())?.clone() })
    }

    fn directory(&mut self, world: &World) -> Option<Op> {
        let dirs = self.dirs_below(world);
        if dirs.len() >= DIRS || self.rng.one_in(4) {
            let path = self.rng.pick(&dirs)?.clone();
            let used = world.names.keys().any(|name| parent(name) == path);
            return (!used).then_some(Op::Rmdir { path });
        }
        let path = format!("{}/d{}", home(self.thread), self.rng.below(2 * DIRS as u64));
        (!world.names.contains_key(&path)).then_some(Op::Mkdir { path })
    }

    fn dirs_below(&self, world: &World) -> Vec<String> {
        let home = home(self.thread);
        let dirs = world.names.iter().filter(|(path, node)| **node == Node::Dir && **path != home);
        dirs.map(|(path, _)| path.clone()).collect()
    }

    fn a_file(&mut self, world: &World) -> Option<String> {
        let files = world.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        self.rng.pick(&files.map(|(path, _)| path.clone()).collect::<Vec<_>>()).cloned()
    }

    fn a_dir(&mut self, world: &World) -> String {
        let mut dirs = self.dirs_below(world);
        dirs.push(home(self.thread));
        self.rng.pick(&dirs).cloned().unwrap_or_else(|| home(self.thread))
    }

    fn new_name(&mut self, world: &World) -> String {
        loop {
            let dir = self.a_dir(world);
            let number = self.rng.below(4 * FILES as u64);
            let path = match self.rng.below(4) {
                0 => format!("{SHARED}/{}-f{number}", home(self.thread)),
                _ => format!("{dir}/f{number}"),
            };
            if !world.names.contains_key(&path) {
                return path;
            }
        }
    }

    fn mode(&mut self) -> u32 {
        [0o644, 0o600, 0o755, 0o640][self.rng.below(4) as usize]
    }
}
