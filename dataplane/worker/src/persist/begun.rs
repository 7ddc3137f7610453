//! Tasks that were begun before and whose end nobody recorded: a connection broke, or the daemon died over them.
//!
//! **Owns** finding out how they ended. The under file system is asked; what has taken effect is reported as done,
//! as if it had just been, and what has not is reported so, and is worked out anew by the log.
//!
//! **Never does** take another client's work for ours: a file is ours by its length and the time and mode that went
//! with it, or, where the store holds no times, by its bytes.
//!
//! **Why this shape:** what is to be done is worked out from the state of a name, so a task that was begun for an
//! older state must be known to have ended before the next one is made; repeating it blindly could put back what
//! was taken away since. Only a move is carried on, because half of it may be done.

use super::Engine;
use super::carry::{Carried, Stop};
use super::source::Sent;
use forebay_types::{ContentLocation, FileKind, PersistTask, PersistWork, UfsAttr, UfsKey, UfsVersion};
use forebay_ufs::Ufs;
use std::sync::Arc;

/// What became of a task.
pub(super) enum Begun {
    /// It took effect.
    Done(Carried),
    /// It did not, and nothing is left of it.
    NotDone,
}

impl From<Option<UfsAttr>> for Begun {
    fn from(made: Option<UfsAttr>) -> Self {
        made.map_or(Self::NotDone, |attr| Self::Done(Carried::as_is(attr)))
    }
}

impl Engine {
    /// Finds out how a task ended that was begun before. What is reported as done is durable in the under file system:
    /// whoever began it may have ended between the change and its sync, and ours is given up for it.
    pub(super) async fn look_into(&self, task: &PersistTask) -> Result<Begun, Stop> {
        let ufs = self.worker.ufs.get(task.mount)?;
        let begun = self.how_it_ended(&ufs, task).await?;
        if matches!(begun, Begun::Done(_)) {
            for key in names_in(&task.work) {
                let (store, at) = (Arc::clone(&ufs), key.clone());
                self.ask(async move { store.sync_name(&at).await }).await?;
            }
        }
        Ok(begun)
    }

    async fn how_it_ended(&self, ufs: &Arc<dyn Ufs>, task: &PersistTask) -> Result<Begun, Stop> {
        match &task.work {
            PersistWork::Put { content, to, expect, attr } => {
                self.put_before(ufs, (content, attr), to, expect).await
            }
            PersistWork::MakeDir { key, .. } => {
                let there = self.stat(ufs, key).await?;
                Ok(there.filter(|there| there.kind == FileKind::Directory).into())
            }
            PersistWork::MakeSpecial { key, attr, .. } => {
                self.sweep(ufs, key).await;
                let there = self.stat(ufs, key).await?;
                Ok(there
                    .filter(|there| there.kind == attr.kind && there.link_target == attr.link_target)
                    .into())
            }
            PersistWork::Link { existing, to, expect } => self.linked_before(ufs, existing, to, expect).await,
            PersistWork::Move { from, to, kind, version, replaces } => {
                self.moved_before(ufs, task, (from, version), (to, replaces), *kind).await
            }
            PersistWork::SetAttr { key, kind, attr } => self.attrs_before(ufs, task, key, *kind, attr).await,
            PersistWork::Remove { key, .. } => Ok(match self.stat(ufs, key).await? {
                None => Begun::Done(Carried::GONE),
                Some(_) => Begun::NotDone,
            }),
        }
    }

    async fn put_before(
        &self,
        ufs: &Arc<dyn Ufs>,
        (content, attr): (&ContentLocation, &UfsAttr),
        to: &UfsKey,
        expect: &Option<UfsVersion>,
    ) -> Result<Begun, Stop> {
        self.sweep(ufs, to).await;
        let there = self.stat(ufs, to).await?.filter(|there| {
            there.kind == FileKind::Regular
                && there.size == content.size
                && Some(&there.version) != expect.as_ref()
        });
        let Some(there) = there else { return Ok(Begun::NotDone) };
        if ufs.capabilities().times {
            let ours = there.mtime == attr.mtime && agree(there.mode, attr.mode);
            return Ok(Some(there).filter(|_| ours).into());
        }
        match self.is_there_already(ufs, content, to).await {
            Ok(Some((there, sent))) => Ok(Begun::Done(with_extent(there, content, sent))),
            // What we had to put has changed: the length is all that is left to go by.
            Err(Stop::Changed) => Ok(Some(there).into()),
            Ok(None) => Ok(Begun::NotDone),
            Err(stop) => Err(stop),
        }
    }

