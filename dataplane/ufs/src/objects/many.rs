//! Requests of which one call makes many.
//!
//! A call that fails is repeated whole by [`crate::layers`]. Where the number of its requests grows with what is in
//! the store, that alone is of no use: if one request in ten fails, a listing that asks about sixty objects comes
//! through once in five hundred attempts, and every attempt asks for all of them again. So each such request is
//! repeated here by itself first, and the call as a whole only if that did not help. A call of a fixed number of
//! requests needs none of this.

use crate::error::UfsResult;
use crate::layers::{Attempts, Repeat, RetryPolicy};
use crate::options::UfsOptions;
use std::time::Duration;

/// The most attempts of one request. If one in ten fails, one request in a hundred thousand fails in the end, and
/// one page of a thousand in a hundred.
const ATTEMPTS_MAX: u32 = 5;
/// The longest pause before the second attempt, and the longest of all: the call has a deadline for all its requests.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How a request is repeated that is one of many.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneOfMany(RetryPolicy);

impl OneOfMany {
    /// What the options of a mount allow: a mount that wants no second attempts gets none here either.
    pub(super) fn new(options: &UfsOptions) -> Self {
        let (pause_first, pause_max) = PAUSES;
        Self(RetryPolicy {
            attempts_max: options.retry.attempts_max.min(ATTEMPTS_MAX),
            pause_first: options.retry.pause_first.min(pause_first),
            pause_max: options.retry.pause_max.min(pause_max),
            // An attempt that begins later than this may not end before the call's own deadline.
            total_max: options.call_timeout / 2,
        })
    }

    /// Makes a request that may take effect more than once without harm, again while it fails in a way that may pass.
    /// The call's own deadline ends it in any case.
    pub(super) async fn repeated<T, F>(&self, request: impl Fn() -> F) -> UfsResult<T>
    where
        F: Future<Output = UfsResult<T>>,
    {
        let mut attempts = Attempts::new(self.0, Repeat::Always);
        loop {
            if let Some(settled) = attempts.settle(request().await).await {
                return settled;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UfsErrorKind;
    use crate::objects::client::{ClientResult, KeyPage, Limits, ListQuery, Object, ObjectClient, PartTag};
    use crate::objects::fault::Fault;
    use crate::objects::meta::Meta;
    use crate::objects::tree::ObjectTree;
    use crate::{ConditionalPut, Expect, Ufs, UfsError};
    use async_trait::async_trait;
    use bytes::Bytes;
    use forebay_types::{ByteSize, TimeSpec, UfsKey, UfsVersion};
    use std::ops::Range;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    const MIB: u64 = 1 << 20;

    /// A store of one file of 40 MiB, of which it copies 1 MiB at a time and fails as it is told.
    #[derive(Debug)]
    struct Copies {
        /// Every so many copies of a part fail; 0: all.
        fails_every: u64,
        fault: UfsError,
        asked: AtomicU64,
    }

    #[async_trait]
    impl ObjectClient for Copies {
        fn limits(&self) -> Limits {
            Limits {
                object_len_max: 40 * MIB,
                part_len_min: MIB,
                page_len_max: 10,
                copy_len_max: MIB,
                conditional_put: ConditionalPut::Atomic,
                conditional_delete: true,
                listed_meta: true,
                keeps_conditions: true,
                lists_after: false,
                turned: None,
            }
        }

        async fn head(&self, key: &str) -> ClientResult<Option<Object>> {
            let (put_at, version) = (TimeSpec::default(), UfsVersion::new(*b"v"));
            let file = Object { size: 40 * MIB, put_at, version, meta: Meta::default() };
            Ok((key == "file").then_some(file))
        }

        async fn get(&self, _: &str, _: &UfsVersion, _: u64, _: &mut [u8]) -> ClientResult<usize> {
            unreachable!("nothing is read")
        }

        async fn put(&self, _: &str, _: Bytes, _: &Meta, _: &Expect) -> ClientResult<UfsVersion> {
            unreachable!("nothing is put")
        }

        async fn delete(&self, _: &str, _: &Expect) -> ClientResult<()> {
            unreachable!("nothing is deleted")
        }

        async fn list(&self, _: ListQuery<'_>) -> ClientResult<KeyPage> {
            Ok(KeyPage::default())
        }

        async fn begin_parts(&self, _: &str, _: &Meta) -> ClientResult<String> {
            Ok("upload".into())
        }

        async fn put_part(&self, _: &str, _: &str, _: u32, _: Bytes) -> ClientResult<PartTag> {
            unreachable!("nothing is put")
        }

        async fn copy_part(
            &self,
            _: &str,
            _: &str,
            number: u32,
            _: (&str, &UfsVersion, Range<u64>),
        ) -> ClientResult<PartTag> {
            let asked = self.asked.fetch_add(1, SeqCst) + 1;
            match self.fails_every == 0 || asked.is_multiple_of(self.fails_every) {
                true => Err(Fault::Ufs(self.fault.clone())),
                false => Ok(number.to_string()),
            }
        }

        async fn complete(
            &self,
            _: &str,
            _: &str,
            parts: &[PartTag],
            _: &Meta,
            _: &Expect,
        ) -> ClientResult<UfsVersion> {
            Ok(UfsVersion::new(parts.join(" ")))
        }

        async fn abort_parts(&self, _: &str, _: &str) -> ClientResult<()> {
            Ok(())
        }

        async fn copy(&self, _: (&str, &UfsVersion), _: &str, _: &Expect) -> ClientResult<UfsVersion> {
            unreachable!("the file is too long for one request")
        }
    }

    /// The outcome of one attempt to copy the file, and how many requests for parts it took.
    async fn copied(fails_every: u64, fault: UfsError) -> (UfsResult<UfsVersion>, u64) {
        let client = Arc::new(Copies { fails_every, fault, asked: AtomicU64::new(0) });
        let options = UfsOptions { part_len_min: ByteSize::mib(1), ..UfsOptions::default() };
        let tree = ObjectTree::new("test".into(), "", Arc::clone(&client) as _, &options);
        let key = |name: &str| UfsKey::new(name.as_bytes()).unwrap();
        let copy = tree.copy((&key("file"), &UfsVersion::new(*b"v")), (&key("copy"), &Expect::Any)).await;
        (copy, client.asked.load(SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_in_parts_repeats_only_the_part_that_failed() {
        let (copy, asked) = copied(3, UfsError::Unavailable("test".into())).await;
        let parts: Vec<String> = (1..=40).map(|number: u32| number.to_string()).collect();
        assert_eq!((copy, asked), (Ok(UfsVersion::new(parts.join(" "))), 59));
    }

    #[tokio::test(start_paused = true)]
    async fn what_keeps_failing_ends_and_what_lasts_is_not_repeated() {
        let (copy, asked) = copied(0, UfsError::Throttled("test".into())).await;
        assert_eq!((copy.unwrap_err().kind(), asked), (UfsErrorKind::Throttled, u64::from(ATTEMPTS_MAX)));
        let (copy, asked) = copied(0, UfsError::Io("bad disk".into())).await;
        assert_eq!((copy.unwrap_err().kind(), asked), (UfsErrorKind::Io, 1));
    }
}
