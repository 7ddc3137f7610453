//! Stores that speak S3's XML over HTTP: S3 itself, those compatible with it, and Google Cloud Storage.
//!
//! Owns one request for each call of [`ObjectClient`] and reads its answer. The two dialects ([`dialect`])
//! differ in the names of headers and in what a version is: S3 compares entity tags, Google generations. Who
//! signs is the adapter's business ([`Sign`]). Requests follow the "Amazon S3 API Reference" (2006-03-01) and
//! the reference of the "Cloud Storage XML API".

mod conditions;
mod dialect;
mod documents;

use super::client::{ClientResult, KeyPage, Limits, ListQuery, Object, ObjectClient, PartTag};
use super::dom::Element;
use super::fault::Fault;
use super::keys::{url_path, url_value};
use super::meta::Meta;
use super::transport::{Answer, Call, Headers, Transport, header_time, malformed, range_header, ranged_len};
use crate::ufs::{ConditionalPut, Expect};
use async_trait::async_trait;
use bytes::Bytes;
use conditions::Conditions;
pub(super) use dialect::Dialect;
use forebay_types::UfsVersion;
use http::Method;
use object_store::client::HttpRequest;
use std::ops::Range;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Puts credentials on a request.
#[async_trait]
pub(super) trait Sign: std::fmt::Debug + Send + Sync + 'static {
    async fn sign(&self, request: &mut HttpRequest) -> ClientResult<()>;
}

/// Where a bucket is.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) name: String,
    /// Its URL, without a slash at its end.
    pub(super) url: String,
}

/// A bucket of a store that speaks XML.
#[derive(Debug)]
pub(super) struct XmlClient {
    dialect: Dialect,
    transport: Transport,
    signer: Box<dyn Sign>,
    bucket: Bucket,
    conditions: Conditions,
}

impl XmlClient {
    /// `kept`: whether the store is known to keep the conditions of a put; `None`: it is found out.
    pub(super) fn new(
        dialect: Dialect,
        transport: Transport,
        signer: Box<dyn Sign>,
        bucket: Bucket,
        kept: Option<bool>,
    ) -> Self {
        Self { dialect, transport, signer, bucket, conditions: Conditions::new(kept) }
    }

    fn url(&self, key: &str, query: &str) -> String {
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}/{}{mark}{query}", self.bucket.url, url_path(key))
    }

    /// The put of a whole object.
    fn whole(&self, key: &str, body: Bytes, meta: &Meta) -> Call {
        let call = Call::new(Method::PUT, self.url(key, ""), format!("put {key:?}"));
        call.headers(self.dialect.meta_headers(meta)).body(body)
    }

    fn part_url(&self, key: &str, upload: &str, number: u32) -> String {
        self.url(key, &format!("partNumber={number}&uploadId={}", url_value(upload)))
    }

    async fn send(&self, call: &Call) -> ClientResult<Answer> {
        let mut request = call.request()?;
        self.signer.sign(&mut request).await?;
        self.transport.send(request, &call.what).await
    }

    /// Sends a change under a condition. A store that does not implement conditions gets it without: whoever
    /// called has looked just before.
    async fn send_if(&self, call: Call, expect: &Expect) -> ClientResult<Answer> {
        let condition = self.dialect.expectation(expect);
        if condition.is_empty() || self.conditions.are_refused() {
            return self.send(&call).await;
        }
        match self.send(&call.clone().headers(condition)).await {
            Err(Fault::NotImplemented(story)) if !self.is_atomic() => {
                if self.conditions.refuse() {
                    tracing::warn!(story, "the store has no conditional puts: we look before we put");
                }
                self.send(&call).await
            }
            answered => answered,
        }
    }

    fn is_atomic(&self) -> bool {
        matches!(self.dialect, Dialect::S3 { atomic: true })
    }

    /// The version an answer showed, or, where it showed none, what a look at the object shows.
    async fn version_or_look(&self, key: &str, shown: Option<UfsVersion>) -> ClientResult<UfsVersion> {
        if let Some(version) = shown {
            return Ok(version);
        }
        let found = self.head(key).await?;
        found.map(|found| found.version).ok_or_else(|| Fault::Missing("after a put".into()))
    }

    /// The version that the document of an answer shows.
    async fn version_in_document(&self, answer: Answer, what: &str) -> ClientResult<Option<UfsVersion>> {
        let in_headers = match self.dialect {
            // The headers of a completed upload may show another tag than the object's.
            Dialect::S3 { .. } => None,
            Dialect::Gcs => self.dialect.version(&answer),
        };
        let root = late_answer(answer, what).await?.unwrap_or_default();
        Ok(in_headers.or_else(|| self.dialect.version_in(&root)))
    }

    /// After "no such range": the end of the file, if it still is the version asked for.
    async fn at_end(&self, key: &str, version: &UfsVersion) -> ClientResult<usize> {
        match self.head(key).await? {
            Some(found) if found.version == *version => Ok(0),
            Some(_) => Err(Fault::Precondition),
            None => Err(Fault::Missing(String::new())),
        }
    }

    fn copy_source(&self, from: (&str, &UfsVersion)) -> Headers {
        let source = format!("/{}/{}", self.bucket.name, url_path(from.0));
        vec![(self.dialect.header("copy-source"), source), self.dialect.source_version(from.1)]
    }
}

