//! Names: a further one for a file, and another one for a file or a directory.
//!
//! Where the store renames, one call does it. Where it does not, a file is copied and then taken away, and a
//! directory entry by entry, some at a time, all copies first: cut short, it leaves nothing missing, and is begun anew.

use super::Engine;
use super::carry::{Carried, Stop, removed_or_gone};
use crate::meta::in_time;
use forebay_types::{
    ContentLocation, FileKind, Generation, Ino, MountId, Name, Told, UfsAttr, UfsKey, UfsVersion,
};
use forebay_ufs::{Expect, PutAttrs, PutSpec, Ufs, UfsError};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::HashSet;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Entries asked for at a time while a directory is copied.
const LIST_LEN: usize = 1000;

impl Engine {
    /// Gives the file at `existing` the further name `to`; a copy where the store has no hard links.
    pub(super) async fn link(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        existing: &UfsKey,
        to: &UfsKey,
        expect: &Option<UfsVersion>,
    ) -> Result<Carried, Stop> {
        let source = self.stat(ufs, existing).await?;
        let source = source.ok_or_else(|| Stop::Failed(format!("{existing} is not there to be linked")))?;
        let there = self.stat(ufs, to).await?;
        let links = ufs.capabilities().hard_links;
        if there.as_ref().is_some_and(|there| is_one_file(there, &source, links)) {
            return Ok(Carried::as_is(source));
        }
        if !links {
            let copy = self.copy(ufs, mount, (existing, &source), to, Expect::from(expect.clone())).await?;
            return Ok(Carried::as_is(copy));
        }
        let replaced = there.and_then(|_| expect.clone());
        let (store, from, at) = (Arc::clone(ufs), existing.clone(), to.clone());
        let linked = async move { store.hard_link(&from, (&at, &Expect::from(replaced))).await };
        let version = self.ask(linked).await?;
        let was = Some(source.version.clone());
        self.bind_also(mount, (existing, &was), (existing, &version)).await;
        self.bind_also(mount, (existing, &was), (to, &version)).await;
        Ok(Carried::as_is(UfsAttr { version, ..source }))
    }

    /// Brings a file or directory from one key to another.
    pub(super) async fn move_name(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        from: (&UfsKey, &Option<UfsVersion>),
        to: (&UfsKey, &Option<UfsVersion>),
        kind: FileKind,
    ) -> Result<Carried, Stop> {
        if self.stat(ufs, from.0).await?.is_none() {
            // Others took it away.
            return Err(Stop::Theirs);
        }
        let replaced = self.still_replaced(ufs, to).await?;
        let to = (to.0, &replaced);
        if ufs.capabilities().rename {
            return self.rename(ufs, mount, from, to).await;
        }
        if kind == FileKind::Directory {
            let mut copied = Copied::default();
            self.copy_tree(ufs, mount, (from.0, to.0), &mut copied).await?;
            self.remove_tree(ufs, mount, (from.0, to.0), copied).await?;
            return Ok(Carried::as_is(self.stat_made(ufs, to.0).await?));
        }
        let source = self.stat_made(ufs, from.0).await?;
        if from.1.as_ref().is_some_and(|version| *version != source.version) {
            return Err(Stop::Theirs);
        }
        let copy = self.copy(ufs, mount, (from.0, &source), to.0, Expect::from(to.1.clone())).await?;
        self.remove_copied(ufs, (from.0, source.version), (to.0, copy)).await
    }

    /// Takes the file at `from` away, of which there is a copy. If others have changed it since, it keeps its name and the
    /// copy goes: what is to be moved is what they made of it, and the copy would be in its way.
    pub(super) async fn remove_copied(
        &self,
        ufs: &Arc<dyn Ufs>,
        (from, version): (&UfsKey, UfsVersion),
        (to, copy): (&UfsKey, UfsAttr),
    ) -> Result<Carried, Stop> {
        match self.delete(ufs, from, Expect::Version(version)).await {
            Ok(()) => return Ok(Carried::as_is(copy)),
            Err(Stop::Theirs) => {}
            Err(stop) => return Err(stop),
        }
        match self.delete(ufs, to, Expect::Version(copy.version)).await {
            // What is there by now is not ours.
            Ok(()) | Err(Stop::Theirs) => {}
            Err(stop) => tracing::warn!(%to, ?stop, "a copy of what others have changed stays there"),
        }
        Err(Stop::Theirs)
    }

    /// The version that a move replaces; `None` also if there is nothing any more that could be anybody's.
    async fn still_replaced(
        &self,
        ufs: &Arc<dyn Ufs>,
        (key, version): (&UfsKey, &Option<UfsVersion>),
    ) -> Result<Option<UfsVersion>, Stop> {
        match version {
            Some(_) if self.stat(ufs, key).await?.is_none() => Ok(None),
            version => Ok(version.clone()),
        }
    }

