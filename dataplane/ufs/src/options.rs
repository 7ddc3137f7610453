//! How to open an under file system: what every store has, as a mount sets it by name, and what only one has.

use crate::error::OpenError;
use crate::layers::RetryPolicy;
use forebay_types::{ByteSize, HumanDuration};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What an object store holds of a file beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attributes {
    /// Mode, owner, times and targets of links ride with each object. To know them each object is asked about.
    #[default]
    Kept,
    /// None of these: a file is what a listing tells of it, and no object is asked about.
    None,
}

/// What a mount asks of its store.
#[derive(Clone, PartialEq, Eq)]
pub struct UfsOptions {
    /// Refuse every change.
    pub read_only: bool,
    /// How many calls may be with the store at once; the rest wait their turn.
    pub concurrency: usize,
    /// How long one attempt of a call may take, waiting for a place included.
    pub call_timeout: Duration,
    /// How transient failures are retried.
    pub retry: RetryPolicy,
    /// The most bytes a second that are read; `None`: as many as come.
    pub read_bandwidth: Option<ByteSize>,
    /// The most bytes a second that are written; `None`: as many as go.
    pub write_bandwidth: Option<ByteSize>,
    /// How long opening may take to reach the store.
    pub connect_timeout: Duration,
    /// A temporary file of an upload that nobody holds and that is older than this is swept.
    pub stale_upload_after: Duration,
    /// The shortest part of a multipart upload; longer where the file would have too many of them.
    pub part_len_min: ByteSize,
    /// What is held of a file beside its bytes. A directory has all of it by itself.
    pub attributes: Attributes,
    /// Options of the store itself, as `-o` or the configuration gives them: `endpoint`, `region`, `profile`,
    /// `access_key_id`, ... Values may be secrets and are never printed.
    pub store: BTreeMap<String, String>,
}

impl Default for UfsOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            concurrency: 64,
            call_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            read_bandwidth: None,
            write_bandwidth: None,
            connect_timeout: Duration::from_secs(10),
            stale_upload_after: Duration::from_secs(3600),
            part_len_min: ByteSize::mib(8),
            attributes: Attributes::Kept,
            store: BTreeMap::new(),
        }
    }
}

/// Options that every store has, by the names under which users give them.
pub(crate) const COMMON: [&str; 8] = [
    "attributes",
    "read_bandwidth",
    "write_bandwidth",
    "concurrency",
    "call_timeout",
    "connect_timeout",
    "attempts",
    "part_size",
];

/// The lowest cap on bytes a second: below it the reads that are under way together (32 of 4 MiB) would not end in the
/// minute that each has.
const BANDWIDTH_MIN: ByteSize = ByteSize::mib(4);
/// The most calls at once: each may hold a connection and a part.
const CONCURRENCY_MAX: usize = 4096;
/// The shortest and the longest time that a call may be given.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
/// The most attempts.
const ATTEMPTS_MAX: u32 = 100;
/// S3 takes no shorter part but the last, and no longer one.
const PART_LENS: (ByteSize, ByteSize) = (ByteSize::mib(5), ByteSize::gib(5));

impl UfsOptions {
    /// The options that a user gave for the store at `url` by name. Those that every store has are
    /// understood here, the others are left to the store.
    ///
    /// # Errors
    /// [`OpenError::Option`] for a value that one of these options cannot have.
    pub fn named(url: &str, given: &BTreeMap<String, String>) -> Result<Self, OpenError> {
        let mut options = Self { store: given.clone(), ..Self::default() };
        for name in COMMON {
            let Some(value) = options.store.remove(name) else { continue };
            options.set(name, &value).map_err(|reason| OpenError::Option {
                url: url.to_owned(),
                option: name.to_owned(),
                reason,
            })?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "attributes" => self.attributes = attributes(value)?,
            "read_bandwidth" => self.read_bandwidth = bandwidth(value)?,
            "write_bandwidth" => self.write_bandwidth = bandwidth(value)?,
            "concurrency" => self.concurrency = number(value, CONCURRENCY_MAX)?,
            "attempts" => self.retry.attempts_max = number(value, ATTEMPTS_MAX)?,
            "call_timeout" => self.call_timeout = time(value)?,
            "connect_timeout" => self.connect_timeout = time(value)?,
            "part_size" => self.part_len_min = part_len(value)?,
            _ => unreachable!("only names of the list come here"),
        }
        Ok(())
    }
}

