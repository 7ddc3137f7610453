//! The queue in memory: which names wait, since when, for what, and which are out.
//!
//! **Owns** the schedule only. The names themselves are durable keys; after a restart all of them are here
//! again, due at once. Fed by the home with every change of those keys.

use crate::proto::Queued;
use crate::record::Slot;
use forebay_types::{Ino, MountId, Name, PersistTask, PersistWork, UfsKey};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::sync::Notify;

/// The first wait after a failure, the longest, and the failures after which a name is set aside.
const BACK_OFF_FIRST_MS: u64 = 1_000;
const BACK_OFF_MAX_MS: u64 = 300_000;
const TRIES_MAX: u32 = 8;
/// How soon a name that waits for something is looked at again even if nobody wakes it.
const RECHECK_MS: u64 = 5_000;
/// How soon a name is looked at again whose inode only an open handle keeps.
const ORPHAN_RECHECK_MS: u64 = 1_000;
/// How long a call to hurry holds.
const HURRY_MS: u64 = 1_000;
/// The most names that are looked at for one task.
const CANDIDATES_MAX: usize = 64;
/// Files from this length on are put in parts; shorter ones in one call, and behind those with
/// `persist_order = checkpoint`.
pub(crate) const LARGE_LEN: u64 = 8 << 20;

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

#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    /// To be looked at from this time on, in milliseconds of the clock.
    Due(u64),
    Out(u64),
    OpenForWrite,
}

struct Entry {
    seq: u64,
    mount: MountId,
    bytes: u64,
    since_ms: u64,
    status: Status,
    /// Waits for nothing but its mount's `persist_delay`.
    delayed: bool,
    /// A directory of which nothing but its time is to be carried.
    only_time: bool,
    /// Somebody waits for it: no delay and no back-off.
    urgent: bool,
    tries: u32,
    failure: Option<String>,
    /// Counts failures since start, so that who waits sees a new one.
    failures: u64,
}

/// The bytes of a queued name and its key, without those of the name itself.
pub(crate) const ENTRY_LEN: usize = size_of::<(Slot, Entry)>();

impl Entry {
    fn new(queued: Queued, now_ms: u64, due_ms: u64) -> Self {
        Self {
            seq: queued.seq,
            mount: MountId(queued.mount),
            bytes: queued.bytes,
            since_ms: now_ms,
            status: Status::Due(due_ms),
            delayed: true,
            only_time: false,
            urgent: false,
            tries: 0,
            failure: None,
            failures: 0,
        }
    }

    /// Takes over from an entry of the same name: what is changed again and again is not put off for ever.
    fn succeed(&mut self, known: &Self, due_ms: u64) {
        self.since_ms = known.since_ms;
        if self.seq == known.seq {
            // Nobody has changed it: what was tried in vain is not new.
            self.tries = known.tries;
            self.failure = known.failure.clone();
        }
        self.failures = known.failures;
        self.urgent = known.urgent;
        self.delayed = known.delayed;
        self.status = match known.status {
            Status::Out(id) => Status::Out(id),
            _ if known.urgent => Status::Due(0),
            Status::Due(at) if self.seq == known.seq => Status::Due(at),
            Status::Due(at) => Status::Due(at.min(due_ms)),
            Status::OpenForWrite => {
                self.delayed = true;
                Status::Due(due_ms)
            }
        };
    }

    fn is_set_aside(&self) -> bool {
        self.tries >= TRIES_MAX
    }

