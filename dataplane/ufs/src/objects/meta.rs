//! What rides with an object as user metadata.
//!
//! | name | value |
//! |---|---|
//! | `forebay-mode` | permission bits, octal: `0644` |
//! | `forebay-owner` | user and group, decimal: `1000:1000` |
//! | `forebay-mtime` | seconds and nanoseconds since 1970: `1700000000.123456789` |
//! | `forebay-link` | the target of a symbolic link, percent-encoded; the object is empty |
//! | `forebay-put` | a random name of the upload, by which it knows its own work again |
//!
//! Values that do not parse are as good as absent: anybody may write to the store. Azure takes no hyphen in a
//! name and gets an underscore.

use crate::ufs::PutAttrs;
use forebay_types::TimeSpec;
use forebay_types::limits::SYMLINK_LEN_MAX;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

const NANOS_PER_SEC: u32 = 1_000_000_000;

/// The user metadata of an object, as far as it is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    pub(crate) mode: Option<u16>,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) mtime: Option<TimeSpec>,
    pub(crate) link: Option<Box<[u8]>>,
    pub(crate) put: Option<String>,
}

impl From<&PutAttrs> for Meta {
    fn from(attrs: &PutAttrs) -> Self {
        Self { mode: attrs.mode, owner: attrs.owner, mtime: attrs.mtime, ..Self::default() }
    }
}

impl Meta {
    /// The names and values to send.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let link = self.link.as_ref().map(|target| percent_encode(target, NON_ALPHANUMERIC).to_string());
        let pairs = [
            ("forebay-mode", self.mode.map(|mode| format!("{mode:04o}"))),
            ("forebay-owner", self.owner.map(|(uid, gid)| format!("{uid}:{gid}"))),
            ("forebay-mtime", self.mtime.map(|time| format!("{}.{:09}", time.secs, time.nanos))),
            ("forebay-link", link),
            ("forebay-put", self.put.clone()),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Reads the metadata that a store shows. `get` looks a name up.
    pub(crate) fn parse<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self {
            mode: get("forebay-mode").and_then(parse_mode),
            owner: get("forebay-owner").and_then(parse_owner),
            mtime: get("forebay-mtime").and_then(parse_time),
            link: get("forebay-link").and_then(parse_link),
            put: get("forebay-put").map(str::to_owned),
        }
    }
}

fn parse_mode(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

fn parse_owner(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn parse_time(text: &str) -> Option<TimeSpec> {
    let (secs, nanos) = text.split_once('.')?;
    let nanos = nanos.parse().ok().filter(|nanos| *nanos < NANOS_PER_SEC)?;
    Some(TimeSpec { secs: secs.parse().ok()?, nanos })
}

fn parse_link(text: &str) -> Option<Box<[u8]>> {
    let target: Vec<u8> = percent_decode_str(text).collect();
    let fits = (1..=SYMLINK_LEN_MAX).contains(&target.len()) && !target.contains(&0);
    fits.then(|| target.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reread(meta: &Meta) -> Meta {
        let pairs = meta.pairs();
        Meta::parse(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| &*pair.1))
    }

    proptest! {
        #[test]
        fn what_is_sent_reads_back(
            mode in proptest::option::of(0u16..=0o7777),
            owner in proptest::option::of(any::<(u32, u32)>()),
            secs in any::<i64>(), nanos in 0..NANOS_PER_SEC,
            link in proptest::option::of(proptest::collection::vec(1u8.., 1..300)),
        ) {
            let mtime = Some(TimeSpec { secs, nanos });
            let meta = Meta { mode, owner, mtime, link: link.map(Vec::into_boxed_slice), put: Some("1a".into()) };
            prop_assert_eq!(reread(&meta), meta.clone());
            prop_assert!(meta.pairs().iter().all(|(_, value)| value.bytes().all(|b| b.is_ascii_graphic())));
        }

        #[test]
        fn garbage_is_as_good_as_absent(value in ".*") {
            let meta = Meta::parse(|_| Some(&value));
            prop_assert!(meta.mode.is_none_or(|mode| mode <= 0o7777));
            prop_assert!(meta.mtime.is_none_or(|time| time.nanos < NANOS_PER_SEC));
        }
    }
}
