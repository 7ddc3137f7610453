//! From a name to an inode.
//!
//! **The order of who is asked:** the cache of names; then what is ours (the overlay and the engine: a name,
//! a whiteout, a mount point); then the UFS, unless it has no such directory, in which case what is ours is
//! all there is. What the UFS says is believed for the mount's `metadata_ttl`; it is asked once for all who
//! wait. An answer that was overtaken by a mutation is thrown away.

use crate::inode::Inode;
use crate::keys;
use crate::moving::Absence;
use crate::names::{Answer, Cached};
use crate::namespace::Namespace;
use crate::ops;
use crate::ops::upkeep::Seen;
use crate::record::{Dentry, InodeRecord, Shadow, UfsAt};
use crate::table::{CleanId, Offered};
use forebay_types::{
    FileKind, FsError, FsErrorKind, FsResult, Ino, InodeState, MountId, Name, UfsAttr, UfsKey,
};
use futures_timer::Delay;
use futures_util::FutureExt;
use futures_util::future::{Either, join_all, select};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a question is asked again because a mutation overtook it.
const TRIES: usize = 16;
/// How many numbers are tried for a clean inode whose number another one has.
const NUMBER_TRIES: u32 = 16;
/// How much longer than a question itself its neighbours may take, besides as long again.
const NEIGHBOURS_GRACE: Duration = Duration::from_millis(10);

/// What the UFS says of a clean name of ours when it is asked again.
enum Again {
    /// It is what it was.
    Same,
    /// It is nothing any more, or something else.
    Gone,
    /// The records have moved on meanwhile.
    Overtaken,
}

/// How the UFS is asked.
#[derive(Clone, Copy)]
enum Asked {
    /// Along with whoever asks for the same just now.
    Along,
    /// By a question of one's own.
    Anew,
}

/// What a name is, and what the cache of names may say of it.
type Resolved = (Cached, Option<Arc<Inode>>);

impl Namespace {
    /// What `name` in `dir` is; `None` if it is nothing.
    pub(crate) async fn resolve(&self, dir: &Arc<Inode>, name: &Name) -> FsResult<Option<Arc<Inode>>> {
        if let Some(known) = self.resolve_cached(dir, name)? {
            return Ok(known);
        }
        Box::pin(self.resolve_anew(dir, name)).await
    }

    /// What the cache of names says, if it may be believed.
    pub(crate) fn resolve_cached(&self, dir: &Inode, name: &Name) -> FsResult<Option<Option<Arc<Inode>>>> {
        let record = dir.record();
        if !record.is_dir() {
            return Err(FsErrorKind::NotADirectory.into());
        }
        let ttl = self.shared.metadata_ttl_ms(&record)?;
        let cached = self.shared.names.get(dir.ino, name);
        let Some(cached) = cached.filter(|cached| cached.is_fresh(self.shared.now_ms(), ttl)) else {
            return Ok(None);
        };
        match cached.answer {
            Answer::Absent | Answer::NoDirectory => Ok(Some(None)),
            Answer::Present(ino) => Ok(self.shared.table.get(ino).filter(|inode| inode.is_whole()).map(Some)),
        }
    }

    /// The same without the cache; what is found goes into it.
    pub(crate) async fn resolve_anew(&self, dir: &Arc<Inode>, name: &Name) -> FsResult<Option<Arc<Inode>>> {
        for _ in 0..TRIES {
            let epoch = self.shared.names.epoch(dir.ino, name);
            let record = dir.record();
            if !record.is_dir() {
                return Err(FsErrorKind::NotADirectory.into());
            }
            if record.nlink == 0 {
                return Ok(None);
            }
            let found = match self.own_name(dir, name).await? {
                Some(dentry) => self.resolve_own(dir, &record, name, dentry).await?,
                None => self.resolve_ufs(dir, &record, name).await?,
            };
            let Some((cached, inode)) = found.filter(|_| self.shared.names.epoch(dir.ino, name) == epoch)
            else {
                continue;
            };
            self.shared.names.learn(dir.ino, epoch, name, cached);
            return Ok(inode);
        }
        Err(FsError::new(
            FsErrorKind::Overloaded,
            format!("{name} changed faster than it could be looked up"),
        ))
    }

