//! One task: what it asks, done; what came of it, told to the log; and the binding of what is clean by it.

use super::Engine;
use super::begun::Begun;
use super::source::Sent;
use crate::counters::add;
use crate::meta::in_time;
use forebay_types::{
    ContentKey, ExtentId, FileKind, FsResult, MountId, PersistOutcome, PersistTask, PersistWork, Settled,
    UfsAttr, UfsKey, UfsVersion,
};
use forebay_ufs::{Expect, PutAttrs, PutSpec, Ufs, UfsError, UfsResult};
use std::future::Future;
use std::sync::Arc;

/// How a step ended that did not succeed.
#[derive(Debug)]
pub(super) enum Stop {
    /// The under file system has something else at the key.
    Theirs,
    /// It cannot hold this.
    Unpersistable(String),
    /// The content changed under us.
    Changed,
    /// It failed, perhaps only now.
    Failed(String),
}

impl From<UfsError> for Stop {
    fn from(error: UfsError) -> Self {
        match error {
            UfsError::Changed(_) | UfsError::Exists(_) => Self::Theirs,
            UfsError::Unpersistable(why) => Self::Unpersistable(why),
            UfsError::TooLarge(_) | UfsError::Unsupported(_) => Self::Unpersistable(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<forebay_types::FsError> for Stop {
    fn from(error: forebay_types::FsError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a task brought about.
pub(super) struct Carried {
    /// What the under file system has now; `None` after a removal.
    pub(super) attr: Option<UfsAttr>,
    /// The extent that had just these bytes, and what was read of it.
    pub(super) extent: Option<(ExtentId, Sent)>,
}

impl Carried {
    pub(super) fn as_is(attr: UfsAttr) -> Self {
        Self { attr: Some(attr), extent: None }
    }

    pub(super) const GONE: Self = Self { attr: None, extent: None };
}

impl Engine {
    /// Carries a task, or finds out how it ended if it was begun before, and has the log record what came of it.
    /// Yields why it failed, if it did.
    pub(super) async fn settle(&self, task: &PersistTask) -> Result<(), String> {
        let (outcome, extent) = match self.outcome(task).await {
            Ok(Begun::Done(carried)) => (PersistOutcome::Done(carried.attr), carried.extent),
            Ok(Begun::NotDone) => (PersistOutcome::NotDone, None),
            Err(stop) => (self.outcome_of(task, stop).await, None),
        };
        let failure = match &outcome {
            PersistOutcome::Failed(why) => Err(why.clone()),
            _ => Ok(()),
        };
        self.note(task, &outcome);
        let carried = carried_as(task, &outcome, extent);
        // From its record on it is asked for by its content, and the store knows it by that only when it is settled.
        let carried = carried.map(|carried| self.unsettled(carried));
        match self.log.finish(task, outcome).await {
            Ok(Settled::Clean) => self.bind_carried(carried).await,
            Ok(Settled::StillDirty) => {}
            Err(error) => {
                tracing::warn!(ino = %task.ino, %error, "the outcome of a persist was not recorded");
                return Err(error.to_string());
            }
        }
        failure
    }

    async fn outcome(&self, task: &PersistTask) -> Result<Begun, Stop> {
        if task.again { self.look_into(task).await } else { self.carry(task).await.map(Begun::Done) }
    }

    async fn carry(&self, task: &PersistTask) -> Result<Carried, Stop> {
        let ufs = self.worker.ufs.get(task.mount)?;
        match &task.work {
            PersistWork::Put { content, to, expect, attr } => {
                let (attrs, expect) = (PutAttrs::from(attr), Expect::from(expect.clone()));
                let spec = PutSpec { len: content.size, attrs, expect, believed: task.believed };
                self.put(&ufs, content, to, spec, attr).await
            }
            PersistWork::MakeDir { key, attr } => self.make_dir(&ufs, key, attr).await,
            PersistWork::MakeSpecial { key, expect, attr } => {
                self.make_special(&ufs, key, expect, attr).await
            }
            PersistWork::Link { existing, to, expect } => {
                self.link(&ufs, task.mount, existing, to, expect).await
            }
            PersistWork::Move { from, to, kind, version, replaces } => {
                self.move_name(&ufs, task.mount, (from, version), (to, replaces), *kind).await
            }
            PersistWork::SetAttr { key, kind, attr } => {
                self.set_attr(&ufs, task.mount, key, *kind, attr).await
            }
            PersistWork::Remove { key, kind, expect } => self.remove(&ufs, key, *kind, expect).await,
        }
    }

    /// What the log is told about a task that did not succeed. A file of ours that met another version is put
    /// beside it.
    async fn outcome_of(&self, task: &PersistTask, stop: Stop) -> PersistOutcome {
        match stop {
            // That an earlier try changed nothing is known only if it was looked into.
            Stop::Changed if task.again => PersistOutcome::NotDone,
            Stop::Theirs if task.again => PersistOutcome::NotDone,
            Stop::Changed => PersistOutcome::Changed,
            Stop::Unpersistable(why) => PersistOutcome::Unpersistable(why),
            Stop::Failed(why) => PersistOutcome::Failed(why),
            Stop::Theirs => match self.put_beside(task).await {
                Ok(key) => PersistOutcome::Conflict(key),
                Err(Stop::Changed) => PersistOutcome::Changed,
                Err(stop) => PersistOutcome::Failed(format!("putting a conflict copy: {stop:?}")),
            },
        }
    }

    fn note(&self, task: &PersistTask, outcome: &PersistOutcome) {
        let counters = &self.counters;
        let counter = match outcome {
            PersistOutcome::Done(None) => &counters.removals,
            PersistOutcome::Done(Some(attr)) if matches!(task.work, PersistWork::Put { .. }) => {
                add(&counters.put_bytes, attr.size);
                &counters.puts
            }
            PersistOutcome::Done(Some(_)) => &counters.changes,
            PersistOutcome::Changed => &counters.changed,
            PersistOutcome::NotDone => &counters.not_done,
            PersistOutcome::Conflict(beside) => {
                let ours = beside.as_ref().map_or_else(|| "nothing of ours".to_owned(), ToString::to_string);
                tracing::warn!(ino = %task.ino, %ours, work = ?task.work, "the under file system changed: theirs keeps the name");
                &counters.conflicts
            }
            PersistOutcome::Unpersistable(why) => {
                tracing::warn!(ino = %task.ino, %why, "cannot be persisted");
                &counters.unpersistable
            }
            PersistOutcome::Failed(why) => {
                tracing::warn!(ino = %task.ino, %why, "persisting failed and is tried again");
                &counters.failed
            }
        };
        self.count(counter);
    }

    /// Has the extent of a clean content found under a further name or version of it as well.
    pub(super) async fn bind_also(
        &self,
        mount: MountId,
        was: (&UfsKey, &Option<UfsVersion>),
        is: (&UfsKey, &UfsVersion),
    ) {
        let Some(old_version) = was.1 else { return };
        let known = ContentKey::of(mount, was.0, old_version);
        let (worker, content) = (Arc::clone(&self.worker), ContentKey::of(mount, is.0, is.1));
        if known == content {
            return;
        }
        let bind = move || async move { worker.bind_also(known, content).await };
        if let Ok(Err(error)) = self.shard().call(bind).await {
            tracing::debug!(%error, "a renamed content was not bound and is fetched again when it is read");
        }
    }

    /// One call to an under file system, ended in time.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        call: impl Future<Output = UfsResult<T>> + Send + 'static,
    ) -> Result<T, Stop> {
        in_time(&self.control, self.config.call_within, call).await?.map_err(Stop::from)
    }

    pub(super) async fn stat(&self, ufs: &Arc<dyn Ufs>, key: &UfsKey) -> Result<Option<UfsAttr>, Stop> {
        let (ufs, key) = (Arc::clone(ufs), key.clone());
        self.ask(async move { ufs.stat(&key).await }).await
    }

    /// What is at a key that a step before has just made.
    pub(super) async fn stat_made(&self, ufs: &Arc<dyn Ufs>, key: &UfsKey) -> Result<UfsAttr, Stop> {
        let gone = || Stop::Failed(format!("{key} was made and is gone again"));
        self.stat(ufs, key).await?.ok_or_else(gone)
    }

    async fn make_dir(&self, ufs: &Arc<dyn Ufs>, key: &UfsKey, attr: &UfsAttr) -> Result<Carried, Stop> {
        let (dir, attrs, store) = (key.clone(), PutAttrs::from(attr), Arc::clone(ufs));
        let made = self.ask(async move { store.mkdir(&dir, &attrs).await }).await;
        if let Err(stop) = made {
            // One that is there already will do: perhaps we made it, and died before we said so.
            let there = matches!(stop, Stop::Theirs) && self.is_dir(ufs, key).await?;
            if !there {
                return Err(stop);
            }
        }
        Ok(Carried::as_is(self.stat_made(ufs, key).await?))
    }

    async fn is_dir(&self, ufs: &Arc<dyn Ufs>, key: &UfsKey) -> Result<bool, Stop> {
        Ok(self.stat(ufs, key).await?.is_some_and(|attr| attr.kind == FileKind::Directory))
    }

    async fn make_special(
        &self,
        ufs: &Arc<dyn Ufs>,
        key: &UfsKey,
        expect: &Option<UfsVersion>,
        attr: &UfsAttr,
    ) -> Result<Carried, Stop> {
        let Some(target) = attr.link_target.clone() else {
            return Err(Stop::Unpersistable(format!("{} holds no {:?}", ufs.name(), attr.kind)));
        };
        let (link, wanted, attrs) = (key.clone(), target.clone(), PutAttrs::from(attr));
        let (expect, store) = (Expect::from(expect.clone()), Arc::clone(ufs));
        let made = self.ask(async move { store.symlink(&link, &wanted, &attrs, &expect).await }).await;
        match made {
            Ok(_) => {}
            Err(Stop::Theirs) => {
                let there = self.stat(ufs, key).await?;
                if there.and_then(|attr| attr.link_target).is_none_or(|there| there != target) {
                    return Err(Stop::Theirs);
                }
            }
            Err(stop) => return Err(stop),
        }
        Ok(Carried::as_is(self.stat_made(ufs, key).await?))
    }

    pub(super) async fn set_attr(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        key: &UfsKey,
        kind: FileKind,
        attr: &UfsAttr,
    ) -> Result<Carried, Stop> {
        if !ufs.capabilities().set_attr {
            // They ride with the next upload, and stand in the name space until then.
            return Ok(Carried::as_is(self.stat_made(ufs, key).await?));
        }
        let known = Some(attr.version.clone())
            .filter(|version| kind != FileKind::Directory && !version.as_bytes().is_empty());
        let expect = known.clone().map_or(Expect::Any, Expect::Version);
        let change = forebay_ufs::AttrChange {
            mode: attr.mode,
            uid: attr.owner.map(|(uid, _)| uid),
            gid: attr.owner.map(|(_, gid)| gid),
            atime: None,
            mtime: Some(attr.mtime),
        };
        let (at, store) = (key.clone(), Arc::clone(ufs));
        let set = in_time(&self.control, self.config.call_within, async move {
            store.set_attr(&at, &change, &expect).await
        });
        let version = match set.await? {
            Ok(version) => version,
            // Others took it away: what is there now is theirs.
            Err(UfsError::NotFound(_)) => return Err(Stop::Theirs),
            // Who may put files into a directory need not be the one who may set its time.
            Err(UfsError::Denied { .. }) if kind == FileKind::Directory && attr.mode.is_none() => {
                return Ok(Carried::as_is(self.stat_made(ufs, key).await?));
            }
            Err(error) => return Err(error.into()),
        };
        self.bind_also(mount, (key, &known), (key, &version)).await;
        let now = self.stat_made(ufs, key).await?;
        Ok(Carried::as_is(UfsAttr { version, ..now }))
    }

    async fn remove(
        &self,
        ufs: &Arc<dyn Ufs>,
        key: &UfsKey,
        kind: FileKind,
        expect: &Option<UfsVersion>,
    ) -> Result<Carried, Stop> {
        let (at, store) = (key.clone(), Arc::clone(ufs));
        let expect = expect.clone().map_or(Expect::Any, Expect::Version);
        let (call_within, control) = (self.config.call_within, self.control.clone());
        let removed = in_time(&control, call_within, async move {
            match kind {
                FileKind::Directory => store.rmdir(&at).await,
                _ => store.delete(&at, &expect).await,
            }
        });
        removed_or_gone(removed.await)
    }
}

/// What is gone already was taken away before. What others put there stays.
pub(super) fn removed_or_gone(removed: FsResult<UfsResult<()>>) -> Result<Carried, Stop> {
    match removed? {
        Ok(()) | Err(UfsError::NotFound(_)) => Ok(Carried::GONE),
        Err(UfsError::NotEmpty(_) | UfsError::IsADirectory(_) | UfsError::NotADirectory(_)) => {
            Err(Stop::Theirs)
        }
        Err(error) => Err(error.into()),
    }
}

/// The content that the bytes of an extent are known as when a put is recorded, and how many they are.
fn carried_as(
    task: &PersistTask,
    outcome: &PersistOutcome,
    extent: Option<(ExtentId, Sent)>,
) -> Option<(ContentKey, u64, ExtentId, Sent)> {
    let (PersistOutcome::Done(Some(attr)), PersistWork::Put { to, .. }) = (outcome, &task.work) else {
        return None;
    };
    let (id, sent) = extent?;
    Some((ContentKey::of(task.mount, to, &attr.version), attr.size, id, sent))
}
