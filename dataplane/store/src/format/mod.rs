//! The bytes a tier keeps on disk: encoding and decoding, nothing else.
//!
//! **Owns** the layout of the tier header, of an extent's sidecar and of a segment's entries, as
//! `docs/FORMATS.md` sets it out byte for byte. **Never does** I/O. Bytes come in as slices of any content,
//! garbage included, and leave as checked values; values leave as fixed-size arrays.
//!
//! **Why this shape:** a machine that lost power hands back any mixture of old, new and zero sectors. So every
//! record carries a CRC-32C over its own bytes *and its place* (extent and page, segment and offset): a record
//! that was torn, or belongs elsewhere, is refused here and never believed above. All integers are
//! little-endian.

pub(crate) mod segment;
pub(crate) mod sidecar;
pub(crate) mod tier;

/// The version all formats of this crate have together; a tier of another one is refused.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not the magic number of this kind of record, or too short to hold one.
    Magic,
    /// Another format version; the number found.
    Version(u32),
    /// The checksum does not match: torn, or damaged.
    Checksum,
    /// The checksum matches and a field is out of its range: written by something else.
    Field(&'static str),
}
