//! The schedule: every queued name by its place, by the time it is due, and by what it waits for.
//!
//! **Owns** the indexes and that they agree with each other. **Never does** lock, or tell anybody: [`super::Queue`] does.

use super::due::Due;
use super::entry::{Entry, Status};
use super::out::Out;
use super::rush::Rush;
use crate::record::Slot;
use forebay_types::{Ino, MountId, Name, PersistTask};
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// All that is queued and out.
#[derive(Default)]
pub(super) struct State {
    pub(super) entries: BTreeMap<Slot, Entry>,
    pub(super) due: Due,
    pub(super) rush: Rush,
    /// Who waits for a name.
    pub(super) waiters: HashMap<Slot, HashSet<Slot>>,
    pub(super) large_waiters: HashMap<MountId, HashSet<Slot>>,
    /// The directories that wait for all that is in them.
    pub(super) dir_waiters: HashMap<Ino, Slot>,
    pub(super) out: HashMap<u64, (Out, PersistTask)>,
    /// Tasks that are out and that nobody has taken yet.
    pub(super) ready: VecDeque<u64>,
    /// Tasks whose end is not known.
    pub(super) doubts: HashMap<Slot, (Out, PersistTask)>,
    pub(super) next_id: u64,
    /// Large files that are queued, by the order in which they were closed.
    pub(super) large: BTreeSet<(MountId, u64)>,
    pub(super) hurry_until_ms: u64,
    pub(super) bytes: u64,
}

