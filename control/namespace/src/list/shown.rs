//! What a listing shows of the UFS's entries.
//!
//! **Ours first:** an entry whose name we have is shown as ours, and one that was removed here is not shown. Of all
//! others the listing is believed. What it leaves open of an empty one, whether it is a file or a symbolic link, is taken from
//! what the UFS said of that version within `metadata_ttl`, else asked for: several at once, those that are to be
//! shown just now and no others.
//!
//! **Answers** stay with the page: if one fails, the call fails, and who repeats it asks for those that are left.

use super::{DirStream, Shown};
use crate::inode::{Inode, OwnNames};
use crate::names::{Answer, Cached};
use crate::namespace::Namespace;
use crate::record::Dentry;
use forebay_types::{DirPageEntry, FsErrorKind, FsResult, Name, Told, UfsAttr, UfsVersion};
use futures_util::{StreamExt, stream};
use hashbrown::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How many entries are asked about at once.
const ASKED_AT_ONCE: usize = 16;

/// What a name was found to be since it was listed.
enum Since {
    /// Nothing.
    Gone,
    /// This, and when the UFS said so.
    There(Arc<Inode>, u64),
}

impl DirStream {
    /// What is shown for each entry of the UFS, nothing for those that are ours or hidden: of those from `index` on, in a
    /// page that was asked for when the directory's names had the epoch `asked_at`, at `asked_ms`.
    pub(super) async fn ufs_entries(
        &mut self,
        index: u64,
        mut entries: Vec<DirPageEntry>,
        (asked_at, asked_ms): (u64, u64),
    ) -> FsResult<Vec<Option<Shown>>> {
        // Before our own names are looked at: what changes after that is not to be learned from this page.
        let names = &self.names.shared.names;
        let epochs: Vec<u64> = entries.iter().map(|entry| names.epoch(self.dir.ino, &entry.name)).collect();
        let own = self.own_dentries(&entries).await?;
        self.met_entries(index, &own);
        let mut known = match self.dir.names_epoch() == asked_at {
            true => self.settle(index, &mut entries, &own).await?,
            false => HashMap::new(),
        };
        let mut shown = Vec::with_capacity(entries.len());
        for (at, ((entry, own), epoch)) in entries.into_iter().zip(own).zip(epochs).enumerate() {
            let DirPageEntry { name, told } = entry;
            shown.push(match (own, told) {
                (Some(dentry), _) => self.own_clean_entry(name, &dentry).await?,
                (None, _) if self.dir.names_epoch() != asked_at => self.entry_anew(name).await?,
                (None, Told::All(attr)) => self.clean_entry((epoch, name), (&attr, true), asked_ms).await?,
                (None, Told::Content(attr)) => {
                    self.clean_entry((epoch, name), (&attr, false), asked_ms).await?
                }
                // One that is not known by now was gone when it was asked about.
                (None, Told::FileOrLink(_)) => known.remove(&at),
            });
        }
        Ok(shown)
    }

    /// Settles what the listing left open of those that are not ours: yields what is known of them from before, and puts
    /// what the UFS says of the others into `entries`, which are those from `index` on, and into the page.
    async fn settle(
        &mut self,
        index: u64,
        entries: &mut [DirPageEntry],
        own: &[Option<Dentry>],
    ) -> FsResult<HashMap<usize, Shown>> {
        let (mut known, mut open) = (HashMap::new(), Vec::new());
        let Some(dir) = &self.ufs else { return Ok(known) };
        for (at, entry) in entries.iter().enumerate().filter(|(at, _)| own[*at].is_none()) {
            let Told::FileOrLink(version) = &entry.told else { continue };
            match self.names.known_listed(&self.dir, &entry.name, version)? {
                Some((inode, said_ms)) => {
                    drop(known.insert(at, self.shown_since(entry.name.clone(), inode, said_ms)));
                }
                None => open.push((at, dir.child(&entry.name))),
            }
        }
        let mount = self.mount;
        let questions = open.into_iter().map(|(at, key)| {
            let names = Arc::clone(&self.names);
            async move { (at, names.flights.stat_listed(mount, &key).await) }
        });
        let mut answers = stream::iter(questions).buffer_unordered(ASKED_AT_ONCE);
        while let Some((at, answer)) = answers.next().await {
            if let Some(attr) = answer? {
                entries[at].told = Told::All(attr);
                self.pages.iter_mut().for_each(|page| page.tell(index + at as u64, &entries[at].told));
            }
        }
        Ok(known)
    }

    async fn own_dentries(&self, entries: &[DirPageEntry]) -> FsResult<Vec<Option<Dentry>>> {
        if self.dir.own_names() == OwnNames::None {
            return Ok(vec![None; entries.len()]);
        }
        let (shared, dir) = (Arc::clone(&self.names.shared), Arc::clone(&self.dir));
        let names: Vec<Name> = entries.iter().map(|entry| entry.name.clone()).collect();
        self.names
            .readers
            .read(move || {
                shared.view.learn_own_names(&dir)?;
                let own = |name: &Name| {
                    if dir.lacks_own(name) { Ok(None) } else { shared.view.dentry(dir.ino, name) }
                };
                names.iter().map(own).collect()
            })
            .await
    }

