//! Names by the time they are due, and by the time until which they give way to who writes.
//!
//! **Owns** three lanes: of names that give way to nobody, of large files, and of all others. While somebody
//! writes what a lane gives way to, its names are looked for by the end of their patience, so that however many wait, who asks what
//! is ready looks at none of them. **Never does** know why somebody writes, or what a name is beyond its lane.

use crate::record::Slot;
use std::collections::BTreeSet;

/// What a name gives way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Nobody.
    Plain,
    /// Who changes many names.
    Small,
    /// Who writes large files.
    Large,
}

/// Where a name stands in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) lane: Lane,
    /// When it is due.
    pub(super) at_ms: u64,
    /// When it gives way no more.
    pub(super) until_ms: u64,
    pub(super) seq: u64,
}

/// The lanes that are to give way now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GivingWay {
    pub(super) small: bool,
    pub(super) large: bool,
}

impl GivingWay {
    fn of(self, lane: Lane) -> bool {
        match lane {
            Lane::Plain => false,
            Lane::Small => self.small,
            Lane::Large => self.large,
        }
    }
}

type ByTime = BTreeSet<(u64, u64, Slot)>;

#[derive(Default)]
struct Names {
    by_due: ByTime,
    by_end: ByTime,
}

/// The schedule.
#[derive(Default)]
pub(super) struct Due {
    lanes: [Names; LANES.len()],
}

const LANES: [Lane; 3] = [Lane::Plain, Lane::Small, Lane::Large];

impl Due {
    pub(super) fn insert(&mut self, slot: &Slot, stand: Stand) {
        let names = &mut self.lanes[stand.lane as usize];
        names.by_due.insert((stand.at_ms, stand.seq, slot.clone()));
        if stand.lane != Lane::Plain {
            names.by_end.insert((stand.until_ms.max(stand.at_ms), stand.seq, slot.clone()));
        }
    }

    pub(super) fn remove(&mut self, slot: &Slot, stand: Stand) {
        let names = &mut self.lanes[stand.lane as usize];
        names.by_due.remove(&(stand.at_ms, stand.seq, slot.clone()));
        names.by_end.remove(&(stand.until_ms.max(stand.at_ms), stand.seq, slot.clone()));
    }

    /// When the first name is due, whoever writes.
    pub(super) fn first_ms(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|names| names.by_due.first()).map(|(at, ..)| *at).min()
    }

    pub(super) fn any(&self, lane: Lane) -> bool {
        !self.lanes[lane as usize].by_due.is_empty()
    }

    /// Up to `limit` names that are due now, in order, and whether others would be if they did not give way.
    pub(super) fn ready(&self, now_ms: u64, giving_way: GivingWay, limit: usize) -> (Vec<Slot>, bool) {
        let (mut ready, mut held_back) = (Vec::new(), false);
        for lane in LANES {
            let names = &self.lanes[lane as usize];
            let gives_way = giving_way.of(lane);
            held_back |= gives_way && names.by_due.first().is_some_and(|(at, ..)| *at <= now_ms);
            let by_time = if gives_way { &names.by_end } else { &names.by_due };
            ready.extend(by_time.iter().take_while(|(at, ..)| *at <= now_ms).take(limit));
        }
        ready.sort_unstable();
        ready.truncate(limit);
        (ready.into_iter().map(|(.., slot)| slot.clone()).collect(), held_back)
    }

    /// Up to `limit` names of all there are, in order, of which `wanted` holds, given when they are due.
    pub(super) fn select(&self, limit: usize, wanted: impl Fn(u64, &Slot) -> bool) -> Vec<Slot> {
        let of_lane = |names: &'_ Names| {
            names
                .by_due
                .iter()
                .filter(|(at, _, slot)| wanted(*at, slot))
                .take(limit)
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut found: Vec<_> = self.lanes.iter().flat_map(of_lane).collect();
        found.sort_unstable();
        found.into_iter().take(limit).map(|(.., slot)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::{Ino, Name};

    fn slot(n: u64) -> Slot {
        (Ino(1), Name::new(n.to_string().into_bytes()).unwrap())
    }

    fn stand(lane: Lane, at_ms: u64, seq: u64) -> Stand {
        Stand { lane, at_ms, until_ms: at_ms + 100, seq }
    }

    #[test]
    fn a_lane_gives_way_until_its_names_are_out_of_patience() {
        let mut due = Due::default();
        let names = [(Lane::Plain, 7), (Lane::Small, 5), (Lane::Large, 6)];
        for (seq, (lane, at_ms)) in names.into_iter().enumerate() {
            due.insert(&slot(at_ms), stand(lane, at_ms, seq as u64));
        }
        let ready = |now, small, large| due.ready(now, GivingWay { small, large }, 9);
        let slots = |numbers: &[u64]| numbers.iter().map(|n| slot(*n)).collect::<Vec<_>>();
        assert_eq!(due.first_ms(), Some(5));
        assert_eq!(ready(4, true, true), (vec![], false), "nothing is due");
        assert_eq!(ready(7, false, false), (slots(&[5, 6, 7]), false));
        assert_eq!(ready(7, true, false), (slots(&[6, 7]), true));
        assert_eq!(ready(7, true, true), (slots(&[7]), true));
        assert_eq!(ready(105, true, true), (slots(&[7, 5]), true));
        assert_eq!(due.ready(200, GivingWay::default(), 2).0, slots(&[5, 6]));
    }

    #[test]
    fn what_is_taken_out_is_found_no_more() {
        for lane in LANES {
            let mut due = Due::default();
            // Whose patience ended before it was due waits until it is.
            let stand = Stand { until_ms: 3, ..stand(lane, 5, 1) };
            due.insert(&slot(1), stand);
            assert!(due.any(lane));
            due.remove(&slot(1), stand);
            assert!(!due.any(lane) && due.lanes.iter().all(|names| names.by_end.is_empty()));
        }
    }
}
