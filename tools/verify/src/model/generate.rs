//! Random operations from a seed. Runs the reference along, so that most operations meet what is there; each still has
//! a meaning without the ones before it.

use super::XATTRS;
use super::apply::apply;
use super::op::{Act, Op, OpenHow, Outside, Replace, Space};
use super::reference::{Kind, LEN_MAX, Reference};
use crate::rng::Rng;

/// Open files at a time.
const SLOTS: u64 = 6;
/// Names of one directory. Few, so that operations meet.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f.long-name_with.parts"];

/// Which kinds of operations a run has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Menu {
    /// What may be done to the mount as a whole.
    pub(crate) acts: Vec<Act>,
    /// Whether the under file system is changed behind the mount's back.
    pub(crate) outside: bool,
    /// One in this many operations is one of those.
    pub(crate) act_every: u64,
    /// Whether files get second names.
    pub(crate) links: bool,
    /// Whether the times of directories are set.
    pub(crate) dir_times: bool,
}

/// The operations of `seed`.
pub(crate) fn generate(seed: u64, count: usize, menu: &Menu) -> Vec<Op> {
    let mut generator = Generator { rng: Rng::new(seed), world: Reference::new() };
    let mut ops = Vec::with_capacity(count);
    while ops.len() < count {
        let op = generator.next(menu);
        apply(&mut generator.world, &op, ops.len() as u64);
        ops.push(op);
    }
    ops
}

struct Generator {
    rng: Rng,
    world: Reference,
}

impl Generator {
    fn next(&mut self, menu: &Menu) -> Op {
        let whole = menu.outside || !menu.acts.is_empty();
        if whole && self.rng.one_in(menu.act_every.max(1)) {
            return self.whole(menu);
        }
        match self.rng.weighted(&[14, 5, 36, 26, 19]) {
            0 => self.open(),
            1 => Op::Close { slot: self.slot() },
            2 => self.bytes(),
            3 => self.names(menu.links),
            _ => self.attributes(menu.dir_times),
        }
    }

    fn whole(&mut self, menu: &Menu) -> Op {
        if menu.acts.is_empty() || (menu.outside && self.rng.one_in(3)) {
            let path = self.path();
            return Op::Outside(match self.rng.below(9) {
                0 => Outside::Remove { path },
                1 | 2 => Outside::Mkdir { path },
                3 | 4 => Outside::Chmod { path, mode: self.mode() },
                5 => Outside::Chown { path, uid: self.rng.below(4) as u32, gid: self.rng.below(4) as u32 },
                6 => Outside::DirTime { path, mtime: self.time() },
                _ => Outside::Put { path, len: self.rng.length(LEN_MAX) },
            });
        }
        Op::Act(self.rng.pick(&menu.acts).copied().unwrap_or(Act::DropCaches))
    }

    fn slot(&mut self) -> usize {
        let open: Vec<usize> = (0..SLOTS as usize).filter(|slot| self.world.is_open(*slot)).collect();
        match self.rng.pick(&open) {
            Some(slot) => *slot,
            None => self.rng.below(SLOTS) as usize,
        }
    }

    fn length(&mut self) -> u64 {
        if self.rng.one_in(40) { self.rng.below(LEN_MAX) } else { self.rng.length(LEN_MAX) }
    }

    /// A range within the longest file, near what is there most of the time.
    fn range(&mut self, slot: usize) -> (u64, u64) {
        let end = self.world.within(slot, 0, LEN_MAX);
        let offset = match self.rng.below(6) {
            0 => 0,
            1 => end,
            2..=4 => self.rng.below(end + 1),
            _ => self.rng.below(LEN_MAX),
        };
        let offset = offset.min(LEN_MAX - 1);
        (offset, self.length().min(LEN_MAX - offset))
    }

    fn open(&mut self) -> Op {
        let write = !self.rng.one_in(4);
        let create = write && !self.rng.one_in(3);
        let how = OpenHow {
            read: !write || !self.rng.one_in(4),
            write,
            append: write && self.rng.one_in(6),
            truncate: write && self.rng.one_in(6),
            create,
            exclusive: create && self.rng.one_in(4),
        };
        Op::Open { slot: self.rng.below(SLOTS) as usize, path: self.path(), how, mode: self.mode() }
    }

