//! The name space against a plain model of a POSIX file system: the same random operations on both, crashes
//! and reopenings among them, and after each the same tree.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::carrier::{carry, carry_some, settle_begun, take};
use common::{ROOT_CALLER, World, block_on, name};
use forebay_namespace::{NewInode, RenameMode, XattrMode};
use forebay_types::{
    Attr, Clock, ExtentId, FileKind, FileTimes, FsErrorKind, FsResult, Ino, PersistLog, PersistOutcome,
    PersistTask, SetAttr, TimeSpec,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A path of one to three of a few names: collisions are the point.
type Path = Vec<&'static str>;

#[derive(Clone, Debug)]
enum Op {
    Create(Path, FileKind),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path, RenameMode),
    Chmod(Path, u16),
    SetXattr(Path, u8),
    RemoveXattr(Path, u8),
    /// Open for write, write so many bytes (none: close unchanged), close.
    Write(Path, Option<u16>),
    Truncate(Path, u16),
    Sync,
    Flush,
    Expire,
    Crash,
    /// Carry at most so many tasks; all of them: then the UFS has what the model has.
    Carry(Option<u8>),
    /// Take a task and leave it.
    Take,
    /// Carry a task that was taken, and do not say so yet.
    Do(u8),
    /// Say what came of a task that was taken.
    Tell(u8, Tell),
}

/// What is said of a task.
#[derive(Clone, Copy, Debug)]
enum Tell {
    /// What came of it.
    Truth,
    /// That it failed, though it may have taken effect.
    Failed,
}

/// The model's inode.
#[derive(Clone, Debug)]
struct Node {
    kind: FileKind,
    mode: u16,
    size: u64,
    xattrs: BTreeMap<u8, u8>,
    children: BTreeMap<&'static str, usize>,
    mtime: Option<TimeSpec>,
    ctime: Option<TimeSpec>,
    born_here: bool,
}

/// A plain file system in memory.
struct Model {
    nodes: Vec<Node>,
}

const ROOT: usize = 0;

impl Model {
    fn new() -> Self {
        let mut model = Self { nodes: Vec::new() };
        model.add(FileKind::Directory, 0o755, false);
        model
    }

    fn add(&mut self, kind: FileKind, mode: u16, born_here: bool) -> usize {
        let (xattrs, children) = (BTreeMap::new(), BTreeMap::new());
        self.nodes.push(Node { kind, mode, size: 0, xattrs, children, mtime: None, ctime: None, born_here });
        self.nodes.len() - 1
    }

    fn is_dir(&self, node: usize) -> bool {
        self.nodes[node].kind == FileKind::Directory
    }