    /// Whether the time of the directory it is in is set after it: what is open for write, or keeps failing, would
    /// hold that up for long.
    fn goes_first(&self) -> bool {
        self.status != Status::OpenForWrite && self.tries == 0
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

#[derive(Default)]
struct State {
    entries: BTreeMap<Slot, Entry>,
    due: BTreeSet<(u64, u64, Slot)>,
    /// Who waits for a name.
    waiters: HashMap<Slot, HashSet<Slot>>,
    large_waiters: HashMap<MountId, HashSet<Slot>>,
    /// The directories that wait for all that is in them.
    dir_waiters: HashMap<Ino, Slot>,
    out: HashMap<u64, (Out, PersistTask)>,
    /// Tasks that are out and that nobody has taken yet.
    ready: VecDeque<u64>,
    /// Tasks whose end is not known.
    doubts: HashMap<Slot, (Out, PersistTask)>,
    next_id: u64,
    /// Large files that are queued, by the order in which they were closed.
    large: BTreeSet<(MountId, u64)>,
    hurry_until_ms: u64,
    bytes: u64,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// A name came, left, was woken or failed.
    pub(crate) changed: Notify,
}

/// What a name looks like to who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) failures: u64,
    pub(crate) failure: Option<String>,
    pub(crate) open_for_write: bool,
    pub(crate) set_aside: bool,
    /// It is a directory that waits, in its own time, for what was queued in it since somebody was in a hurry.
    pub(crate) goes_last: bool,
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
    /// When the next name is due, if none is now.
    pub(crate) next_due_ms: Option<u64>,
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

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) names: usize,
    pub(crate) bytes: u64,
    pub(crate) out: usize,
    pub(crate) set_aside: usize,
    pub(crate) oldest_since_ms: Option<u64>,
}

impl State {
    fn set_status(&mut self, slot: &Slot, status: Status) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        if let Status::Due(at) = entry.status {
            self.due.remove(&(at, entry.seq, slot.clone()));
        }
        if let Status::Due(at) = status {
            self.due.insert((at, entry.seq, slot.clone()));
        }
        entry.status = status;
    }

    fn hand_out(&mut self, out: Out, task: PersistTask) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.set_status(&out.slot, Status::Out(id));
        self.doubts.remove(&out.slot);
        self.out.insert(id, (out, PersistTask { id, ..task }));
        id
    }

    fn first_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(at, ..)| *at)
    }

    fn remove(&mut self, slot: &Slot) {
        let Some(entry) = self.entries.remove(slot) else { return };
        if let Status::Due(at) = entry.status {
            self.due.remove(&(at, entry.seq, slot.clone()));
        }
        self.bytes -= entry.bytes;
        self.forget_large(entry.mount, entry.seq);
        self.wake_waiters(slot);
        self.wake_dir(slot.0);
    }

    /// Whether anything in a directory goes before the directory's own time, whose name is `slot`. Who waits for the
    /// directory waits for what was queued before he came, and for no more.
    fn any_first(&self, dir: Ino, slot: &Slot) -> bool {
        let urgent_only = self.entries.get(slot).is_some_and(|entry| entry.urgent);
        self.queued_in(dir).any(|(_, entry)| entry.goes_first() && (entry.urgent || !urgent_only))
    }

    fn queued_in(&self, dir: Ino) -> impl Iterator<Item = (&Slot, &Entry)> {
        let first = Name::new([1]).expect("a byte that is neither 0 nor a slash is a name");
        self.entries.range((dir, first)..).take_while(move |((of, _), _)| *of == dir)
    }

    /// A name in a directory has left the queue, or waits for long: perhaps it was the last before the directory.
    fn wake_dir(&mut self, dir: Ino) {
        let Some(slot) = self.dir_waiters.get(&dir).filter(|slot| !self.any_first(dir, slot)).cloned() else {
            return;
        };
        self.dir_waiters.remove(&dir);
        self.wake(&slot);
    }

    fn forget_large(&mut self, mount: MountId, seq: u64) {
        if self.large.remove(&(mount, seq)) {
            for slot in self.large_waiters.remove(&mount).unwrap_or_default() {
                self.wake(&slot);
            }
        }
    }

    fn wake_waiters(&mut self, slot: &Slot) {
        for waiter in self.waiters.remove(slot).unwrap_or_default() {
            self.wake(&waiter);
        }
    }

    /// A name that waited for something is looked at again at once, unless it waits because it failed.
    fn wake(&mut self, slot: &Slot) {
        let waits = self.entries.get(slot).is_some_and(|entry| {
            matches!(entry.status, Status::Due(_)) && entry.tries == 0 && !entry.delayed
        });
        if waits {
            self.set_status(slot, Status::Due(0));
        }
    }

    /// A name cannot be carried because another one, which has to be carried first, fails.
    fn blame(&mut self, slot: &Slot, other: &Slot, why: &str) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        entry.urgent = false;
        entry.failures += 1;
        entry.failure = Some(format!("{} has to be carried first: {why}", other.1));
    }

    /// Makes a name, and what it waits for, urgent.
    fn hasten(&mut self, slot: &Slot) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        entry.urgent = true;
        if matches!(entry.status, Status::Due(_)) {
            self.set_status(slot, Status::Due(0));
        }
    }
}

