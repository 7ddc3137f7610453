//! What an object store's failure means.
//!
//! Owns the one place where status codes and error codes are known. Only the store's error code is ever shown
//! of a refusal: the texts that come with it quote signatures and key ids.

use super::dom::Element;
use crate::error::{OpenError, UfsError};
use crate::ufs::Expect;
use forebay_types::UfsKey;
use http::StatusCode;
use object_store::client::{HttpError, HttpErrorKind};

/// How a call to a store of keys failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no such object, upload or bucket; the store's code says which.
    Missing(String),
    /// What is there is not what the call named.
    Precondition,
    /// The range asked for lies past the object's end.
    PastEnd,
    /// The store does not do what a header asked for.
    NotImplemented(String),
    /// The bucket is in this region.
    WrongRegion(String),
    /// All else.
    Ufs(UfsError),
}

impl Fault {
    /// The failure of a call about `key` that expected `expect`.
    pub(crate) fn about(self, key: &UfsKey, expect: &Expect) -> UfsError {
        match self {
            Self::Missing(_) => UfsError::NotFound(key.clone()),
            Self::Precondition if *expect == Expect::Absent => UfsError::Exists(key.clone()),
            Self::Precondition => UfsError::Changed(key.clone()),
            Self::PastEnd => UfsError::Io(format!("{key}: the store refuses the range")),
            Self::NotImplemented(what) => UfsError::Io(format!("{what}: the store does not implement it")),
            Self::WrongRegion(region) => UfsError::Io(format!("{key}: the bucket is in the region {region}")),
            Self::Ufs(error) => error,
        }
    }

    /// The failure of a call about `key` that expected nothing.
    pub(crate) fn at(self, key: &UfsKey) -> UfsError {
        self.about(key, &Expect::Any)
    }

    /// What failed before any answer came. The texts of the transport name no URL.
    pub(crate) fn of_transport(error: &HttpError, what: &str) -> Self {
        let story = format!("{what}: {}", innermost(error));
        Self::Ufs(match error.kind() {
            HttpErrorKind::Timeout => UfsError::Timeout(story),
            HttpErrorKind::Decode => UfsError::Io(story),
            _ => UfsError::Unavailable(story),
        })
    }

    /// An answer that says no.
    pub(crate) fn of_answer(status: StatusCode, code: Option<&str>, body: &str, what: &str) -> Self {
        let parsed = Element::parse(body);
        let error = parsed.as_ref().map(|root| root.child("Error").unwrap_or(root));
        let code = code.or(error.and_then(|error| error.text("Code"))).unwrap_or("").to_owned();
        if let Some(region) =
            error.and_then(|error| error.text("Region")).filter(|_| is_elsewhere(status, &code))
        {
            return Self::WrongRegion(region.to_owned());
        }
        Self::of_code(status, &code, what)
    }

    fn of_code(status: StatusCode, code: &str, what: &str) -> Self {
        let story = format!("{what}: {} {code}", status.as_u16());
        match (status.as_u16(), code) {
            (_, "KeyTooLongError" | "InvalidURI" | "InvalidResourceName") => {
                Self::Ufs(UfsError::Unpersistable(story))
            }
            (_, "EntityTooLarge" | "RequestBodyTooLarge") | (413, _) => Self::Ufs(UfsError::TooLarge(story)),
            (_, "QuotaExceeded" | "InsufficientStorage") | (507, _) => Self::Ufs(UfsError::NoSpace(story)),
            (_, "RequestTimeout" | "OperationTimedOut") | (408, _) => Self::Ufs(UfsError::Timeout(story)),
            (_, "SlowDown" | "ServerBusy" | "TooManyRequests") | (429 | 503, _) => {
                Self::Ufs(UfsError::Throttled(story))
            }
            (416, _) => Self::PastEnd,
            (404, _) => Self::Missing(code.to_owned()),
            (_, "BlobAlreadyExists") | (304 | 412, _) => Self::Precondition,
            // Two conditional writes met; the store asks for another try.
            (409, _) => Self::Ufs(UfsError::Unavailable(story)),
            (401 | 403, _) => Self::Ufs(denied(story, code)),
            (501, _) | (_, "NotImplemented") => Self::NotImplemented(story),
            (500..=599, _) => Self::Ufs(UfsError::Unavailable(story)),
            _ => Self::Ufs(UfsError::Io(story)),
        }
    }

