//! One mutation, as the home executes it.
//!
//! **Owns** what the mutation has changed so far. It reads through three layers (its own changes, those of the
//! mutations before it in the same batch, the shared state) and writes to the first only: a mutation that is
//! refused halfway leaves nothing behind, and a batch that cannot be logged neither.
//!
//! **Never does** I/O except reads of the engine, and not even those [in memory](Txn::in_memory); and never waits for
//! the UFS: a name that nobody has resolved is [`Refusal::Unresolved`], the caller resolves it and asks again.

use crate::keys::{self, Key};
use crate::names::{Answer, Cached};
use crate::overlay::Value;
use crate::record::{Dentry, InodeRecord, Shadow, Slot, UfsAt};
use crate::shared::{Shared, millis};
use crate::table::OwnNames;
use crate::view::View;
use forebay_types::{FileKind, FsError, FsErrorKind, FsResult, Ino, InodeState, Name, TimeSpec, UfsKey};
use hashbrown::HashMap;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many inode numbers are reserved with one durable step of the counter.
const INO_STEP: u64 = 4096;
/// Stands in the queue until a mutation is sealed: the name keeps the place it has.
const AGAIN: &[u8] = &[1];
/// How long after it was asked for an answer of the UFS serves a mutation, whatever the mount's
/// `metadata_ttl`: the caller has just resolved the name.
pub(crate) const RESOLVED_MS: u64 = 2000;

/// Why a mutation was not executed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It cannot be.
    Fs(FsError),
    /// The UFS has to be asked for this name first.
    Unresolved(Ino, Name),
    /// The UFS has to be asked first whether this directory is empty.
    EmptinessUnknown(Ino),
}

impl From<FsError> for Refusal {
    fn from(error: FsError) -> Self {
        Self::Fs(error)
    }
}

impl From<FsErrorKind> for Refusal {
    fn from(kind: FsErrorKind) -> Self {
        Self::Fs(kind.into())
    }
}

/// What a mutation yields.
pub(crate) type OpResult<T> = Result<T, Refusal>;

/// What becomes of an inode's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// The engine has it.
    Stored,
    /// The engine lets it go; who still refers to the inode sees its last state.
    Gone,
}

/// Changed inodes, names and other keys.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) inodes: HashMap<Ino, (Arc<InodeRecord>, Fate)>,
    pub(crate) dentries: BTreeMap<Slot, Option<Dentry>>,
    pub(crate) keys: BTreeMap<Key, Value>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.dentries.is_empty() && self.keys.is_empty()
    }

    /// All of it as keys and values, for the log and the engine.
    pub(crate) fn encoded(&self) -> Vec<(Key, Value)> {
        let inodes = self.inodes.iter().map(|(ino, (record, fate))| {
            (keys::inode(*ino), (*fate == Fate::Stored).then(|| Arc::from(record.encode())))
        });
        let dentries = self.dentries.iter().map(|((dir, name), dentry)| {
            (keys::dentry(*dir, name), dentry.as_ref().map(|dentry| Arc::from(dentry.encode())))
        });
        let others = self.keys.iter().map(|(key, value)| (key.clone(), value.clone()));
        inodes.chain(dentries).chain(others).collect()
    }

    fn merge(&mut self, later: Self) {
        self.inodes.extend(later.inodes);
        self.dentries.extend(later.dentries);
        self.keys.extend(later.keys);
    }
}

/// Inode numbers reserved by the durable counter and not handed out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InoRange {
    pub(crate) next: u64,
    pub(crate) end: u64,
}

/// What a name is, to a mutation.
pub(crate) struct Found {
    pub(crate) target: Option<(Ino, Arc<InodeRecord>)>,
    /// What the UFS has at the name's key.
    pub(crate) shadow: Option<Shadow>,
    pub(crate) mount_point: bool,
}

impl Found {
    /// The inode of a name that must be there.
    pub(crate) fn present(&self) -> FsResult<(Ino, Arc<InodeRecord>)> {
        self.target.clone().ok_or_else(|| FsErrorKind::NotFound.into())
    }
}

/// The mutations of one batch that were executed so far.
pub(crate) struct Staged {
    pub(crate) changes: Changes,
    pub(crate) inos: InoRange,
}

