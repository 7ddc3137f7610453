//! Objects without attributes of ours: what a listing tells is all there is to know of one.
//!
//! **Owns** the layer between the tree and a store's client where a mount says `attributes=none`. It sends no mode, owner,
//! time or target of a link with an object, and shows none that others sent. **Never does** take `forebay-put` away, by
//! which an upload knows its own work again.
//!
//! **Why this shape:** user metadata is told by a request for each object. Buckets of data sets have none, and millions of
//! objects; where nobody wants any, a listing alone has to give the same as that request would.

use super::client::{ClientResult, KeyPage, Limits, ListQuery, Object, ObjectClient, PartTag};
use super::meta::Meta;
use crate::ufs::Expect;
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::{TimeSpec, UfsVersion};
use std::ops::Range;
use std::sync::Arc;

/// A store whose objects have no attributes of ours.
#[derive(Debug)]
pub(super) struct BareObjects(pub(super) Arc<dyn ObjectClient>);

/// What is left of an object's metadata.
fn bare_meta(meta: &Meta) -> Meta {
    Meta { put: meta.put.clone(), ..Meta::default() }
}

/// A listing may tell the time of a put more exactly than a look at the object does.
fn bare_object(object: Object) -> Object {
    let put_at = TimeSpec { nanos: 0, ..object.put_at };
    Object { put_at, meta: bare_meta(&object.meta), ..object }
}

#[async_trait]
impl ObjectClient for BareObjects {
    fn limits(&self) -> Limits {
        Limits { listed_meta: true, ..self.0.limits() }
    }

    async fn head(&self, key: &str) -> ClientResult<Option<Object>> {
        Ok(self.0.head(key).await?.map(bare_object))
    }

    async fn get(&self, key: &str, version: &UfsVersion, offset: u64, buf: &mut [u8]) -> ClientResult<usize> {
        self.0.get(key, version, offset, buf).await
    }

    async fn put(&self, key: &str, body: Bytes, meta: &Meta, expect: &Expect) -> ClientResult<UfsVersion> {
        self.0.put(key, body, &bare_meta(meta), expect).await
    }

    async fn put_new(&self, key: &str, body: Bytes, meta: &Meta) -> ClientResult<UfsVersion> {
        self.0.put_new(key, body, &bare_meta(meta)).await
    }

    async fn try_conditions(&self, key: &str, body: &Bytes, meta: &Meta) -> Option<UfsVersion> {
        self.0.try_conditions(key, body, &bare_meta(meta)).await
    }

    async fn delete(&self, key: &str, expect: &Expect) -> ClientResult<()> {
        self.0.delete(key, expect).await
    }

    async fn list(&self, query: ListQuery<'_>) -> ClientResult<KeyPage> {
        let page = self.0.list(query).await?;
        let objects = page.objects.into_iter().map(|(key, object)| (key, bare_object(object)));
        Ok(KeyPage { objects: objects.collect(), ..page })
    }

    async fn begin_parts(&self, key: &str, meta: &Meta) -> ClientResult<String> {
        self.0.begin_parts(key, &bare_meta(meta)).await
    }

    async fn put_part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> ClientResult<PartTag> {
        self.0.put_part(key, upload, number, body).await
    }

    async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        from: (&str, &UfsVersion, Range<u64>),
    ) -> ClientResult<PartTag> {
        self.0.copy_part(key, upload, number, from).await
    }

    async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[PartTag],
        meta: &Meta,
        expect: &Expect,
    ) -> ClientResult<UfsVersion> {
        self.0.complete(key, upload, parts, &bare_meta(meta), expect).await
    }

    async fn abort_parts(&self, key: &str, upload: &str) -> ClientResult<()> {
        self.0.abort_parts(key, upload).await
    }

    async fn uploads_of(&self, key: &str) -> ClientResult<Vec<String>> {
        self.0.uploads_of(key).await
    }

    async fn copy(&self, from: (&str, &UfsVersion), to: &str, expect: &Expect) -> ClientResult<UfsVersion> {
        self.0.copy(from, to, expect).await
    }
}
