//! A store under governance: bounded, timed, retried, paced, guarded and counted.
//!
//! An attempt of a call waits for its place, then for its bytes' turn, and then has its deadline. A transient
//! failure is followed by another attempt where that is sound: a call whose earlier attempt may have taken
//! effect is not blindly repeated to a wrong answer. A second delete that finds nothing did its work, a second
//! mkdir that finds the directory too; what cannot be told apart so (a copy or a change of attributes on a
//! given version) is not repeated when in doubt. The attempt that did the work may have ended before it was durable: what
//! is taken for done is synced by its names.

use super::op::Op;
use super::pace::Pace;
use super::retry::{Attempts, Repeat, RetryPolicy};
use super::stats::UfsStats;
use crate::error::{UfsError, UfsResult};
use crate::options::UfsOptions;
use crate::ufs::{AttrChange, Capabilities, Expect, ListPage, PutAttrs, PutSpec, Space, Ufs, Upload};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::{FileKind, PageToken, UfsAttr, UfsKey, UfsVersion};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// A store with everything between it and its callers that is the same for all stores.
#[derive(Debug)]
pub struct Governed {
    inner: Arc<dyn Ufs>,
    rules: Arc<Rules>,
}

/// What the calls of a store and of its uploads share.
#[derive(Debug)]
struct Rules {
    places: Semaphore,
    call_timeout: Duration,
    retry: RetryPolicy,
    read_pace: Option<Pace>,
    write_pace: Option<Pace>,
    read_only: bool,
    stats: Arc<UfsStats>,
}

/// Makes attempts until one settles the call, and tells whether one before that may have taken effect.
macro_rules! attempts_and_doubt {
    ($rules:expr, $op:expr, $repeat:expr, $call:expr) => {{
        let mut attempts = Attempts::new($rules.retry, $repeat);
        loop {
            let in_doubt = attempts.in_doubt();
            let outcome = $rules.attempt($op, $call).await;
            if let Some(settled) = attempts.settle(outcome).await {
                $rules.stats.count_retries(attempts.repeats());
                break (settled, in_doubt);
            }
        }
    }};
    ($rules:expr, $op:expr, $call:expr) => {
        attempts_and_doubt!($rules, $op, Repeat::Always, $call)
    };
}

/// Makes attempts until one settles the call.
macro_rules! attempts {
    ($($arguments:tt)*) => {
        attempts_and_doubt!($($arguments)*).0
    };
}

impl Rules {
    /// One attempt: its place, its deadline, its counters.
    async fn attempt<T>(&self, op: Op, call: impl Future<Output = UfsResult<T>> + Send) -> UfsResult<T> {
        let _place = self.place(op).await?;
        let _in_flight = self.stats.enter();
        let began = Instant::now();
        let limit = self.call_timeout.saturating_mul(op.deadline_factor());
        let outcome = timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(UfsError::Timeout(format!("{} after {limit:?}", op.label()))));
        self.stats.count(op, began.elapsed(), outcome.as_ref().err());
        outcome
    }

    async fn place(&self, op: Op) -> UfsResult<SemaphorePermit<'_>> {
        match timeout(self.call_timeout, self.places.acquire()).await {
            Ok(place) => Ok(place.expect("the semaphore is never closed")),
            Err(_) => Err(UfsError::Timeout(format!("{}: waiting for a place among the calls", op.label()))),
        }
    }

    fn writable(&self, key: &UfsKey) -> UfsResult<()> {
        if self.read_only { Err(UfsError::ReadOnly(key.to_string())) } else { Ok(()) }
    }
}

/// A call whose own effect would fail its expectation is not repeated when in doubt.
fn repeat_for(expect: &Expect) -> Repeat {
    if *expect == Expect::Any { Repeat::Always } else { Repeat::IfRefused }
}

async fn pace(pace: Option<&Pace>, bytes: usize) {
    if let Some(pace) = pace {
        pace.take(bytes).await;
    }
}

