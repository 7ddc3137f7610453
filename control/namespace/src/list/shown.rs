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
use crate::record::Dentry;
use forebay_types::{DirPageEntry, FsErrorKind, FsResult, Name, Told, UfsAttr};
use futures_util::{StreamExt, stream};
use hashbrown::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How many entries are asked about at once.
const ASKED_AT_ONCE: usize = 16;

impl DirStream {
    /// What is shown for each entry of the UFS, nothing for those that are ours or hidden: of those from `index` on, in a
    /// page that was asked for when the directory's names had the epoch `asked_at`.
    pub(super) async fn ufs_entries(
        &mut self,
        index: u64,
        mut entries: Vec<DirPageEntry>,
        asked_at: u64,
    ) -> FsResult<Vec<Option<Shown>>> {
        // Before our own names are looked at: what changes after that is not to be learned from this page.
        let names = &self.names.shared.names;
        let epochs: Vec<u64> = entries.iter().map(|entry| names.epoch(self.dir.ino, &entry.name)).collect();
        let own = self.own_dentries(&entries).await?;
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
                (None, Told::All(attr)) => Some(self.clean_entry(name, &attr, true, epoch).await?),
                (None, Told::Content(attr)) => Some(self.clean_entry(name, &attr, false, epoch).await?),
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
        let now = self.names.shared.now_ms();
        for (at, entry) in entries.iter().enumerate().filter(|(at, _)| own[*at].is_none()) {
            let Told::FileOrLink(version) = &entry.told else { continue };
            match self.names.known_listed(&self.dir, &entry.name, version)? {
                Some((inode, said_ms)) => {
                    let age = Duration::from_millis(now.saturating_sub(said_ms));
                    drop(known.insert(at, Shown { name: entry.name.clone(), inode, age }));
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

    async fn clean_entry(&self, name: Name, attr: &UfsAttr, whole: bool, epoch: u64) -> FsResult<Shown> {
        let Some(dir) = &self.ufs else { return Err(FsErrorKind::Stale.into()) };
        let (key, at) = (dir.child(&name), (self.dir.ino, name.clone()));
        let inode = self.names.clean_inode(self.mount, &key, at, attr, whole).await?;
        self.names.learn_listed(&self.dir, epoch, &name, inode.ino);
        Ok(Shown::now(name, inode))
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
