//! A segment: many small files in one, each entry with a header of its own.
//!
//! The index is rebuilt from these headers, so an entry says everything about its extent. Its checksum covers the
//! segment's id and the entry's offset too: what an earlier use of the disk left there is refused.

use super::sidecar::page_size_of;
use super::{FORMAT_VERSION, Refused};
use forebay_types::{ContentKey, ExtentId, PageChecksum, PageSize, crc32c};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of the header at the start of a segment file in bytes.
pub(crate) const SEGMENT_HEADER_LEN: usize = 64;
/// Entries begin at multiples of this.
pub(crate) const ENTRY_ALIGN: u64 = 64;
/// The length of an entry's header without its keys and checksums.
pub(crate) const ENTRY_FIXED_LEN: usize = 48;
/// The most keys an entry has; a packed extent with more forgets its oldest.
pub(crate) const ENTRY_KEYS_MAX: usize = 64;
/// The most pages a packed file has.
pub(crate) const ENTRY_PAGES_MAX: usize = 64;
/// The longest entry header: what is to be read to decode any.
pub(crate) const ENTRY_HEADER_MAX: usize = ENTRY_FIXED_LEN + 16 * ENTRY_KEYS_MAX + 4 * ENTRY_PAGES_MAX;

const SEGMENT_MAGIC: [u8; 8] = *b"FOREBAYS";
const ENTRY_MAGIC: [u8; 8] = *b"FBENTRY1";

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSegment {
    magic: [u8; 8],
    version: U32,
    zero: U32,
    id: U64,
    padding: [u8; 36],
    crc: U32,
}
const _: () = assert!(size_of::<RawSegment>() == SEGMENT_HEADER_LEN);

/// The header of segment `id`.
pub(crate) fn encode_segment(id: u64) -> [u8; SEGMENT_HEADER_LEN] {
    let mut raw = RawSegment {
        magic: SEGMENT_MAGIC,
        version: FORMAT_VERSION.into(),
        zero: 0.into(),
        id: id.into(),
        padding: [0; 36],
        crc: 0.into(),
    };
    raw.crc = crc32c(&raw.as_bytes()[..SEGMENT_HEADER_LEN - 4]).into();
    zerocopy::transmute!(raw)
}

/// Checks that `bytes` begin with the header of segment `id`.
pub(crate) fn check_segment(bytes: &[u8], id: u64) -> Result<(), Refused> {
    let (raw, _) = RawSegment::ref_from_prefix(bytes).map_err(|_| Refused::Magic)?;
    if raw.magic != SEGMENT_MAGIC {
        return Err(Refused::Magic);
    }
    if raw.version.get() != FORMAT_VERSION {
        return Err(Refused::Version(raw.version.get()));
    }
    if crc32c(&bytes[..SEGMENT_HEADER_LEN - 4]) != raw.crc.get() {
        return Err(Refused::Checksum);
    }
    if raw.id.get() == id { Ok(()) } else { Err(Refused::Field("id")) }
}

/// A packed extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) id: ExtentId,
    pub(crate) page_size: PageSize,
    pub(crate) born_here: bool,
    /// Length of the data in bytes.
    pub(crate) len: u32,
    pub(crate) keys: Vec<ContentKey>,
    /// One a page, in order.
    pub(crate) checksums: Vec<PageChecksum>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawEntry {
    magic: [u8; 8],
    id: U64,
    len: U32,
    page_log2: u8,
    born_here: u8,
    key_count: u8,
    page_count: u8,
    zero: [u8; 20],
    /// Over the segment's id, the entry's offset, and the header with this field zero.
    crc: U32,
}
const _: () = assert!(size_of::<RawEntry>() == ENTRY_FIXED_LEN);

fn entry_crc(segment: u64, offset: u64, header: &[u8]) -> u32 {
    let crc_at = ENTRY_FIXED_LEN - 4..ENTRY_FIXED_LEN;
    let place = [segment.to_le_bytes(), offset.to_le_bytes()].concat();
    crc32c(&[&place, &header[..crc_at.start], &[0; 4], &header[crc_at.end..]].concat())
}

impl SegmentEntry {
    /// Length of the header in bytes; the data follows it at once.
    pub(crate) fn header_len(&self) -> usize {
        ENTRY_FIXED_LEN + 16 * self.keys.len() + 4 * self.checksums.len()
    }

    /// Length of header and data with the padding before the next entry.
    pub(crate) fn total_len(&self) -> u64 {
        (self.header_len() as u64 + u64::from(self.len)).next_multiple_of(ENTRY_ALIGN)
    }

    /// The header of this entry at `offset` of segment `segment`.
    ///
    /// # Panics
    /// With more keys or pages than an entry has.
    pub(crate) fn encode(&self, segment: u64, offset: u64) -> Vec<u8> {
        assert!(self.keys.len() <= ENTRY_KEYS_MAX && self.checksums.len() <= ENTRY_PAGES_MAX);
        let mut raw = RawEntry {
            magic: ENTRY_MAGIC,
            id: self.id.0.into(),
            len: self.len.into(),
            page_log2: self.page_size.bytes().trailing_zeros() as u8,
            born_here: self.born_here.into(),
            key_count: self.keys.len() as u8,
            page_count: self.checksums.len() as u8,
            zero: [0; 20],
            crc: 0.into(),
        };
        let mut bytes = raw.as_bytes().to_vec();
        self.keys.iter().for_each(|key| bytes.extend_from_slice(&key.0.to_le_bytes()));
        self.checksums.iter().for_each(|sum| bytes.extend_from_slice(&sum.0.to_le_bytes()));
        raw.crc = entry_crc(segment, offset, &bytes).into();
        bytes[..ENTRY_FIXED_LEN].copy_from_slice(raw.as_bytes());
        bytes
    }

