//! What is out: the tasks that were handed out, and those whose end is not known.
//!
//! **Owns** what a task occupies while it is out, and the questions about that. **Never does** decide when a name is due.

use super::Queue;
use crate::record::Slot;
use forebay_types::{Ino, MountId, Name, PersistTask, PersistWork, UfsKey};

/// What a task that is out occupies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) mount: MountId,
    /// The inodes whose content or place in the UFS it changes: two tasks of one inode never run side by side.
    pub(crate) inos: Vec<Ino>,
    pub(crate) keys: Vec<UfsKey>,
    /// Everything below the keys, too.
    pub(crate) tree: bool,
}

impl Footprint {
    /// Whether it takes in an inode, or what the UFS has of that at `key`.
    fn holds(&self, mount: MountId, ino: Ino, key: Option<&UfsKey>) -> bool {
        let holds_key =
            |key: &UfsKey| self.keys.iter().any(|own| own == key || (self.tree && key.is_within(own)));
        self.mount == mount && (self.inos.contains(&ino) || key.is_some_and(holds_key))
    }

    /// Whether two tasks may not run side by side.
    pub(crate) fn crosses(&self, other: &Self) -> bool {
        let cross = |a: &UfsKey, b: &UfsKey| {
            a == b || (self.tree && b.is_within(a)) || (other.tree && a.is_within(b))
        };
        let one_inode = self.inos.iter().any(|ino| other.inos.contains(ino));
        let one_key = self.keys.iter().any(|a| other.keys.iter().any(|b| cross(a, b)));
        self.mount == other.mount && (one_inode || one_key)
    }
}

/// A task that is out.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) slot: Slot,
    /// Of a move: the name at whose key the thing was.
    pub(crate) left: Option<Slot>,
    pub(crate) footprint: Footprint,
}

impl Queue {
    /// A task is to be handed out to who asks next.
    pub(crate) fn make_ready(&self, (task, out): (PersistTask, Out)) {
        let mut state = self.state.lock();
        let id = state.hand_out(out, task);
        state.ready.push_back(id);
    }

    /// The next task that is to be handed out.
    pub(crate) fn take_ready(&self) -> Option<PersistTask> {
        let mut state = self.state.lock();
        let id = state.ready.pop_front()?;
        state.out.get(&id).map(|(_, task)| task.clone())
    }

    /// A task was begun and nobody knows how it ended.
    pub(crate) fn doubt(&self, (task, out): (PersistTask, Out)) {
        self.state.lock().doubts.insert(out.slot.clone(), (out, PersistTask { again: true, ..task }));
    }

    /// Hands out all that is in doubt.
    pub(crate) fn hand_out_doubts(&self) -> Vec<PersistTask> {
        let mut state = self.state.lock();
        let doubts: Vec<(Out, PersistTask)> = state.doubts.drain().map(|(_, doubt)| doubt).collect();
        let ids: Vec<u64> = doubts.into_iter().map(|(out, task)| state.hand_out(out, task)).collect();
        ids.iter().filter_map(|id| state.out.get(id)).map(|(_, task)| task.clone()).collect()
    }

    /// Whether a task for the name or for the inode, or one that takes away what the UFS has at the name, is out or in
    /// doubt.
    pub(crate) fn is_begun(&self, dir: Ino, name: &Name, ino: Ino) -> bool {
        let state = self.state.lock();
        let mut begun = state.out.values().chain(state.doubts.values());
        begun.any(|(out, _)| {
            let slots = [Some(&out.slot), out.left.as_ref()];
            let named = slots.into_iter().flatten().any(|slot| names(slot, dir, name));
            named || out.footprint.inos.contains(&ino)
        })
    }

    /// Whether a task that may change what the UFS has of an inode, which is to be at `key`, is out or in doubt.
    pub(crate) fn holds(&self, mount: MountId, ino: Ino, key: Option<&UfsKey>) -> bool {
        let state = self.state.lock();
        let mut begun = state.out.values().chain(state.doubts.values());
        begun.any(|(out, _)| out.footprint.holds(mount, ino, key))
    }

    /// Whether what the UFS has at a name is being moved away from there.
    pub(crate) fn is_leaving(&self, dir: Ino, name: &Name) -> bool {
        let state = self.state.lock();
        let mut begun = state.out.values().chain(state.doubts.values());
        begun.any(|(out, _)| out.left.as_ref().is_some_and(|left| names(left, dir, name)))
    }

    /// What is out.
    pub(crate) fn outstanding(&self, id: u64) -> Option<Out> {
        self.state.lock().out.get(&id).map(|(out, _)| out.clone())
    }

    /// Where what is at `key` is being moved to, if it or anything above it is.
    pub(crate) fn moved(&self, mount: MountId, key: &UfsKey) -> Option<UfsKey> {
        let state = self.state.lock();
        let begun = state.out.values().chain(state.doubts.values()).filter(|(_, task)| task.mount == mount);
        begun.filter_map(|(_, task)| moved_by(task, key)).next()
    }
}

fn names((of, known): &Slot, dir: Ino, name: &Name) -> bool {
    *of == dir && known == name
}

fn moved_by(task: &PersistTask, key: &UfsKey) -> Option<UfsKey> {
    match &task.work {
        PersistWork::Move { from, to, .. } => key.rebased(from, to),
        _ => None,
    }
}
