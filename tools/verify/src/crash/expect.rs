//! Which states are allowed after a loss: the candidates of every name and every byte.
//!
//! *Daemon death*: what was acknowledged is there; the one operation a thread had in flight is there or not, as a
//! whole for names, byte by byte for the range of a write; no file's time is before its last write.
//! *Power loss*: what an fsync covered is there; every later state of a name or byte may be there instead. Owns no I/O:
//! it compares what [`super::scan`] found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::identity::{Named, identify};
use super::scan::Seen;
use super::world::{FileState, Node, Op, World, ancestors, parent};

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Loss {
    /// The daemon died; the kernel's caches lived on.
    Daemon,
    /// The machine lost power.
    Power,
}

/// The states of one thread's names and files that are allowed now.
#[derive(Clone, Debug)]
pub(crate) struct Expect {
    loss: Loss,
    /// After all that was acknowledged.
    pub(crate) world: World,
    /// After the operation in flight as well.
    pending: Option<World>,
    /// Earlier states that no fsync has ruled out. Empty under [`Loss::Daemon`].
    old_names: BTreeMap<String, Vec<Option<Node>>>,
    old_files: BTreeMap<u64, Vec<Arc<FileState>>>,
    /// The most names each file had since it was last synced.
    most_links: BTreeMap<u64, usize>,
    /// Files an fsync promised, whose last name was not taken away since.
    promised: BTreeSet<u64>,
    /// When the last change of each file's bytes was begun that was acknowledged.
    written: BTreeMap<u64, i64>,
}

/// By how much the clock that file times are taken from may be behind ours, in nanoseconds.
const TICK: i64 = 20_000_000;

impl Expect {
    /// Expects exactly `world`.
    pub(crate) fn new(loss: Loss, world: World) -> Self {
        let promised = world.files.keys().copied().collect();
        let (old_names, old_files, most_links, written) = Default::default();
        Self { loss, world, pending: None, old_names, old_files, most_links, promised, written }
    }

    /// The operation was acknowledged.
    pub(crate) fn acked(&mut self, op: &Op, tag: u64) {
        let mut after = self.world.clone();
        after.apply(op, tag);
        if self.loss == Loss::Power {
            self.remember(&after);
        }
        self.note_links(&after);
        self.promised.retain(|id| after.files.contains_key(id));
        self.world = after;
        match op {
            Op::Fsync { path } | Op::SyncWrite { path, .. } => self.file_synced(path),
            Op::FsyncDir { path } => self.names_synced(path),
            _ => {}
        }
    }

    /// The operation that was acknowledged last was begun at `at`: what it wrote to has no earlier time.
    pub(crate) fn written(&mut self, op: &Op, at: i64) {
        if let Some(id) = op.writes_to().and_then(|path| self.world.id_of(path)) {
            self.written.insert(id, at);
        }
    }

    /// The operation was begun and nothing is known of its end. At most one, and nothing after it.
    pub(crate) fn in_flight(&mut self, op: &Op, tag: u64) {
        assert!(self.pending.is_none(), "a thread has one operation in flight at most");
        let mut after = self.world.clone();
        after.apply(op, tag);
        self.note_links(&after);
        self.promised.retain(|id| after.files.contains_key(id));
        self.pending = Some(after);
    }

    fn remember(&mut self, after: &World) {
        for (path, before) in &self.world.names {
            if after.names.get(path) != Some(before) {
                self.old_names.entry(path.clone()).or_default().push(Some(before.clone()));
            }
        }
        for path in after.names.keys().filter(|path| !self.world.names.contains_key(*path)) {
            self.old_names.entry(path.clone()).or_default().push(None);
        }
        for (id, before) in &self.world.files {
            if after.files.get(id).is_none_or(|now| !Arc::ptr_eq(now, before)) {
                self.old_files.entry(*id).or_default().push(Arc::clone(before));
            }
        }
    }

    fn note_links(&mut self, after: &World) {
        for id in after.files.keys() {
            let most = self.most_links.entry(*id).or_default();
            *most = (*most).max(after.links(*id)).max(self.world.links(*id));
        }
    }

    fn file_synced(&mut self, path: &str) {
        let Some(id) = self.world.id_of(path) else { return };
        self.old_files.remove(&id);
        self.old_names.remove(path);
        for dir in ancestors(path) {
            self.old_names.remove(dir);
        }
        self.promised.insert(id);
    }

    fn names_synced(&mut self, dir: &str) {
        self.old_names.retain(|path, _| parent(path) != dir && path != dir);
        for above in ancestors(dir) {
            self.old_names.remove(above);
        }
    }

