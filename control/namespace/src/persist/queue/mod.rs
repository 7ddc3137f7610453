//! The queue in memory: which names wait, since when, for what, and which are out.
//!
//! **Owns** the schedule only. The names themselves are durable keys; after a restart all of them are here
//! again, due at once. Fed by the home with every change of those keys.
//!
//! Here is what changes the schedule; [`state`] has it, [`due`] its order, [`entry`] is one name of it, [`out`] is what was handed out, and
//! [`look`] answers who asks.

mod due;
mod entry;
mod look;
mod out;
mod rush;
mod state;

pub(crate) use look::Seen;
pub(crate) use out::{Footprint, Out};

use crate::proto::Queued;
use crate::record::Slot;
use due::{GivingWay, Lane};
use entry::{Entry, Status};
use forebay_types::{Ino, MountId, PersistTask, Writers};
use parking_lot::{Mutex, RwLock};
use state::State;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// How soon a name that waits for something is looked at again even if nobody wakes it.
const RECHECK_MS: u64 = 5_000;
/// How soon a name is looked at again whose inode only an open handle keeps.
const ORPHAN_RECHECK_MS: u64 = 1_000;
/// How long a call to hurry holds.
const HURRY_MS: u64 = 1_000;
/// How soon it is looked again whether somebody still writes, while names wait for that.
const LOOK_AT_WRITERS_MS: u64 = 100;
/// The most names that are looked at for one task.
const CANDIDATES_MAX: usize = 64;
/// The bytes of a queued name and its key, without those of the name itself.
pub(crate) const ENTRY_LEN: usize = size_of::<(Slot, Entry)>();

/// Why a name cannot be carried now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// This name has to be carried first.
    For(Slot),
    /// Large files of the mount that were closed before have to be put first.
    ForLarge(MountId),
    /// It is open for write: its close queues it again.
    ForClose,
    /// Somebody has an inode open whose content still is where this name's is to go.
    ForOrphan,
    /// Only the directory's time is to be set, after all that is queued in it.
    ForNamesIn(Ino),
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    writers: RwLock<Option<Weak<dyn Writers>>>,
    /// A name came, left, was woken or failed.
    pub(crate) changed: Notify,
}

/// A name that may be carried now.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: Slot,
    pub(crate) seq: u64,
    pub(crate) since_ms: u64,
}

/// The names that may be carried now, and what is out.
pub(crate) struct Candidates {
    pub(crate) slots: Vec<Candidate>,
    /// What is out, and what is in doubt.
    pub(crate) out: Vec<Out>,
    /// For each mount the first large file that is queued.
    pub(crate) first_large: BTreeMap<MountId, u64>,
    /// When the next name is to be looked at, if none is now.
    pub(crate) next_due_ms: Option<u64>,
}

/// When a name may be carried, in milliseconds of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Not before.
    pub(crate) due_ms: u64,
    /// From then on whoever writes.
    pub(crate) regardless_ms: u64,
}

impl Queue {
    /// A name was queued, queued again, or (`None`) is settled. `times` is when it may be carried.
    pub(crate) fn note(&self, slot: Slot, queued: Option<Queued>, now_ms: u64, times: Times) {
        let mut state = self.state.lock();
        let Some(queued) = queued else {
            let news = state.entries.contains_key(&slot);
            state.remove(&slot);
            if news {
                self.changed.notify_waiters();
            }
            return;
        };
        let first_due_ms = state.first_due_ms();
        let mut news = now_ms < state.hurry_until_ms;
        let mut entry = Entry::new(queued, now_ms, times);
        let known = state.take_out(&slot);
        if known.is_none() {
            state.rush.note(now_ms);
        }
        if let Some(known) = known {
            news |= known.urgent || known.tries > 0 || !matches!(known.status, Status::Due(_));
            state.large.remove(&(known.mount, known.seq));
            entry.succeed(&known, times);
        }
        state.put_in(slot, entry);
        // Who waits for nothing but that something is due is woken if that is sooner than it was: not for each of the
        // thousands of files that are made and closed in a second, and are due a while from now.
        let sooner = state.first_due_ms().is_some_and(|at| first_due_ms.is_none_or(|before| at < before));
        if news || sooner {
            self.changed.notify_waiters();
        }
    }

    /// Files wait for who writes, from now on, for as long as [`Times`] says.
    pub(crate) fn give_way_to(&self, writers: Weak<dyn Writers>) {
        *self.writers.write() = Some(writers);
    }

    /// What gives way: large files to who writes others, all else to who changes many names.
    fn giving_way(&self, now_ms: u64) -> GivingWay {
        let writers: Option<Arc<dyn Writers>> = self.writers.read().as_ref().and_then(Weak::upgrade);
        let Some(writers) = writers else { return GivingWay::default() };
        let (any_large, rush) = {
            let mut state = self.state.lock();
            (state.due.any(Lane::Large), state.rush.is_on(now_ms))
        };
        GivingWay { small: rush && writers.have_room(), large: any_large && writers.are_busy() }
    }