fn attributes(value: &str) -> Result<Attributes, String> {
    match value {
        "kept" => Ok(Attributes::Kept),
        "none" => Ok(Attributes::None),
        _ => Err("it is kept, or none".into()),
    }
}

fn bandwidth(value: &str) -> Result<Option<ByteSize>, String> {
    if value == "none" {
        return Ok(None);
    }
    let rate: ByteSize = value.parse().map_err(|error| format!("bytes a second: {error}"))?;
    match rate >= BANDWIDTH_MIN {
        true => Ok(Some(rate)),
        false => Err(format!("it is a number of bytes a second, at least {BANDWIDTH_MIN}, or none")),
    }
}

fn number<N: std::str::FromStr + PartialOrd + From<u8> + fmt::Display>(
    value: &str,
    most: N,
) -> Result<N, String> {
    let number = value.parse().ok().filter(|number| *number >= N::from(1) && *number <= most);
    number.ok_or_else(|| format!("it is a number from 1 to {most}"))
}

fn time(value: &str) -> Result<Duration, String> {
    let HumanDuration(time) = value.parse().map_err(|error| format!("{error}"))?;
    let (least, most) = TIMEOUTS;
    match (least..=most).contains(&time) {
        true => Ok(time),
        false => Err(format!("it is a time from {} to {}", HumanDuration(least), HumanDuration(most))),
    }
}

fn part_len(value: &str) -> Result<ByteSize, String> {
    let len: ByteSize = value.parse().map_err(|error| format!("{error}"))?;
    let (least, most) = PART_LENS;
    match (least..=most).contains(&len) {
        true => Ok(len),
        false => Err(format!("it is a size from {least} to {most}")),
    }
}

impl fmt::Debug for UfsOptions {
    /// Shows the names of the store's options only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UfsOptions")
            .field("read_only", &self.read_only)
            .field("concurrency", &self.concurrency)
            .field("call_timeout", &self.call_timeout)
            .field("store", &self.store.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pairs: &[(&str, &str)]) -> Result<UfsOptions, String> {
        let given = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        UfsOptions::named("/data", &given).map_err(|error| error.to_string())
    }

    #[test]
    fn what_every_store_has_is_taken_and_the_rest_is_left() {
        let options = named(&[
            ("read_bandwidth", "200MiB"),
            ("write_bandwidth", "none"),
            ("concurrency", "8"),
            ("call_timeout", "30s"),
            ("attempts", "3"),
            ("part_size", "16MiB"),
            ("attributes", "none"),
            ("region", "x"),
        ])
        .unwrap();
        assert_eq!(options.attributes, Attributes::None);
        assert_eq!((options.read_bandwidth, options.write_bandwidth), (Some(ByteSize::mib(200)), None));
        assert_eq!((options.concurrency, options.retry.attempts_max), (8, 3));
        assert_eq!(
            (options.call_timeout, options.part_len_min),
            (Duration::from_secs(30), ByteSize::mib(16))
        );
        assert_eq!(options.store.keys().collect::<Vec<_>>(), ["region"]);
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_with_what_would_do() {
        for (name, value, said) in [
            ("read_bandwidth", "10KiB", "at least 4MiB"),
            ("write_bandwidth", "fast", "write it like"),
            ("concurrency", "0", "from 1 to 4096"),
            ("attempts", "many", "from 1 to 100"),
            ("call_timeout", "1ms", "a time from 100ms to 1h"),
            ("connect_timeout", "10", "write it like"),
            ("part_size", "1MiB", "a size from 5MiB to 5GiB"),
            ("attributes", "some", "kept, or none"),
        ] {
            let error = named(&[(name, value)]).unwrap_err();
            assert!(error.contains(said) && error.contains(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut options = UfsOptions::default();
        options.store.insert("secret_access_key".into(), "hunter2".into());
        let shown = format!("{options:?}");
        assert!(shown.contains("secret_access_key") && !shown.contains("hunter2"), "{shown}");
    }
}
