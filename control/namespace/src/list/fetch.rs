//! The pages of the UFS that a listing goes through.
//!
//! **Owns** which pages are in hand, and where each that is not is asked for from. **Never does** decide what of a page is
//! shown. An index comes in and the page that holds it leaves: one in hand, one remembered from an earlier listing
//! ([`crate::pages`]), or one that the UFS is asked for.

use super::{DirStream, MOVED_TRIES, PAGE_LEN, PAGES_MAX, Page};
use crate::moving::Absence;
use crate::pages::SeenPage;
use forebay_types::{FsErrorKind, FsResult, Name, PageToken, Told, UfsKey};
use std::collections::VecDeque;
use std::sync::Arc;

impl DirStream {
    /// The page with the entry `index`; `None` past the last entry.
    pub(super) async fn page_at(&mut self, index: u64) -> FsResult<Option<&Page>> {
        if let Some((behind, name)) = self.behind.clone() {
            let page = self.page_behind(behind, &name).await?;
            self.pages.extend(page);
            self.behind = None;
        }
        if self.pages.front().is_none_or(|page| index < page.first) {
            let (first, from) = match self.tokens.before(index) {
                Some((first, token)) => (first, Some(token)),
                None => (0, None),
            };
            let page = self.fetch(first, from).await?;
            self.met_page(page.asked_ms);
            self.pages = VecDeque::from([page]);
        }
        while let Some(last) = self.pages.back().filter(|last| last.end() <= index) {
            let (end, Some(next)) = (last.end(), last.next.clone()) else { return Ok(None) };
            self.tokens.add(end, &next);
            let page = self.fetch(end, Some(next)).await?;
            self.met_page(page.asked_ms);
            if self.pages.len() == PAGES_MAX {
                self.pages.pop_front();
            }
            self.pages.push_back(page);
        }
        Ok(self.pages.iter().find(|page| index < page.end()))
    }

    /// What follows a name in the page that has it, as the entries from `index` on: what was carried or removed since that
    /// index was given out has moved it. `None`: nothing has that name any more, and the index is as good as any.
    async fn page_behind(&mut self, index: u64, name: &Name) -> FsResult<Option<Page>> {
        let mut page = self.fetch(0, None).await?;
        loop {
            if let Some(at) = page.entries.iter().position(|entry| entry.name == *name) {
                Arc::make_mut(&mut page.entries).drain(..=at);
                return Ok(Some(Page { first: index, ..page }));
            }
            let (end, Some(next)) = (page.end(), page.next.take()) else { return Ok(None) };
            page = self.fetch(end, Some(next)).await?;
        }
    }

    pub(super) fn is_moving(&self, dir: &UfsKey) -> bool {
        self.names.shared.queue.moved(self.mount, dir).is_some()
    }

    async fn fetch(&mut self, first: u64, from: Option<PageToken>) -> FsResult<Page> {
        for _ in 0..MOVED_TRIES {
            let Some(dir) = self.ufs.clone() else { break };
            let standing = self.names.pages.standing(&self.dir, self.mount, &dir);
            let (epoch, asked_ms) = (standing.epoch(), self.names.shared.now_ms());
            if first == 0
                && let Some(moved) = self.names.shared.queue.moved(self.mount, &dir)
                && let Some(entries) = self.names.list_both(self.mount, &dir, &moved).await?
            {
                let entries = Arc::new(entries);
                return Ok(Page { first, entries, next: None, epoch, asked_ms });
            }
            let ttl_ms = self.names.shared.metadata_ttl_ms(&self.dir.record())?;
            let seen = self.names.pages.get(&standing, from.as_ref(), asked_ms, ttl_ms);
            if let Some(SeenPage { entries, next, asked_ms }) = seen.filter(|_| !self.is_moving(&dir)) {
                return Ok(Page { first, entries, next, epoch, asked_ms });
            }
            let page = self.names.flights.list(self.mount, &dir, from.clone(), PAGE_LEN).await;
            match page {
                Ok(page) => {
                    let partial = page.entries.iter().filter(|entry| matches!(entry.told, Told::Content(_)));
                    self.names.ahead.listed(self.dir.ino, partial.map(|entry| entry.name.clone()));
                    let seen = SeenPage { entries: Arc::new(page.entries), next: page.next, asked_ms };
                    if seen.tells_less_than_all() && !self.is_moving(&dir) {
                        self.names.pages.keep(&standing, from, seen.clone());
                    }
                    return Ok(Page { first, entries: seen.entries, next: seen.next, epoch, asked_ms });
                }
                Err(error) if error.kind() != FsErrorKind::NotFound => {
                    // Perhaps it was the token, of a page that is not to be believed any more.
                    self.names.pages.forget(self.dir.ino);
                    return Err(error);
                }
                Err(error) => {
                    // It may have been moved in the UFS meanwhile, with all that is in it.
                    if self.names.absence(&self.dir, &dir).await? != Absence::Overtaken {
                        return Err(error);
                    }
                    self.ufs = self.names.ufs_key(&self.dir.record()).await?;
                }
            }
        }
        Err(FsErrorKind::Stale.into())
    }
}