impl Queue {
    /// A name was queued, queued again, or (`None`) is settled. `due_ms` is when it may be carried.
    pub(crate) fn note(&self, slot: Slot, queued: Option<Queued>, now_ms: u64, due_ms: u64) {
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
        let mut entry = Entry::new(queued, now_ms, due_ms);
        if let Some(known) = state.entries.remove(&slot) {
            news |= known.urgent || known.tries > 0 || !matches!(known.status, Status::Due(_));
            if let Status::Due(at) = known.status {
                state.due.remove(&(at, known.seq, slot.clone()));
            }
            state.bytes -= known.bytes;
            state.large.remove(&(known.mount, known.seq));
            entry.succeed(&known, due_ms);
        }
        if queued.bytes >= LARGE_LEN && !entry.is_set_aside() {
            state.large.insert((entry.mount, queued.seq));
        }
        state.bytes += queued.bytes;
        if let Status::Due(at) = entry.status {
            state.due.insert((at, queued.seq, slot.clone()));
        }
        state.entries.insert(slot, entry);
        // Who waits for nothing but that something is due is woken if that is sooner than it was: not for each of the
        // thousands of files that are made and closed in a second, and are due a while from now.
        let sooner = state.first_due_ms().is_some_and(|at| first_due_ms.is_none_or(|before| at < before));
        if news || sooner {
            self.changed.notify_waiters();
        }
    }

    /// What may be carried now. Nobody else asks meanwhile (the port sees to that).
    pub(crate) fn candidates(&self, now_ms: u64) -> Candidates {
        let state = self.state.lock();
        let hurry = now_ms < state.hurry_until_ms;
        let ready = |slot: &Slot, at: u64| {
            at <= now_ms
                || (hurry && state.entries.get(slot).is_some_and(|entry| entry.delayed && entry.tries == 0))
        };
        let due = state.due.iter().take_while(|(at, ..)| *at <= now_ms || hurry);
        let slots = due
            .filter(|(at, _, slot)| ready(slot, *at))
            .take(CANDIDATES_MAX)
            .map(|(_, seq, slot)| {
                let since_ms = state.entries.get(slot).map_or(now_ms, |entry| entry.since_ms);
                Candidate { slot: slot.clone(), seq: *seq, since_ms }
            })
            .collect();
        let mut first_large = BTreeMap::new();
        for (mount, seq) in &state.large {
            first_large.entry(*mount).or_insert(*seq);
        }
        let next_due_ms = state.first_due_ms();
        let out = state.out.values().chain(state.doubts.values()).map(|(out, _)| out.clone()).collect();
        Candidates { slots, out, first_large, next_due_ms }
    }

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
                    _ => {}
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

