//! The narrow interface to a store of keys that [`super::tree`] stands on.
//!
//! Keys are text, complete with the mount's prefix, and mean exactly their characters. No call here knows what
//! a directory is.

use super::fault::Fault;
use super::meta::Meta;
use crate::ufs::{ConditionalPut, Expect};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::{TimeSpec, UfsVersion};
use std::fmt;

/// The outcome of a call to a store of keys.
pub(crate) type ClientResult<T> = Result<T, Fault>;

/// What a store says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) size: u64,
    /// When it was put.
    pub(crate) put_at: TimeSpec,
    pub(crate) version: UfsVersion,
    /// Its user metadata; a listing tells it only where [`Limits::listed_meta`] says so.
    pub(crate) meta: Meta,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyPage {
    /// Objects, in the order of their keys.
    pub(crate) objects: Vec<(String, Object)>,
    /// Prefixes that end with a slash and have keys below, in order.
    pub(crate) prefixes: Vec<String>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<String>,
}

/// What a listing is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListQuery<'a> {
    /// Only keys that begin so.
    pub(crate) prefix: &'a str,
    /// Whether keys with a slash after the prefix are folded into [`KeyPage::prefixes`].
    pub(crate) fold: bool,
    /// Only keys behind this one, where [`Limits::lists_after`] says that it can be asked for.
    pub(crate) after: Option<&'a str>,
    pub(crate) token: Option<&'a str>,
    pub(crate) max: usize,
}

/// What a store of keys can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest object in bytes.
    pub(crate) object_len_max: u64,
    /// The shortest part of a multipart upload, the last one excepted.
    pub(crate) part_len_min: u64,
    /// The most objects of one page of a listing.
    pub(crate) page_len_max: usize,
    /// The longest object that one request copies.
    pub(crate) copy_len_max: u64,
    /// How puts are kept from replacing what they should not.
    pub(crate) conditional_put: ConditionalPut,
    /// Whether a delete can name the version it takes away.
    pub(crate) conditional_delete: bool,
    /// Whether a listing tells the user metadata of the objects in it.
    pub(crate) listed_meta: bool,
    /// Whether the store itself refuses to put an object as new, in one request, where there is one.
    pub(crate) keeps_conditions: bool,
    /// Whether a listing can begin behind any key.
    pub(crate) lists_after: bool,
    /// A character in a key that the store turns into another.
    pub(crate) turned: Option<char>,
}

/// A part that arrived: what the store wants to hear about it when the upload is completed.
pub(crate) type PartTag = String;

/// A store of keys.
#[async_trait]
pub(crate) trait ObjectClient: Send + Sync + fmt::Debug + 'static {
    fn limits(&self) -> Limits;

    /// What is at the key; `None` if nothing.
    async fn head(&self, key: &str) -> ClientResult<Option<Object>>;

    /// Fills `buf` with the bytes from `offset` of just this version; short only at the object's end.
    async fn get(&self, key: &str, version: &UfsVersion, offset: u64, buf: &mut [u8]) -> ClientResult<usize>;

    /// Puts a whole object. With [`ConditionalPut::Atomic`], [`Fault::Precondition`] if `expect` failed.
    async fn put(&self, key: &str, body: Bytes, meta: &Meta, expect: &Expect) -> ClientResult<UfsVersion>;

    /// Puts a whole object where there is none, looked at by nobody: [`Fault::Precondition`] if there is one, which a store
    /// that [`Limits::keeps_conditions`] finds out by itself.
    async fn put_new(&self, key: &str, body: Bytes, meta: &Meta) -> ClientResult<UfsVersion> {
        self.put(key, body, meta, &Expect::Absent).await
    }

    /// Finds out, by an object that was just put as new, whether the store keeps the conditions of puts, where that is not
    /// known. Yields the object's version, if that has changed it.
    async fn try_conditions(&self, key: &str, body: &Bytes, meta: &Meta) -> Option<UfsVersion> {
        let _ = (key, body, meta);
        None
    }

    /// Takes an object away; [`Fault::Missing`] where the store notices that it is gone.
    async fn delete(&self, key: &str, expect: &Expect) -> ClientResult<()>;

    async fn list(&self, query: ListQuery<'_>) -> ClientResult<KeyPage>;

    /// Begins a multipart upload and returns its name.
    async fn begin_parts(&self, key: &str, meta: &Meta) -> ClientResult<String>;

    /// Sends a part; `number` counts from 1.
    async fn put_part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> ClientResult<PartTag>;

    /// Copies a range of an object as a part.
    async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        from: (&str, &UfsVersion, std::ops::Range<u64>),
    ) -> ClientResult<PartTag>;

    /// Makes the object of its parts. [`Fault::Missing`] if the upload is no more.
    async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[PartTag],
        meta: &Meta,
        expect: &Expect,
    ) -> ClientResult<UfsVersion>;

    /// Takes a multipart upload and its parts away. Fine if it is no more.
    async fn abort_parts(&self, key: &str, upload: &str) -> ClientResult<()>;

    /// The names of the multipart uploads of a key that are neither completed nor taken away; none where the store drops
    /// what was not completed by itself.
    async fn uploads_of(&self, key: &str) -> ClientResult<Vec<String>> {
        let _ = key;
        Ok(Vec::new())
    }

    /// Copies an object of at most [`Limits::copy_len_max`] bytes, metadata included, if it is of this version.
    async fn copy(&self, from: (&str, &UfsVersion), to: &str, expect: &Expect) -> ClientResult<UfsVersion>;
}

/// A page with these keys and prefixes, for tests.
#[cfg(test)]
pub(super) fn page(objects: &[&str], prefixes: &[&str], more: bool) -> KeyPage {
    let object = || {
        let (put_at, version) = (TimeSpec::default(), UfsVersion::new(*b"v"));
        Object { size: 0, put_at, version, meta: Meta::default() }
    };
    KeyPage {
        objects: objects.iter().map(|key| ((*key).to_owned(), object())).collect(),
        prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
        next: more.then(|| "next".to_owned()),
    }
}
