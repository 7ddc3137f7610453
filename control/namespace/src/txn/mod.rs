//! One mutation, as the home executes it.
//!
//! **Owns** what the mutation has changed so far. It reads through three layers (its own changes, those of the
//! mutations before it in the same batch, the shared state) and writes to the first only: a mutation that is
//! refused halfway leaves nothing behind, and a batch that cannot be logged neither.
//!
//! **Never does** I/O except reads of the engine, and not even those [in memory](Txn::in_memory); and never waits for
//! the UFS: a name that nobody has resolved is [`Refusal::Unresolved`], the caller resolves it and asks again.

mod changes;
mod inodes;
mod links;
mod names;
mod queued;

pub(crate) use changes::{Changes, Fate, InoRange, Staged};
pub(crate) use names::{Found, RESOLVED_MS, Vacant};

use crate::keys::{self, Key};
use crate::overlay::Value;
use crate::record::InodeRecord;
use crate::shared::Shared;
use crate::view::View;
use forebay_types::{FsError, FsErrorKind, FsResult, Ino, Name, TimeSpec};
use queued::AGAIN;
use std::cell::Cell;

/// How many inode numbers are reserved with one durable step of the counter.
const INO_STEP: u64 = 4096;
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
}