    /// The dentry of a name, if we have one.
    pub(crate) async fn own_name(&self, dir: &Arc<Inode>, name: &Name) -> FsResult<Option<Dentry>> {
        if dir.lacks_own(name) {
            return Ok(None);
        }
        let key = keys::dentry(dir.ino, name);
        if let Some(changed) = self.shared.view.overlay.get(&key) {
            return changed.map(|bytes| Dentry::decode(&bytes)).transpose();
        }
        let (shared, dir, name) = (Arc::clone(&self.shared), Arc::clone(dir), name.clone());
        self.readers
            .read(move || {
                shared.view.learn_own_names(&dir)?;
                if dir.lacks_own(&name) { Ok(None) } else { shared.view.dentry(dir.ino, &name) }
            })
            .await
    }

    /// Follows a dentry of ours. `None`: it was out of date and is gone, and the question begins anew.
    async fn resolve_own(
        &self,
        dir: &Arc<Inode>,
        dir_record: &InodeRecord,
        name: &Name,
        dentry: Dentry,
    ) -> FsResult<Option<Resolved>> {
        let Some((ino, _)) = dentry.target else {
            return Ok(Some((Cached { answer: Answer::Absent, asked_ms: None }, None)));
        };
        let inode = self.inode(ino).await?;
        // Before it is asked whether a task is out: what a task has changed since is no news of others.
        let seen =
            Seen { dir: dir.ino, name: name.clone(), dentry: dentry.clone(), ino, record: inode.record() };
        let present =
            |asked_ms| Some((Cached { answer: Answer::Present(ino), asked_ms }, Some(Arc::clone(&inode))));
        if !inode.record().is_settled() || !dentry.is_carried() {
            return Ok(present(None));
        }
        if self.shared.queue.is_begun(dir.ino, name, ino) {
            // What the UFS says now may be what a task is just making of it.
            return Ok(present(Some(self.shared.now_ms())));
        }
        let ttl = self.shared.metadata_ttl_ms(dir_record)?;
        let now = self.shared.now_ms();
        let fresh =
            Cached { answer: Answer::Absent, asked_ms: Some(inode.validated_ms()) }.is_fresh(now, ttl);
        if fresh {
            return Ok(present(Some(now)));
        }
        let mut again = self.ask_again(dir, &seen, Asked::Along).await?;
        if matches!(again, Again::Gone) {
            // An answer that others asked for may be from before the UFS got what the name stands for.
            again = self.ask_again(dir, &seen, Asked::Anew).await?;
        }
        match again {
            Again::Overtaken => Ok(None),
            Again::Same => {
                inode.set_validated(now);
                Ok(present(Some(now)))
            }
            Again::Gone => {
                let (dir, name) = (dir.ino, name.clone());
                self.mutate_own(move |txn| ops::upkeep::drop_stale(txn, dir, &name, &dentry)).await?;
                Ok(None)
            }
        }
    }

    /// Whether the UFS still has what a clean name of ours stands for.
    async fn ask_again(&self, dir: &Inode, seen: &Seen, asked: Asked) -> FsResult<Again> {
        let record = dir.record();
        let Some(dir_key) = self.ufs_key(&record).await? else { return Ok(Again::Overtaken) };
        let key = dir_key.child(&seen.name);
        let found = match asked {
            Asked::Along => self.find(record.mount, &key).await?,
            Asked::Anew => self.find_anew(record.mount, &key).await?,
        };
        let Some((found_at, ufs)) = found else {
            return Ok(match self.absence(dir, &dir_key).await? {
                Absence::Real => Again::Gone,
                Absence::Overtaken => Again::Overtaken,
            });
        };
        if found_at != key {
            // A copy on the way to another key may have another version; nothing is concluded from it.
            return Ok(Again::Same);
        }
        let both_dirs = ufs.kind == FileKind::Directory && seen.record.is_dir();
        let same = |shadow: &Shadow| shadow.kind == ufs.kind && shadow.version.as_ref() == Some(&ufs.version);
        if !both_dirs && !seen.dentry.shadow.as_ref().is_some_and(same) {
            return Ok(Again::Gone);
        }
        let kept = self.shared.ufs.keeps_dir_times(record.mount);
        if seen.differs(&ufs, !kept || self.shared.queue.is_busy_in(seen.ino)) {
            let seen = seen.clone();
            self.mutate_own(move |txn| ops::upkeep::take_over(txn, &seen, &ufs)).await?;
        }
        Ok(Again::Same)
    }