    async fn linked_before(
        &self,
        ufs: &Arc<dyn Ufs>,
        existing: &UfsKey,
        to: &UfsKey,
        expect: &Option<UfsVersion>,
    ) -> Result<Begun, Stop> {
        self.sweep(ufs, to).await;
        let Some(source) = self.stat(ufs, existing).await? else { return Ok(Begun::NotDone) };
        let there = self.stat(ufs, to).await?;
        if ufs.capabilities().hard_links {
            return Ok(there.filter(|there| there.version == source.version).into());
        }
        // What the copy was to replace may be of the same length and time.
        let copied = |there: &UfsAttr| {
            Some(&there.version) != expect.as_ref()
                && (there.kind, there.size, there.mtime) == (source.kind, source.size, source.mtime)
        };
        Ok(there.filter(copied).into())
    }

    /// A move that has begun is carried to its end: of a directory that is copied entry by entry part may be at
    /// either key.
    async fn moved_before(
        &self,
        ufs: &Arc<dyn Ufs>,
        task: &PersistTask,
        from: (&UfsKey, &Option<UfsVersion>),
        to: (&UfsKey, &Option<UfsVersion>),
        kind: FileKind,
    ) -> Result<Begun, Stop> {
        let Some(source) = self.stat(ufs, from.0).await? else {
            // Where a version is that of the bytes, what was moved may have the one of what it replaced.
            let moved = |there: &UfsAttr| {
                let (now, replaced) = (Some(&there.version), to.1.as_ref());
                there.kind == kind && (replaced.is_none() || now != replaced || now == from.1.as_ref())
            };
            return Ok(self.stat(ufs, to.0).await?.filter(moved).into());
        };
        if ufs.capabilities().rename {
            return Ok(Begun::NotDone);
        }
        self.sweep(ufs, to.0).await;
        let there = self.stat(ufs, to.0).await?;
        match kind {
            FileKind::Directory if there.is_some() => {
                self.move_name(ufs, task.mount, from, to, kind).await.map(Begun::Done)
            }
            FileKind::Directory => Ok(Begun::NotDone),
            // Copied and not yet taken away: the copy goes, or is met as what it is by the next try.
            _ => {
                let copied = there.filter(|there| {
                    Some(&there.version) != to.1.as_ref()
                        && (there.size, there.mtime) == (source.size, source.mtime)
                });
                let Some(copied) = copied.filter(|_| from.1.as_ref() == Some(&source.version)) else {
                    return Ok(Begun::NotDone);
                };
                self.remove_copied(ufs, (from.0, source.version), (to.0, copied)).await.map(Begun::Done)
            }
        }
    }

    /// Attributes are set one after the other: what was begun is carried on if the file is still the same.
    async fn attrs_before(
        &self,
        ufs: &Arc<dyn Ufs>,
        task: &PersistTask,
        key: &UfsKey,
        kind: FileKind,
        attr: &UfsAttr,
    ) -> Result<Begun, Stop> {
        let Some(there) = self.stat(ufs, key).await? else { return Ok(Begun::NotDone) };
        let same = there.kind == kind
            && (kind == FileKind::Directory
                || there.version == attr.version
                || (there.size == attr.size && there.mtime == attr.mtime));
        if !same {
            return Ok(Begun::NotDone);
        }
        let attr = UfsAttr { version: there.version, ..attr.clone() };
        self.set_attr(ufs, task.mount, key, kind, &attr).await.map(Begun::Done)
    }

    /// Remains of an upload cost room and nothing else: a sweep that fails is only spoken of.
    async fn sweep(&self, ufs: &Arc<dyn Ufs>, key: &UfsKey) {
        let (store, at) = (Arc::clone(ufs), key.clone());
        if let Err(stop) = self.ask(async move { store.sweep(&at).await }).await {
            tracing::debug!(%key, ?stop, "the remains of an upload were not swept");
        }
    }
}

/// The names that a task makes or takes away.
fn names_in(work: &PersistWork) -> Vec<&UfsKey> {
    match work {
        PersistWork::Put { to: key, .. }
        | PersistWork::Link { to: key, .. }
        | PersistWork::MakeDir { key, .. }
        | PersistWork::MakeSpecial { key, .. }
        | PersistWork::Remove { key, .. } => vec![key],
        PersistWork::Move { from, to, .. } => vec![to, from],
        PersistWork::SetAttr { .. } => Vec::new(),
    }
}

fn agree<T: PartialEq>(there: Option<T>, sent: Option<T>) -> bool {
    there.is_none() || sent.is_none() || there == sent
}

fn with_extent(attr: UfsAttr, content: &ContentLocation, sent: Sent) -> Carried {
    Carried { attr: Some(attr), extent: content.extent.map(|id| (id, sent)) }
}
