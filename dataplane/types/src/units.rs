//! Quantities with units: sizes as `64GiB`, times as `30s`, page numbers and page sizes.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// A text that is not a quantity of the kind asked for. The message shows what would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {reason}; write it like {example}")]
pub struct InvalidUnit {
    /// The kind of quantity.
    pub what: &'static str,
    /// What the caller gave.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
    /// A text that would have been accepted.
    pub example: &'static str,
}

/// A number of bytes, written with a binary unit: `4KiB`, `64GiB`. A bare number must say `B`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

const SIZE_UNITS: [(&str, u64); 6] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("PiB", 1 << 50)];

impl ByteSize {
    /// From bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }
    /// From kibibytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// From mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// From gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
    /// The number of bytes, for buffers. Forebay runs on 64-bit machines only, so nothing is cut off.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

const _: () = assert!(usize::BITS == 64, "Forebay needs a 64-bit machine");

/// Splits `64GiB` into its number and its unit.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

impl FromStr for ByteSize {
    type Err = InvalidUnit;
    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let invalid = |reason: String| InvalidUnit {
            what: "size",
            text: text.to_owned(),
            reason,
            example: "512MiB or 64GiB",
        };
        let (digits, unit) = split_unit(text.trim());
        let number: u64 = digits.parse().map_err(|_| invalid("it must begin with a whole number".into()))?;
        let Some((_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(invalid(format!("the unit {unit:?} is not one of B, KiB, MiB, GiB, TiB, PiB")));
        };
        number.checked_mul(*scale).map(Self).ok_or_else(|| invalid("it is larger than 16 EiB".into()))
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidUnit;
    fn try_from(text: String) -> Result<Self, InvalidUnit> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that shows the exact number, so that what is printed can be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |&&(_, scale): &&(&str, u64)| self.0 >= scale && self.0.is_multiple_of(scale);
        let (unit, scale) = SIZE_UNITS.iter().rev().find(exact).unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A span of time, written with a unit: `250ms`, `30s`, `5m`, `2h`, `7d`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

const TIME_UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for HumanDuration {
    type Err = InvalidUnit;
    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let invalid = |reason: String| InvalidUnit {
            what: "time",
            text: text.to_owned(),
            reason,
            example: "250ms or 30s",
        };
        let (digits, unit) = split_unit(text.trim());
        let number: u64 = digits.parse().map_err(|_| invalid("it must begin with a whole number".into()))?;
        let Some((_, scale)) = TIME_UNITS_MS.iter().find(|(name, _)| *name == unit) else {
            return Err(invalid(format!("the unit {unit:?} is not one of ms, s, m, h, d")));
        };
        let millis = number.checked_mul(*scale).ok_or_else(|| invalid("it is too long".into()))?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = InvalidUnit;
    fn try_from(text: String) -> Result<Self, InvalidUnit> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(time: HumanDuration) -> Self {
        time.to_string()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis() as u64;
        let exact = |&&(_, scale): &&(&str, u64)| millis >= scale && millis.is_multiple_of(scale);
        let (unit, scale) = TIME_UNITS_MS.iter().rev().find(exact).unwrap_or(&TIME_UNITS_MS[0]);
        write!(f, "{}{unit}", millis / scale)
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The number of a page within a file: byte offset divided by the page size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageIndex(pub u64);

/// The size of a cache page: a power of two from 64 KiB to 16 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ByteSize", into = "ByteSize")]
pub struct PageSize {
    log2: u8,
}

impl PageSize {
    /// 1 MiB, the size of a page where a mount asks for none.
    pub const DEFAULT: Self = Self { log2: 20 };
    /// The smallest page: below it the checksums and bits cost more than they save.
    pub const MIN: ByteSize = ByteSize::kib(64);
    /// The largest page: one page must fit one arena frame.
    pub const MAX: ByteSize = ByteSize::mib(16);

    /// Checks and takes a size.
    ///
    /// # Errors
    /// [`InvalidUnit`] unless it is a power of two within [`Self::MIN`] and [`Self::MAX`].
    pub fn new(size: ByteSize) -> Result<Self, InvalidUnit> {
        let fits = (Self::MIN..=Self::MAX).contains(&size) && size.as_u64().is_power_of_two();
        if fits {
            return Ok(Self { log2: size.as_u64().trailing_zeros() as u8 });
        }
        Err(InvalidUnit {
            what: "page size",
            text: size.to_string(),
            reason: "it must be a power of two from 64KiB to 16MiB".into(),
            example: "1MiB",
        })
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.log2
    }

    /// The page that holds the byte at `offset`.
    pub const fn page_of(self, offset: u64) -> PageIndex {
        PageIndex(offset >> self.log2)
    }

    /// The offset of the first byte of `page`.
    pub const fn start_of(self, page: PageIndex) -> u64 {
        page.0 << self.log2
    }

    /// How many pages a file of `len` bytes has; the last may be short.
    pub const fn pages_in(self, len: u64) -> u64 {
        len.div_ceil(self.bytes())
    }

    /// How many bytes of `page` a file of `len` bytes has: a whole page, the short tail, or 0 past the end.
    pub const fn len_of(self, page: PageIndex, len: u64) -> u64 {
        let rest = len.saturating_sub(self.start_of(page));
        if rest < self.bytes() { rest } else { self.bytes() }
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageSize({})", ByteSize(self.bytes()))
    }
}

impl TryFrom<ByteSize> for PageSize {
    type Error = InvalidUnit;
    fn try_from(size: ByteSize) -> Result<Self, InvalidUnit> {
        Self::new(size)
    }
}

impl From<PageSize> for ByteSize {
    fn from(size: PageSize) -> Self {
        Self(size.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!("64GiB".parse(), Ok(ByteSize::gib(64)));
        assert_eq!(" 4 KiB ".parse(), Ok(ByteSize::kib(4)));
        assert_eq!("0B".parse(), Ok(ByteSize::bytes(0)));
        for bad in ["", "64", "64GB", "GiB", "-1KiB", "1.5GiB", "99999999PiB"] {
            let error = bad.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("write it like 512MiB"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!("30s".parse(), Ok(HumanDuration(Duration::from_secs(30))));
        assert_eq!("250ms".parse(), Ok(HumanDuration(Duration::from_millis(250))));
        for bad in ["", "30", "30sec", "s", "99999999999999999d"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn page_arithmetic_at_the_edges() {
        let page = PageSize::DEFAULT;
        assert_eq!(page.pages_in(0), 0);
        assert_eq!(page.pages_in(1), 1);
        assert_eq!(page.pages_in(page.bytes()), 1);
        assert_eq!(page.len_of(PageIndex(1), page.bytes() + 7), 7);
        assert_eq!(page.len_of(PageIndex(2), page.bytes() + 7), 0);
        assert!(PageSize::new(ByteSize::kib(32)).is_err());
        assert!(PageSize::new(ByteSize::bytes(3 << 20)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes in any::<u64>(), millis in 0u64..1 << 40) {
            let size = ByteSize::bytes(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let time = HumanDuration(Duration::from_millis(millis));
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