    /// What the UFS had when the page was asked for, unless it was asked about by itself since.
    async fn clean_entry(
        &self,
        (epoch, name): (u64, Name),
        told: (&UfsAttr, bool),
        asked_ms: u64,
    ) -> FsResult<Option<Shown>> {
        let Some(dir) = &self.ufs else { return Err(FsErrorKind::Stale.into()) };
        if let Some(newer) = self.names.known_after(&self.dir, &name, asked_ms)? {
            return Ok(match newer {
                Since::Gone => None,
                Since::There(inode, said_ms) => Some(self.shown_since(name, inode, said_ms)),
            });
        }
        let (key, at) = (dir.child(&name), (self.dir.ino, name.clone()));
        let inode = self.names.clean_inode(self.mount, &key, at, told, asked_ms).await?;
        self.names.learn_listed(&self.dir, (epoch, &name), inode.ino, asked_ms);
        Ok(Some(self.shown_since(name, inode, asked_ms)))
    }

    fn shown_since(&self, name: Name, inode: Arc<Inode>, said_ms: u64) -> Shown {
        let age = Duration::from_millis(self.names.shared.now_ms().saturating_sub(said_ms));
        Shown { name, inode, age }
    }

    /// What a name is that the UFS had when the page was asked for: a name was changed since, perhaps this one.
    async fn entry_anew(&self, name: Name) -> FsResult<Option<Shown>> {
        let inode = self.names.resolve(&self.dir, &name).await?;
        match self.names.own_name(&self.dir, &name).await? {
            Some(dentry) => self.own_clean_entry(name, &dentry).await,
            None => Ok(inode.map(|inode| Shown::now(name, inode))),
        }
    }

    async fn own_clean_entry(&self, name: Name, dentry: &Dentry) -> FsResult<Option<Shown>> {
        let Some((ino, _)) = dentry.target else { return Ok(None) };
        let inode = self.names.inode(ino).await?;
        let among_ufs = self.is_among_ufs(&inode, &name, dentry);
        Ok(among_ufs.then_some(Shown::now(name, inode)))
    }

    /// Whether a name of ours was the UFS's when the listing began.
    pub(super) fn is_among_ufs(&self, inode: &Inode, name: &Name, dentry: &Dentry) -> bool {
        let Some(marks) = &self.marks else { return false };
        let had = dentry.shadow.as_ref().is_some_and(|shadow| shadow.since <= marks.began);
        if self.ufs.is_none() || !dentry.is_carried() || !had {
            return false;
        }
        // What is being moved away may not be there any more.
        let leaves = self.names.shared.queue.is_leaving(self.dir.ino, name);
        !marks.has_left(name, leaves) && marks.was_clean(inode.ino, &inode.record())
    }
}

impl Namespace {
    /// What a name is that a listing shows with this version, and when the UFS said so, if that may be believed.
    fn known_listed(
        &self,
        dir: &Inode,
        name: &Name,
        version: &UfsVersion,
    ) -> FsResult<Option<(Arc<Inode>, u64)>> {
        let ttl = self.shared.metadata_ttl_ms(&dir.record())?;
        let cached = self.shared.names.get(dir.ino, name);
        let cached = cached.filter(|cached| cached.is_fresh(self.shared.now_ms(), ttl));
        let Some(Cached { answer: Answer::Present(ino), asked_ms: Some(asked_ms) }) = cached else {
            return Ok(None);
        };
        let is_that =
            |inode: &Arc<Inode>| inode.is_whole() && inode.record().version.as_ref() == Some(version);
        Ok(self.shared.table.get(ino).filter(is_that).map(|inode| (inode, asked_ms)))
    }

    /// What the UFS was found to have under a name after `asked_ms`, if it was asked and that may be believed.
    fn known_after(&self, dir: &Inode, name: &Name, asked_ms: u64) -> FsResult<Option<Since>> {
        let ttl = self.shared.metadata_ttl_ms(&dir.record())?;
        let cached = self.shared.names.get(dir.ino, name);
        let Some(cached) = cached.filter(|cached| cached.is_fresh(self.shared.now_ms(), ttl)) else {
            return Ok(None);
        };
        let Some(said_ms) = cached.asked_ms.filter(|said_ms| *said_ms > asked_ms) else { return Ok(None) };
        Ok(match cached.answer {
            Answer::Absent | Answer::NoDirectory => Some(Since::Gone),
            Answer::Present(ino) => self.shared.table.get(ino).map(|inode| Since::There(inode, said_ms)),
        })
    }
}
