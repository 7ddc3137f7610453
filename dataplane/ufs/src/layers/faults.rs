//! A store that fails and lies on demand, for tests of everything above it.
//!
//! Owns a plan that a test holds and changes while the store is in use: rules that say which calls fail, how
//! often and how. What is not touched by a rule goes to the real store below.

use super::op::Op;
use crate::error::{UfsError, UfsResult};
use crate::ufs::{AttrChange, Capabilities, Expect, ListPage, PutAttrs, PutSpec, Space, Ufs, Upload};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::{DirPageEntry, PageToken, Told, UfsAttr, UfsKey, UfsVersion};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The call fails and nothing has happened.
    Fail(UfsError),
    /// The call takes effect, and then the answer is lost: it fails all the same.
    LoseAnswer(UfsError),
    /// The call takes this much longer.
    Delay(Duration),
    /// The call never returns.
    Hang,
    /// A read ends half-way, as if the file did.
    CutShort,
    /// A stat or a listing shows files this many bytes longer than they are.
    Lengthen(u64),
}

/// When something goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// The kinds of call it is about; empty: all.
    pub ops: Vec<Op>,
    /// The keys it is about: this one and those below it. `None`: all.
    pub below: Option<UfsKey>,
    /// How probable it is for each such call, 0 to 1.
    pub chance: f64,
    /// After so many times it is over; `None`: never.
    pub times: Option<u64>,
    /// What goes wrong.
    pub fault: Fault,
}

impl FaultRule {
    /// `fault` on every call of these kinds.
    pub fn always(ops: &[Op], fault: Fault) -> Self {
        Self { ops: ops.to_vec(), below: None, chance: 1.0, times: None, fault }
    }

    /// `fault` on the next `times` calls of these kinds.
    pub fn next(times: u64, ops: &[Op], fault: Fault) -> Self {
        Self { times: Some(times), ..Self::always(ops, fault) }
    }

    fn is_about(&self, op: Op, key: &UfsKey) -> bool {
        let kind = self.ops.is_empty() || self.ops.contains(&op);
        kind && self.times != Some(0) && self.below.as_ref().is_none_or(|dir| key.is_within(dir))
    }
}

#[derive(Debug)]
struct PlanState {
    rules: Vec<FaultRule>,
    random: StdRng,
    struck: u64,
}

/// What goes wrong with a store, as its test says. Clones share one plan.
#[derive(Debug, Clone)]
pub struct FaultPlan(Arc<Mutex<PlanState>>);

impl FaultPlan {
    /// A plan in which nothing goes wrong yet; chances are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(PlanState { rules: Vec::new(), random, struck: 0 })))
    }

    /// Adds a rule. Of the rules about a call, the first that strikes decides.
    pub fn add(&self, rule: FaultRule) {
        self.0.lock().rules.push(rule);
    }

    /// Ends all that goes wrong.
    pub fn clear(&self) {
        self.0.lock().rules.clear();
    }

    /// How many calls a fault has struck.
    pub fn struck(&self) -> u64 {
        self.0.lock().struck
    }

    fn draw(&self, op: Op, key: &UfsKey) -> Option<Fault> {
        let mut state = self.0.lock();
        let PlanState { rules, random, struck } = &mut *state;
        let mut strikes = |rule: &&mut FaultRule| rule.is_about(op, key) && random.random_bool(rule.chance);
        let rule = rules.iter_mut().find(|rule| strikes(rule))?;
        rule.times = rule.times.map(|left| left - 1);
        *struck += 1;
        Some(rule.fault.clone())
    }

    /// Makes the call, or what the plan makes of it.
    async fn around<T>(
        &self,
        op: Op,
        key: &UfsKey,
        call: impl Future<Output = UfsResult<T>> + Send,
    ) -> UfsResult<(T, Option<Fault>)> {
        let fault = self.draw(op, key);
        match &fault {
            Some(Fault::Fail(error)) => return Err(error.clone()),
            Some(Fault::LoseAnswer(error)) => {
                let _unheard = call.await;
                return Err(error.clone());
            }
            Some(Fault::Delay(span)) => tokio::time::sleep(*span).await,
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::CutShort | Fault::Lengthen(_)) | None => {}
        }
        Ok((call.await?, fault))
    }
}

impl FaultPlan {
    /// The same for a call whose answer cannot be bent.
    async fn strike<T>(
        &self,
        op: Op,
        key: &UfsKey,
        call: impl Future<Output = UfsResult<T>> + Send,
    ) -> UfsResult<T> {
        let (answer, _) = self.around(op, key, call).await?;
        Ok(answer)
    }
}

/// A store that goes wrong as its plan says.
#[derive(Debug)]
pub struct FaultyUfs {
    inner: Arc<dyn Ufs>,
    plan: FaultPlan,
}

impl FaultyUfs {
    /// Puts `inner` under the plan.
    pub fn new(inner: Arc<dyn Ufs>, plan: FaultPlan) -> Self {
        Self { inner, plan }
    }
}

