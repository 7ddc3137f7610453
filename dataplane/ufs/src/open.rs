//! From the text a user gave to an open under file system.

use crate::error::OpenError;
use crate::layers::Governed;
use crate::options::UfsOptions;
use crate::posix::PosixUfs;
use crate::ufs::Ufs;
use forebay_types::UfsKey;
use std::path::PathBuf;
use std::sync::Arc;

/// Opens the store that `url` names and checks that it can be reached: a directory's path, `file:///dir`,
/// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`. Must run on a tokio runtime. The store
/// comes governed ([`Governed`]): bounded, timed, retried, paced and counted as `options` say.
///
/// # Errors
/// [`OpenError`] names the cause and the remedy, and never a credential.
pub async fn open(url: &str, options: &UfsOptions) -> Result<Arc<dyn Ufs>, OpenError> {
    let store: Arc<dyn Ufs> = match parse(url)? {
        Location::Directory(path) => Arc::new(PosixUfs::open(path, options).await?),
        #[cfg(feature = "s3")]
        Location::Bucket { scheme: Scheme::S3, name, prefix } => {
            Arc::new(crate::objects::s3::open(url, &name, &prefix, options).await?)
        }
        #[cfg(feature = "gcs")]
        Location::Bucket { scheme: Scheme::Gcs, name, prefix } => {
            Arc::new(crate::objects::gcs::open(url, &name, &prefix, options).await?)
        }
        #[cfg(feature = "azure")]
        Location::Bucket { scheme: Scheme::Azure, name, prefix } => {
            Arc::new(crate::objects::azure::open(url, &name, &prefix, options).await?)
        }
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        Location::Bucket { scheme, .. } => {
            let (scheme, feature) = (scheme.name().to_owned(), scheme.feature());
            return Err(OpenError::NotBuilt { scheme, feature });
        }
    };
    Ok(Arc::new(Governed::new(store, options)))
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

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let error = parse("ftp://me:hunter2@host/x").unwrap_err().to_string();
        assert!(error.contains("ftp://host/x") && !error.contains("hunter2"), "{error}");
    }
}