    fn walk(&self, path: &[&'static str]) -> Result<usize, FsErrorKind> {
        let mut at = ROOT;
        for part in path {
            if !self.is_dir(at) {
                return Err(FsErrorKind::NotADirectory);
            }
            at = *self.nodes[at].children.get(part).ok_or(FsErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn parent(&self, path: &Path) -> Result<(usize, &'static str), FsErrorKind> {
        let (last, above) = path.split_last().unwrap();
        let dir = self.walk(above)?;
        if self.is_dir(dir) { Ok((dir, last)) } else { Err(FsErrorKind::NotADirectory) }
    }

    fn nlink(&self, node: usize) -> u32 {
        let subdirs = || self.nodes[node].children.values().filter(|child| self.is_dir(**child)).count();
        if self.is_dir(node) {
            return 2 + subdirs() as u32;
        }
        self.nodes.iter().flat_map(|n| n.children.values()).filter(|child| **child == node).count() as u32
    }

    fn touch(&mut self, dir: usize, now: TimeSpec) {
        self.nodes[dir].mtime = Some(now);
        self.nodes[dir].ctime = Some(now);
    }

    fn is_within(&self, node: usize, top: usize) -> bool {
        node == top || self.nodes[top].children.values().any(|child| self.is_within(node, *child))
    }

    fn apply(&mut self, op: &Op, now: TimeSpec) -> Result<(), FsErrorKind> {
        match op {
            Op::Create(path, kind) => {
                let (dir, last) = self.parent(path)?;
                if self.nodes[dir].children.contains_key(last) {
                    return Err(FsErrorKind::Exists);
                }
                let setgid = if *kind == FileKind::Directory { self.nodes[dir].mode & 0o2000 } else { 0 };
                let node = self.add(*kind, mode_of(*kind) | setgid, true);
                if *kind == FileKind::Symlink {
                    self.nodes[node].size = 6;
                }
                self.touch(node, now);
                self.nodes[dir].children.insert(last, node);
                self.touch(dir, now);
            }
            Op::Link(from, to) => {
                let node = self.walk(from)?;
                let (dir, last) = self.parent(to)?;
                if self.is_dir(node) {
                    return Err(FsErrorKind::NotPermitted);
                }
                if self.nodes[dir].children.contains_key(last) {
                    return Err(FsErrorKind::Exists);
                }
                self.nodes[dir].children.insert(last, node);
                self.nodes[node].ctime = Some(now);
                self.touch(dir, now);
            }
            Op::Unlink(path) => {
                let (dir, last) = self.parent(path)?;
                let node = *self.nodes[dir].children.get(last).ok_or(FsErrorKind::NotFound)?;
                if self.is_dir(node) {
                    return Err(FsErrorKind::IsADirectory);
                }
                self.nodes[dir].children.remove(last);
                self.nodes[node].ctime = Some(now);
                self.touch(dir, now);
            }
            Op::Rmdir(path) => {
                let (dir, last) = self.parent(path)?;
                let node = *self.nodes[dir].children.get(last).ok_or(FsErrorKind::NotFound)?;
                if !self.is_dir(node) {
                    return Err(FsErrorKind::NotADirectory);
                }
                if !self.nodes[node].children.is_empty() {
                    return Err(FsErrorKind::NotEmpty);
                }
                self.nodes[dir].children.remove(last);
                self.touch(dir, now);
            }
            Op::Rename(from, to, mode) => self.rename(from, to, *mode, now)?,
            Op::Chmod(path, mode) => {
                let node = self.walk(path)?;
                self.nodes[node].mode = *mode;
                self.nodes[node].ctime = Some(now);
            }
            Op::SetXattr(path, value) => {
                let node = self.walk(path)?;
                self.nodes[node].xattrs.insert(value % 4, *value);
                self.nodes[node].ctime = Some(now);
            }
            Op::RemoveXattr(path, value) => {
                let node = self.walk(path)?;
                self.nodes[node].xattrs.remove(&(value % 4)).ok_or(FsErrorKind::NoAttribute)?;
                self.nodes[node].ctime = Some(now);
            }
            Op::Write(path, len) => {
                let node = self.regular(path)?;
                if let Some(len) = len {
                    self.nodes[node].size = u64::from(*len);
                    self.touch(node, now);
                }
            }
            Op::Truncate(path, len) => {
                let node = self.regular(path)?;
                self.nodes[node].size = u64::from(*len);
                self.touch(node, now);
            }
            Op::Sync | Op::Flush | Op::Expire | Op::Crash | Op::Carry(_) => {}
            Op::Take | Op::Do(_) | Op::Tell(..) => {}
        }
        Ok(())
    }

    /// Demands that the directory `at` of the UFS has what `dir` has, as far as a UFS can.
    fn compare_ufs(&self, dir: usize, at: &std::path::Path) {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            found.insert(entry.file_name().into_string().unwrap(), entry.path());
        }
        for (child, node) in &self.nodes[dir].children {
            let wanted = &self.nodes[*node];
            if wanted.kind == FileKind::Fifo {
                assert!(!found.contains_key(*child), "a pipe in the UFS");
                continue;
            }
            let path = found.remove(*child).unwrap_or_else(|| panic!("{child} is not in {}", at.display()));
            let attr = common::attr_of(&path).unwrap().unwrap();
            let size = if wanted.kind == FileKind::Directory { 0 } else { wanted.size };
            assert_eq!((attr.kind, attr.size), (wanted.kind, size), "{}", path.display());
            if wanted.kind == FileKind::Directory {
                self.compare_ufs(*node, &path);
            }
        }
        assert!(found.is_empty(), "too much in the UFS: {found:?}");
    }

    fn regular(&self, path: &Path) -> Result<usize, FsErrorKind> {
        let node = self.walk(path)?;
        match self.nodes[node].kind {
            FileKind::Regular => Ok(node),
            FileKind::Directory => Err(FsErrorKind::IsADirectory),
            _ => Err(FsErrorKind::Invalid),
        }
    }

    fn rename(&mut self, from: &Path, to: &Path, mode: RenameMode, now: TimeSpec) -> Result<(), FsErrorKind> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let node = *self.nodes[from_dir].children.get(from_name).ok_or(FsErrorKind::NotFound)?;
        let other = self.nodes[to_dir].children.get(to_name).copied();
        if self.is_dir(node) && self.is_within(to_dir, node) {
            return Err(FsErrorKind::Invalid);
        }
        match (other, mode) {
            (Some(_), RenameMode::NoReplace) => return Err(FsErrorKind::Exists),
            (None, RenameMode::Exchange) => return Err(FsErrorKind::NotFound),
            (Some(other), RenameMode::Exchange) if self.is_within(from_dir, other) => {
                return Err(FsErrorKind::Invalid);
            }
            (Some(other), RenameMode::Replace) if other != node => {
                match (self.is_dir(node), self.is_dir(other)) {
                    (true, false) => return Err(FsErrorKind::NotADirectory),
                    (false, true) => return Err(FsErrorKind::IsADirectory),
                    (true, true) if !self.nodes[other].children.is_empty() => {
                        return Err(FsErrorKind::NotEmpty);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if other == Some(node) {
            return Ok(());
        }
        self.nodes[from_dir].children.remove(from_name);
        self.nodes[to_dir].children.insert(to_name, node);
        if let Some(other) = other {
            self.nodes[other].ctime = Some(now);
            if mode == RenameMode::Exchange {
                self.nodes[from_dir].children.insert(from_name, other);
            }
        }
        self.nodes[node].ctime = Some(now);
        self.touch(from_dir, now);
        self.touch(to_dir, now);
        Ok(())
    }
}

fn mode_of(kind: FileKind) -> u16 {
    match kind {
        FileKind::Directory => 0o755,
        FileKind::Symlink => 0o777,
        _ => 0o644,
    }
}

/// The real one, driven as the kernel drives it: what is looked up is given back at the end of a call.
struct Real {
    world: World,
    looked_up: Vec<Ino>,
    carried: bool,
    /// Tasks that are out, and what came of those that were carried.
    taken: Vec<(PersistTask, Option<PersistOutcome>)>,
}

impl Real {
    async fn walk(&mut self, path: &[&'static str]) -> FsResult<Attr> {
        let mut attr = self.world.names().attr(Ino::ROOT).await?.0;
        for part in path {
            attr = self.world.names().lookup(attr.ino, &name(part)).await?.attr;
            self.looked_up.push(attr.ino);
        }
        Ok(attr)
    }

    async fn parent(&mut self, path: &Path) -> FsResult<(Ino, &'static str)> {
        let (last, above) = path.split_last().unwrap();
        let dir = self.walk(above).await?;
        if dir.kind == FileKind::Directory {
            Ok((dir.ino, last))
        } else {
            Err(FsErrorKind::NotADirectory.into())
        }
    }

    async fn tell(&self, task: &PersistTask, outcome: Option<PersistOutcome>, tell: Tell) -> FsResult<()> {
        let outcome = match tell {
            Tell::Truth => outcome.unwrap_or_else(|| carry(&self.world.ufs, task)),
            Tell::Failed => PersistOutcome::Failed("no answer".into()),
        };
        self.world.names().finish(task, outcome).await.map(drop)
    }

    fn forget(&mut self) {
        for ino in self.looked_up.drain(..) {
            self.world.names().forget(ino, 1);
        }
    }

    async fn apply(&mut self, op: &Op, now: TimeSpec) -> FsResult<()> {
        match op {
            Op::Create(path, kind) => {
                let (dir, last) = self.parent(path).await?;
                let mut new = NewInode::of(*kind, mode_of(*kind));
                if *kind == FileKind::Symlink {
                    new.link_target = Some((*b"target").into());
                }
                let entry = self.world.names().create(&ROOT_CALLER, dir, &name(last), new).await?;
                self.looked_up.push(entry.attr.ino);
            }
            Op::Link(from, to) => {
                let ino = self.walk(from).await?.ino;
                let (dir, last) = self.parent(to).await?;
                let entry = self.world.names().link(&ROOT_CALLER, ino, dir, &name(last)).await?;
                self.looked_up.push(entry.attr.ino);
            }
            Op::Unlink(path) => {
                let (dir, last) = self.parent(path).await?;
                let unlinked = self.world.names().unlink(&ROOT_CALLER, dir, &name(last)).await?;
                if unlinked.nlink == 0 {
                    self.world.names().release_orphan(unlinked.ino).await?;
                }
            }
            Op::Rmdir(path) => {
                let (dir, last) = self.parent(path).await?;
                self.world.names().rmdir(&ROOT_CALLER, dir, &name(last)).await?;
            }
            Op::Rename(from, to, mode) => {
                let (from, to) = (self.parent(from).await?, self.parent(to).await?);
                if let Some(replaced) = self.world.rename(from, to, *mode).await?
                    && replaced.nlink == 0
                {
                    self.world.names().release_orphan(replaced.ino).await?;
                }
            }
            Op::Chmod(path, mode) => {
                let ino = self.walk(path).await?.ino;
                let change = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                self.world.names().set_attr(&ROOT_CALLER, ino, change).await?;
            }
            Op::SetXattr(path, value) => {
                let ino = self.walk(path).await?.ino;
                let key = [b'u', value % 4];
                self.world.names().set_xattr(ino, &key, &[*value], XattrMode::Any).await?;
            }
            Op::RemoveXattr(path, value) => {
                let ino = self.walk(path).await?.ino;
                self.world.names().remove_xattr(ino, &[b'u', value % 4]).await?;
            }
            Op::Write(path, len) => {
                let attr = self.walk(path).await?;
                let names = self.world.names();
                names.write_opened(attr.ino, Some(ExtentId(attr.ino.0)), None).await?;
                let len_now = len.map_or(attr.size, u64::from);
                let times = FileTimes { len: len_now, mtime: now, ctime: now, blocks_512: 8 };
                if len.is_some() {
                    names.update_written(attr.ino, times).await?;
                }
                names.write_closed(attr.ino, times, len.is_some()).await?;
            }
            Op::Truncate(path, len) => {
                let ino = self.walk(path).await?.ino;
                let change = SetAttr { size: Some(u64::from(*len)), ..SetAttr::default() };
                self.world.names().set_attr(&ROOT_CALLER, ino, change).await?;
            }
            Op::Sync => self.world.names().sync().await?,
            Op::Flush => self.world.names().flush()?,
            Op::Expire => self.world.expire(),
            Op::Take => {
                self.world.expire();
                self.carried = true;
                self.taken.extend(take(&self.world).await.map(|task| (task, None)));
            }
            Op::Do(n) => {
                let n = usize::from(*n) % self.taken.len().max(1);
                if let Some((task, outcome)) = self.taken.get_mut(n) {
                    outcome.get_or_insert_with(|| carry(&self.world.ufs, task));
                }
            }
            Op::Tell(n, tell) => {
                let n = usize::from(*n) % self.taken.len().max(1);
                if n < self.taken.len() {
                    let (task, outcome) = self.taken.remove(n);
                    self.tell(&task, outcome, *tell).await?;
                }
            }
            Op::Carry(max) => {
                self.world.expire();
                self.carried = true;
                for (task, outcome) in std::mem::take(&mut self.taken) {
                    self.tell(&task, outcome, Tell::Truth).await?;
                }
                carry_some(&self.world, max.map_or(usize::MAX, usize::from)).await?;
            }
            Op::Crash => {
                let recovery = self.world.crash();
                assert_eq!((recovery.torn_bytes, recovery.orphans.len()), (0, 0));
                assert!(recovery.write_open.is_empty());
                self.taken.clear();
                settle_begun(&self.world).await;
            }
        }
        Ok(())
    }

    /// Demands that the directory `ino` shows what `dir` of the model has; `known` pairs their inodes.
    async fn compare(&mut self, model: &Model, dir: usize, ino: Ino, known: &mut HashMap<usize, Ino>) {
        let mut listed = self.world.list_by(ino, 3).await.unwrap();
        listed.sort();
        let wanted: Vec<&str> = model.nodes[dir].children.keys().copied().collect();
        assert_eq!(listed, wanted, "names of a directory");
        for (child, node) in &model.nodes[dir].children {
            let entry = self.world.names().lookup(ino, &name(child)).await.unwrap();
            let attr = entry.attr;
            self.compare_inode(model, *node, attr).await;
            let before = *known.entry(*node).or_insert(attr.ino);
            // A clean file's number comes from its key, which changes when a directory above it is moved in
            // the UFS; what is not in memory then gets a new one.
            if !(self.carried && before.is_derived()) {
                assert_eq!(before, attr.ino, "{child} is another inode");
            }
            known.insert(*node, attr.ino);
            if model.is_dir(*node) {
                Box::pin(self.compare(model, *node, attr.ino, known)).await;
            }
            self.world.names().forget(attr.ino, 1);
        }
        for absent in NAMES.iter().filter(|name| !wanted.contains(name)) {
            let found = self.world.names().lookup(ino, &name(absent)).await;
            assert_eq!(found.unwrap_err().kind(), FsErrorKind::NotFound);
        }
    }

    async fn compare_inode(&self, model: &Model, node: usize, attr: Attr) {
        let wanted = &model.nodes[node];
        assert_eq!((attr.kind, attr.mode, attr.size), (wanted.kind, wanted.mode, wanted.size));
        if wanted.kind != FileKind::Directory || wanted.born_here {
            assert_eq!(attr.nlink, model.nlink(node), "links of {wanted:?}");
        }
        if let Some(mtime) = wanted.mtime {
            assert_eq!(attr.mtime, mtime, "mtime of {wanted:?}");
        }
        if let Some(ctime) = wanted.ctime {
            assert_eq!(attr.ctime, ctime, "ctime of {wanted:?}");
        }
        for key in 0..4 {
            let value = self.world.names().get_xattr(attr.ino, &[b'u', key]).await.ok();
            assert_eq!(value.map(|value| value[0]), wanted.xattrs.get(&key).copied());
        }
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn arb_path() -> impl Strategy<Value = Path> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..=3)
}

fn arb_op() -> impl Strategy<Value = Op> {
    use FileKind::{Directory, Fifo, Regular, Symlink};
    let kind = || prop::sample::select(vec![Regular, Regular, Directory, Directory, Symlink, Fifo]);
    let mode = || {
        prop::sample::select(vec![
            RenameMode::Replace,
            RenameMode::Replace,
            RenameMode::NoReplace,
            RenameMode::Exchange,
        ])
    };
    prop_oneof![
        8 => (arb_path(), kind()).prop_map(|(path, kind)| Op::Create(path, kind)),
        3 => (arb_path(), arb_path()).prop_map(|(from, to)| Op::Link(from, to)),
        4 => arb_path().prop_map(Op::Unlink),
        4 => arb_path().prop_map(Op::Rmdir),
        8 => (arb_path(), arb_path(), mode()).prop_map(|(from, to, mode)| Op::Rename(from, to, mode)),
        1 => (arb_path(), 0_u16..0o7777).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        1 => (arb_path(), any::<u8>()).prop_map(|(path, value)| Op::SetXattr(path, value)),
        1 => (arb_path(), any::<u8>()).prop_map(|(path, value)| Op::RemoveXattr(path, value)),
        3 => (arb_path(), any::<Option<u16>>()).prop_map(|(path, len)| Op::Write(path, len)),
        1 => (arb_path(), any::<u16>()).prop_map(|(path, len)| Op::Truncate(path, len)),
        1 => Just(Op::Sync),
        1 => Just(Op::Flush),
        2 => Just(Op::Expire),
        2 => Just(Op::Crash),
        3 => prop::option::of(1_u8..6).prop_map(Op::Carry),
        4 => Just(Op::Take),
        4 => any::<u8>().prop_map(Op::Do),
        4 => (any::<u8>(), prop::sample::select(vec![Tell::Truth, Tell::Truth, Tell::Failed]))
            .prop_map(|(n, tell)| Op::Tell(n, tell)),
    ]
}

/// Puts a tree into the UFS and into the model.
fn seed(world: &World, model: &mut Model, paths: &[(Path, bool)]) {
    for (path, is_dir) in paths {
        let Ok((dir, last)) = model.parent(path) else { continue };
        if model.nodes[dir].children.contains_key(last) {
            continue;
        }
        let (kind, at) = (if *is_dir { FileKind::Directory } else { FileKind::Regular }, path.join("/"));
        if *is_dir {
            std::fs::create_dir(world.ufs_path(&at)).unwrap();
        } else {
            world.put_ufs(&at, b"0123456789");
        }
        let node = model.add(kind, mode_of(kind), false);
        model.nodes[node].size = if *is_dir { 0 } else { 10 };
        model.nodes[dir].children.insert(last, node);
    }
}

fn run(seeds: &[(Path, bool)], ops: &[Op], small_tables: bool) {
    let world = World::with(|config| {
        if small_tables {
            // Room for the two inodes that a rename needs at a time, though they stand in the same of 256 slices.
            (config.inodes_max, config.names_max) = (2 * 256, 1);
            config.log_segment_max = 500;
            config.commit_gather = Duration::ZERO;
        }
    });
    let mut model = Model::new();
    seed(&world, &mut model, seeds);
    let mut real = Real { world, looked_up: Vec::new(), carried: false, taken: Vec::new() };
    let mut known = HashMap::new();
    block_on(async {
        for op in ops {
            real.world.clock.advance(Duration::from_secs(1));
            let now = real.world.clock.now();
            let wanted = model.apply(op, now);
            let got = real.apply(op, now).await.map_err(|error| error.kind());
            if !matches!(op, Op::Crash) {
                real.forget();
            }
            real.looked_up.clear();
            assert_eq!(got, wanted, "{op:?}");
            real.compare(&model, ROOT, Ino::ROOT, &mut known).await;
            if matches!(op, Op::Carry(None)) {
                assert_eq!(real.world.names().dirty_stats().names, 0, "something is left to carry");
                model.compare_ufs(ROOT, real.world.ufs_dir.path());
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("FOREBAY_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_as_a_plain_file_system(
        seeds in prop::collection::vec((arb_path(), any::<bool>()), 0..12),
        ops in prop::collection::vec(arb_op(), 1..40),
        small_tables in any::<bool>(),
    ) {
        run(&seeds, &ops, small_tables);
    }
}

/// What the UFS has at first, and what is done.
type Case = (Vec<(Path, bool)>, Vec<Op>);

/// Cases that failed once.
#[test]
fn what_changes_while_a_task_is_out_is_carried_too() {
    let cases: [Case; 6] = [
        (
            vec![(vec!["a"], false), (vec!["b"], false)],
            vec![
                Op::Rename(vec!["b"], vec!["a"], RenameMode::Exchange),
                Op::Take,
                Op::Unlink(vec!["a"]),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["c"], false), (vec!["b"], true)],
            vec![Op::Link(vec!["c"], vec!["b", "a"]), Op::Take, Op::Unlink(vec!["c"]), Op::Carry(None)],
        ),
        (
            vec![(vec!["b"], false), (vec!["a"], false)],
            vec![
                Op::Rename(vec!["b"], vec!["a"], RenameMode::Exchange),
                Op::Take,
                Op::Rename(vec!["b"], vec!["a"], RenameMode::Replace),
                Op::Do(0),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["c"], false), (vec!["a"], false)],
            vec![
                Op::Rename(vec!["a"], vec!["c"], RenameMode::Exchange),
                Op::Take,
                Op::Take,
                Op::Do(0),
                Op::Tell(1, Tell::Truth),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["a"], false)],
            vec![
                Op::Create(vec!["b"], FileKind::Fifo),
                Op::Take,
                Op::Rename(vec!["a"], vec!["b"], RenameMode::Replace),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["a"], true)],
            vec![
                Op::Create(vec!["b"], FileKind::Regular),
                Op::Carry(None),
                Op::Sync,
                Op::Rename(vec!["b"], vec!["a", "b"], RenameMode::Replace),
                Op::Take,
                Op::Do(0),
                Op::Rename(vec!["a", "b"], vec!["b"], RenameMode::Replace),
                Op::Take,
                Op::Carry(None),
            ],
        ),
    ];
    for (seeds, ops) in cases {
        run(&seeds, &ops, false);
    }
}