    /// How many earlier states are kept for the file behind `path`: a reason to sync it.
    pub(crate) fn unsynced(&self, path: &str) -> usize {
        self.world.id_of(path).and_then(|id| self.old_files.get(&id)).map_or(0, Vec::len)
    }

    /// Before and after the operation in flight.
    fn ends(&self) -> impl Iterator<Item = &World> {
        std::iter::once(&self.world).chain(&self.pending)
    }

    /// Whether all names together may stand for what was seen.
    fn fits(&self, world: &World, seen: &BTreeMap<String, Seen>) -> bool {
        let mut paths = world.names.keys().chain(seen.keys());
        paths.all(|path| self.allows(path, world.names.get(path), seen.get(path)).is_ok())
    }

    /// What a name may stand for, given the [`Self::ends`] it may be of.
    fn nodes<'a>(&'a self, ends: &[&'a World], path: &str) -> Vec<Option<&'a Node>> {
        let mut nodes: Vec<_> = ends.iter().map(|world| world.names.get(path)).collect();
        nodes.extend(self.old_names.get(path).into_iter().flatten().map(Option::as_ref));
        nodes
    }

    fn versions(&self, id: u64) -> Vec<&FileState> {
        let mut versions: Vec<&FileState> = self.world.files.get(&id).map(Arc::as_ref).into_iter().collect();
        versions.extend(self.pending.iter().filter_map(|world| world.files.get(&id)).map(Arc::as_ref));
        versions.extend(self.old_files.get(&id).into_iter().flatten().map(Arc::as_ref));
        versions
    }

    /// Whether a name may stand for what was seen there; else why not.
    fn allows(&self, path: &str, node: Option<&Node>, seen: Option<&Seen>) -> Result<(), String> {
        match (node, seen) {
            (None, None) | (Some(Node::Dir), Some(Seen::Dir)) => Ok(()),
            (Some(Node::Link(want)), Some(Seen::Link(found))) if want == found => Ok(()),
            (Some(Node::File(id)), Some(Seen::File { data, mode, .. })) => {
                bytes_allowed(self.loss, &self.versions(*id), data, *mode)
            }
            (node, seen) => Err(format!("{path}: {} is there, not {}", describe(seen), expected(node))),
        }
    }

    /// The nodes of `path` that fit what was seen; if none does, every reason against.
    fn fitting(&self, ends: &[&World], path: &str, seen: Option<&Seen>) -> Result<Vec<Option<Node>>, String> {
        let (mut fitting, mut reasons) = (Vec::new(), Vec::new());
        for node in self.nodes(ends, path) {
            match self.allows(path, node, seen) {
                Ok(()) => fitting.push(node.cloned()),
                Err(reason) if reasons.contains(&reason) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        if fitting.is_empty() { Err(format!("{path}: {}", reasons.join("; nor: "))) } else { Ok(fitting) }
    }

    /// Compares with what is there. Gives the world that was found, or what is wrong with it.
    pub(crate) fn check(&self, seen: &BTreeMap<String, Seen>) -> Result<World, Vec<String>> {
        let (ends, torn) = self.ends_found(seen);
        let mut findings = Vec::from_iter(torn);
        let mut found = World::default();
        let mut files = Vec::new();
        for path in self.paths(seen) {
            match (self.fitting(&ends, path, seen.get(path)), seen.get(path)) {
                (Ok(nodes), Some(Seen::File { inode, .. })) => {
                    files.push(Named {
                        path,
                        inode: *inode,
                        may_be: nodes.into_iter().filter_map(file_of).collect(),
                    });
                }
                (Ok(nodes), _) => {
                    found.names.extend(nodes.into_iter().next().flatten().map(|node| (path.clone(), node)))
                }
                (Err(reason), _) => findings.push(reason),
            }
        }
        match identify(&files) {
            Ok(ids) => files.iter().for_each(|file| adopt(&mut found, file.path, ids[&file.inode], seen)),
            Err(mixed) => findings.extend(mixed),
        }
        if findings.is_empty() {
            findings.extend(self.lost(&found));
            findings.extend(self.doubled(&found));
            findings.extend(self.too_old(&found, seen));
        }
        if findings.is_empty() { Ok(found) } else { Err(findings) }
    }

    /// Every name that is there, or could be.
    fn paths<'a>(&'a self, seen: &'a BTreeMap<String, Seen>) -> BTreeSet<&'a String> {
        let worlds = self.ends().flat_map(|world| world.names.keys());
        seen.keys().chain(worlds).chain(self.old_names.keys()).collect()
    }

    /// Which of [`Self::ends`] the names are of. After a daemon's death they are all of one; when they are of none, that is a
    /// finding and both are given.
    fn ends_found(&self, seen: &BTreeMap<String, Seen>) -> (Vec<&World>, Option<String>) {
        let all: Vec<&World> = self.ends().collect();
        if self.loss == Loss::Power || self.pending.is_none() {
            return (all, None);
        }
        let fitting: Vec<&World> = all.iter().copied().filter(|world| self.fits(world, seen)).collect();
        if fitting.is_empty() {
            let torn = "the names are neither those before the operation in flight nor those after it";
            return (all, Some(torn.to_owned()));
        }
        (fitting, None)
    }

    /// A promised file must be found under one of its names.
    fn lost(&self, found: &World) -> Vec<String> {
        let lost = self.promised.iter().filter(|id| !found.files.contains_key(id));
        lost.map(|id| format!("file {id:#x} was promised and has no name any more")).collect()
    }

    /// While the kernel's caches live on, a file's time is not before its last write, whatever became of its names.
    fn too_old(&self, found: &World, seen: &BTreeMap<String, Seen>) -> Vec<String> {
        let mut findings = Vec::new();
        for (path, node) in found.names.iter().filter(|_| self.loss == Loss::Daemon) {
            let (Node::File(id), Some(Seen::File { mtime, .. })) = (node, seen.get(path)) else { continue };
            let Some(late) = self.written.get(id).map(|at| at - mtime).filter(|late| *late > TICK) else {
                continue;
            };
            findings.push(format!("{path}: its time is {late} ns before its last write was begun"));
        }
        findings
    }

    /// A rename must not leave a file under both names.
    fn doubled(&self, found: &World) -> Vec<String> {
        let most = |id: &u64| self.most_links.get(id).copied().unwrap_or(1).max(self.world.links(*id));
        let many =
            found.files.iter().filter(|(id, file)| !file.data.is_empty() && found.links(**id) > most(id));
        many.map(|(id, _)| format!("file {id:#x} has {} names, never had so many", found.links(*id)))
            .collect()
    }
}

fn file_of(node: Option<Node>) -> Option<u64> {
    match node {
        Some(Node::File(id)) => Some(id),
        _ => None,
    }
}

fn adopt(found: &mut World, path: &str, id: u64, seen: &BTreeMap<String, Seen>) {
    if let Some(Seen::File { data, mode, .. }) = seen.get(path) {
        found.files.insert(id, Arc::new(FileState { data: data.clone(), mode: *mode }));
    }
    found.names.insert(path.to_owned(), Node::File(id));
}

fn bytes_allowed(loss: Loss, versions: &[&FileState], data: &[u8], mode: u32) -> Result<(), String> {
    if versions.iter().any(|version| version.data == data && version.mode == mode) {
        return Ok(());
    }
    if !versions.iter().any(|version| version.mode == mode) {
        return Err(format!("mode {mode:o} was never set"));
    }
    let lengths = || versions.iter().map(|version| version.data.len());
    let (shortest, longest) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
    if !(shortest..=longest).contains(&data.len()) {
        return Err(format!("{} bytes long, not {shortest}..={longest}", data.len()));
    }
    let fits = |at: usize, byte: u8| {
        // Beyond what a sync covered, a block may be there before the one in front of it: that one reads as zeros.
        (loss == Loss::Power && byte == 0 && at >= shortest)
            || versions.iter().any(|version| version.data.get(at) == Some(&byte))
    };
    let wrong = (0..data.len()).filter(|at| !fits(*at, data[*at])).collect::<Vec<_>>();
    let Some(first) = wrong.first().copied() else { return Ok(()) };
    let zeros = wrong.iter().filter(|at| data[**at] == 0).count();
    Err(format!(
        "{} of {} bytes are none ever written there, {zeros} of them zero; first at {first}, last at {}",
        wrong.len(),
        data.len(),
        wrong.last().copied().unwrap_or(first)
    ))
}

fn describe(seen: Option<&Seen>) -> String {
    match seen {
        None => "nothing".to_owned(),
        Some(Seen::Dir) => "a directory".to_owned(),
        Some(Seen::Link(target)) => format!("a link to {target}"),
        Some(Seen::File { data, .. }) => format!("a file of {} bytes", data.len()),
        Some(Seen::Unreadable(why)) => format!("something that cannot be read ({why})"),
    }
}

fn expected(node: Option<&Node>) -> String {
    match node {
        None => "nothing".to_owned(),
        Some(Node::Dir) => "a directory".to_owned(),
        Some(Node::Link(target)) => format!("a link to {target}"),
        Some(Node::File(id)) => format!("file {id:#x}"),
    }
}

#[cfg(test)]
#[path = "expect_tests.rs"]
mod tests;
