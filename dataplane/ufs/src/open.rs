//! From the text a user gave to an open under file system.

use crate::error::OpenError;
use crate::layers::Governed;
use crate::options::UfsOptions;
use crate::posix::PosixUfs;
use crate::ufs::Ufs;
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
    };
    Ok(Arc::new(Governed::new(store, options)))
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
}

fn parse(url: &str) -> Result<Location, OpenError> {
    let invalid = |reason: &str| OpenError::Url { url: without_userinfo(url), reason: reason.to_owned() };
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url {
            "" => Err(invalid("it is empty")),
            path => Ok(Location::Directory(PathBuf::from(path))),
        };
    };
    match scheme {
        "file" if rest.starts_with('/') => decode_file_path(rest).map(Location::Directory).map_err(invalid),
        "file" => Err(invalid("a file URL has no host")),
        _ => Err(invalid("its scheme is not one of file, s3, gs, az")),
    }
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
    fn a_password_in_a_url_is_not_shown() {
        let error = parse("ftp://me:hunter2@host/x").unwrap_err().to_string();
        assert!(error.contains("ftp://host/x") && !error.contains("hunter2"), "{error}");
    }
}
