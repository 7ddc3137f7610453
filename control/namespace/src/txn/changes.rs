//! What mutations have changed, on its way from one of them to its batch, the log and the engine.

use crate::keys::{self, Key};
use crate::overlay::Value;
use crate::record::{Dentry, InodeRecord, Slot};
use forebay_types::Ino;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    /// The directories in which a name is the UFS's to answer for again. Where a name is merely gone, the UFS is known to
    /// have nothing there.
    pub(crate) given_back: BTreeSet<Ino>,
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

    pub(super) fn merge(&mut self, later: Self) {
        self.inodes.extend(later.inodes);
        self.dentries.extend(later.dentries);
        self.given_back.extend(later.given_back);
        self.keys.extend(later.keys);
    }
}

/// Inode numbers reserved by the durable counter and not handed out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InoRange {
    pub(crate) next: u64,
    pub(crate) end: u64,
}

/// The mutations of one batch that were executed so far.
pub(crate) struct Staged {
    pub(crate) changes: Changes,
    pub(crate) inos: InoRange,
}

impl Staged {
    /// Takes in what a mutation has changed.
    pub(crate) fn take_in(&mut self, changes: Changes, inos: InoRange) {
        self.changes.merge(changes);
        self.inos = inos;
    }
}