impl State {
    pub(super) fn set_status(&mut self, slot: &Slot, status: Status) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        if let Some(stand) = entry.stand.take() {
            self.due.remove(slot, stand);
        }
        entry.status = status;
        entry.stand = entry.stand_now();
        if let Some(stand) = entry.stand {
            self.due.insert(slot, stand);
        }
    }

    /// Puts a name in, from which [`Self::take_out`] has taken one that was there before.
    pub(super) fn put_in(&mut self, slot: Slot, mut entry: Entry) {
        if entry.is_large() && !entry.is_set_aside() {
            self.large.insert((entry.mount, entry.seq));
        }
        self.bytes += entry.bytes;
        entry.stand = entry.stand_now();
        if let Some(stand) = entry.stand {
            self.due.insert(&slot, stand);
        }
        self.entries.insert(slot, entry);
    }

    /// Takes a name out, and leaves who waits for it waiting.
    pub(super) fn take_out(&mut self, slot: &Slot) -> Option<Entry> {
        let entry = self.entries.remove(slot)?;
        if let Some(stand) = entry.stand {
            self.due.remove(slot, stand);
        }
        self.bytes -= entry.bytes;
        Some(entry)
    }

    pub(super) fn hand_out(&mut self, out: Out, task: PersistTask) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.set_status(&out.slot, Status::Out(id));
        self.doubts.remove(&out.slot);
        self.out.insert(id, (out, PersistTask { id, ..task }));
        id
    }

    pub(super) fn first_due_ms(&self) -> Option<u64> {
        self.due.first_ms()
    }

    pub(super) fn remove(&mut self, slot: &Slot) {
        let Some(entry) = self.take_out(slot) else { return };
        self.forget_large(entry.mount, entry.seq);
        self.wake_waiters(slot);
        self.wake_dir(slot.0);
    }

    /// Up to `limit` names that are due, or would be but for their delay, whoever writes.
    pub(super) fn in_a_hurry(&self, now_ms: u64, limit: usize) -> Vec<Slot> {
        self.due.select(limit, |at_ms, slot| {
            let delayed = |entry: &Entry| entry.delayed && entry.tries == 0;
            at_ms <= now_ms || self.entries.get(slot).is_some_and(delayed)
        })
    }

    /// Whether anything in a directory goes before the directory's own time, whose name is `slot`. Who waits for the
    /// directory waits for what was queued before he came, and for no more.
    pub(super) fn any_first(&self, dir: Ino, slot: &Slot) -> bool {
        let urgent_only = self.entries.get(slot).is_some_and(|entry| entry.urgent);
        self.queued_in(dir).any(|(_, entry)| entry.goes_first() && (entry.urgent || !urgent_only))
    }

    pub(super) fn queued_in(&self, dir: Ino) -> impl Iterator<Item = (&Slot, &Entry)> {
        let first = Name::new([1]).expect("a byte that is neither 0 nor a slash is a name");
        self.entries.range((dir, first)..).take_while(move |((of, _), _)| *of == dir)
    }

    /// A name in a directory has left the queue, or waits for long: perhaps it was the last before the directory.
    pub(super) fn wake_dir(&mut self, dir: Ino) {
        let Some(slot) = self.dir_waiters.get(&dir).filter(|slot| !self.any_first(dir, slot)).cloned() else {
            return;
        };
        self.dir_waiters.remove(&dir);
        self.wake(&slot);
    }

    pub(super) fn forget_large(&mut self, mount: MountId, seq: u64) {
        if self.large.remove(&(mount, seq)) {
            for slot in self.large_waiters.remove(&mount).unwrap_or_default() {
                self.wake(&slot);
            }
        }
    }

    pub(super) fn wake_waiters(&mut self, slot: &Slot) {
        for waiter in self.waiters.remove(slot).unwrap_or_default() {
            self.wake(&waiter);
        }
    }

    /// A name that waited for something is looked at again at once, unless it waits because it failed.
    pub(super) fn wake(&mut self, slot: &Slot) {
        let waits = self.entries.get(slot).is_some_and(|entry| {
            matches!(entry.status, Status::Due(_)) && entry.tries == 0 && !entry.delayed
        });
        if waits {
            self.set_status(slot, Status::Due(0));
        }
    }

    /// A name cannot be carried because another one, which has to be carried first, fails.
    pub(super) fn blame(&mut self, slot: &Slot, other: &Slot, why: &str) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        entry.urgent = false;
        entry.failures += 1;
        entry.failure = Some(format!("{} has to be carried first: {why}", other.1));
    }

    /// Makes a name, and what it waits for, urgent.
    pub(super) fn hasten(&mut self, slot: &Slot) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        entry.urgent = true;
        if matches!(entry.status, Status::Due(_)) {
            self.set_status(slot, Status::Due(0));
        }
    }

    /// Something that does not give way, or has done so for long enough, waits for this name.
    pub(super) fn give_way_no_more(&mut self, slot: &Slot) {
        let Some(entry) = self.entries.get_mut(slot).filter(|entry| entry.delayed) else { return };
        if let Status::Due(at_ms) = entry.status {
            entry.delayed = false;
            self.set_status(slot, Status::Due(at_ms));
        }
    }

    /// When a name is due whose task has ended. That an earlier one was `looked_into` is no success.
    pub(super) fn after(
        &mut self,
        slot: &Slot,
        failure: Option<String>,
        looked_into: bool,
        now_ms: u64,
    ) -> u64 {
        let Some(entry) = self.entries.get_mut(slot) else { return now_ms };
        entry.urgent = false;
        entry.delayed = false;
        let Some(failure) = failure else {
            if !looked_into {
                entry.tries = 0;
            }
            return now_ms;
        };
        let due = entry.failed(slot.0, failure, now_ms);
        if entry.is_set_aside() {
            // It holds up nobody any more.
            let (mount, seq) = (entry.mount, entry.seq);
            self.forget_large(mount, seq);
        }
        due
    }

    pub(super) fn hasten_large(&mut self, mount: MountId) {
        let large: HashSet<u64> =
            self.large.range((mount, 0)..=(mount, u64::MAX)).map(|(_, seq)| *seq).collect();
        let slots: Vec<Slot> = self
            .entries
            .iter()
            .filter(|(_, entry)| large.contains(&entry.seq))
            .map(|(slot, _)| slot.clone())
            .collect();
        for slot in slots {
            self.hasten(&slot);
        }
    }
}