impl Governed {
    /// Puts `inner` under the rules of `options`.
    pub fn new(inner: Arc<dyn Ufs>, options: &UfsOptions) -> Self {
        let rules = Rules {
            places: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            call_timeout: options.call_timeout,
            retry: options.retry,
            read_pace: options.read_bandwidth.map(Pace::new),
            write_pace: options.write_bandwidth.map(Pace::new),
            read_only: options.read_only,
            stats: Arc::default(),
        };
        Self { inner, rules: Arc::new(rules) }
    }

    async fn is_directory(&self, key: &UfsKey) -> UfsResult<bool> {
        Ok(self.stat(key).await?.is_some_and(|attr| attr.kind == FileKind::Directory))
    }

    /// `version`, once that it has the name `key` is durable.
    async fn made_durable(&self, key: &UfsKey, version: UfsVersion) -> UfsResult<UfsVersion> {
        self.sync_name(key).await?;
        Ok(version)
    }

    /// Whether a rename in doubt has taken effect: the old name is gone, and the new one has what was not
    /// there before.
    async fn renamed(&self, from: &UfsKey, to: (&UfsKey, &Expect)) -> UfsResult<Option<UfsVersion>> {
        if self.stat(from).await?.is_some() {
            return Ok(None);
        }
        let found = self.stat(to.0).await?.map(|attr| attr.version);
        Ok(found.filter(|version| *to.1 != Expect::Version(version.clone())))
    }
}

