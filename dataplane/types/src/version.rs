//! What tells one content of a UFS key from the next.

use crate::{ids::MountId, key::UfsKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The version of a file as its under file system tells it: an ETag, or inode, size, mtime and ctime.
///
/// Two equal versions of one key mean equal bytes. Opaque outside the adapter that made it; at most
/// [`UfsVersion::LEN_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UfsVersion(Box<[u8]>);

impl UfsVersion {
    /// Longer than any ETag in use (S3 multipart: 38 characters; GCS and Azure below 64).
    pub const LEN_MAX: usize = 256;

    /// Takes the adapter's bytes; what is longer than [`Self::LEN_MAX`] is folded into its hash.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        if bytes.len() <= Self::LEN_MAX {
            return Self(bytes.into());
        }
        Self(xxh3_128(bytes).to_be_bytes().into())
    }

    /// The adapter's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for UfsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UfsVersion({})", self.0.escape_ascii())
    }
}

/// The most bytes that are hashed in one go for a [`ContentKey`]: most paths with an ETag are shorter.
const SHORT_LEN_MAX: usize = 256;

/// Names one content for ever: a 128-bit hash of mount, key and version. The index by which cached bytes are
/// found again; two contents with one key would need 2^64 files to be likely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentKey(pub u128);

impl ContentKey {
    /// The key of `version` of `key` on `mount`. Frozen: extents on disk are found by it.
    pub fn of(mount: MountId, key: &UfsKey, version: &UfsVersion) -> Self {
        let (mount, key_len) = (mount.0.to_le_bytes(), (key.as_bytes().len() as u32).to_le_bytes());
        let parts = [&mount[..], &key_len, key.as_bytes(), version.as_bytes()];
        let mut whole = [0; SHORT_LEN_MAX];
        let len = parts.iter().map(|part| part.len()).sum();
        // The state of a hash that is fed in parts is half a kilobyte; each read asks for a key.
        let Some(whole) = whole.get_mut(..len) else {
            let mut hash = Xxh3::new();
            parts.iter().for_each(|part| hash.update(part));
            return Self(hash.digest128());
        };
        let mut rest = &mut *whole;
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        Self(xxh3_128(whole))
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentKey({:032x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: a change here makes every cache on disk unfindable.
    #[test]
    fn content_keys_never_change() {
        let key = UfsKey::new(*b"models/llama/part-0").unwrap();
        let content = ContentKey::of(MountId(3), &key, &UfsVersion::new(b"\"etag\""));
        assert_eq!(format!("{content:?}"), FROZEN);
    }
    #[test]
    fn a_key_is_the_same_whether_hashed_in_one_go_or_in_parts() {
        let version = UfsVersion::new(b"\"etag\"");
        let fixed = 4 + 4 + version.as_bytes().len();
        for key_len in [1, 100, SHORT_LEN_MAX - fixed, SHORT_LEN_MAX - fixed + 1, 900] {
            let text: Vec<u8> = (0..key_len).map(|at| if at % 100 == 50 { b'/' } else { b'k' }).collect();
            let key = UfsKey::new(text).unwrap();
            let mut parts = Xxh3::new();
            parts.update(&7_u32.to_le_bytes());
            parts.update(&(key_len as u32).to_le_bytes());
            parts.update(key.as_bytes());
            parts.update(version.as_bytes());
            assert_eq!(ContentKey::of(MountId(7), &key, &version).0, parts.digest128(), "{key_len}");
        }
    }
    const FROZEN: &str = "ContentKey(e3581ee7b2c1cda8ae34746d6955a1ae)";

    #[test]
    fn key_and_version_do_not_run_together() {
        let of = |key: &[u8], version: &[u8]| {
            ContentKey::of(MountId(0), &UfsKey::new(key).unwrap(), &UfsVersion::new(version))
        };
        assert_ne!(of(b"ab", b"c"), of(b"a", b"bc"));
    }

    #[test]
    fn a_long_version_is_folded() {
        assert_eq!(UfsVersion::new(vec![b'x'; 1000]).as_bytes().len(), 16);
    }
}
