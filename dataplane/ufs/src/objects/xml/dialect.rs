//! What differs between S3 and Google Cloud Storage: the names of headers, and what a version is.

use super::super::dom::Element;
use super::super::meta::Meta;
use super::super::transport::{Answer, Headers, etag_version, header_name};
use crate::ufs::Expect;
use forebay_types::UfsVersion;
use http::HeaderName;
use http::header::{IF_MATCH, IF_NONE_MATCH};

/// A way of speaking S3's XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(all(feature = "s3", feature = "gcs")), allow(dead_code, reason = "one dialect is not built"))]
pub(in crate::objects) enum Dialect {
    S3 {
        /// Whether the store is known to compare and replace in one step.
        atomic: bool,
    },
    Gcs,
}

impl Dialect {
    fn prefix(self) -> &'static str {
        match self {
            Self::S3 { .. } => "x-amz",
            Self::Gcs => "x-goog",
        }
    }

    pub(super) fn header(self, name: &str) -> HeaderName {
        header_name(&format!("{}-{name}", self.prefix()))
    }

    /// The headers by which a call names what should be there.
    pub(super) fn expectation(self, expect: &Expect) -> Headers {
        match (self, expect) {
            (_, Expect::Any) => Vec::new(),
            (Self::S3 { .. }, Expect::Absent) => vec![(IF_NONE_MATCH, "*".to_owned())],
            (Self::S3 { .. }, Expect::Version(version)) => vec![(IF_MATCH, quoted(version))],
            (Self::Gcs, Expect::Absent) => vec![(self.header("if-generation-match"), "0".to_owned())],
            (Self::Gcs, Expect::Version(version)) => {
                vec![(self.header("if-generation-match"), text_of(version))]
            }
        }
    }

    /// The header by which a copy names the version of its source.
    pub(super) fn source_version(self, version: &UfsVersion) -> (HeaderName, String) {
        match self {
            Self::S3 { .. } => (self.header("copy-source-if-match"), quoted(version)),
            Self::Gcs => (self.header("copy-source-if-generation-match"), text_of(version)),
        }
    }

    /// The version that the headers of an answer show.
    pub(super) fn version(self, answer: &Answer) -> Option<UfsVersion> {
        match self {
            Self::S3 { .. } => answer.header("etag").map(etag_version),
            Self::Gcs => answer.header("x-goog-generation").map(UfsVersion::new),
        }
    }

    /// The version that an element of an answer shows: an entry of a listing, the result of a copy.
    pub(super) fn version_in(self, element: &Element) -> Option<UfsVersion> {
        match self {
            Self::S3 { .. } => element.text("ETag").map(etag_version),
            Self::Gcs => element.text("Generation").map(UfsVersion::new),
        }
    }

    pub(super) fn meta_headers(self, meta: &Meta) -> Headers {
        let name = |name| self.header(&format!("meta-{name}"));
        meta.pairs().into_iter().map(|(key, value)| (name(key), value)).collect()
    }

    /// The user metadata that an answer shows.
    pub(super) fn meta(self, answer: &Answer) -> Meta {
        Meta::parse(|name| answer.header(&format!("{}-meta-{name}", self.prefix())))
    }
}

fn text_of(version: &UfsVersion) -> String {
    String::from_utf8_lossy(version.as_bytes()).into_owned()
}

fn quoted(version: &UfsVersion) -> String {
    format!("\"{}\"", text_of(version))
}
