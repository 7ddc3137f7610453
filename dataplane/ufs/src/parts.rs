//! Which parts of an upload have arrived, and how long each must be.

use crate::error::{UfsError, UfsResult};
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// The book-keeping of one upload, the same for every adapter.
#[derive(Debug)]
pub(crate) struct PartLedger {
    len: u64,
    part_len: u64,
    arrived: Mutex<BTreeSet<u64>>,
}

impl PartLedger {
    pub(crate) fn new(len: u64, part_len: u64) -> Self {
        assert!(part_len > 0, "parts of length 0 would never add up");
        Self { len, part_len, arrived: Mutex::default() }
    }

    pub(crate) fn part_len(&self) -> u64 {
        self.part_len
    }

    /// How many parts the content has; an empty one has none.
    pub(crate) fn count(&self) -> u64 {
        self.len.div_ceil(self.part_len)
    }

    /// The offset of a part, if it is as long as its place calls for. An empty part 0 of an empty file is let
    /// through, for callers that always send one.
    pub(crate) fn check(&self, index: u64, len: usize) -> UfsResult<u64> {
        let offset = index.checked_mul(self.part_len).filter(|offset| *offset < self.len || index == 0);
        let expected = offset.map(|offset| (self.len - offset.min(self.len)).min(self.part_len));
        match (offset, expected) {
            (Some(offset), Some(expected)) if expected == len as u64 => Ok(offset),
            (_, Some(expected)) => Err(UfsError::Invalid(format!(
                "part {index} has {len} bytes, its place calls for {expected}"
            ))),
            (_, None) => Err(UfsError::Invalid(format!("part {index} lies past the end of the file"))),
        }
    }

    pub(crate) fn record(&self, index: u64) {
        self.arrived.lock().insert(index);
    }

    /// Whether the content is all there.
    pub(crate) fn check_complete(&self) -> UfsResult<()> {
        let arrived = self.arrived.lock().iter().filter(|index| **index < self.count()).count() as u64;
        if arrived == self.count() {
            return Ok(());
        }
        Err(UfsError::Invalid(format!("{arrived} of {} parts arrived", self.count())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_one_right_length() {
        let parts = PartLedger::new(25, 10);
        assert_eq!(parts.check(0, 10).unwrap(), 0);
        assert_eq!(parts.check(2, 5).unwrap(), 20);
        for (index, len) in [(0, 9), (1, 11), (2, 10), (3, 0), (3, 1), (u64::MAX, 1)] {
            assert!(parts.check(index, len).is_err(), "part {index} of {len} bytes was taken");
        }
    }

    #[test]
    fn complete_means_each_part_once() {
        let parts = PartLedger::new(25, 10);
        for index in [0, 2, 2] {
            parts.record(index);
            assert!(parts.check_complete().is_err());
        }
        parts.record(1);
        parts.check_complete().unwrap();
        PartLedger::new(0, 10).check_complete().unwrap();
    }
}