    /// Why a store cannot be opened. `credentials` says where they are looked for.
    pub(crate) fn on_open(self, url: &str, container: &'static str, credentials: &str) -> OpenError {
        let url = url.to_owned();
        match self {
            Self::Missing(_) => OpenError::NotFound {
                url,
                what: container,
                remedy: "create it, or check its name, region and endpoint".into(),
            },
            Self::WrongRegion(region) => OpenError::Option {
                url,
                option: "region".into(),
                reason: format!("the bucket is in {region}: set region={region}"),
            },
            Self::Ufs(UfsError::Denied { what, remedy }) => {
                OpenError::Denied { url, reason: what, remedy: format!("{remedy}; {credentials}") }
            }
            Self::Ufs(UfsError::Io(reason)) => OpenError::Unreachable {
                url,
                reason,
                remedy: "check that the endpoint is a store of this kind".into(),
            },
            other => OpenError::Unreachable {
                url,
                reason: other.at(&UfsKey::root()).to_string(),
                remedy: "check the endpoint, the network and any proxy".into(),
            },
        }
    }
}

fn is_elsewhere(status: StatusCode, code: &str) -> bool {
    status == StatusCode::MOVED_PERMANENTLY || code == "AuthorizationHeaderMalformed"
}

fn denied(what: String, code: &str) -> UfsError {
    let remedy = match code {
        "RequestTimeTooSkewed" => "set this machine's clock",
        "ExpiredToken" | "TokenRefreshRequired" => "renew the session's credentials",
        "InvalidAccessKeyId" => "the access key is not known to the store: check it",
        "SignatureDoesNotMatch" | "AuthenticationFailed" => "the secret key is wrong: check it",
        _ => "check the credentials and what they permit on this bucket and prefix",
    };
    UfsError::Denied { what, remedy: remedy.into() }
}

/// The cause at the end of the chain: what went wrong on the wire.
fn innermost(error: &HttpError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UfsErrorKind;

    fn kind_of(status: u16, body: &str) -> UfsErrorKind {
        let status = StatusCode::from_u16(status).unwrap();
        Fault::of_answer(status, None, body, "put a").at(&UfsKey::root()).kind()
    }

    #[test]
    fn answers_have_meanings() {
        let code = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        assert_eq!(kind_of(404, &code("NoSuchKey")), UfsErrorKind::NotFound);
        assert_eq!(kind_of(503, &code("SlowDown")), UfsErrorKind::Throttled);
        assert_eq!(kind_of(500, "not XML at all"), UfsErrorKind::Unavailable);
        assert_eq!(kind_of(400, &code("RequestTimeout")), UfsErrorKind::Timeout);
        assert_eq!(kind_of(400, &code("KeyTooLongError")), UfsErrorKind::Unpersistable);
        assert_eq!(kind_of(403, ""), UfsErrorKind::Denied);
        assert_eq!(kind_of(412, ""), UfsErrorKind::Changed);
        assert_eq!(kind_of(200, &code("InternalError")), UfsErrorKind::Io);
    }

    #[test]
    fn a_refusal_quotes_no_signature() {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>wrong sig hunter2</Message>\
                    <StringToSign>hunter2</StringToSign></Error>";
        let fault = Fault::of_answer(StatusCode::FORBIDDEN, None, body, "list");
        let shown = format!("{fault:?} {}", fault.clone().on_open("s3://b", "bucket", "see the manual"));
        assert!(!shown.contains("hunter2") && shown.contains("secret key is wrong"), "{shown}");
    }

    #[test]
    fn a_bucket_elsewhere_says_where() {
        let body = "<Error><Code>PermanentRedirect</Code><Region>eu-west-1</Region></Error>";
        let fault = Fault::of_answer(StatusCode::MOVED_PERMANENTLY, None, body, "list");
        assert!(fault.on_open("s3://b", "bucket", "").to_string().contains("set region=eu-west-1"));
    }
}
