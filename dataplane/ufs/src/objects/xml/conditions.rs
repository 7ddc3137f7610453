//! Whether a store keeps the condition that a new object is put with.
//!
//! S3 and Google Cloud Storage do, and so do many stores that speak their language; others pass the header over, and there a look
//! before each put has to do. Nothing but a try tells. The first new object that is small enough is therefore put once
//! more as new: a store that keeps the condition refuses, and one that does not puts the very same object once more.
//!
//! **Never tried** is what stands for a put over another version: stores that keep that on an object that is there have let it
//! pass where there is none. Such a put is looked at before.

use super::XmlClient;
use crate::objects::client::ObjectClient;
use crate::objects::fault::Fault;
use crate::objects::meta::Meta;
use crate::ufs::Expect;
use bytes::Bytes;
use forebay_types::UfsVersion;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire};
use std::time::Duration;
use tokio::time::timeout;

/// The longest object that is put again to find out.
const TRIAL_LEN_MAX: usize = 1 << 20;
/// How often it is tried if a try comes to nothing.
const TRIALS_MAX: u8 = 3;
/// What a try may take of a put that has succeeded.
const TRIAL_WITHIN: Duration = Duration::from_secs(10);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Conditions {
    /// [`KEPT`], [`IGNORED`], [`REFUSED`], [`TRYING`], or how often it was tried.
    state: AtomicU8,
}

const KEPT: u8 = 255;
const IGNORED: u8 = 254;
/// The store says that it does not implement them.
const REFUSED: u8 = 253;
const TRYING: u8 = 252;
const _: () = assert!(TRIALS_MAX < TRYING);

impl Conditions {
    /// Of a store that is known to keep them (`Some(true)`) or to be looked at before each put (`Some(false)`).
    pub(super) fn new(kept: Option<bool>) -> Self {
        let state = match kept {
            Some(true) => KEPT,
            Some(false) => IGNORED,
            None => 0,
        };
        Self { state: AtomicU8::new(state) }
    }

    pub(super) fn are_kept(&self) -> bool {
        self.state.load(Acquire) == KEPT
    }

    /// Whether they are not to be sent at all.
    pub(super) fn are_refused(&self) -> bool {
        self.state.load(Acquire) == REFUSED
    }

    /// The store does not implement them; whether that is news.
    pub(super) fn refuse(&self) -> bool {
        self.state.swap(REFUSED, AcqRel) != REFUSED
    }

    /// Yields how often it was tried, to who is to try now.
    fn begin(&self) -> Option<u8> {
        let tried = self.state.load(Acquire);
        let mine = tried < TRYING && self.state.compare_exchange(tried, TRYING, AcqRel, Acquire).is_ok();
        mine.then_some(tried)
    }

    fn end(&self, tried: u8, kept: Option<bool>) {
        let state = match kept {
            Some(true) => KEPT,
            Some(false) => IGNORED,
            None if tried + 1 == TRIALS_MAX => IGNORED,
            None => tried + 1,
        };
        // Who is stopped before this leaves it undecided, and each put goes on being looked at; that the store refused
        // conditions meanwhile stays known.
        let _ = self.state.compare_exchange(TRYING, state, AcqRel, Acquire);
    }
}

impl XmlClient {
    /// Puts an object once more that was just put as new, to find out. Yields its version, if that has changed it.
    pub(super) async fn put_in_vain(&self, key: &str, body: &Bytes, meta: &Meta) -> Option<UfsVersion> {
        if body.len() > TRIAL_LEN_MAX {
            return None;
        }
        let tried = self.conditions.begin()?;
        let call = self.whole(key, body.clone(), meta).headers(self.dialect.expectation(&Expect::Absent));
        let kept = match timeout(TRIAL_WITHIN, self.send(&call)).await {
            Ok(Err(Fault::Precondition)) => Some(true),
            Ok(Ok(_)) => Some(false),
            Ok(Err(_)) | Err(_) => None,
        };
        self.conditions.end(tried, kept);
        if kept == Some(true) {
            return None;
        }
        let now = timeout(TRIAL_WITHIN, self.head(key)).await.ok()?.ok().flatten();
        now.filter(|now| now.meta.put == meta.put).map(|now| now.version)
    }
}