    /// A mount's root has no directory above it by which it would be looked up and refreshed.
    pub(crate) async fn refresh_root(&self, inode: &Inode) -> FsResult<()> {
        let (record, now) = (inode.record(), self.shared.now_ms());
        if self.needs_no_refresh(inode, &record, now)? {
            return Ok(());
        }
        inode.set_validated(now);
        Box::pin(self.ask_for_root(inode, &record)).await
    }

    /// Whether an inode is no mount's root, or one that was asked about not long ago.
    pub(crate) fn needs_no_refresh(&self, inode: &Inode, record: &InodeRecord, now: u64) -> FsResult<bool> {
        if record.ufs_at != UfsAt::At(UfsKey::root()) || !record.is_dir() {
            return Ok(true);
        }
        let ttl = self.shared.metadata_ttl_ms(record)?;
        let asked_ms = Some(inode.validated_ms());
        Ok(Cached { answer: Answer::Absent, asked_ms }.is_fresh(now, ttl))
    }

    async fn ask_for_root(&self, inode: &Inode, record: &InodeRecord) -> FsResult<()> {
        // A root that the UFS cannot tell of just now keeps the attributes it had.
        let Ok(Some(ufs)) = self.flights.stat(record.mount, UfsKey::root()).await else { return Ok(()) };
        let newer = ufs.mtime > record.mtime || ufs.mode.is_some_and(|mode| mode != record.mode);
        if newer && !record.attrs_ours {
            let ino = inode.ino;
            self.mutate_own(move |txn| ops::upkeep::refresh_root(txn, ino, &ufs)).await?;
        }
        Ok(())
    }

    /// Asks the UFS, if it has the directory. `None`: the answer was overtaken, and the question begins anew.
    async fn resolve_ufs(
        &self,
        dir: &Arc<Inode>,
        record: &InodeRecord,
        name: &Name,
    ) -> FsResult<Option<Resolved>> {
        let Some(dir_key) = self.ufs_key(record).await? else {
            // A directory that is not in the UFS yet may be there a moment later, and others put names into it.
            let may_get_there = record.state != InodeState::Native;
            let asked_ms = may_get_there.then(|| self.shared.now_ms());
            return Ok(Some((Cached { answer: Answer::NoDirectory, asked_ms }, None)));
        };
        let key = dir_key.child(name);
        if let Some(since_ms) = self.seen_absent(dir, record.mount, &dir_key, name).await? {
            return Ok(Some((Cached { answer: Answer::Absent, asked_ms: Some(since_ms) }, None)));
        }
        let asked_ms = Some(self.shared.now_ms());
        let mut found = self.stat_with_neighbours(dir, record.mount, &dir_key, name).await?;
        if found.is_none() {
            found = self.find_in_moved(record.mount, &dir_key, name).await?;
        }
        match found {
            None if self.absence(dir, &dir_key).await? == Absence::Overtaken => Ok(None),
            None => {
                self.note_absent(dir, &dir_key)?;
                Ok(Some((Cached { answer: Answer::Absent, asked_ms }, None)))
            }
            Some(ufs) => {
                let at = (dir.ino, name.clone());
                self.pages.found(dir.ino, name);
                self.alone.forget(dir.ino);
                let inode =
                    self.clean_inode(record.mount, &key, at, (&ufs, true), self.shared.now_ms()).await?;
                Ok(Some((Cached { answer: Answer::Present(inode.ino), asked_ms }, Some(inode))))
            }
        }
    }