fn lengthen(attr: &mut UfsAttr, fault: Option<&Fault>) {
    if let Some(Fault::Lengthen(by)) = fault {
        attr.size += by;
    }
}

/// The attributes that a listing told.
fn told_attr(entry: &mut DirPageEntry) -> Option<&mut UfsAttr> {
    match &mut entry.told {
        Told::All(attr) | Told::Content(attr) => Some(attr),
        Told::FileOrLink(_) => None,
    }
}

#[async_trait]
impl Ufs for FaultyUfs {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn stat(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        let (mut attr, fault) = self.plan.around(Op::Stat, key, self.inner.stat(key)).await?;
        attr.iter_mut().for_each(|attr| lengthen(attr, fault.as_ref()));
        Ok(attr)
    }

    async fn stat_listed(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        let (mut attr, fault) = self.plan.around(Op::Stat, key, self.inner.stat_listed(key)).await?;
        attr.iter_mut().for_each(|attr| lengthen(attr, fault.as_ref()));
        Ok(attr)
    }

    async fn list(&self, dir: &UfsKey, from: Option<&PageToken>, limit: usize) -> UfsResult<ListPage> {
        let (mut page, fault) = self.plan.around(Op::List, dir, self.inner.list(dir, from, limit)).await?;
        page.entries.iter_mut().filter_map(told_attr).for_each(|attr| lengthen(attr, fault.as_ref()));
        Ok(page)
    }

    async fn read(
        &self,
        key: &UfsKey,
        version: &UfsVersion,
        offset: u64,
        buf: &mut [u8],
    ) -> UfsResult<usize> {
        let (len, fault) =
            self.plan.around(Op::Read, key, self.inner.read(key, version, offset, buf)).await?;
        Ok(if fault == Some(Fault::CutShort) { len / 2 } else { len })
    }

    async fn begin_put(&self, key: &UfsKey, spec: &PutSpec) -> UfsResult<Box<dyn Upload>> {
        let (inner, _) = self.plan.around(Op::BeginPut, key, self.inner.begin_put(key, spec)).await?;
        Ok(Box::new(FaultyUpload { inner, key: key.clone(), plan: self.plan.clone() }))
    }

    async fn delete(&self, key: &UfsKey, expect: &Expect) -> UfsResult<()> {
        self.plan.strike(Op::Delete, key, self.inner.delete(key, expect)).await
    }

    async fn mkdir(&self, key: &UfsKey, attrs: &PutAttrs) -> UfsResult<()> {
        self.plan.strike(Op::Mkdir, key, self.inner.mkdir(key, attrs)).await
    }

    async fn rmdir(&self, key: &UfsKey) -> UfsResult<()> {
        self.plan.strike(Op::Rmdir, key, self.inner.rmdir(key)).await
    }

    async fn sweep(&self, key: &UfsKey) -> UfsResult<()> {
        self.inner.sweep(key).await
    }

    async fn sync_name(&self, key: &UfsKey) -> UfsResult<()> {
        self.plan.strike(Op::SyncName, key, self.inner.sync_name(key)).await
    }

    async fn rename(&self, from: (&UfsKey, &Expect), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.plan.strike(Op::Rename, to.0, self.inner.rename(from, to)).await
    }

    async fn copy(&self, from: (&UfsKey, &UfsVersion), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.plan.strike(Op::Copy, to.0, self.inner.copy(from, to)).await
    }

    async fn hard_link(&self, key: &UfsKey, to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.plan.strike(Op::HardLink, to.0, self.inner.hard_link(key, to)).await
    }

    async fn symlink(
        &self,
        key: &UfsKey,
        target: &[u8],
        attrs: &PutAttrs,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        let call = self.inner.symlink(key, target, attrs, expect);
        self.plan.strike(Op::Symlink, key, call).await
    }

    async fn set_attr(&self, key: &UfsKey, change: &AttrChange, expect: &Expect) -> UfsResult<UfsVersion> {
        self.plan.strike(Op::SetAttr, key, self.inner.set_attr(key, change, expect)).await
    }

    async fn space(&self) -> UfsResult<Option<Space>> {
        self.plan.strike(Op::Space, &UfsKey::root(), self.inner.space()).await
    }
}

/// An upload that goes wrong as its store's plan says.
struct FaultyUpload {
    inner: Box<dyn Upload>,
    key: UfsKey,
    plan: FaultPlan,
}

#[async_trait]
impl Upload for FaultyUpload {
    fn part_len(&self) -> u64 {
        self.inner.part_len()
    }

    async fn part(&self, index: u64, bytes: Bytes) -> UfsResult<()> {
        self.plan.strike(Op::Part, &self.key, self.inner.part(index, bytes)).await
    }

    async fn finish(&mut self) -> UfsResult<UfsVersion> {
        self.plan.strike(Op::Finish, &self.key, self.inner.finish()).await
    }

    async fn abort(&mut self) -> UfsResult<()> {
        self.plan.strike(Op::Abort, &self.key, self.inner.abort()).await
    }
}