    fn bytes(&mut self) -> Op {
        let slot = self.slot();
        let (offset, len) = self.range(slot);
        match self.rng.weighted(&[10, 14, 6, 5, 5, 5, 3, 2, 4, 3, 4]) {
            0 => Op::Read { slot, offset, len },
            1 => Op::Write { slot, offset, len },
            2 => Op::SetLen { slot, len: offset },
            3 => Op::Allocate { slot, space: self.space(), offset, len },
            4 => Op::MapRead { slot, offset, len },
            5 => Op::MapWrite { slot, offset, len },
            6 => {
                let to = self.slot();
                let (to_offset, room) = self.range(to);
                Op::CopyRange { from: slot, from_offset: offset, to, to_offset, len: len.min(room) }
            }
            7 => Op::SeekHoles { slot },
            8 => Op::Sync { slot, data_only: self.rng.one_in(2) },
            9 => Op::HandleStat { slot },
            _ => Op::Truncate { path: self.path(), len: offset },
        }
    }

    fn names(&mut self, links: bool) -> Op {
        let path = self.path();
        match self.rng.weighted(&[8, 3, 6, 12, 4, 3, 1, 2, 6, 2, 8]) {
            0 => Op::Mkdir { path, mode: self.mode() | 0o700 },
            1 => Op::Rmdir { path },
            2 => Op::Unlink { path },
            3 => Op::Rename { from: path, to: self.path(), replace: self.replace() },
            4 if links => Op::Link { from: path, to: self.path() },
            5 => Op::Symlink { path, target: self.target() },
            6 => Op::Fifo { path, mode: self.mode() },
            7 => Op::ReadLink { path },
            8 => Op::List { path: if self.rng.one_in(4) { String::new() } else { path } },
            9 => Op::SyncDir { path },
            _ if self.rng.one_in(2) => Op::Follow { path },
            _ => Op::Stat { path },
        }
    }

    fn attributes(&mut self, dir_times: bool) -> Op {
        let path = self.path();
        let is_dir = self.world.stat(&path, true).is_ok_and(|inode| matches!(inode.kind, Kind::Dir(_)));
        let name = self.rng.below(u64::from(XATTRS)) as u8;
        match self.rng.weighted(&[6, 3, 4, 6, 3, 3, 3, 4]) {
            0 => Op::Chmod { path, mode: self.mode() },
            1 => Op::Chown { path, uid: self.rng.below(4) as u32, gid: self.rng.below(4) as u32 },
            2 if is_dir && !dir_times => Op::Stat { path },
            2 => Op::SetTimes { path, atime: self.time(), mtime: self.time() },
            3 => {
                let (exclusive, replace) = (self.rng.one_in(6), self.rng.one_in(6));
                Op::SetXattr {
                    path,
                    name,
                    len: self.rng.below(200) as usize,
                    exclusive: exclusive && !replace,
                    replace,
                }
            }
            4 => Op::GetXattr { path, name },
            5 => Op::ListXattr { path },
            6 => Op::RemoveXattr { path, name },
            _ => Op::Stat { path },
        }
    }

    fn time(&mut self) -> i64 {
        1_000_000_000 + self.rng.below(500_000_000) as i64
    }

    fn mode(&mut self) -> u32 {
        match self.rng.below(6) {
            0 => self.rng.below(0o10000) as u32,
            1 => 0o600,
            2 => 0o755,
            _ => 0o644,
        }
    }

    fn space(&mut self) -> Space {
        let all = [Space::Grow, Space::Keep, Space::Punch, Space::Punch, Space::Zero, Space::ZeroKeep];
        *self.rng.pick(&all).unwrap_or(&Space::Grow)
    }

    fn replace(&mut self) -> Replace {
        match self.rng.below(8) {
            0 => Replace::Refuse,
            1 => Replace::Exchange,
            _ => Replace::Plain,
        }
    }

    /// A path: of something there two times in three, a new name in a directory that is there most of the rest.
    fn path(&mut self) -> String {
        let tree = self.world.tree();
        if !self.rng.one_in(3)
            && let Some((path, _)) = self.rng.pick(&tree)
        {
            return path.clone();
        }
        let is_dir = |kind: &Kind| matches!(kind, Kind::Dir(_));
        let dirs = tree.iter().filter(|(path, inode)| is_dir(&inode.kind) && path.matches('/').count() < 3);
        let mut dirs: Vec<String> = dirs.map(|(path, _)| format!("{path}/")).collect();
        dirs.push(String::new());
        // Now and then below something that is no directory, or through a link.
        if self.rng.one_in(12)
            && let Some((path, _)) = self.rng.pick(&tree)
        {
            dirs = vec![format!("{path}/")];
        }
        let dir = self.rng.pick(&dirs).cloned().unwrap_or_default();
        format!("{dir}{}", self.rng.pick(&NAMES).unwrap_or(&"a"))
    }

    fn target(&mut self) -> String {
        let up = "../".repeat(self.rng.below(3) as usize);
        let target = self.path();
        // Out of the tree would be out of the model.
        if up.is_empty() || self.rng.one_in(2) {
            NAMES[self.rng.below(6) as usize].to_owned()
        } else {
            target
        }
    }
}
