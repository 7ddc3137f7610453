//! Requests to Azure Blob Storage and what their answers mean.
//!
//! Every object is a block blob. A multipart upload is a list of blocks that nobody sees until the list is
//! committed, under a condition, in one step; blocks that are not committed vanish by themselves after a week,
//! so an abort sends nothing. Committing one upload of a blob discards the blocks of others to the same blob,
//! whose commit then fails. Requests follow the "Blob service REST API", version 2023-11-03, which the
//! authorizer of `object_store` names.

use super::super::client::{ClientResult, KeyPage, Limits, ListQuery, Object, ObjectClient, PartTag};
use super::super::dom::Element;
use super::super::fault::Fault;
use super::super::keys::{url_path, url_value};
use super::super::meta::Meta;
use super::super::transport::{
    Answer, Call, Headers, Transport, etag_version, header_name, header_time, malformed, range_header,
    ranged_len,
};
use crate::error::UfsError;
use crate::ufs::{ConditionalPut, Expect};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::UfsVersion;
use http::Method;
use http::header::{CONTENT_LENGTH, IF_MATCH, IF_NONE_MATCH};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use std::ops::Range;
use std::time::Duration;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// How often a copy that the service makes in the background is looked at.
const COPY_LOOK: Duration = Duration::from_millis(500);

/// Where a container is.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) account: String,
    /// Its URL, without a slash at its end.
    pub(super) url: String,
}

/// A container of Azure Blob Storage.
pub(super) struct AzureClient {
    transport: Transport,
    /// `None`: requests go unsigned.
    credentials: Option<AzureCredentialProvider>,
    container: Container,
}

impl std::fmt::Debug for AzureClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AzureClient({})", self.container.url)
    }
}

/// The headers by which a call names what should be there.
fn expectation(expect: &Expect) -> Headers {
    match expect {
        Expect::Any => Vec::new(),
        Expect::Absent => vec![(IF_NONE_MATCH, "*".to_owned())],
        Expect::Version(version) => vec![(IF_MATCH, quoted(version))],
    }
}

fn quoted(version: &UfsVersion) -> String {
    format!("\"{}\"", String::from_utf8_lossy(version.as_bytes()))
}

/// The name of a piece of metadata here: no hyphens.
fn meta_name(name: &str) -> String {
    format!("x-ms-meta-{}", name.replace('-', "_"))
}

fn meta_headers(meta: &Meta) -> Headers {
    meta.pairs().into_iter().map(|(name, value)| (header_name(&meta_name(name)), value)).collect()
}

/// A body and its length, which the signature covers.
fn with_body(call: Call, body: Bytes) -> Call {
    call.header((CONTENT_LENGTH, body.len().to_string())).body(body)
}

/// The name of a block: all names of a blob's blocks must have one length, and be base64.
fn block_name(upload: &str, number: u32) -> String {
    // Letters and digits in multiples of four are their own base64.
    format!("{upload}{number:08}")
}

impl AzureClient {
    pub(super) fn new(
        transport: Transport,
        credentials: Option<AzureCredentialProvider>,
        container: Container,
    ) -> Self {
        Self { transport, credentials, container }
    }

    fn url(&self, key: &str, query: &str) -> String {
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}/{}{mark}{query}", self.container.url, url_path(key))
    }

    async fn send(&self, call: &Call) -> ClientResult<Answer> {
        let mut request = call.request()?;
        if let Some(provider) = &self.credentials {
            let credential = provider.get_credential().await.map_err(|error| no_credential(&error))?;
            let authorizer = AzureAuthorizer::new(&credential, &self.container.account);
            let signed = authorizer.try_authorize(&mut request);
            signed.map_err(|error| Fault::Ufs(UfsError::Io(format!("signing a request: {error}"))))?;
        }
        self.transport.send(request, &call.what).await
    }

    fn object(&self, answer: &Answer, what: &str) -> ClientResult<Object> {
        let size = answer.header("content-length").and_then(|len| len.parse().ok());
        Ok(Object {
            size: size.ok_or_else(|| malformed(what, "no Content-Length"))?,
            put_at: header_time(answer.header("last-modified")),
            version: version_of(answer, what)?,
            meta: Meta::parse(|name| answer.header(&meta_name(name))),
        })
    }

    /// After "no such range": the end of the blob, if it still is the version asked for.
    async fn at_end(&self, key: &str, version: &UfsVersion) -> ClientResult<usize> {
        match self.head(key).await? {
            Some(found) if found.version == *version => Ok(0),
            Some(_) => Err(Fault::Precondition),
            None => Err(Fault::Missing(String::new())),
        }
    }

    /// The URL of a copy's source, which needs the shared access signature where that is our credential.
    async fn source_url(&self, key: &str) -> ClientResult<String> {
        let plain = self.url(key, "");
        let Some(provider) = &self.credentials else { return Ok(plain) };
        let credential = provider.get_credential().await.map_err(|error| no_credential(&error))?;
        let AzureCredential::SASToken(pairs) = &*credential else { return Ok(plain) };
        let query: Vec<_> = pairs.iter().map(|(k, v)| format!("{}={}", url_value(k), url_value(v))).collect();
        Ok(format!("{plain}?{}", query.join("&")))
    }

    /// Waits for a copy that goes on in the background. The caller's deadline bounds it.
    async fn copied(&self, key: &str, what: &str) -> ClientResult<UfsVersion> {
        loop {
            tokio::time::sleep(COPY_LOOK).await;
            let call = Call::new(Method::HEAD, self.url(key, ""), what.to_owned());
            let answer = self.send(&call).await?;
            match answer.header("x-ms-copy-status") {
                Some("pending") => {}
                Some("success") => return version_of(&answer, what),
                _ => return Err(Fault::Ufs(UfsError::Unavailable(format!("{what}: the copy failed")))),
            }
        }
    }
}

