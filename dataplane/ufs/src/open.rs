//! From the text a user gave to an open under file system.

use crate::error::OpenError;
use crate::layers::Governed;
use crate::options::{Attributes, COMMON, UfsOptions};
use crate::posix::PosixUfs;
use crate::ufs::Ufs;
use forebay_types::UfsKey;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most attempts to reach an object store at the start: one error of its own must not keep a node from starting,
/// and a wrong endpoint must be told soon.
const REACH_ATTEMPTS_MAX: u32 = 5;
/// The pause before the second attempt; it doubles from one to the next.
const REACH_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// No attempt begins later than this after the first.
const REACH_TOTAL_MAX: Duration = Duration::from_secs(10);

/// Opens the store that `url` names and checks that it can be reached: a directory's path, `file:///dir`,
/// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`. Must run on a tokio runtime. The store
/// comes governed ([`Governed`]): bounded, timed, retried, paced and counted as `options` say.
///
/// # Errors
/// [`OpenError`] names the cause and the remedy, and never a credential.
pub async fn open(url: &str, options: &UfsOptions) -> Result<Arc<dyn Ufs>, OpenError> {
    let location = parse(url)?;
    let began = Instant::now();
    let mut pause = REACH_PAUSE_FIRST;
    let mut attempt = 1;
    loop {
        match reach(url, &location, options).await {
            Err(OpenError::Unreachable { reason, .. })
                if matches!(location, Location::Bucket { .. })
                    && attempt < REACH_ATTEMPTS_MAX.min(options.retry.attempts_max)
                    && began.elapsed() + pause < REACH_TOTAL_MAX =>
            {
                tracing::debug!(
                    url = without_userinfo(url),
                    reason,
                    attempt,
                    "trying again to reach the store"
                );
                tokio::time::sleep(pause).await;
                pause *= 2;
                attempt += 1;
            }
            reached => return Ok(Arc::new(Governed::new(reached?, options))),
        }
    }
}

/// One attempt.
async fn reach(url: &str, location: &Location, options: &UfsOptions) -> Result<Arc<dyn Ufs>, OpenError> {
    match location {
        Location::Directory(path) => {
            refuse_leftover(url, options)?;
            Ok(Arc::new(PosixUfs::open(path.clone(), options).await?))
        }
        #[cfg(feature = "s3")]
        Location::Bucket { scheme: Scheme::S3, name, prefix } => {
            Ok(Arc::new(crate::objects::s3::open(url, name, prefix, options).await?))
        }
        #[cfg(feature = "gcs")]
        Location::Bucket { scheme: Scheme::Gcs, name, prefix } => {
            Ok(Arc::new(crate::objects::gcs::open(url, name, prefix, options).await?))
        }
        #[cfg(feature = "azure")]
        Location::Bucket { scheme: Scheme::Azure, name, prefix } => {
            Ok(Arc::new(crate::objects::azure::open(url, name, prefix, options).await?))
        }
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        Location::Bucket { scheme, .. } => {
            let (scheme, feature) = (scheme.name().to_owned(), scheme.feature());
            Err(OpenError::NotBuilt { scheme, feature })
        }
    }
}

/// A directory has no options of its own, and shows all attributes whether anybody wants them or not.
fn refuse_leftover(url: &str, options: &UfsOptions) -> Result<(), OpenError> {
    let refuse = |option: &str, reason: String| {
        Err(OpenError::Option { url: url.to_owned(), option: option.to_owned(), reason })
    };
    if options.attributes != Attributes::Kept {
        return refuse("attributes", "a directory has them by itself: leave it out".into());
    }
    let Some(option) = options.store.keys().next() else { return Ok(()) };
    refuse(option, format!("a directory has no such option; there are {}", COMMON.join(", ")))
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
    Bucket { scheme: Scheme, name: String, prefix: String },
}

/// The kinds of object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    S3,
    Gcs,
    Azure,
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    /// The cargo feature that brings its adapter.
    fn feature(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }
}