/// The document of an answer that took long. The store may find out that it failed after it has said "200 OK", to copies
/// and to the completion of an upload: then the document says so. `None` if it is no document.
async fn late_answer(answer: Answer, what: &str) -> ClientResult<Option<Element>> {
    let document = answer.text(what).await?;
    let root = Element::parse(&document);
    match root.as_ref().filter(|root| root.name() == "Error") {
        Some(error) => {
            let code = error.text("Code").unwrap_or_default();
            Err(Fault::of_answer(documents::status_of(code), Some(code), &document, what))
        }
        None => Ok(root),
    }
}

#[async_trait]
impl ObjectClient for XmlClient {
    fn limits(&self) -> Limits {
        let atomic = self.is_atomic();
        Limits {
            object_len_max: 5 * 1024 * GIB,
            part_len_min: 5 * MIB,
            page_len_max: 1000,
            copy_len_max: 5 * GIB,
            conditional_put: if atomic { ConditionalPut::Atomic } else { ConditionalPut::CheckedBefore },
            conditional_delete: atomic || self.dialect == Dialect::Gcs,
            listed_meta: false,
            keeps_conditions: self.conditions.are_kept(),
            lists_after: true,
            turned: None,
        }
    }

    async fn head(&self, key: &str) -> ClientResult<Option<Object>> {
        let call = Call::new(Method::HEAD, self.url(key, ""), format!("head {key:?}"));
        let answer = match self.send(&call).await {
            Err(Fault::Missing(_)) => return Ok(None),
            answered => answered?,
        };
        let size = answer.header("content-length").and_then(|len| len.parse().ok());
        let version = self.dialect.version(&answer);
        Ok(Some(Object {
            size: size.ok_or_else(|| malformed(&call.what, "no Content-Length"))?,
            put_at: header_time(answer.header("last-modified")),
            version: version.ok_or_else(|| malformed(&call.what, "no version"))?,
            meta: self.dialect.meta(&answer),
        }))
    }

    async fn get(&self, key: &str, version: &UfsVersion, offset: u64, buf: &mut [u8]) -> ClientResult<usize> {
        let call = Call::new(Method::GET, self.url(key, ""), format!("get {key:?}"))
            .headers(self.dialect.expectation(&Expect::Version(version.clone())))
            .header(range_header(offset, buf.len() as u64));
        let answer = match self.send(&call).await {
            Err(Fault::PastEnd) => return self.at_end(key, version).await,
            answered => answered?,
        };
        // A store that does not know the condition must not pass off another version.
        if self.dialect.version(&answer).is_some_and(|found| found != *version) {
            return Err(Fault::Precondition);
        }
        let len = ranged_len(&answer, offset, buf.len(), &call.what)?;
        answer.fill(&mut buf[..len], &call.what).await?;
        Ok(len)
    }

    async fn put(&self, key: &str, body: Bytes, meta: &Meta, expect: &Expect) -> ClientResult<UfsVersion> {
        let answer = self.send_if(self.whole(key, body, meta), expect).await?;
        self.version_or_look(key, self.dialect.version(&answer)).await
    }

    async fn put_new(&self, key: &str, body: Bytes, meta: &Meta) -> ClientResult<UfsVersion> {
        let call = self.whole(key, body, meta).headers(self.dialect.expectation(&Expect::Absent));
        match self.send(&call).await {
            Err(Fault::NotImplemented(story)) => {
                self.conditions.refuse();
                Err(Fault::NotImplemented(story))
            }
            answered => self.version_or_look(key, self.dialect.version(&answered?)).await,
        }
    }

    async fn try_conditions(&self, key: &str, body: &Bytes, meta: &Meta) -> Option<UfsVersion> {
        self.put_in_vain(key, body, meta).await
    }

