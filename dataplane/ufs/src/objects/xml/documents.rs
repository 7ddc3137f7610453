//! The XML documents that come and go.

use super::super::client::{ClientResult, KeyPage, Object, PartTag};
use super::super::dom::{Element, escape};
use super::super::meta::Meta;
use super::super::transport::{listed_time, malformed};
use super::Dialect;
use http::StatusCode;
use std::fmt::Write;

/// A page of a listing from its document.
pub(super) fn page(dialect: Dialect, document: &str, what: &str) -> ClientResult<KeyPage> {
    let root = Element::parse(document).filter(|root| root.name() == "ListBucketResult");
    let root = root.ok_or_else(|| malformed(what, "not a listing"))?;
    let encoded = root.text("EncodingType") == Some("url");
    let mut page = KeyPage::default();
    for entry in root.all("Contents") {
        let listed = listed(dialect, entry, encoded).ok_or_else(|| malformed(what, "a malformed entry"))?;
        page.objects.push(listed);
    }
    for folded in root.all("CommonPrefixes") {
        let prefix = folded.text("Prefix").and_then(|prefix| decode_key(prefix, encoded));
        page.prefixes.push(prefix.ok_or_else(|| malformed(what, "a malformed prefix"))?);
    }
    if root.text("IsTruncated") == Some("true") {
        let next = root.text("NextContinuationToken").map(str::to_owned);
        page.next = Some(next.ok_or_else(|| malformed(what, "a listing that stops without a token"))?);
    }
    Ok(page)
}

fn listed(dialect: Dialect, entry: &Element, encoded: bool) -> Option<(String, Object)> {
    let object = Object {
        size: entry.text("Size")?.parse().ok()?,
        put_at: listed_time(entry.text("LastModified")),
        version: dialect.version_in(entry)?,
        meta: Meta::default(),
    };
    Some((decode_key(entry.text("Key")?, encoded)?, object))
}

/// A key of a listing. In a listing that says `url`, a plus sign stands for a space.
fn decode_key(text: &str, encoded: bool) -> Option<String> {
    if !encoded {
        return Some(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// The names of the uploads of just this key from a listing of uploads.
pub(super) fn uploads_of(key: &str, document: &str, what: &str) -> ClientResult<Vec<String>> {
    let root = Element::parse(document).filter(|root| root.name() == "ListMultipartUploadsResult");
    let root = root.ok_or_else(|| malformed(what, "not a listing of uploads"))?;
    let encoded = root.text("EncodingType") == Some("url");
    let of_key = |upload: &&Element| {
        let listed = upload.text("Key");
        // Not every store encodes what it says it does.
        listed == Some(key) || listed.and_then(|listed| decode_key(listed, encoded)).as_deref() == Some(key)
    };
    let names = root.all("Upload").filter(of_key).filter_map(|upload| upload.text("UploadId"));
    Ok(names.map(str::to_owned).collect())
}

/// The status that an answer with this code has where the store knows before it answers. What is not known here went
/// wrong inside of it, and may pass.
pub(super) fn status_of(code: &str) -> StatusCode {
    match code {
        "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
        "ConditionalRequestConflict" | "OperationAborted" => StatusCode::CONFLICT,
        "NoSuchKey" | "NoSuchUpload" | "NoSuchBucket" | "NoSuchVersion" => StatusCode::NOT_FOUND,
        "AccessDenied" | "ExpiredToken" | "InvalidAccessKeyId" => StatusCode::FORBIDDEN,
        "InvalidPart" | "InvalidPartOrder" | "InvalidRequest" | "InvalidArgument" | "EntityTooSmall"
        | "EntityTooLarge" => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a multipart upload is completed with.
pub(super) fn completion(parts: &[PartTag]) -> String {
    let mut document = String::from("<CompleteMultipartUpload>");
    for (number, tag) in (1..).zip(parts) {
        let tag = escape(tag);
        // Writing to a String cannot fail.
        let _ = write!(document, "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
    }
    document + "</CompleteMultipartUpload>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S3: Dialect = Dialect::S3 { atomic: true };

    #[test]
    fn listed_keys_are_decoded_only_when_encoded() {
        assert_eq!(decode_key("a+b%2Bc%25", true).unwrap(), "a b+c%");
        assert_eq!(decode_key("a+b%2B", false).unwrap(), "a+b%2B");
        assert_eq!(decode_key("%ff", true), None);
    }

    #[test]
    fn completions_name_parts_in_order() {
        let root = Element::parse(&completion(&["\"a\"".into(), "\"b\"".into()])).unwrap();
        let part = |part: &Element| format!("{:?}{:?}", part.text("PartNumber"), part.text("ETag"));
        let parts: Vec<_> = root.all("Part").map(part).collect();
        assert_eq!(parts, [r#"Some("1")Some("\"a\"")"#, r#"Some("2")Some("\"b\"")"#]);
    }

    /// A listing that cannot be read whole is an error, never a short page.
    #[test]
    fn a_truncated_listing_is_no_listing() {
        let whole = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>1</Size>\
                     <ETag>x</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>";
        assert_eq!(page(S3, whole, "list").unwrap().objects.len(), 1);
        for end in 1..whole.len() {
            assert!(page(S3, &whole[..end], "list").is_err(), "taken: {}", &whole[..end]);
        }
        let endless = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(page(S3, endless, "list").is_err());
    }

    #[test]
    fn uploads_of_other_keys_are_left_out() {
        let upload =
            |key: &str, id: &str| format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>");
        let all = [upload("a", "1"), upload("a b", "2"), upload("a%20b", "3"), upload("ab", "4")].concat();
        let listing = |encoding: &str| {
            format!("<ListMultipartUploadsResult>{encoding}{all}</ListMultipartUploadsResult>")
        };
        let plain = listing("");
        assert_eq!(uploads_of("a", &plain, "list").unwrap(), ["1"]);
        assert_eq!(uploads_of("a b", &plain, "list").unwrap(), ["2"]);
        let encoded = listing("<EncodingType>url</EncodingType>");
        assert_eq!(uploads_of("a b", &encoded, "list").unwrap(), ["2", "3"]);
        assert!(uploads_of("a", &plain[..40], "list").is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(garbage in "(<ListBucketResult>|<Contents>|</Contents>|<Key>|</Key>|%[0-9a-f]{2}|.){0,30}") {
            let _ = page(S3, &garbage, "list");
            let _ = uploads_of("a", &garbage, "list");
        }
    }
}
