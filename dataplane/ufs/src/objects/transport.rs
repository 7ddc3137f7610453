//! Requests and answers over HTTP: one place that sends, bounds and reads.

use super::client::ClientResult;
use super::fault::Fault;
use crate::error::{OpenError, UfsError};
use crate::options::UfsOptions;
use bytes::Bytes;
use forebay_types::{TimeSpec, UfsVersion};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, ReqwestConnector,
};
use std::time::Duration;
use tokio::time::timeout;

/// No answer but content is longer; a listing of 5,000 keys of 1,024 characters, each escaped, is below it.
const ANSWER_LEN_MAX: usize = 32 << 20;
/// How long a question may go without an answer, and an answer without a further byte. Well below the time that a
/// whole call has: a connection that went silent is given up while there is time for another.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The options of the HTTP client that a mount's options call for. Deadlines are the layers' business.
pub(crate) fn client_options(options: &UfsOptions, plain_http: bool) -> ClientOptions {
    let agent = concat!("forebay/", env!("CARGO_PKG_VERSION"));
    ClientOptions::new()
        .with_user_agent(HeaderValue::from_static(agent))
        .with_allow_http(plain_http)
        .with_timeout_disabled()
        .with_connect_timeout(options.connect_timeout)
        .with_pool_max_idle_per_host(options.concurrency)
}

/// An HTTP client.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    http: HttpClient,
}

/// An answer that says yes.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: HttpResponseBody,
}

impl Transport {
    pub(crate) fn new(url: &str, options: &ClientOptions) -> Result<Self, OpenError> {
        let http = ReqwestConnector::default().connect(options).map_err(|error| OpenError::Option {
            url: url.to_owned(),
            option: "the HTTP client".into(),
            reason: error.to_string(),
        })?;
        Ok(Self { http })
    }

    /// Sends a request; an answer with an error status is a [`Fault`]. `what` is for people.
    pub(crate) async fn send(&self, request: HttpRequest, what: &str) -> ClientResult<Answer> {
        // What is put may take long to take in, so only questions have to be answered soon.
        let is_question = matches!(*request.method(), Method::GET | Method::HEAD);
        let answer = self.http.execute(request);
        let answered = if is_question { in_time(answer, what).await? } else { answer.await };
        let (parts, body) =
            answered.map_err(|error| Fault::of_transport(&error, what)).map(HttpResponse::into_parts)?;
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        if parts.status.is_success() {
            return Ok(answer);
        }
        Err(answer.refusal(what).await)
    }
}

/// Gives a silent connection up.
async fn in_time<T>(bytes: impl Future<Output = T>, what: &str) -> ClientResult<T> {
    let silent = |_| Fault::Ufs(UfsError::Timeout(format!("{what}: no byte within {SILENCE_MAX:?}")));
    timeout(SILENCE_MAX, bytes).await.map_err(silent)
}

impl Answer {
    async fn refusal(self, what: &str) -> Fault {
        let status = self.status;
        let region = self.header("x-amz-bucket-region").map(str::to_owned);
        let code = self.header("x-ms-error-code").map(str::to_owned);
        // The status alone says enough when the body does not come.
        let body = self.text(what).await.unwrap_or_default();
        match region {
            Some(region) if status == StatusCode::MOVED_PERMANENTLY => Fault::WrongRegion(region),
            _ => Fault::of_answer(status, code.as_deref(), &body, what),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body as text.
    pub(crate) async fn text(self, what: &str) -> ClientResult<String> {
        let mut text = Vec::new();
        let mut chunks = self.body.bytes_stream();
        while let Some(chunk) = in_time(chunks.next(), what).await? {
            let chunk = chunk.map_err(|error| Fault::of_transport(&error, what))?;
            if text.len() + chunk.len() > ANSWER_LEN_MAX {
                return Err(malformed(what, "the answer is too long"));
            }
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).map_err(|_| malformed(what, "the answer is not UTF-8"))
    }

    /// Copies the body into `buf`, which must be just as long.
    pub(crate) async fn fill(self, buf: &mut [u8], what: &str) -> ClientResult<()> {
        let mut filled = 0;
        let mut chunks = self.body.bytes_stream();
        while let Some(chunk) = in_time(chunks.next(), what).await? {
            let chunk = chunk.map_err(|error| Fault::of_transport(&error, what))?;
            let Some(room) = buf.get_mut(filled..filled + chunk.len()) else {
                return Err(malformed(what, "more bytes came than were asked for"));
            };
            room.copy_from_slice(&chunk);
            filled += chunk.len();
        }
        if filled == buf.len() {
            return Ok(());
        }
        let story = format!("{what}: the answer ended after {filled} of {} bytes", buf.len());
        Err(Fault::Ufs(UfsError::Unavailable(story)))
    }
}

/// An answer that the store's protocol does not allow.
pub(crate) fn malformed(what: &str, why: &str) -> Fault {
    Fault::Ufs(UfsError::Io(format!("{what}: {why}")))
}

pub(crate) type Headers = Vec<(HeaderName, String)>;

/// A request before it is signed. Values of headers are ASCII by construction: keys go into the URL, metadata
/// is escaped.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    url: String,
    headers: Headers,
    body: Bytes,
    /// What is attempted on what, for people.
    pub(crate) what: String,
}

impl Call {
    pub(crate) fn new(method: Method, url: String, what: String) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new(), what }
    }

    pub(crate) fn header(mut self, header: (HeaderName, String)) -> Self {
        self.headers.push(header);
        self
    }

    pub(crate) fn headers(mut self, headers: Headers) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn request(&self) -> ClientResult<HttpRequest> {
        let mut builder = http::Request::builder().method(self.method.clone()).uri(&self.url);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(HttpRequestBody::from(self.body.clone()));
        request.map_err(|_| malformed(&self.what, "the request cannot be built"))
    }
}