    async fn rename(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        from: (&UfsKey, &Option<UfsVersion>),
        to: (&UfsKey, &Option<UfsVersion>),
    ) -> Result<Carried, Stop> {
        let (store, old, new) = (Arc::clone(ufs), from.0.clone(), to.0.clone());
        let from_expect = from.1.clone().map_or(Expect::Any, Expect::Version);
        let to_expect = Expect::from(to.1.clone());
        let renamed = self.ask(async move { store.rename((&old, &from_expect), (&new, &to_expect)).await });
        let version = renamed.await?;
        self.bind_also(mount, from, (to.0, &version)).await;
        let now = self.stat_made(ufs, to.0).await?;
        Ok(Carried::as_is(UfsAttr { version, ..now }))
    }

    /// Copies a version of a file within the store, by the store itself if it can, else through us.
    async fn copy(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        from: (&UfsKey, &UfsAttr),
        to: &UfsKey,
        expect: Expect,
    ) -> Result<UfsAttr, Stop> {
        if ufs.capabilities().copy {
            let version = self.copy_within(ufs, mount, (from.0, &from.1.version), to, expect).await?;
            return Ok(UfsAttr { version, ..from.1.clone() });
        }
        let content = ContentLocation {
            ino: Ino(0),
            mount,
            ufs: Some((from.0.clone(), from.1.version.clone())),
            extent: None,
            size: from.1.size,
            generation: Generation(0),
        };
        let attrs = PutAttrs::from(from.1);
        let spec = PutSpec { len: content.size, attrs, expect, ..PutSpec::default() };
        let version = self.upload(ufs, &content, to, spec).await?.version;
        self.bind_also(mount, (from.0, &Some(from.1.version.clone())), (to, &version)).await;
        Ok(UfsAttr { version, ..from.1.clone() })
    }

    /// The copy of a store that copies by itself, which need not be told what it copies.
    async fn copy_within(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        (from, version): (&UfsKey, &UfsVersion),
        to: &UfsKey,
        expect: Expect,
    ) -> Result<UfsVersion, Stop> {
        let (store, key, at, was) = (Arc::clone(ufs), from.clone(), to.clone(), version.clone());
        let made = self.ask(async move { store.copy((&key, &was), (&at, &expect)).await }).await?;
        self.bind_also(mount, (from, &Some(version.clone())), (to, &made)).await;
        Ok(made)
    }

    /// Copies what a listing showed.
    async fn copy_listed(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        (from, told): (&UfsKey, &Told),
        to: &UfsKey,
    ) -> Result<(), Stop> {
        if ufs.capabilities().copy {
            return self.copy_within(ufs, mount, (from, told.version()), to, Expect::Any).await.map(drop);
        }
        let attr = match told.attr() {
            Some(attr) => Some(attr.clone()),
            None => self.stat(ufs, from).await?,
        };
        // One that was taken away since is nothing to be copied; its removal finds that out.
        let Some(attr) = attr else { return Ok(()) };
        self.copy(ufs, mount, (from, &attr), to, Expect::Any).await.map(drop)
    }

    async fn copy_tree(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        (from, to): (&UfsKey, &UfsKey),
        copied: &mut Copied,
    ) -> Result<(), Stop> {
        let mut dirs = vec![(from.clone(), to.clone())];
        while let Some((from, to)) = dirs.pop() {
            self.make_copied_dir(ufs, &from, &to, copied).await?;
            let (below, files) = split(self.list_all(ufs, &from).await?);
            dirs.extend(below.iter().map(|name| (from.child(name), to.child(name))));
            let copies = files.iter().map(|(name, told)| {
                let (old, new) = (from.child(name), to.child(name));
                async move { self.copy_listed(ufs, mount, (&old, told), &new).await }
            });
            self.some_at_once(copies).await?;
            files.iter().for_each(|(name, told)| copied.add(&from.child(name), told.version()));
        }
        Ok(())
    }

    async fn make_copied_dir(
        &self,
        ufs: &Arc<dyn Ufs>,
        from: &UfsKey,
        to: &UfsKey,
        copied: &mut Copied,
    ) -> Result<(), Stop> {
        let (store, dir) = (Arc::clone(ufs), to.clone());
        match self.ask(async move { store.mkdir(&dir, &PutAttrs::default()).await }).await {
            // There from an earlier try.
            Ok(()) | Err(Stop::Theirs) => {}
            Err(stop) => return Err(stop),
        }
        copied.add(from, &UfsVersion::new([]));
        Ok(())
    }

