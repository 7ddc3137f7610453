//! From a key below the mount to the name of its object, and into a URL.

use crate::error::{UfsError, UfsResult};
use forebay_types::UfsKey;
use forebay_types::limits::OBJECT_KEY_LEN_MAX;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What an object shows as where a directory has its name.
pub(crate) const SHADOWED_SUFFIX: &str = ".forebay-object";

/// The characters that stand for themselves in a signed URL (AWS Signature Version 4, "UriEncode").
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_BUT_SLASH: &AsciiSet = &ENCODED.remove(b'/');

/// A key as the path of a URL.
pub(crate) fn url_path(key: &str) -> String {
    utf8_percent_encode(key, ENCODED_BUT_SLASH).to_string()
}

/// A value in the query of a URL.
pub(crate) fn url_value(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

/// The part of a store that a mount shows.
#[derive(Debug, Clone)]
pub(crate) struct KeySpace {
    /// Empty, or ends with a slash.
    prefix: String,
    /// A character that the store would turn into another.
    turned: Option<char>,
}

impl KeySpace {
    /// The keys below `prefix`, with or without slashes at its ends, but those with the character that the store
    /// would turn into another.
    pub(crate) fn new(prefix: &str, turned: Option<char>) -> Self {
        let trimmed = prefix.trim_matches('/');
        let prefix = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
        Self { prefix, turned }
    }

    /// The longest key below the mount that an object can have: its directory marker needs one byte more.
    pub(crate) fn key_len_max(&self) -> usize {
        OBJECT_KEY_LEN_MAX.saturating_sub(self.prefix.len() + 1)
    }

    /// The name of the object of `key`, which is not the root.
    pub(crate) fn object(&self, key: &UfsKey) -> UfsResult<String> {
        let unpersistable = |why: &str| UfsError::Unpersistable(format!("{key}: {why}"));
        let text = std::str::from_utf8(key.as_bytes()).map_err(|_| unpersistable("the name is not UTF-8"))?;
        if text.len() > self.key_len_max() {
            return Err(unpersistable("the path is longer than an object's key may be"));
        }
        if let Some(turned) = self.turned.filter(|turned| text.contains(*turned)) {
            return Err(unpersistable(&format!("the store would turn {turned:?} into another character")));
        }
        Ok(format!("{}{text}", self.prefix))
    }

    /// What the keys of everything in the directory `key` begin with; the name of its marker too.
    pub(crate) fn dir(&self, key: &UfsKey) -> UfsResult<String> {
        if key.is_root() {
            return Ok(self.prefix.clone());
        }
        Ok(self.object(key)? + "/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> UfsKey {
        UfsKey::new(bytes).unwrap()
    }

    #[test]
    fn objects_are_named_as_files_are() {
        let keys = KeySpace::new("/some/prefix/", Some('\\'));
        assert_eq!(keys.object(&key("a b/100%/ü".as_bytes())).unwrap(), "some/prefix/a b/100%/ü");
        assert_eq!(keys.dir(&UfsKey::root()).unwrap(), "some/prefix/");
        assert_eq!(KeySpace::new("", None).dir(&UfsKey::root()).unwrap(), "");
        assert_eq!(KeySpace::new("", None).dir(&key(b"a")).unwrap(), "a/");
        assert_eq!(keys.object(&key(b"a\\b")).unwrap_err().kind(), crate::UfsErrorKind::Unpersistable);
        assert_eq!(keys.object(&key(b"\xff")).unwrap_err().kind(), crate::UfsErrorKind::Unpersistable);
    }

    #[test]
    fn too_long_is_unpersistable() {
        let keys = KeySpace::new("p", None);
        let longest = ["x".repeat(200), "x".repeat(200), "x".repeat(200), "x".repeat(200), "x".repeat(217)];
        let longest = longest.join("/");
        assert_eq!(longest.len(), keys.key_len_max());
        assert_eq!(keys.dir(&key(longest.as_bytes())).unwrap().len(), OBJECT_KEY_LEN_MAX);
        assert!(keys.object(&key(format!("{longest}x").as_bytes())).is_err());
    }

    #[test]
    fn urls_escape_what_a_signature_escapes() {
        assert_eq!(url_path("a b/%41+ü~.-_"), "a%20b/%2541%2B%C3%BC~.-_");
        assert_eq!(url_value("a/b="), "a%2Fb%3D");
    }
}
