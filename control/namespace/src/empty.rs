//! Whether a directory that has no names of ours is empty.
//!
//! The UFS is listed, less what whiteouts of ours hide. What was seen holds until a name is given back to the UFS, or
//! [`RESOLVED_MS`](crate::txn::RESOLVED_MS) at most: removals that are carried meanwhile change nothing about it, so that a
//! directory is removed at once however many removals in it are still on their way.

use crate::inode::Inode;
use crate::namespace::Namespace;
use forebay_types::{DirPage, DirPageEntry, FsErrorKind, FsResult, Ino, MountId, Name, PageToken, UfsKey};
use futures_util::future::try_join_all;
use std::sync::Arc;

/// Entries of one page.
const PAGE_LEN: usize = 1000;
/// Names that are asked about at the same time.
const ASKED_AT_ONCE: usize = 16;

impl Namespace {
    /// Looks whether the UFS shows anything in a directory that has no names of ours; remembered for the home.
    ///
    /// # Errors
    /// `NotEmpty`, or what the UFS said.
    pub(crate) async fn check_empty(&self, dir: &Arc<Inode>) -> FsResult<()> {
        let given_back = dir.given_back();
        let (mount, mut key) = (dir.record().mount, self.ufs_key(&dir.record()).await?);
        let mut from = None;
        while let Some(at) = key.take() {
            let (at, page) = self.page_of(dir, mount, at, from.take()).await?;
            self.refuse_visible(dir, page.entries).await?;
            from = page.next;
            key = from.is_some().then_some(at);
        }
        dir.prove_empty(self.shared.now_ms(), given_back);
        Ok(())
    }

    /// A page, and where the directory is: it may have been moved in the UFS a moment ago; then it is the first one there.
    async fn page_of(
        &self,
        dir: &Arc<Inode>,
        mount: MountId,
        mut key: UfsKey,
        mut from: Option<PageToken>,
    ) -> FsResult<(UfsKey, DirPage)> {
        loop {
            match self.flights.list(mount, &key, from, PAGE_LEN).await {
                Err(error) if error.kind() == FsErrorKind::NotFound => {
                    let moved = self.shared.queue.moved(mount, &key);
                    let now_at = self.ufs_key(&dir.record()).await?;
                    let next = moved.or(now_at).filter(|next| *next != key);
                    (key, from) = (next.ok_or(error)?, None);
                }
                page => return Ok((key, page?)),
            }
        }
    }

    async fn refuse_visible(&self, dir: &Arc<Inode>, entries: Vec<DirPageEntry>) -> FsResult<()> {
        for some in self.not_hidden(dir.ino, entries).await?.chunks(ASKED_AT_ONCE) {
            // Its removal may have reached the UFS since it was listed, and the whiteout gone with it.
            let found = try_join_all(some.iter().map(|name| self.resolve_anew(dir, name))).await?;
            if found.iter().any(Option::is_some) {
                return Err(FsErrorKind::NotEmpty.into());
            }
        }
        Ok(())
    }

    /// The entries without a whiteout.
    async fn not_hidden(&self, dir: Ino, entries: Vec<DirPageEntry>) -> FsResult<Vec<Name>> {
        let shared = Arc::clone(&self.shared);
        self.readers
            .read(move || {
                let mut shown = Vec::new();
                for DirPageEntry { name, .. } in entries {
                    if shared.view.dentry(dir, &name)?.is_none_or(|own| own.target.is_some()) {
                        shown.push(name);
                    }
                }
                Ok(shown)
            })
            .await
    }
}