    /// What may be carried now. Nobody else asks meanwhile (the port sees to that).
    pub(crate) fn candidates(&self, now_ms: u64) -> Candidates {
        let giving_way = self.giving_way(now_ms);
        let state = self.state.lock();
        let (slots, held_back) = match now_ms < state.hurry_until_ms {
            true => (state.in_a_hurry(now_ms, CANDIDATES_MAX), false),
            false => state.due.ready(now_ms, giving_way, CANDIDATES_MAX),
        };
        let candidate = |slot: Slot| {
            let entry = state.entries.get(&slot)?;
            Some(Candidate { seq: entry.seq, since_ms: entry.since_ms, slot })
        };
        let slots = slots.into_iter().filter_map(candidate).collect();
        let mut first_large = BTreeMap::new();
        for (mount, seq) in &state.large {
            first_large.entry(*mount).or_insert(*seq);
        }
        let next_due_ms = match held_back {
            true => Some(now_ms + LOOK_AT_WRITERS_MS),
            false => state.first_due_ms(),
        };
        let out = state.out.values().chain(state.doubts.values()).map(|(out, _)| out.clone()).collect();
        Candidates { slots, out, first_large, next_due_ms }
    }

    /// A name that was looked at has to wait. One that was queued again since then may have nothing to wait for any
    /// more (a close that has come meanwhile does not come again), and stays due.
    pub(crate) fn wait(&self, Candidate { slot, seq, .. }: &Candidate, wait: Wait, now_ms: u64) {
        let mut state = self.state.lock();
        let Some(entry) = state.entries.get_mut(slot).filter(|entry| entry.seq == *seq) else { return };
        entry.delayed = false;
        entry.only_time = matches!(wait, Wait::ForNamesIn(_));
        let urgent = entry.urgent;
        let recheck = match wait {
            Wait::ForOrphan => ORPHAN_RECHECK_MS,
            _ => RECHECK_MS,
        };
        let status = match wait {
            Wait::ForClose => Status::OpenForWrite,
            _ => Status::Due(now_ms + recheck),
        };
        state.set_status(slot, status);
        match wait {
            Wait::For(other) => {
                let trouble = state.entries.get(&other).filter(|other| other.tries > 0);
                let trouble = trouble.and_then(|other| other.failure.clone());
                match trouble {
                    // Who waits for this name learns why, and the other one is left to its back-off.
                    Some(why) if urgent => state.blame(slot, &other, &why),
                    None if urgent => state.hasten(&other),
                    None => state.give_way_no_more(&other),
                    Some(_) => {}
                }
                state.waiters.entry(other).or_default().insert(slot.clone());
            }
            Wait::ForLarge(mount) => {
                if urgent {
                    state.hasten_large(mount);
                }
                state.large_waiters.entry(mount).or_default().insert(slot.clone());
            }
            Wait::ForClose => state.wake_dir(slot.0),
            Wait::ForNamesIn(dir) => {
                state.dir_waiters.insert(dir, slot.clone());
                // The last of them may have been carried since the look.
                state.wake_dir(dir);
            }
            Wait::ForOrphan => {}
        }
        self.changed.notify_waiters();
    }

    /// The task `id` has ended; `failure` says why it is to be tried again later. One that was `written_beside` would most
    /// likely end in the same way until that is told: who waits for it hears so.
    pub(crate) fn ended(&self, id: u64, failure: Option<String>, written_beside: bool, now_ms: u64) {
        let mut state = self.state.lock();
        let Some((out, task)) = state.out.remove(&id) else { return };
        let slot = out.slot.clone();
        let looked_into = task.again;
        if failure.is_some() {
            state.doubts.insert(slot.clone(), (out, PersistTask { again: true, ..task }));
        }
        if state.entries.get(&slot).is_some_and(|entry| entry.status == Status::Out(id)) {
            let mut due = state.after(&slot, failure, looked_into, now_ms);
            if let Some(entry) = state.entries.get_mut(&slot).filter(|_| written_beside) {
                entry.written_beside += 1;
                due = now_ms + RECHECK_MS;
            }
            state.set_status(&slot, Status::Due(due));
        }
        state.wake_waiters(&slot);
        state.wake_dir(slot.0);
        self.changed.notify_waiters();
    }

    /// What waits for its delay is due now, for a while. Says whether there is anything that can be carried.
    pub(crate) fn hurry(&self, now_ms: u64) -> bool {
        let mut state = self.state.lock();
        state.hurry_until_ms = now_ms + HURRY_MS;
        self.changed.notify_waiters();
        let can = |entry: &Entry| !entry.is_set_aside() && entry.status != Status::OpenForWrite;
        state.entries.values().any(can)
    }

    /// Makes names urgent.
    pub(crate) fn hasten<'a>(&self, slots: impl Iterator<Item = &'a Slot>) {
        let mut state = self.state.lock();
        for slot in slots {
            state.hasten(slot);
        }
        self.changed.notify_waiters();
    }
}