/// A header's name from parts that are known when Forebay is compiled.
pub(crate) fn header_name(name: &str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).expect("the names of headers are written in this crate")
}

/// The `Range` of `len` bytes from `offset`; `len` is not 0.
pub(crate) fn range_header(offset: u64, len: u64) -> (HeaderName, String) {
    (http::header::RANGE, format!("bytes={offset}-{}", offset.saturating_add(len - 1)))
}

/// How many bytes of a ranged answer belong into a buffer of `wanted` bytes that starts at `offset`.
pub(crate) fn ranged_len(answer: &Answer, offset: u64, wanted: usize, what: &str) -> ClientResult<usize> {
    if answer.status != StatusCode::PARTIAL_CONTENT {
        return Err(malformed(what, "the store ignores ranges"));
    }
    // Azurite answers a range past the end with none of it, where others refuse it.
    if answer.header("content-length") == Some("0") {
        return Ok(0);
    }
    let (first, last, total) = answer
        .header("content-range")
        .and_then(parse_content_range)
        .ok_or_else(|| malformed(what, "no Content-Range"))?;
    let len = (last - first).saturating_add(1);
    if first != offset || len > wanted as u64 {
        return Err(malformed(what, "another range than asked for"));
    }
    if len < wanted as u64 && total.is_some_and(|total| last.saturating_add(1) < total) {
        let story = format!("{what}: {len} of {wanted} bytes, and the file goes on");
        return Err(Fault::Ufs(UfsError::Unavailable(story)));
    }
    Ok(len as usize)
}

/// First and last offset of `bytes 0-499/1234`, and the length of the whole where it is told.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (first, rest) = value.strip_prefix("bytes ")?.split_once('-')?;
    let (last, total) = rest.split_once('/')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last, total.parse().ok()))
}

/// The version that an `ETag` stands for.
pub(crate) fn etag_version(etag: &str) -> UfsVersion {
    UfsVersion::new(etag.trim_matches('"'))
}

/// The time of an HTTP header: `Wed, 21 Oct 2015 07:28:00 GMT`. 1970 where it is none.
pub(crate) fn header_time(value: Option<&str>) -> TimeSpec {
    let parsed = value.and_then(|text| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok());
    parsed.map(time_spec).unwrap_or_default()
}

/// The time of a listing: `2015-10-21T07:28:00.000Z`. 1970 where it is none.
#[cfg(any(feature = "s3", feature = "gcs"))]
pub(crate) fn listed_time(value: Option<&str>) -> TimeSpec {
    let parsed = value.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map(time_spec).unwrap_or_default()
}

fn time_spec(time: jiff::Timestamp) -> TimeSpec {
    let nanos = time.as_nanosecond();
    let (secs, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    TimeSpec { secs: secs as i64, nanos: nanos as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[cfg(any(feature = "s3", feature = "gcs"))]
    #[test]
    fn times_of_headers_and_listings_agree() {
        let expected = TimeSpec { secs: 1_445_412_480, nanos: 0 };
        assert_eq!(header_time(Some("Wed, 21 Oct 2015 07:28:00 GMT")), expected);
        assert_eq!(listed_time(Some("2015-10-21T07:28:00.000Z")), expected);
        assert_eq!(header_time(Some("yesterday")), TimeSpec::default());
    }

    proptest! {
        #[test]
        fn content_ranges_are_ordered_or_refused(text in "(bytes )?[0-9]{0,20}-?[0-9]{0,20}/?[0-9*]{0,3}") {
            if let Some((first, last, _)) = parse_content_range(&text) {
                prop_assert!(first <= last);
            }
        }
    }
}