#[async_trait]
impl Ufs for Governed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn stats(&self) -> Option<Arc<UfsStats>> {
        Some(Arc::clone(&self.rules.stats))
    }

    async fn stat(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        attempts!(self.rules, Op::Stat, self.inner.stat(key))
    }

    async fn stat_listed(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        attempts!(self.rules, Op::Stat, self.inner.stat_listed(key))
    }

    async fn list(&self, dir: &UfsKey, from: Option<&PageToken>, limit: usize) -> UfsResult<ListPage> {
        attempts!(self.rules, Op::List, self.inner.list(dir, from, limit))
    }

    async fn read(
        &self,
        key: &UfsKey,
        version: &UfsVersion,
        offset: u64,
        buf: &mut [u8],
    ) -> UfsResult<usize> {
        let wanted = buf.len();
        pace(self.rules.read_pace.as_ref(), wanted).await;
        let outcome = attempts!(self.rules, Op::Read, self.inner.read(key, version, offset, buf));
        let found = outcome.as_ref().copied().unwrap_or(0);
        if let Some(pace) = &self.rules.read_pace {
            pace.give_back(wanted - found.min(wanted));
        }
        self.rules.stats.count_read(found);
        outcome
    }

    async fn begin_put(&self, key: &UfsKey, spec: &PutSpec) -> UfsResult<Box<dyn Upload>> {
        self.rules.writable(key)?;
        let upload = attempts!(self.rules, Op::BeginPut, self.inner.begin_put(key, spec))?;
        Ok(Box::new(GovernedUpload { inner: upload, rules: Arc::clone(&self.rules) }))
    }

    async fn delete(&self, key: &UfsKey, expect: &Expect) -> UfsResult<()> {
        self.rules.writable(key)?;
        let (outcome, doubt) = attempts_and_doubt!(self.rules, Op::Delete, self.inner.delete(key, expect));
        match outcome {
            Err(UfsError::NotFound(_)) if doubt => self.sync_name(key).await,
            settled => settled,
        }
    }

    async fn mkdir(&self, key: &UfsKey, attrs: &PutAttrs) -> UfsResult<()> {
        self.rules.writable(key)?;
        let (outcome, doubt) = attempts_and_doubt!(self.rules, Op::Mkdir, self.inner.mkdir(key, attrs));
        match outcome {
            Err(UfsError::Exists(_)) if doubt && self.is_directory(key).await? => self.sync_name(key).await,
            settled => settled,
        }
    }

    async fn rmdir(&self, key: &UfsKey) -> UfsResult<()> {
        self.rules.writable(key)?;
        let (outcome, doubt) = attempts_and_doubt!(self.rules, Op::Rmdir, self.inner.rmdir(key));
        match outcome {
            Err(UfsError::NotFound(_)) if doubt => self.sync_name(key).await,
            settled => settled,
        }
    }

    async fn sweep(&self, key: &UfsKey) -> UfsResult<()> {
        self.inner.sweep(key).await
    }

    async fn sync_name(&self, key: &UfsKey) -> UfsResult<()> {
        attempts!(self.rules, Op::SyncName, self.inner.sync_name(key))
    }

    async fn rename(&self, from: (&UfsKey, &Expect), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.rules.writable(to.0)?;
        let (outcome, doubt) = attempts_and_doubt!(self.rules, Op::Rename, self.inner.rename(from, to));
        match outcome {
            Err(error @ UfsError::NotFound(_)) if doubt => {
                let version = self.renamed(from.0, to).await?.ok_or(error)?;
                self.sync_name(from.0).await?;
                self.made_durable(to.0, version).await
            }
            settled => settled,
        }
    }

    async fn copy(&self, from: (&UfsKey, &UfsVersion), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.rules.writable(to.0)?;
        attempts!(self.rules, Op::Copy, repeat_for(to.1), self.inner.copy(from, to))
    }

    async fn hard_link(&self, key: &UfsKey, to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.rules.writable(to.0)?;
        let (outcome, doubt) = attempts_and_doubt!(self.rules, Op::HardLink, self.inner.hard_link(key, to));
        match outcome {
            Err(error @ (UfsError::Exists(_) | UfsError::Changed(_))) if doubt => {
                let (first, second) = (self.stat(key).await?, self.stat(to.0).await?);
                let version = second.map(|attr| attr.version);
                let linked = version.filter(|version| first.is_some_and(|attr| attr.version == *version));
                self.made_durable(to.0, linked.ok_or(error)?).await
            }
            settled => settled,
        }
    }

    async fn symlink(
        &self,
        key: &UfsKey,
        target: &[u8],
        attrs: &PutAttrs,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        self.rules.writable(key)?;
        let (outcome, doubt) =
            attempts_and_doubt!(self.rules, Op::Symlink, self.inner.symlink(key, target, attrs, expect));
        match outcome {
            Err(error @ (UfsError::Exists(_) | UfsError::Changed(_))) if doubt => {
                let ours = self.stat(key).await?.filter(|attr| attr.link_target.as_deref() == Some(target));
                self.made_durable(key, ours.map(|attr| attr.version).ok_or(error)?).await
            }
            settled => settled,
        }
    }

    async fn set_attr(&self, key: &UfsKey, change: &AttrChange, expect: &Expect) -> UfsResult<UfsVersion> {
        self.rules.writable(key)?;
        let repeat = repeat_for(expect);
        attempts!(self.rules, Op::SetAttr, repeat, self.inner.set_attr(key, change, expect))
    }

    async fn space(&self) -> UfsResult<Option<Space>> {
        attempts!(self.rules, Op::Space, self.inner.space())
    }
}

/// An upload under the rules of its store.
struct GovernedUpload {
    inner: Box<dyn Upload>,
    rules: Arc<Rules>,
}

#[async_trait]
impl Upload for GovernedUpload {
    fn part_len(&self) -> u64 {
        self.inner.part_len()
    }

    async fn part(&self, index: u64, bytes: Bytes) -> UfsResult<()> {
        let len = bytes.len();
        pace(self.rules.write_pace.as_ref(), len).await;
        attempts!(self.rules, Op::Part, self.inner.part(index, bytes.clone()))?;
        self.rules.stats.count_written(len);
        Ok(())
    }

    async fn finish(&mut self) -> UfsResult<UfsVersion> {
        attempts!(self.rules, Op::Finish, self.inner.finish())
    }

    async fn abort(&mut self) -> UfsResult<()> {
        attempts!(self.rules, Op::Abort, self.inner.abort())
    }
}