    /// The entry at `offset` of segment `segment`; `bytes` are those from there on, at least the header's.
    pub(crate) fn decode(bytes: &[u8], segment: u64, offset: u64) -> Result<Self, Refused> {
        let (raw, rest) = RawEntry::read_from_prefix(bytes).map_err(|_| Refused::Magic)?;
        if raw.magic != ENTRY_MAGIC {
            return Err(Refused::Magic);
        }
        let (keys, pages) = (usize::from(raw.key_count), usize::from(raw.page_count));
        if keys > ENTRY_KEYS_MAX || pages > ENTRY_PAGES_MAX {
            return Err(Refused::Field("counts"));
        }
        let (Some(key_bytes), Some(sum_bytes)) =
            (rest.get(..16 * keys), rest.get(16 * keys..16 * keys + 4 * pages))
        else {
            return Err(Refused::Field("counts"));
        };
        let header = &bytes[..ENTRY_FIXED_LEN + 16 * keys + 4 * pages];
        if entry_crc(segment, offset, header) != raw.crc.get() {
            return Err(Refused::Checksum);
        }
        let page_size = page_size_of(raw.page_log2)?;
        if page_size.pages_in(raw.len.get().into()) != pages as u64 || raw.len.get() == 0 {
            return Err(Refused::Field("len"));
        }
        Ok(Self {
            id: ExtentId(raw.id.get()),
            page_size,
            born_here: raw.born_here != 0,
            len: raw.len.get(),
            keys: key_bytes.chunks_exact(16).map(|k| ContentKey(u128_from(k))).collect(),
            checksums: sum_bytes.chunks_exact(4).map(|s| PageChecksum(u32_from(s))).collect(),
        })
    }
}

fn u128_from(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes.try_into().expect("a chunk of 16 bytes"))
}

fn u32_from(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("a chunk of 4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::ByteSize;
    use proptest::prelude::*;

    fn entry(len: u32, keys: usize) -> SegmentEntry {
        let page_size = PageSize::new(ByteSize::kib(64)).unwrap();
        SegmentEntry {
            id: ExtentId(5),
            page_size,
            born_here: true,
            len,
            keys: (0..keys).map(|k| ContentKey(k as u128)).collect(),
            checksums: (0..page_size.pages_in(len.into())).map(|p| PageChecksum(p as u32)).collect(),
        }
    }

    /// Frozen: the bytes of docs/FORMATS.md.
    #[test]
    fn fields_stand_where_the_format_page_says() {
        let bytes = entry(70_000, 1).encode(3, 64);
        assert_eq!(&bytes[..8], b"FBENTRY1");
        assert_eq!(bytes[8..16], 5u64.to_le_bytes());
        assert_eq!(bytes[16..20], 70_000u32.to_le_bytes());
        assert_eq!(bytes[20..24], [16, 1, 1, 2]);
        assert_eq!(bytes[48..64], 0u128.to_le_bytes());
        assert_eq!(bytes[64..], [0, 0, 0, 0, 1, 0, 0, 0]);
        let mut covered = [3u64.to_le_bytes(), 64u64.to_le_bytes()].concat();
        covered.extend_from_slice(&bytes[..44]);
        covered.extend_from_slice(&[0; 4]);
        covered.extend_from_slice(&bytes[48..]);
        assert_eq!(bytes[44..48], crc32c(&covered).to_le_bytes());
        let header = encode_segment(9);
        assert_eq!(&header[..8], b"FOREBAYS");
        assert_eq!(header[8..24], [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(check_segment(&header, 9), Ok(()));
        assert_eq!(check_segment(&header, 8), Err(Refused::Field("id")));
    }

    proptest! {
        #[test]
        fn entries_read_back_and_only_at_their_place(len in 1u32..1_000_000, keys in 0usize..ENTRY_KEYS_MAX) {
            let entry = entry(len, keys);
            let bytes = entry.encode(7, 128);
            prop_assert_eq!(bytes.len(), entry.header_len());
            prop_assert_eq!(SegmentEntry::decode(&bytes, 7, 128), Ok(entry));
            prop_assert_eq!(SegmentEntry::decode(&bytes, 7, 192), Err(Refused::Checksum));
            prop_assert_eq!(SegmentEntry::decode(&bytes, 6, 128), Err(Refused::Checksum));
        }

        #[test]
        fn a_torn_entry_is_refused(len in 1u32..300_000, keys in 0usize..4, at in any::<usize>(), bit in 0u8..8) {
            let mut bytes = entry(len, keys).encode(1, 0);
            prop_assert!(SegmentEntry::decode(&bytes[..bytes.len() - 1], 1, 0).is_err());
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(SegmentEntry::decode(&bytes, 1, 0).is_err());
        }

        #[test]
        fn garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), with_magic: bool) {
            if with_magic && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&ENTRY_MAGIC);
            }
            prop_assert!(SegmentEntry::decode(&bytes, 1, 0).is_err());
            prop_assert!(check_segment(&bytes, 1).is_err());
        }
    }
}
