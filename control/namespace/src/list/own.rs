//! What a listing shows of our own names.
//!
//! **Owns** the order and the places of own names: they are scanned once from the first to the last, and each place also
//! tells how far the scan has gone past names that are not shown here, so that going on from it scans none of them again.
//! **Never does** ask the UFS. An offset comes in; entries leave, and the offset where it goes on.

use super::{DirEntry, DirStream, OWN_LEN, Shown, own_index};
use crate::inode::{Inode, OwnNames};
use crate::record::Dentry;
use forebay_types::{FsResult, Name};
use std::sync::Arc;

impl DirStream {
    /// Shows own names from `offset` on; yields where to go on, `offset` itself at the end.
    pub(super) async fn read_own(
        &mut self,
        offset: u64,
        limit: usize,
        out: &mut Vec<DirEntry>,
    ) -> FsResult<u64> {
        let (base, index) = (self.own_base(), own_index(offset));
        let age = self.age();
        let (mut at, mut from) = self.own.before(index);
        let mut wanted = (limit - out.len()).min(OWN_LEN);
        loop {
            let names = self.names_after(from.take(), wanted).await?;
            let Some(last) = names.last().map(|(name, _)| name.clone()) else { return Ok(offset) };
            let mut past = 0;
            for (name, dentry) in names {
                let Some(inode) = self.shown_own(&name, dentry).await? else { continue };
                if past > 0 && out.len() == limit {
                    return Ok(base + past);
                }
                at += 1;
                if at <= index {
                    continue;
                }
                past = at;
                self.own.remember(at, &name);
                self.push(out, Shown::of_alone(name, inode, age), base + at)?;
            }
            self.own.pass(at, &last);
            if past > 0 {
                return Ok(base + past);
            }
            // None of these is shown here, and perhaps none of the next ones.
            (from, wanted) = (Some(last), OWN_LEN);
        }
    }

    /// What is shown here of a name that is ours, or was.
    pub(super) async fn shown_own(
        &self,
        name: &Name,
        dentry: Option<Dentry>,
    ) -> FsResult<Option<Arc<Inode>>> {
        let Some(dentry) = dentry else { return self.names.resolve(&self.dir, name).await };
        let Some((ino, _)) = dentry.target else { return Ok(None) };
        let inode = self.names.inode(ino).await?;
        Ok((!self.is_among_ufs(&inode, name, &dentry)).then_some(inode))
    }

    /// Names after `after`, in order. Where the UFS is not gone through, those that were ours when the listing began and
    /// are not any more are among them: what the UFS has under them is to be shown too.
    async fn names_after(&self, after: Option<Name>, limit: usize) -> FsResult<Vec<(Name, Option<Dentry>)>> {
        let mut names = self.own_names(after.clone(), limit).await?;
        let Some(marks) = self.marks.as_ref().filter(|_| self.alone.is_some()) else { return Ok(names) };
        let until = names.last().filter(|_| names.len() == limit).map(|(name, _)| name.clone());
        let gone = marks.gone_between(after.as_ref(), until.as_ref());
        if !gone.is_empty() {
            names.extend(gone.into_iter().map(|name| (name, None)));
            // One that came back is ours again: that goes first, and the other is left out.
            names.sort_by(|(a, a_own), (b, b_own)| a.cmp(b).then(a_own.is_none().cmp(&b_own.is_none())));
            names.dedup_by(|(later, _), (first, _)| later == first);
        }
        Ok(names)
    }

    /// Own names after `after`.
    async fn own_names(&self, after: Option<Name>, limit: usize) -> FsResult<Vec<(Name, Option<Dentry>)>> {
        if self.dir.own_names() == OwnNames::None {
            return Ok(Vec::new());
        }
        let (shared, dir) = (Arc::clone(&self.names.shared), self.dir.ino);
        // What the UFS has at a name counts only where its part is gone through too.
        let decode = if self.ufs.is_some() { Dentry::decode } else { only_target };
        let read =
            move || shared.view.names_after(dir, after.as_ref(), limit, |value| Ok(Some(decode(value)?)));
        self.names.readers.read(read).await
    }
}

fn only_target(bytes: &[u8]) -> FsResult<Dentry> {
    Ok(Dentry { target: Dentry::target_of(bytes)?, shadow: None, mount_point: false })
}