    /// What the UFS has under `name`. Its neighbours in a listing that left their attributes out are asked for
    /// along with it; those that take much longer than it did are not waited for.
    async fn stat_with_neighbours(
        &self,
        dir: &Arc<Inode>,
        mount: MountId,
        dir_key: &UfsKey,
        name: &Name,
    ) -> FsResult<Option<UfsAttr>> {
        let others = self.ahead.others(dir.ino, name);
        if others.is_empty() {
            return self.flights.stat(mount, dir_key.child(name)).await;
        }
        let began = Instant::now();
        let learn = others.iter().map(|other| self.learn_neighbour(dir, mount, dir_key, other));
        let neighbours = join_all(learn).map(drop);
        let (found, neighbours) =
            match select(pin!(self.flights.stat(mount, dir_key.child(name))), neighbours).await {
                Either::Left((found, neighbours)) => (found, Some(neighbours)),
                Either::Right(((), asking)) => (asking.await, None),
            };
        if let Some(neighbours) = neighbours.filter(|_| found.is_ok()) {
            select(neighbours, Delay::new(began.elapsed() + NEIGHBOURS_GRACE)).await;
        }
        found
    }

    /// Asks for one that a listing has shown. Whoever wants it later asks again if this fails.
    async fn learn_neighbour(&self, dir: &Arc<Inode>, mount: MountId, dir_key: &UfsKey, name: &Name) {
        let (epoch, key) = (self.shared.names.epoch(dir.ino, name), dir_key.child(name));
        let (at, now) = ((dir.ino, name.clone()), self.shared.now_ms());
        if self.own_name(dir, name).await.is_ok_and(|own| own.is_none())
            && let Ok(Some(ufs)) = self.flights.stat(mount, key.clone()).await
            && let Ok(inode) = self.clean_inode(mount, &key, at, (&ufs, true), now).await
        {
            self.learn_listed(dir, (epoch, name), inode.ino, now);
        }
    }

    /// The inode of something the UFS had at `asked_ms`; `whole`: all that is in `ufs` is its own.
    pub(crate) async fn clean_inode(
        &self,
        mount: MountId,
        key: &UfsKey,
        at: (Ino, Name),
        (ufs, whole): (&UfsAttr, bool),
        asked_ms: u64,
    ) -> FsResult<Arc<Inode>> {
        let version = (ufs.kind != FileKind::Directory).then_some(&ufs.version);
        let id = CleanId { mount, key, kind: ufs.kind, version };
        let record = self.shared.clean_record(mount, at, ufs);
        // While it is remembered an inode keeps its number, also when its key has changed because a directory
        // above it was moved in the UFS.
        if let Some((dir, name)) = &record.at
            && let Some(Cached { answer: Answer::Present(ino), .. }) = self.shared.names.get(*dir, name)
            && self.shared.table.get(ino).is_some()
            && let Offered::Here(inode) = self.shared.table.offer_clean(ino, record.clone(), whole, asked_ms)
        {
            return Ok(inode);
        }
        for attempt in 0..NUMBER_TRIES {
            let ino = id.number(attempt);
            self.load_if_stored(ino).await?;
            if let Offered::Here(inode) = self.shared.table.offer_clean(ino, record.clone(), whole, asked_ms)
            {
                return Ok(inode);
            }
        }
        Err(FsError::new(FsErrorKind::Overloaded, format!("no free inode number for {key}")))
    }

    /// A derived number may belong to an inode that is stored and not in memory.
    async fn load_if_stored(&self, ino: Ino) -> FsResult<()> {
        if !self.shared.table.any_stored_derived() || self.shared.table.get(ino).is_some() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        if let Some(record) = self.readers.read(move || shared.view.inode(ino)).await? {
            self.shared.table.load(ino, record);
        }
        Ok(())
    }

    /// The UFS was asked at that time and showed what this name is.
    pub(crate) fn learn_listed(&self, dir: &Inode, (epoch, name): (u64, &Name), ino: Ino, asked_ms: u64) {
        let cached = Cached { answer: Answer::Present(ino), asked_ms: Some(asked_ms) };
        self.shared.names.learn(dir.ino, epoch, name, cached);
    }

    /// Forgets what the UFS said of a key and all that lies below it, so that it is asked again, whatever the
    /// mount's `metadata_ttl`. Costs a walk over all answers.
    pub fn invalidate(&self, mount: MountId, key: &UfsKey) {
        let Some(mount) = self.shared.mounts.get(mount) else { return };
        // Names tell their directories by number, so which of them lie below the key is not known: all go.
        tracing::debug!(mount = %mount.id, %key, "answers of the UFS are forgotten");
        self.shared.names.forget_all();
        self.absent.clear();
        self.pages.clear();
        self.alone.clear();
        self.shared.table.forget_validations(mount.id);
    }
}
