//! Listings: common prefixes are directories, the rest are files.
//!
//! A page of ours is a page of the store's. Two things it does not tell. An object and a prefix of one name
//! (`a` and `a/...`): `a/` sorts behind every key that begins `a-`, so it may come pages later; at the end of
//! a page those objects whose prefix may still come are looked up one by one, and they are few, since each
//! must be a beginning of the page's last key. And an empty object may be a symbolic link: where the store's
//! listing does not tell, the entry says so, and who needs to know asks ([`Shared::look_up`]).

use super::client::{KeyPage, ListQuery, Object};
use super::keys::SHADOWED_SUFFIX;
use super::tree::{Found, Shared, file_attr};
use crate::error::{UfsError, UfsResult};
use crate::ufs::ListPage;
use forebay_types::{DirPageEntry, Name, PageToken, Told, UfsAttr, UfsKey};
use std::collections::HashSet;

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
        let query = ListQuery { prefix: &prefix, fold: true, after: None, token, max };
        let page = self.client.list(query).await.map_err(|fault| fault.at(dir))?;
        if from.is_none() && page.objects.is_empty() && page.prefixes.is_empty() && page.next.is_none() {
            self.require_directory(dir).await?;
        }
        let hidden = self.hidden_objects(dir, &page).await?;
        Ok(self.entries(&prefix, page, &hidden))
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

    fn entries(&self, prefix: &str, page: KeyPage, hidden: &HashSet<String>) -> ListPage {
        let mut listed = ListPage { entries: Vec::new(), next: None, left_out: 0 };
        listed.next = page.next.map(|token| PageToken(token.into_bytes().into_boxed_slice()));
        let mut add = |name: Option<Name>, told| match name {
            Some(name) => listed.entries.push(DirPageEntry { name, told }),
            None => listed.left_out += 1,
        };
        for folded in &page.prefixes {
            let name = shown_name(prefix, folded.strip_suffix('/').unwrap_or(folded), false);
            let attr = self.dir_attr(None);
            add(name, if self.bare { Told::All(attr) } else { Told::Content(attr) });
        }
        for (key, object) in page.objects.iter().filter(|(key, _)| key != prefix) {
            add(shown_name(prefix, key, hidden.contains(key)), self.told(object));
        }
        listed
    }

    /// What a page tells of an object in it.
    fn told(&self, object: &Object) -> Told {
        match (self.client.limits().listed_meta, object.size) {
            (true, _) => Told::All(file_attr(object)),
            (false, 0) => Told::FileOrLink(object.version.clone()),
            (false, _) => Told::Content(file_attr(object)),
        }
    }

    /// What is at a key that a listing has just shown to be no directory.
    pub(super) async fn look_up(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        let Ok(object) = self.keys.object(key) else { return Ok(None) };
        let head =
            |object: String| async move { self.client.head(&object).await.map_err(|fault| fault.at(key)) };
        let hidden = object.strip_suffix(SHADOWED_SUFFIX).map(str::to_owned);
        let found = match (head(object).await?, hidden) {
            (None, Some(hidden)) => head(hidden).await?,
            (found, _) => found,
        };
        Ok(found.as_ref().map(file_attr))
    }
}

/// The name of a key in its directory; `None` if no file can be named so (`dir//x`, `dir/..`).
fn shown_name(prefix: &str, key: &str, hidden: bool) -> Option<Name> {
    let name = key.strip_prefix(prefix)?;
    let shown = if hidden { format!("{name}{SHADOWED_SUFFIX}") } else { name.to_owned() };
    Name::new(shown.into_bytes()).ok()
}