/// A mutation under way.
pub(crate) struct Txn<'a> {
    pub(crate) shared: &'a Shared,
    staged: &'a Staged,
    own: Changes,
    inos: InoRange,
    /// The engine is not asked.
    in_memory: bool,
    /// It would have had to be: whatever the mutation came to is to be thrown away.
    needs_engine: Cell<bool>,
    /// The time of the mutation.
    pub(crate) now: TimeSpec,
    /// The number its log record will have.
    pub(crate) seq: u64,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(shared: &'a Shared, staged: &'a Staged, seq: u64) -> Self {
        let now = shared.clock.now();
        let (own, inos, in_memory) = (Changes::default(), staged.inos, false);
        Self { shared, staged, own, inos, in_memory, needs_engine: Cell::new(false), now, seq }
    }

    /// Reads only what is in memory: for a thread that may wait for nothing. What that does not suffice for fails, and
    /// [`Txn::needs_engine`] says so.
    pub(crate) fn in_memory(self) -> Self {
        Self { in_memory: true, ..self }
    }

    /// Whether the mutation has to be executed again where the engine may be asked.
    pub(crate) fn needs_engine(&self) -> bool {
        self.needs_engine.get()
    }

    /// The shared state, for a question that the engine may have to answer.
    fn engine(&self) -> FsResult<&View> {
        if self.in_memory {
            self.needs_engine.set(true);
            return Err(FsErrorKind::Overloaded.into());
        }
        Ok(&self.shared.view)
    }

    /// The value of a key in the shared state.
    fn stored(&self, key: &[u8]) -> FsResult<Value> {
        match self.shared.view.overlay.get(key) {
            Some(changed) => Ok(changed),
            None => self.engine()?.get(key),
        }
    }

    fn stored_inode(&self, ino: Ino) -> FsResult<Option<InodeRecord>> {
        self.stored(&keys::inode(ino))?.map(|bytes| InodeRecord::decode(&bytes)).transpose()
    }

    /// What was changed, and the numbers that are left.
    pub(crate) fn finish(&mut self) -> FsResult<(Changes, InoRange)> {
        let queued: Vec<Key> = self
            .own
            .keys
            .iter()
            .filter(|(key, value)| key[0] == keys::QUEUE && value.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for key in queued {
            let again = self.own.keys.get(&key).and_then(|value| value.as_deref()) == Some(AGAIN);
            let value = self.queued(&key, again)?;
            self.own.keys.insert(key, value);
        }
        Ok((std::mem::take(&mut self.own), self.inos))
    }

    /// What stands in the queue for a name; nothing on a mount that keeps everything. `again`: it keeps its place.
    fn queued(&self, key: &[u8], again: bool) -> FsResult<Value> {
        let Some((dir, name)) = keys::slot(key) else { return Ok(None) };
        let dir_record = self.inode(dir)?;
        if self.is_transient(&dir_record)? {
            return Ok(None);
        }
        if self.in_memory && self.shared.delays_by_path(dir_record.mount) {
            // When it is due is found out by a walk up the tree, for which the engine may have to be asked.
            self.engine()?;
        }
        let bytes = match self.target(dir, &name)? {
            Some((ino, FileKind::Regular)) => {
                let record = self.inode(ino)?;
                if record.state == InodeState::Dirty { record.size } else { 0 }
            }
            _ => 0,
        };
        let seq = if again { self.place(key)?.unwrap_or(self.seq) } else { self.seq };
        let queued = crate::proto::Queued { seq, mount: dir_record.mount.0, bytes };
        Ok(Some(prost::Message::encode_to_vec(&queued).into()))
    }

    /// What a name of ours stands for. What the UFS has may count as ours as well: it is clean.
    fn target(&self, dir: Ino, name: &Name) -> FsResult<Option<(Ino, FileKind)>> {
        if self.in_memory
            && !self.has_changed(dir, name)
            && let Some(Cached { answer: Answer::Present(ino), .. }) = self.shared.names.get(dir, name)
            && let Some(inode) = self.shared.table.get(ino)
        {
            return Ok(Some((ino, inode.record().kind)));
        }
        Ok(self.dentry(dir, name)?.and_then(|dentry| dentry.target))
    }

    /// The place in the queue that a name has already.
    fn place(&self, key: &[u8]) -> FsResult<Option<u64>> {
        let known = match self.staged.changes.keys.get(key) {
            Some(value) => value.clone(),
            None => self.stored(key)?,
        };
        let queued =
            known.and_then(|bytes| <crate::proto::Queued as prost::Message>::decode(&bytes[..]).ok());
        Ok(queued.map(|queued| queued.seq))
    }

    /// The next number for an inode born here.
    pub(crate) fn new_ino(&mut self) -> Ino {
        if self.inos.next == self.inos.end {
            self.inos.end += INO_STEP;
            assert!(self.inos.end < Ino::DERIVED_BIT, "2^63 inodes were made");
            self.put_key(keys::NEXT_INO.into(), Some(self.inos.end.to_be_bytes().as_slice().into()));
        }
        let ino = Ino(self.inos.next);
        self.inos.next += 1;
        ino
    }

    pub(crate) fn put_key(&mut self, key: Key, value: Value) {
        self.own.keys.insert(key, value);
    }

    /// The value of a key.
    pub(crate) fn key(&self, key: &[u8]) -> FsResult<Value> {
        let changed = self.own.keys.get(key).or_else(|| self.staged.changes.keys.get(key));
        match changed {
            Some(value) => Ok(value.clone()),
            None => self.stored(key),
        }
    }

    /// Whether a key has a value, if this mutation or one before it in the batch has changed it.
    pub(crate) fn has_changed_key(&self, key: &[u8]) -> Option<bool> {
        let changed = self.own.keys.get(key).or_else(|| self.staged.changes.keys.get(key));
        changed.map(Option::is_some)
    }

    /// The value of a counter.
    pub(crate) fn counter(&self, key: &[u8]) -> FsResult<Option<u64>> {
        let value = self.key(key)?;
        Ok(value.and_then(|bytes| Some(u64::from_be_bytes(bytes[..].try_into().ok()?))))
    }

    /// The record of an inode, stored or only in memory.
    pub(crate) fn inode(&self, ino: Ino) -> FsResult<Arc<InodeRecord>> {
        let changed = self.own.inodes.get(&ino).or_else(|| self.staged.changes.inodes.get(&ino));
        if let Some((record, _)) = changed {
            return Ok(Arc::clone(record));
        }
        if let Some(inode) = self.shared.table.get(ino) {
            return Ok(inode.record());
        }
        let stored = self.stored_inode(ino)?;
        stored.map(Arc::new).ok_or_else(|| FsErrorKind::Stale.into())
    }

    pub(crate) fn is_stored(&self, ino: Ino) -> FsResult<bool> {
        let changed = self.own.inodes.get(&ino).or_else(|| self.staged.changes.inodes.get(&ino));
        if let Some((_, fate)) = changed {
            return Ok(*fate == Fate::Stored);
        }
        match self.shared.table.get(ino) {
            Some(inode) => Ok(inode.is_stored()),
            None => Ok(self.stored_inode(ino)?.is_some()),
        }
    }

    /// The record of a directory that still has a name, on a mount that may be changed.
    pub(crate) fn dir(&self, ino: Ino) -> FsResult<Arc<InodeRecord>> {
        let record = self.inode(ino)?;
        if !record.is_dir() {
            return Err(FsErrorKind::NotADirectory.into());
        }
        if record.nlink == 0 {
            return Err(FsErrorKind::NotFound.into());
        }
        self.writable(&record)?;
        Ok(record)
    }

    /// Refuses what lies on a read-only mount.
    pub(crate) fn writable(&self, record: &InodeRecord) -> FsResult<()> {
        let mount = self.shared.mount(record.mount)?;
        if mount.spec.policy.read_only { Err(FsErrorKind::ReadOnly.into()) } else { Ok(()) }
    }

    pub(crate) fn is_transient(&self, record: &InodeRecord) -> FsResult<bool> {
        self.shared.mount(record.mount)?.is_transient_at(record, |ino| self.inode(ino))
    }

    /// Stores a record.
    pub(crate) fn put(&mut self, ino: Ino, record: InodeRecord) {
        self.own.inodes.insert(ino, (Arc::new(record), Fate::Stored));
    }

    /// Stores a record that was changed, unless it has lost its last name and the engine has let it go: then
    /// only those who still refer to the inode see the change.
    pub(crate) fn update(&mut self, ino: Ino, record: InodeRecord) -> FsResult<()> {
        let fate = if record.nlink == 0 && !self.is_stored(ino)? { Fate::Gone } else { Fate::Stored };
        self.own.inodes.insert(ino, (Arc::new(record), fate));
        Ok(())
    }

    /// Lets a record go.
    pub(crate) fn drop_inode(&mut self, ino: Ino, record: InodeRecord) {
        self.own.inodes.insert(ino, (Arc::new(record), Fate::Gone));
    }

    /// The dentry of a name, as the log has it.
    pub(crate) fn dentry(&self, dir: Ino, name: &Name) -> FsResult<Option<Dentry>> {
        let slot = (dir, name.clone());
        let changed = self.own.dentries.get(&slot).or_else(|| self.staged.changes.dentries.get(&slot));
        if let Some(dentry) = changed {
            return Ok(dentry.clone());
        }
        if self.shared.table.get(dir).is_some_and(|dir| dir.lacks_own(name)) {
            return Ok(None);
        }
        self.stored(&keys::dentry(dir, name))?.map(|bytes| Dentry::decode(&bytes)).transpose()
    }

    /// Writes a name: what it is to be and what the UFS has there. If neither is anything, and nothing was begun
    /// at the name that may make something of it, nothing is kept. On mounts that are carried to the UFS the name
    /// is queued.
    pub(crate) fn set_name(&mut self, dir: Ino, name: &Name, dentry: Dentry, queue: bool) {
        let begun = self.has_begun(dir, name);
        let nothing = dentry.target.is_none() && dentry.shadow.is_none() && !begun;
        let queued = (queue || begun) && !nothing;
        self.own.dentries.insert((dir, name.clone()), (!nothing).then_some(dentry));
        self.put_key(keys::queue(dir, name), queued.then(|| [].into()));
    }

    /// Takes a name out of the engine: the UFS answers for it again.
    pub(crate) fn drop_name(&mut self, dir: Ino, name: &Name) {
        self.own.dentries.insert((dir, name.clone()), None);
        self.put_key(keys::queue(dir, name), None);
    }

    /// What `name` in the directory `dir` is.
    pub(crate) fn resolve(&self, dir: Ino, record: &InodeRecord, name: &Name) -> OpResult<Found> {
        if let Some(dentry) = self.dentry(dir, name)? {
            let target =
                dentry.target.map(|(ino, _)| self.inode(ino).map(|record| (ino, record))).transpose()?;
            return Ok(Found { target, shadow: dentry.shadow, mount_point: dentry.mount_point });
        }
        let absent = Found { target: None, shadow: None, mount_point: false };
        if self.ufs_key(record)?.is_none() {
            return Ok(absent);
        }
        if self.has_changed(dir, name) {
            // The cache of names does not know yet what this batch has taken away.
            return Err(Refusal::Unresolved(dir, name.clone()));
        }
        self.resolve_cached(dir, record, name)?.ok_or_else(|| Refusal::Unresolved(dir, name.clone()))
    }

    /// Whether a name was changed by this mutation, or by one before it in the same batch.
    fn has_changed(&self, dir: Ino, name: &Name) -> bool {
        let slot = (dir, name.clone());
        self.own.dentries.contains_key(&slot) || self.staged.changes.dentries.contains_key(&slot)
    }

    /// What the cache of names knows, if it is fresh enough.
    fn resolve_cached(&self, dir: Ino, record: &InodeRecord, name: &Name) -> FsResult<Option<Found>> {
        let ttl = self.shared.metadata_ttl_ms(record)?.max(RESOLVED_MS);
        let cached = self.shared.names.get(dir, name).filter(|cached| cached.is_fresh(millis(self.now), ttl));
        let Some(cached) = cached else { return Ok(None) };
        let Answer::Present(ino) = cached.answer else {
            return Ok(Some(Found { target: None, shadow: None, mount_point: false }));
        };
        let Some(inode) = self.shared.table.get(ino) else { return Ok(None) };
        let record = inode.record();
        let shadow = Shadow::of(ino, &record);
        Ok(Some(Found { target: Some((ino, record)), shadow: Some(shadow), mount_point: false }))
    }

    /// Where the UFS has an inode; `None` if it does not.
    pub(crate) fn ufs_key(&self, record: &InodeRecord) -> FsResult<Option<UfsKey>> {
        let mut names = Vec::new();
        let mut record = record.clone();
        loop {
            match (&record.ufs_at, &record.at) {
                (UfsAt::At(key), _) => {
                    return Ok(Some(names.iter().rev().fold(key.clone(), |key, name| key.child(name))));
                }
                (UfsAt::Inherit, Some((parent, name))) => {
                    names.push(name.clone());
                    record = InodeRecord::clone(&*self.inode(*parent)?);
                }
                (UfsAt::Nowhere, _) | (UfsAt::Inherit, None) => return Ok(None),
            }
        }
    }

    /// Whether the UFS has, or may have, anything in this directory.
    pub(crate) fn is_in_ufs(&self, record: &InodeRecord) -> FsResult<bool> {
        Ok(self.ufs_key(record)?.is_some())
    }

    /// Sees to it that an inode that is only in memory is stored, with its name and all directories above: a
    /// record must be found again by its path, whatever becomes of the UFS. Yields the record.
    pub(crate) fn keep(&mut self, ino: Ino) -> OpResult<Arc<InodeRecord>> {
        let record = self.inode(ino)?;
        if self.is_stored(ino)? {
            return Ok(record);
        }
        let Some((dir, name)) = record.at.clone() else { return Err(FsErrorKind::Stale.into()) };
        if record.nlink == 0 || self.dentry(dir, &name)?.is_some() {
            // The name has gone to another inode.
            return Err(FsErrorKind::Stale.into());
        }
        if let Some(cached) = self.shared.names.get(dir, &name)
            && cached.answer != Answer::Present(ino)
        {
            return Err(FsErrorKind::Stale.into());
        }
        self.keep(dir)?;
        let shadow = Shadow::of(ino, &record);
        self.own.inodes.insert(ino, (Arc::clone(&record), Fate::Stored));
        self.own.dentries.insert((dir, name), Some(Dentry::present(ino, record.kind, Some(shadow))));
        Ok(record)
    }

    /// A name in this directory has changed: its times say so. `subdirs` is how many directories came or went.
    pub(crate) fn touch_dir(&mut self, dir: Ino, subdirs: i32) -> OpResult<()> {
        let mut record = InodeRecord::clone(&*self.keep(dir)?);
        record.mtime = self.now;
        record.ctime = self.now;
        // Where the UFS has directories that were never counted, the count cannot go below an empty one's.
        record.nlink = record.nlink.saturating_add_signed(subdirs).max(2);
        self.own_mtime(dir, &mut record)?;
        self.put(dir, record);
        Ok(())
    }

    /// The time of last change of a directory is ours from now on, until the UFS has it too. Nothing, where there is
    /// none to set: of a mount's root, of what stays here, and where the UFS has no such times.
    pub(crate) fn own_mtime(&mut self, dir: Ino, record: &mut InodeRecord) -> FsResult<()> {
        let is_root = matches!(&record.ufs_at, UfsAt::At(key) if key.is_root());
        let kept = record.is_dir() && record.nlink > 0 && !is_root && record.state != InodeState::Native;
        if kept && !record.mtime_due && self.shared.ufs.keeps_dir_times(record.mount) {
            record.mtime_due = true;
            self.requeue_names(dir, record)?;
        }
        Ok(())
    }

    fn requeue_names(&mut self, ino: Ino, record: &InodeRecord) -> FsResult<()> {
        for (dir, name) in self.names_of(ino, record)? {
            self.requeue(dir, &name);
        }
        Ok(())
    }

    /// Queues a name, or every name of an inode, to be looked at by the persist queue.
    pub(crate) fn queue_names(&mut self, ino: Ino, record: &InodeRecord) -> FsResult<()> {
        if record.state == InodeState::Native || self.is_transient(record)? {
            return Ok(());
        }
        for (dir, name) in self.names_of(ino, record)? {
            self.put_key(keys::queue(dir, &name), Some([].into()));
        }
        Ok(())
    }

    /// All names of an inode, the first one first.
    pub(crate) fn names_of(&self, ino: Ino, record: &InodeRecord) -> FsResult<Vec<Slot>> {
        let mut names: Vec<Slot> = record.at.iter().cloned().collect();
        if record.nlink > 1 && record.kind != FileKind::Directory {
            names.extend(self.further_names(ino)?);
        }
        Ok(names)
    }

    /// The further names of an inode.
    pub(crate) fn further_names(&self, ino: Ino) -> FsResult<Vec<Slot>> {
        let links = self.links(ino)?;
        Ok(links.into_iter().filter(|(_, lost)| !lost).map(|(slot, _)| slot).collect())
    }

    /// All names under which the UFS may have an inode's content: those it has, and those it has lost and that
    /// are still to be taken away there. The record may be gone.
    pub(crate) fn names_in_ufs(&self, ino: Ino) -> FsResult<Vec<Slot>> {
        let record = if self.is_stored(ino)? { Some(self.inode(ino)?) } else { None };
        let own = record.iter().flat_map(|record| record.at.iter().chain(&record.left).cloned());
        let links = self.links(ino)?.into_iter().map(|(slot, _)| slot);
        let mut names: Vec<Slot> = own.chain(links).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The names in the keys of an inode's links, and whether each is lost.
    fn links(&self, ino: Ino) -> FsResult<Vec<(Slot, bool)>> {
        let (from, until) = keys::of(keys::LINK, ino);
        let stored = self.engine()?.scan(&from, &until, usize::MAX)?;
        let mut merged: BTreeMap<Key, Option<bool>> =
            stored.into_iter().map(|(key, value)| (key, Some(!value.is_empty()))).collect();
        for layer in [&self.staged.changes.keys, &self.own.keys] {
            let changed = layer.range(from.clone()..until.clone());
            merged.extend(changed.map(|(key, value)| (key.clone(), value.as_ref().map(|v| !v.is_empty()))));
        }
        let present = merged.into_iter().filter_map(|(key, lost)| Some((keys::link_slot(&key)?, lost?)));
        Ok(present.collect())
    }

    /// Whether a directory has any name of its own, whiteouts aside.
    pub(crate) fn has_own_names(&self, dir: Ino) -> FsResult<bool> {
        Ok(self.find_name(dir, |dentry| dentry.target.is_some())?.is_some())
    }

    /// A name in a directory, whiteouts included, of which `wanted` holds.
    pub(crate) fn find_name(&self, dir: Ino, wanted: impl Fn(&Dentry) -> bool) -> FsResult<Option<Slot>> {
        let mut found = None;
        self.each_name(dir, |slot, dentry| {
            let hit = wanted(dentry);
            if hit {
                found = Some(slot.clone());
            }
            Ok(!hit)
        })?;
        Ok(found)
    }

    /// Shows `visit` the names of a directory, whiteouts included, until it says that it has seen enough.
    pub(crate) fn each_name(
        &self,
        dir: Ino,
        mut visit: impl FnMut(&Slot, &Dentry) -> FsResult<bool>,
    ) -> FsResult<()> {
        let mut changed: BTreeMap<Slot, Option<Dentry>> = BTreeMap::new();
        for layer in [&self.staged.changes.dentries, &self.own.dentries] {
            let of_dir = layer.iter().filter(|((of, _), _)| *of == dir);
            changed.extend(of_dir.map(|(slot, dentry)| (slot.clone(), dentry.clone())));
        }
        for (slot, dentry) in &changed {
            if let Some(dentry) = dentry
                && !visit(slot, dentry)?
            {
                return Ok(());
            }
        }
        if self.shared.table.get(dir).is_some_and(|dir| dir.own_names() == OwnNames::None) {
            return Ok(());
        }
        let (mut from, until) = keys::of(keys::DENTRY, dir);
        loop {
            let page = self.engine()?.scan(&from, &until, 256)?;
            for (key, value) in &page {
                let slot = keys::slot(key).filter(|slot| !changed.contains_key(slot));
                if let Some(slot) = slot
                    && !visit(&slot, &Dentry::decode(value)?)?
                {
                    return Ok(());
                }
            }
            match page.last() {
                Some((last, _)) => from = [&last[..], &[0]].concat().into(),
                None => return Ok(()),
            }
        }
    }

    /// Writes a name without touching its place in the queue.
    pub(crate) fn put_name(&mut self, dir: Ino, name: &Name, dentry: Dentry) {
        self.own.dentries.insert((dir, name.clone()), Some(dentry));
    }

    /// Takes a name out of the queue: there is nothing to carry.
    pub(crate) fn unqueue(&mut self, dir: Ino, name: &Name) {
        self.put_key(keys::queue(dir, name), None);
    }

    /// Sees to it that a name is in the queue, in the place it has.
    pub(crate) fn requeue(&mut self, dir: Ino, name: &Name) {
        self.put_key(keys::queue(dir, name), Some(AGAIN.into()));
    }

    /// Writes a name as [`Txn::set_name`] does; it keeps its place in the queue.
    pub(crate) fn reset_name(&mut self, dir: Ino, name: &Name, dentry: Dentry) {
        self.set_name(dir, name, dentry, true);
        let queued = self.own.keys.get(&keys::queue(dir, name)).is_some_and(|value| value.is_some());
        if queued {
            self.requeue(dir, name);
        }
    }
}

impl Staged {
    /// Takes in what a mutation has changed.
    pub(crate) fn take_in(&mut self, changes: Changes, inos: InoRange) {
        self.changes.merge(changes);
        self.inos = inos;
    }
}