    /// Takes a directory away with all that is in it. What others put there since it was copied is copied first, and what
    /// changes since it was listed stays.
    async fn remove_tree(
        &self,
        ufs: &Arc<dyn Ufs>,
        mount: MountId,
        (from, to): (&UfsKey, &UfsKey),
        mut copied: Copied,
    ) -> Result<(), Stop> {
        let mut dirs = vec![(from.clone(), to.clone())];
        let mut emptied = Vec::new();
        while let Some((dir, to)) = dirs.pop() {
            if !copied.has(&dir, &UfsVersion::new([])) {
                self.make_copied_dir(ufs, &dir, &to, &mut copied).await?;
            }
            let (below, mut files) = split(self.list_all(ufs, &dir).await?);
            dirs.extend(below.iter().map(|name| (dir.child(name), to.child(name))));
            let last = files.pop();
            let copied = &copied;
            let remove = |(name, told): (Name, Told)| {
                let (old, new) = (dir.child(&name), to.child(&name));
                async move {
                    if !copied.has(&old, told.version()) {
                        self.copy_listed(ufs, mount, (&old, &told), &new).await?;
                    }
                    self.delete(ufs, &old, Expect::Version(told.version().clone())).await
                }
            };
            self.some_at_once(files.into_iter().map(remove)).await?;
            // An object store keeps a directory that loses its last file. Of two that go at the same time each would
            // take the other for what stays, so the last one goes alone.
            self.some_at_once(last.into_iter().map(remove)).await?;
            emptied.push(dir);
        }
        // Parents were listed before their children, so the other way round each is empty when its turn comes.
        for dir in emptied.into_iter().rev() {
            let store = Arc::clone(ufs);
            let removed =
                in_time(&self.control, self.config.call_within, async move { store.rmdir(&dir).await });
            removed_or_gone(removed.await)?;
        }
        Ok(())
    }

    /// Does steps that do not touch each other, some of them side by side. After a failure no further one is begun,
    /// and those under way are waited for: a task that is reported as failed must not go on changing the store.
    async fn some_at_once<F>(&self, steps: impl Iterator<Item = F>) -> Result<(), Stop>
    where
        F: Future<Output = Result<(), Stop>>,
    {
        let (mut steps, mut under_way, mut failure) = (steps, FuturesUnordered::new(), None);
        loop {
            let room = self.config.files_at_once.max(1) - under_way.len();
            if failure.is_none() {
                under_way.extend(steps.by_ref().take(room));
            }
            match under_way.next().await {
                Some(Ok(())) => {}
                Some(Err(stop)) => drop(failure.get_or_insert(stop)),
                None => return failure.map_or(Ok(()), Err),
            }
        }
    }

    pub(super) async fn delete(&self, ufs: &Arc<dyn Ufs>, key: &UfsKey, expect: Expect) -> Result<(), Stop> {
        let (store, at) = (Arc::clone(ufs), key.clone());
        let deleted =
            in_time(&self.control, self.config.call_within, async move { store.delete(&at, &expect).await });
        match deleted.await? {
            Ok(()) | Err(UfsError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn list_all(&self, ufs: &Arc<dyn Ufs>, dir: &UfsKey) -> Result<Vec<(Name, Told)>, Stop> {
        let (mut entries, mut from) = (Vec::new(), None);
        loop {
            let (store, key) = (Arc::clone(ufs), dir.clone());
            let page = self.ask(async move { store.list(&key, from.as_ref(), LIST_LEN).await }).await?;
            entries.extend(page.entries.into_iter().map(|entry| (entry.name, entry.told)));
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(entries),
            }
        }
    }
}

/// Whether what stands at a key is the source already. Where names share a file its version says so. That of an object may
/// be the one of its bytes alone, so there the attributes must agree too. What others put has none but the time at which it
/// came, which its copy has another of.
fn is_one_file(there: &UfsAttr, source: &UfsAttr, links: bool) -> bool {
    let with_it = |attr: &UfsAttr| (attr.kind, attr.mode, attr.owner, attr.mode.map(|_| attr.mtime));
    there.version == source.version && (links || with_it(there) == with_it(source))
}

/// Which versions of which files were copied, and which directories were made: a number for each, since there may be
/// millions.
#[derive(Default)]
struct Copied(HashSet<u64>);

impl Copied {
    fn number(key: &UfsKey, version: &UfsVersion) -> u64 {
        let mut hasher = DefaultHasher::new();
        (key.as_bytes(), version.as_bytes()).hash(&mut hasher);
        hasher.finish()
    }

    fn add(&mut self, key: &UfsKey, version: &UfsVersion) {
        self.0.insert(Self::number(key, version));
    }

    fn has(&self, key: &UfsKey, version: &UfsVersion) -> bool {
        self.0.contains(&Self::number(key, version))
    }
}

/// The directories of a listing, and all else.
fn split(entries: Vec<(Name, Told)>) -> (Vec<Name>, Vec<(Name, Told)>) {
    let (dirs, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, told)| told.is_dir());
    (dirs.into_iter().map(|(name, _)| name).collect(), files)
}