fn no_credential(error: &object_store::Error) -> Fault {
    tracing::debug!(%error, "no credentials for Azure");
    let what = "no credentials could be obtained".to_owned();
    Fault::Ufs(UfsError::Denied { what, remedy: "check where they should come from".into() })
}

fn version_of(answer: &Answer, what: &str) -> ClientResult<UfsVersion> {
    answer.header("etag").map(etag_version).ok_or_else(|| malformed(what, "no ETag"))
}

/// A page of a listing from its document.
fn page(document: &str, what: &str) -> ClientResult<KeyPage> {
    let root = Element::parse(document).filter(|root| root.name() == "EnumerationResults");
    let root = root.ok_or_else(|| malformed(what, "not a listing"))?;
    let blobs = root.child("Blobs").ok_or_else(|| malformed(what, "a listing without blobs"))?;
    let mut page = KeyPage::default();
    for blob in blobs.all("Blob") {
        page.objects.push(listed(blob).ok_or_else(|| malformed(what, "a malformed blob"))?);
    }
    for folded in blobs.all("BlobPrefix") {
        page.prefixes.push(key_of(folded).ok_or_else(|| malformed(what, "a malformed prefix"))?);
    }
    page.next = root.text("NextMarker").filter(|marker| !marker.is_empty()).map(str::to_owned);
    Ok(page)
}

fn listed(blob: &Element) -> Option<(String, Object)> {
    let properties = blob.child("Properties")?;
    let object = Object {
        size: properties.text("Content-Length")?.parse().ok()?,
        put_at: header_time(properties.text("Last-Modified")),
        version: etag_version(properties.text("Etag")?),
        meta: Meta::parse(|name| blob.child("Metadata")?.text(&name.replace('-', "_"))),
    };
    Some((key_of(blob)?, object))
}