    async fn delete(&self, key: &str, expect: &Expect) -> ClientResult<()> {
        let mut call = Call::new(Method::DELETE, self.url(key, ""), format!("delete {key:?}"));
        if self.limits().conditional_delete {
            call = call.headers(self.dialect.expectation(expect));
        }
        self.send(&call).await.map(drop)
    }

    async fn list(&self, query: ListQuery<'_>) -> ClientResult<KeyPage> {
        let mut url = format!("{}/?list-type=2&encoding-type=url&max-keys={}", self.bucket.url, query.max);
        url += &format!("&prefix={}", url_value(query.prefix));
        if query.fold {
            url += "&delimiter=%2F";
        }
        if let Some(token) = query.token {
            url += &format!("&continuation-token={}", url_value(token));
        }
        if let Some(after) = query.after {
            url += &format!("&start-after={}", url_value(after));
        }
        let call = Call::new(Method::GET, url, format!("list {:?}", query.prefix));
        let document = self.send(&call).await?.text(&call.what).await?;
        documents::page(self.dialect, &document, &call.what)
    }

    async fn begin_parts(&self, key: &str, meta: &Meta) -> ClientResult<String> {
        let call = Call::new(Method::POST, self.url(key, "uploads="), format!("begin upload of {key:?}"))
            .headers(self.dialect.meta_headers(meta));
        let document = Element::parse(&self.send(&call).await?.text(&call.what).await?);
        let upload = document.as_ref().and_then(|root| root.text("UploadId"));
        upload.map(str::to_owned).ok_or_else(|| malformed(&call.what, "no UploadId"))
    }

    async fn put_part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> ClientResult<PartTag> {
        let what = format!("put part {number} of {key:?}");
        let call = Call::new(Method::PUT, self.part_url(key, upload, number), what).body(body);
        let answer = self.send(&call).await?;
        answer.header("etag").map(str::to_owned).ok_or_else(|| malformed(&call.what, "no ETag"))
    }

    async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        from: (&str, &UfsVersion, Range<u64>),
    ) -> ClientResult<PartTag> {
        let range = format!("bytes={}-{}", from.2.start, from.2.end - 1);
        let what = format!("copy part {number} of {key:?}");
        let call = Call::new(Method::PUT, self.part_url(key, upload, number), what)
            .headers(self.copy_source((from.0, from.1)))
            .header((self.dialect.header("copy-source-range"), range));
        let document = late_answer(self.send(&call).await?, &call.what).await?;
        let tag = document.as_ref().and_then(|root| root.text("ETag"));
        tag.map(str::to_owned).ok_or_else(|| malformed(&call.what, "no ETag"))
    }

    async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[PartTag],
        _meta: &Meta,
        expect: &Expect,
    ) -> ClientResult<UfsVersion> {
        let what = format!("complete upload of {key:?}");
        let url = self.url(key, &format!("uploadId={}", url_value(upload)));
        let body = Bytes::from(documents::completion(parts));
        let answer = self.send_if(Call::new(Method::POST, url, what.clone()).body(body), expect).await?;
        let shown = self.version_in_document(answer, &what).await?;
        self.version_or_look(key, shown).await
    }

    async fn abort_parts(&self, key: &str, upload: &str) -> ClientResult<()> {
        let url = self.url(key, &format!("uploadId={}", url_value(upload)));
        let call = Call::new(Method::DELETE, url, format!("abort upload of {key:?}"));
        match self.send(&call).await {
            Ok(_) | Err(Fault::Missing(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn uploads_of(&self, key: &str) -> ClientResult<Vec<String>> {
        // Uploads come in the order of their keys, so those of this key are on the first page.
        let url = format!("{}/?uploads=&encoding-type=url&prefix={}", self.bucket.url, url_value(key));
        let call = Call::new(Method::GET, url, format!("list uploads of {key:?}"));
        let document = self.send(&call).await?.text(&call.what).await?;
        documents::uploads_of(key, &document, &call.what)
    }

    async fn copy(&self, from: (&str, &UfsVersion), to: &str, expect: &Expect) -> ClientResult<UfsVersion> {
        let what = format!("copy {:?} to {to:?}", from.0);
        let mut call = Call::new(Method::PUT, self.url(to, ""), what).headers(self.copy_source(from));
        if self.dialect == Dialect::Gcs {
            call = call.headers(self.dialect.expectation(expect));
        }
        let answer = self.send(&call).await?;
        let shown = self.version_in_document(answer, &call.what).await?;
        self.version_or_look(to, shown).await
    }
}

#[cfg(test)]
mod tests;
