//! What a listing shows of our own names.
//!
//! **Owns** the order and the places of own names: they are scanned once from the first to the last, and each place also
//! tells how far the scan has gone past names that are not shown here, so that going on from it scans none of them again.
//! **Never does** ask the UFS. An offset comes in; entries leave, and the offset where it goes on.

use super::{DirEntry, DirStream, OWN_BASE, OWN_LEN, Shown};
use crate::inode::OwnNames;
use crate::keys;
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
        let index = offset - OWN_BASE;
        let (mut at, mut from) = self.own.before(index);
        let mut wanted = (limit - out.len()).min(OWN_LEN);
        loop {
            let names = self.own_names(from.take(), wanted).await?;
            let Some(last) = names.last().map(|(name, _)| name.clone()) else { return Ok(offset) };
            let mut past = 0;
            for (name, dentry) in names {
                let Some((ino, _)) = dentry.target else { continue };
                let inode = self.names.inode(ino).await?;
                if self.is_among_ufs(&inode, &name, &dentry) {
                    continue;
                }
                if past > 0 && out.len() == limit {
                    return Ok(OWN_BASE + past);
                }
                at += 1;
                if at <= index {
                    continue;
                }
                past = at;
                self.own.remember(at, &name);
                self.push(out, Shown::now(name, inode), OWN_BASE + at)?;
            }
            self.own.pass(at, &last);
            if past > 0 {
                return Ok(OWN_BASE + past);
            }
            // None of these is shown here, and perhaps none of the next ones.
            (from, wanted) = (Some(last), OWN_LEN);
        }
    }

    /// Own names after `after`.
    async fn own_names(&self, after: Option<Name>, limit: usize) -> FsResult<Vec<(Name, Dentry)>> {
        if self.dir.own_names() == OwnNames::None {
            return Ok(Vec::new());
        }
        let (shared, dir) = (Arc::clone(&self.names.shared), self.dir.ino);
        let read = move || {
            let (first, until) = keys::of(keys::DENTRY, dir);
            let from = after.map_or(first, |name| [&keys::dentry(dir, &name)[..], &[0]].concat().into());
            let mut names = Vec::new();
            for (key, value) in shared.view.scan(&from, &until, limit)? {
                if let Some((_, name)) = keys::slot(&key) {
                    names.push((name, Dentry::decode(&value)?));
                }
            }
            Ok(names)
        };
        self.names.readers.read(read).await
    }
}