/// The name of a blob or prefix; escaped where XML could not hold it.
fn key_of(entry: &Element) -> Option<String> {
    let name = entry.child("Name")?;
    if name.attribute("Encoded") != Some("true") {
        return entry.text("Name").map(str::to_owned);
    }
    let decoded = percent_encoding::percent_decode_str(entry.text("Name")?).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// What a list of blocks is committed with.
fn block_list(parts: &[PartTag]) -> String {
    let blocks: String = parts.iter().map(|name| format!("<Latest>{name}</Latest>")).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>")
}

#[async_trait]
impl ObjectClient for AzureClient {
    fn limits(&self) -> Limits {
        Limits {
            // 50,000 blocks of 4,000 MiB; the ledger makes 9,000 at most.
            object_len_max: 9_000 * 4_000 * MIB,
            part_len_min: MIB,
            page_len_max: 5_000,
            copy_len_max: 1024 * 1024 * GIB,
            conditional_put: ConditionalPut::Atomic,
            conditional_delete: true,
            listed_meta: true,
            keeps_conditions: true,
            lists_after: false,
            // The service takes a backslash for a slash.
            turned: Some('\\'),
        }
    }

    async fn head(&self, key: &str) -> ClientResult<Option<Object>> {
        let call = Call::new(Method::HEAD, self.url(key, ""), format!("head {key:?}"));
        match self.send(&call).await {
            Ok(answer) => self.object(&answer, &call.what).map(Some),
            Err(Fault::Missing(code)) if code != "ContainerNotFound" => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn get(&self, key: &str, version: &UfsVersion, offset: u64, buf: &mut [u8]) -> ClientResult<usize> {
        let call = Call::new(Method::GET, self.url(key, ""), format!("get {key:?}"))
            .headers(expectation(&Expect::Version(version.clone())))
            .header(range_header(offset, buf.len() as u64));
        let answer = match self.send(&call).await {
            Err(Fault::PastEnd) => return self.at_end(key, version).await,
            answered => answered?,
        };
        if version_of(&answer, &call.what)? != *version {
            return Err(Fault::Precondition);
        }
        let len = ranged_len(&answer, offset, buf.len(), &call.what)?;
        answer.fill(&mut buf[..len], &call.what).await?;
        Ok(len)
    }

    async fn put(&self, key: &str, body: Bytes, meta: &Meta, expect: &Expect) -> ClientResult<UfsVersion> {
        let call = Call::new(Method::PUT, self.url(key, ""), format!("put {key:?}"))
            .header((header_name("x-ms-blob-type"), "BlockBlob".to_owned()))
            .headers(meta_headers(meta))
            .headers(expectation(expect));
        let call = with_body(call, body);
        version_of(&self.send(&call).await?, &call.what)
    }

    async fn delete(&self, key: &str, expect: &Expect) -> ClientResult<()> {
        let call = Call::new(Method::DELETE, self.url(key, ""), format!("delete {key:?}"))
            .headers(expectation(expect));
        self.send(&call).await.map(drop)
    }

    async fn list(&self, query: ListQuery<'_>) -> ClientResult<KeyPage> {
        let mut url = format!(
            "{}?restype=container&comp=list&include=metadata&maxresults={}",
            self.container.url, query.max
        );
        url += &format!("&prefix={}", url_value(query.prefix));
        if query.fold {
            url += "&delimiter=%2F";
        }
        if let Some(marker) = query.token {
            url += &format!("&marker={}", url_value(marker));
        }
        let call = Call::new(Method::GET, url, format!("list {:?}", query.prefix));
        let document = self.send(&call).await?.text(&call.what).await?;
        page(&document, &call.what)
    }

    async fn begin_parts(&self, _key: &str, _meta: &Meta) -> ClientResult<String> {
        // Blocks need no beginning; a name of their own keeps those of two uploads apart.
        Ok(format!("{:016x}", rand::random::<u64>()))
    }

    async fn put_part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> ClientResult<PartTag> {
        let name = block_name(upload, number);
        let url = self.url(key, &format!("comp=block&blockid={}", url_value(&name)));
        let call = Call::new(Method::PUT, url, format!("put part {number} of {key:?}"));
        self.send(&with_body(call, body)).await?;
        Ok(name)
    }

    async fn copy_part(
        &self,
        key: &str,
        _upload: &str,
        _number: u32,
        _from: (&str, &UfsVersion, Range<u64>),
    ) -> ClientResult<PartTag> {
        // One request copies whatever a blob can hold.
        Err(Fault::NotImplemented(format!("copy parts of {key:?}")))
    }

    async fn complete(
        &self,
        key: &str,
        _upload: &str,
        parts: &[PartTag],
        meta: &Meta,
        expect: &Expect,
    ) -> ClientResult<UfsVersion> {
        let what = format!("complete upload of {key:?}");
        let call = Call::new(Method::PUT, self.url(key, "comp=blocklist"), what)
            .headers(meta_headers(meta))
            .headers(expectation(expect));
        let call = with_body(call, Bytes::from(block_list(parts)));
        version_of(&self.send(&call).await?, &call.what)
    }

    async fn abort_parts(&self, _key: &str, _upload: &str) -> ClientResult<()> {
        Ok(())
    }

    async fn copy(&self, from: (&str, &UfsVersion), to: &str, expect: &Expect) -> ClientResult<UfsVersion> {
        let call = Call::new(Method::PUT, self.url(to, ""), format!("copy {:?} to {to:?}", from.0))
            .header((header_name("x-ms-copy-source"), self.source_url(from.0).await?))
            .header((header_name("x-ms-source-if-match"), quoted(from.1)))
            .headers(expectation(expect));
        let call = with_body(call, Bytes::new());
        let answer = self.send(&call).await?;
        match answer.header("x-ms-copy-status") {
            Some("pending") => self.copied(to, &call.what).await,
            _ => version_of(&answer, &call.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn block_names_have_one_length() {
        let names = [block_name("0123456789abcdef", 1), block_name("0123456789abcdef", 9_000)];
        assert!(names.iter().all(|name| name.len() == 24 && name.bytes().all(|b| b.is_ascii_alphanumeric())));
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn escaped_names_are_decoded() {
        let document = "<EnumerationResults><Blobs><BlobPrefix><Name Encoded=\"true\">a%07/</Name></BlobPrefix>\
                        <BlobPrefix><Name> b%07/</Name></BlobPrefix></Blobs><NextMarker/></EnumerationResults>";
        let page = page(document, "list").unwrap();
        assert_eq!((&*page.prefixes, page.next), (&["a\u{7}/".to_owned(), " b%07/".to_owned()][..], None));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(garbage in "(<EnumerationResults>|<Blobs>|<Blob>|</Blob>|<Name>|</Name>|.){0,30}") {
            let _ = page(&garbage, "list");
        }
    }
}