    /// The task `id` has ended; `failure` says why it is to be tried again later.
    pub(crate) fn ended(&self, id: u64, failure: Option<String>, now_ms: u64) {
        let mut state = self.state.lock();
        let Some((out, task)) = state.out.remove(&id) else { return };
        let slot = out.slot.clone();
        let looked_into = task.again;
        if failure.is_some() {
            state.doubts.insert(slot.clone(), (out, PersistTask { again: true, ..task }));
        }
        if state.entries.get(&slot).is_some_and(|entry| entry.status == Status::Out(id)) {
            let due = state.after(&slot, failure, looked_into, now_ms);
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

    pub(crate) fn see(&self, slot: &Slot) -> Option<Seen> {
        self.state.lock().entries.get(slot).map(Entry::seen)
    }

    /// All names that were queued up to `seq`.
    pub(crate) fn up_to(&self, seq: u64) -> Vec<(Slot, Seen)> {
        let state = self.state.lock();
        let old = state.entries.iter().filter(|(_, entry)| entry.seq <= seq);
        old.map(|(slot, entry)| (slot.clone(), entry.seen())).collect()
    }

    /// All names in a directory that are queued and of which `wanted` holds.
    pub(crate) fn seen_in(&self, dir: Ino, wanted: impl Fn(&Name) -> bool) -> Vec<(Slot, Seen)> {
        let state = self.state.lock();
        let found = state.queued_in(dir).filter(|(slot, _)| wanted(&slot.1));
        found.map(|(slot, entry)| (slot.clone(), entry.seen())).collect()
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

    /// The number of names that are queued.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    pub(crate) fn totals(&self) -> Totals {
        let state = self.state.lock();
        Totals {
            names: state.entries.len(),
            bytes: state.bytes,
            out: state.out.len(),
            set_aside: state.entries.values().filter(|entry| entry.is_set_aside()).count(),
            oldest_since_ms: state
                .entries
                .values()
                .filter(|entry| !entry.only_time)
                .map(|entry| entry.since_ms)
                .min(),
        }
    }

    /// Whether anything in a directory goes before the directory's own time, whose name is `slot`.
    pub(crate) fn any_first(&self, dir: Ino, slot: &Slot) -> bool {
        self.state.lock().any_first(dir, slot)
    }

    /// Whether anything in a directory is being carried or waits for that: what the UFS says of the directory itself
    /// may be our own doing.
    pub(crate) fn is_busy_in(&self, dir: Ino) -> bool {
        self.state.lock().queued_in(dir).any(|(_, entry)| entry.status != Status::OpenForWrite)
    }

    /// Whether anything of a directory is queued or out: a mount that is to be removed must have nothing.
    pub(crate) fn has_mount(&self, mount: MountId) -> bool {
        self.state.lock().entries.values().any(|entry| entry.mount == mount)
    }
}

impl Entry {
    fn seen(&self) -> Seen {
        Seen {
            seq: self.seq,
            failures: self.failures,
            failure: self.failure.clone(),
            open_for_write: self.status == Status::OpenForWrite,
            set_aside: self.is_set_aside(),
            goes_last: self.only_time && !self.urgent,
        }
    }
}

impl State {
    /// When a name is due whose task has ended. That an earlier one was `looked_into` is no success.
    fn after(&mut self, slot: &Slot, failure: Option<String>, looked_into: bool, now_ms: u64) -> u64 {
        let Some(entry) = self.entries.get_mut(slot) else { return now_ms };
        entry.urgent = false;
        entry.delayed = false;
        let Some(failure) = failure else {
            if !looked_into {
                entry.tries = 0;
            }
            return now_ms;
        };
        entry.failure = Some(failure);
        entry.failures += 1;
        entry.tries = entry.tries.saturating_add(1);
        let wait = (BACK_OFF_FIRST_MS << entry.tries.min(16).saturating_sub(1)).min(BACK_OFF_MAX_MS);
        let due = now_ms + wait - jitter(slot.0, now_ms, wait / 4);
        if entry.is_set_aside() {
            // It holds up nobody any more.
            let (mount, seq) = (entry.mount, entry.seq);
            self.forget_large(mount, seq);
        }
        due
    }

    fn hasten_large(&mut self, mount: MountId) {
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

/// Spreads retries that would fall together.
fn jitter(dir: Ino, now_ms: u64, below: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&dir.0.to_le_bytes(), now_ms) % below.max(1)
}
