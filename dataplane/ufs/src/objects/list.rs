//! Listings: common prefixes are directories, the rest are files.
//!
//! A page of ours is a page of the store's. Two things need a second look. An object and a prefix of one name
//! (`a` and `a/...`): `a/` sorts behind every key that begins `a-`, so it may come pages later; at the end of
//! a page those objects whose prefix may still come are looked up one by one, and they are few, since each
//! must be a beginning of the page's last key. And an empty object may be a symbolic link: where the store's
//! listing does not tell, each empty one is asked about, several at once.

use super::client::{KeyPage, ListQuery, Object};
use super::keys::SHADOWED_SUFFIX;
use super::tree::{Found, Shared, file_attr};
use crate::error::{UfsError, UfsResult};
use crate::ufs::ListPage;
use forebay_types::{DirPageEntry, Name, PageToken, UfsKey};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::HashSet;

/// How many empty objects of a page are asked about at once.
const HEADS_AT_ONCE: usize = 16;

/// An object of a page: the name it has in its directory, its key, and what the page says of it.
type Listed = (Name, String, Object);

impl Shared {
    pub(super) async fn list_dir(
        &self,
        dir: &UfsKey,
        from: Option<&PageToken>,
        limit: usize,
    ) -> UfsResult<ListPage> {
        let Ok(prefix) = self.keys.dir(dir) else { return Err(UfsError::NotFound(dir.clone())) };
        let token = from.map(|token| std::str::from_utf8(&token.0)).transpose();
        let token = token.map_err(|_| UfsError::Invalid("a page token of another maker".into()))?;
        let max = limit.clamp(1, self.client.limits().page_len_max);
        let query = ListQuery { prefix: &prefix, fold: true, token, max };
        let page = self.client.list(query).await.map_err(|fault| fault.at(dir))?;
        if from.is_none() && page.objects.is_empty() && page.prefixes.is_empty() && page.next.is_none() {
            self.require_directory(dir).await?;
        }
        let hidden = self.hidden_objects(dir, &page).await?;
        self.entries(dir, &prefix, page, &hidden).await
    }

    /// Fails unless there is a directory that may be empty: the root, or one with a marker.
    async fn require_directory(&self, dir: &UfsKey) -> UfsResult<()> {
        if dir.is_root() {
            return Ok(());
        }
        match self.find(dir).await? {
            Found::Directory { .. } => Ok(()),
            Found::File { .. } => Err(UfsError::NotADirectory(dir.clone())),
            Found::Nothing => Err(UfsError::NotFound(dir.clone())),
        }
    }

    /// The objects of a page whose name a directory has.
    async fn hidden_objects(&self, dir: &UfsKey, page: &KeyPage) -> UfsResult<HashSet<String>> {
        let here = page.prefixes.iter().map(|prefix| prefix.trim_end_matches('/').to_owned());
        let mut hidden: HashSet<String> = here.collect();
        if page.next.is_none() {
            return Ok(hidden);
        }
        let last_object = page.objects.last().map(|(key, _)| key.as_str());
        let Some(last) = last_object.max(page.prefixes.last().map(String::as_str)) else { return Ok(hidden) };
        let undecided = page.objects.iter().map(|(key, _)| key).filter(|key| last.starts_with(key.as_str()));
        for object in undecided.filter(|key| format!("{key}/").as_str() > last) {
            let below = || async move { self.first_below(object).await.map_err(|fault| fault.at(dir)) };
            if self.one_of_many.repeated(below).await?.is_some() {
                hidden.insert(object.clone());
            }
        }
        Ok(hidden)
    }

    async fn entries(
        &self,
        dir: &UfsKey,
        prefix: &str,
        page: KeyPage,
        hidden: &HashSet<String>,
    ) -> UfsResult<ListPage> {
        let mut listed = ListPage { entries: Vec::new(), next: None, left_out: 0 };
        listed.next = page.next.map(|token| PageToken(token.into_bytes().into_boxed_slice()));
        let mut files = Vec::new();
        for (key, object) in page.objects.into_iter().filter(|(key, _)| key != prefix) {
            match shown_name(prefix, &key, hidden.contains(&key)) {
                Some(name) => files.push((name, key, object)),
                None => listed.left_out += 1,
            }
        }
        for folded in &page.prefixes {
            match shown_name(prefix, folded.strip_suffix('/').unwrap_or(folded), false) {
                Some(name) => {
                    listed.entries.push(DirPageEntry { name, attr: self.dir_attr(None), whole: false })
                }
                None => listed.left_out += 1,
            }
        }
        listed.entries.extend(self.looked_up(dir, files).await?);
        Ok(listed)
    }

    /// The entries of objects, in their order. One that is slow to be answered for holds up no other: with the repeats
    /// of each, waits one after the other would add up to more than the call's deadline.
    async fn looked_up(&self, dir: &UfsKey, files: Vec<Listed>) -> UfsResult<Vec<DirPageEntry>> {
        let entry = |(at, file)| async move { Ok::<_, UfsError>((at, self.entry(dir, file).await?)) };
        let answers = stream::iter(files.into_iter().enumerate()).map(entry).buffer_unordered(HEADS_AT_ONCE);
        let mut entries: Vec<(usize, Option<DirPageEntry>)> = answers.try_collect().await?;
        entries.sort_unstable_by_key(|(at, _)| *at);
        Ok(entries.into_iter().filter_map(|(_, entry)| entry).collect())
    }

    /// The entry of an object; `None` if it is gone by the time it is asked about.
    async fn entry(&self, dir: &UfsKey, (name, key, listed): Listed) -> UfsResult<Option<DirPageEntry>> {
        let whole = self.client.limits().listed_meta;
        if listed.size > 0 || whole {
            return Ok(Some(DirPageEntry { name, attr: file_attr(&listed), whole }));
        }
        let head = || async { self.client.head(&key).await.map_err(|fault| fault.at(dir)) };
        let found = self.one_of_many.repeated(head).await?;
        Ok(found.map(|found| DirPageEntry { name, attr: file_attr(&found), whole: true }))
    }
}

/// The name of a key in its directory; `None` if no file can be named so (`dir//x`, `dir/..`).
fn shown_name(prefix: &str, key: &str, hidden: bool) -> Option<Name> {
    let name = key.strip_prefix(prefix)?;
    let shown = if hidden { format!("{name}{SHADOWED_SUFFIX}") } else { name.to_owned() };
    Name::new(shown.into_bytes()).ok()
}