fn parse(url: &str) -> Result<Location, OpenError> {
    let invalid = |reason: &str| OpenError::Url { url: without_userinfo(url), reason: reason.to_owned() };
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url {
            "" => Err(invalid("it is empty")),
            path => Ok(Location::Directory(PathBuf::from(path))),
        };
    };
    let bucket = |scheme| parse_bucket(scheme, rest).map_err(invalid);
    match scheme {
        "file" if rest.starts_with('/') => decode_file_path(rest).map(Location::Directory).map_err(invalid),
        "file" => Err(invalid("a file URL has no host")),
        "s3" | "s3a" => bucket(Scheme::S3),
        "gs" | "gcs" => bucket(Scheme::Gcs),
        "az" | "azure" => bucket(Scheme::Azure),
        _ => Err(invalid("its scheme is not one of file, s3, gs, az")),
    }
}

/// Bucket and prefix, taken as they are written: a prefix may hold any character but a zero.
fn parse_bucket(scheme: Scheme, rest: &str) -> Result<Location, &'static str> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'$');
    if name.contains('@') {
        return Err("credentials do not belong into a URL");
    }
    if name.len() < 3 || !name.bytes().all(fits) {
        return Err("a bucket's name has 3 or more of the characters a-z, 0-9, '-', '.' and '_'");
    }
    if UfsKey::new(prefix.trim_matches('/').as_bytes()).is_err() {
        return Err("its prefix has an empty, '.' or '..' part");
    }
    Ok(Location::Bucket { scheme, name: name.to_owned(), prefix: prefix.to_owned() })
}

/// The path of a file URL, percent-escapes resolved.
fn decode_file_path(path: &str) -> Result<PathBuf, &'static str> {
    let parsed = url::Url::parse(&format!("file://{path}")).map_err(|_| "it is not a URL")?;
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("a '?' or '#' in a path must be written %3F or %23");
    }
    parsed.to_file_path().map_err(|()| "it is no path")
}

/// The URL as it may be shown: a user name and password before an `@` are left out.
fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_name_directories() {
        assert_eq!(parse("/srv/a b"), Ok(Location::Directory("/srv/a b".into())));
        assert_eq!(parse("data"), Ok(Location::Directory("data".into())));
        assert_eq!(parse("file:///srv/a%20b"), Ok(Location::Directory("/srv/a b".into())));
        for bad in ["", "file://host/dir", "ftp://x/y", "file:///a?b"] {
            assert!(matches!(parse(bad), Err(OpenError::Url { .. })), "{bad:?} was taken");
        }
    }

    #[test]
    fn bucket_urls_keep_their_prefix_as_it_is_written() {
        let bucket = |scheme, name: &str, prefix: &str| {
            Ok(Location::Bucket { scheme, name: name.into(), prefix: prefix.into() })
        };
        assert_eq!(parse("s3://data"), bucket(Scheme::S3, "data", ""));
        assert_eq!(parse("s3://data/a b/100%/"), bucket(Scheme::S3, "data", "a b/100%/"));
        assert_eq!(parse("gs://data/x"), bucket(Scheme::Gcs, "data", "x"));
        assert_eq!(parse("az://data/x"), bucket(Scheme::Azure, "data", "x"));
        for bad in
            ["s3://", "s3:///x", "s3://ab", "s3://key:secret@data/x", "s3://data/a//b", "s3://data/../x"]
        {
            let error = parse(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[cfg(feature = "s3")]
    #[tokio::test]
    async fn a_store_that_fails_a_few_times_is_reached() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let ill = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let body = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        let well =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let served = tokio::spawn(async move {
            for answer in [ill, ill, &well] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            }
        });
        let mut options = UfsOptions::default();
        let given =
            [("endpoint", &*endpoint), ("access_key_id", "a"), ("secret_access_key", "b"), ("region", "r")];
        options.store = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        open("s3://bucket", &options).await.unwrap();
        served.await.unwrap();

        // A store that never answers is told of within bounds, and so is one where nothing may be tried again.
        options.retry = crate::RetryPolicy::NEVER;
        assert!(matches!(open("s3://bucket", &options).await, Err(OpenError::Unreachable { .. })));
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let error = parse("ftp://me:hunter2@host/x").unwrap_err().to_string();
        assert!(error.contains("ftp://host/x") && !error.contains("hunter2"), "{error}");
    }
}
