//! How many requests a queue may hold, and how large they may be: as much as the memory lent to them allows.
//!
//! The kernel wants a queue for every CPU that the machine could have, each with at least one entry, and behind each
//! entry a buffer for the largest request. On a machine of 256 CPUs a depth of 32 with 1 MiB each would be 8 GiB. So
//! first the depth shrinks, down to a few, then the largest request, then the depth to 1.

use crate::channel::REQUEST_LEN_MAX;
use forebay_types::ByteSize;

/// The deepest queue: requests of one CPU that are served at the same time. The others wait in the kernel.
const DEPTH_MAX: usize = 32;
/// Below this the largest request shrinks before the depth does.
const DEPTH_MIN: usize = 4;
/// The smallest payload: an extended attribute of 64 KiB with its name fits, and reads are not cut too small.
const PAYLOAD_LEN_MIN: u32 = 128 << 10;
/// What part of the arena the queues may have.
const ARENA_SHARE: u64 = 4;

const _: () = assert!(PAYLOAD_LEN_MIN < REQUEST_LEN_MAX && PAYLOAD_LEN_MIN.is_power_of_two());

/// The size of every queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Entries of each queue.
    pub(crate) depth: usize,
    /// Bytes behind each entry, a power of two; it is the largest read and write as well.
    pub(crate) payload_len: u32,
}

impl Fit {
    /// For so many queues over an arena of this size; `None` if not even the smallest fits.
    pub(crate) fn into(arena: ByteSize, queues: usize) -> Option<Self> {
        let budget = arena.as_u64() / ARENA_SHARE;
        let depth_with = |payload_len: u32| {
            let one_each = u64::from(payload_len) * queues.max(1) as u64;
            usize::try_from(budget / one_each).unwrap_or(usize::MAX).min(DEPTH_MAX)
        };
        let mut payload_len = REQUEST_LEN_MAX;
        while payload_len > PAYLOAD_LEN_MIN && depth_with(payload_len) < DEPTH_MIN {
            payload_len /= 2;
        }
        let depth = depth_with(payload_len);
        (depth > 0).then_some(Self { depth, payload_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_shrinks_first_and_then_the_payload() {
        let fit = |mib, queues| Fit::into(ByteSize::mib(mib), queues);
        assert_eq!(fit(256, 2), Some(Fit { depth: 32, payload_len: 1 << 20 }));
        assert_eq!(fit(64, 2), Some(Fit { depth: 8, payload_len: 1 << 20 }));
        assert_eq!(fit(256, 16), Some(Fit { depth: 4, payload_len: 1 << 20 }));
        assert_eq!(fit(256, 64), Some(Fit { depth: 4, payload_len: 256 << 10 }));
        assert_eq!(fit(256, 512), Some(Fit { depth: 1, payload_len: 128 << 10 }));
        assert_eq!(fit(256, 1024), None);
    }

    proptest! {
        #[test]
        fn the_queues_stay_within_their_share(mib in 16_u64..4096, queues in 1_usize..2048) {
            if let Some(fit) = Fit::into(ByteSize::mib(mib), queues) {
                let all = fit.depth as u64 * queues as u64 * u64::from(fit.payload_len);
                prop_assert!(all <= ByteSize::mib(mib).as_u64() / ARENA_SHARE);
                prop_assert!((1..=DEPTH_MAX).contains(&fit.depth));
                prop_assert!((PAYLOAD_LEN_MIN..=REQUEST_LEN_MAX).contains(&fit.payload_len));
            }
        }
    }
}
