//! The sidecar of an extent: two header slots written in turn, then one 16-byte record a page.
//!
//! A header slot is a whole 4 KiB block, so that a torn write of one leaves the other whole; the valid one with
//! the higher sequence counts. A page record lies within one 512-byte sector, so it is there or not there, and
//! an absent page is sixteen zero bytes: a sidecar may be sparse.

use super::{FORMAT_VERSION, Refused};
use forebay_types::{ByteSize, ContentKey, ExtentId, PageChecksum, PageIndex, PageSize, crc32c};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of one header slot in bytes.
pub(crate) const HEADER_SLOT_LEN: usize = 4096;
/// Where the page records begin.
pub(crate) const RECORDS_AT: u64 = 2 * HEADER_SLOT_LEN as u64;
/// The length of a page record in bytes.
pub(crate) const RECORD_LEN: usize = 16;
/// How many records one 4 KiB block holds; the sidecar is written in such blocks.
pub(crate) const RECORDS_PER_BLOCK: u64 = (BLOCK_LEN / RECORD_LEN) as u64;
/// The unit in which records are written.
pub(crate) const BLOCK_LEN: usize = 4096;
/// The most content keys one extent is found by; beyond it the oldest is forgotten.
pub(crate) const KEYS_MAX: usize = 64;

const MAGIC: [u8; 8] = *b"FOREBAYX";
const STATE_CLEAN: u8 = 1;
const STATE_AUTHORED: u8 = 2;

/// Who is the authority for an extent's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The under file system: what is not resident can be fetched, page checksums count.
    Origin,
    /// We are: length is that of the file, page checksums do not count.
    Here,
}

/// What a sidecar's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SidecarHeader {
    pub(crate) id: ExtentId,
    pub(crate) sequence: u64,
    pub(crate) page_size: PageSize,
    pub(crate) authority: Authority,
    pub(crate) born_here: bool,
    /// The length when this was written; where the authority is here, the file's own length counts.
    pub(crate) len: u64,
    /// Bytes below this offset come from the under file system unless their page is resident.
    pub(crate) origin_len: u64,
    /// Oldest first.
    pub(crate) keys: Vec<ContentKey>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    page_log2: u8,
    state: u8,
    born_here: u8,
    key_count: u8,
    id: U64,
    sequence: U64,
    len: U64,
    origin_len: U64,
    zero: [u8; 16],
    keys: [[u8; 16]; KEYS_MAX],
    padding: [u8; 3004],
    crc: U32,
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_SLOT_LEN);

pub(crate) fn page_size_of(log2: u8) -> Result<PageSize, Refused> {
    let bytes = 1u64.checked_shl(log2.into()).ok_or(Refused::Field("page_log2"))?;
    PageSize::new(ByteSize::bytes(bytes)).map_err(|_| Refused::Field("page_log2"))
}

impl SidecarHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_SLOT_LEN] {
        let mut keys = [[0; 16]; KEYS_MAX];
        let newest = &self.keys[self.keys.len().saturating_sub(KEYS_MAX)..];
        for (slot, key) in keys.iter_mut().zip(newest) {
            *slot = key.0.to_le_bytes();
        }
        let mut raw = RawHeader {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            page_log2: self.page_size.bytes().trailing_zeros() as u8,
            state: if self.authority == Authority::Origin { STATE_CLEAN } else { STATE_AUTHORED },
            born_here: self.born_here.into(),
            key_count: newest.len() as u8,
            id: self.id.0.into(),
            sequence: self.sequence.into(),
            len: self.len.into(),
            origin_len: self.origin_len.into(),
            zero: [0; 16],
            keys,
            padding: [0; 3004],
            crc: 0.into(),
        };
        raw.crc = crc32c(&raw.as_bytes()[..HEADER_SLOT_LEN - 4]).into();
        zerocopy::transmute!(raw)
    }

    /// One slot of the sidecar of `id`.
    pub(crate) fn decode(bytes: &[u8], id: ExtentId) -> Result<Self, Refused> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes).map_err(|_| Refused::Magic)?;
        if raw.magic != MAGIC {
            return Err(Refused::Magic);
        }
        if raw.version.get() != FORMAT_VERSION {
            return Err(Refused::Version(raw.version.get()));
        }
        if crc32c(&bytes[..HEADER_SLOT_LEN - 4]) != raw.crc.get() {
            return Err(Refused::Checksum);
        }
        if raw.id.get() != id.0 {
            return Err(Refused::Field("id"));
        }
        Self::from_raw(raw, id)
    }

    fn from_raw(raw: &RawHeader, id: ExtentId) -> Result<Self, Refused> {
        let authority = match raw.state {
            STATE_CLEAN => Authority::Origin,
            STATE_AUTHORED => Authority::Here,
            _ => return Err(Refused::Field("state")),
        };
        let keys = raw.keys.get(..usize::from(raw.key_count)).ok_or(Refused::Field("key_count"))?;
        Ok(Self {
            id,
            sequence: raw.sequence.get(),
            page_size: page_size_of(raw.page_log2)?,
            authority,
            born_here: raw.born_here != 0,
            len: raw.len.get(),
            origin_len: raw.origin_len.get(),
            keys: keys.iter().map(|k| ContentKey(u128::from_le_bytes(*k))).collect(),
        })
    }

    /// The newer of the two slots at the head of a sidecar that are whole.
    pub(crate) fn decode_pair(bytes: &[u8], id: ExtentId) -> Result<Self, Refused> {
        let first = Self::decode(bytes, id);
        let second = bytes.get(HEADER_SLOT_LEN..).map_or(Err(Refused::Magic), |b| Self::decode(b, id));
        match (first, second) {
            (Ok(a), Ok(b)) => Ok(if a.sequence > b.sequence { a } else { b }),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(why), Err(_)) => Err(why),
        }
    }

    /// Where the slot of this header's sequence lies in the sidecar.
    pub(crate) fn slot_at(&self) -> u64 {
        (self.sequence % 2) * HEADER_SLOT_LEN as u64
    }
}

/// What a sidecar says of one resident page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRecord {
    /// How many bytes of the page there are: the page size, or less for the tail.
    pub(crate) len: u32,
    /// Whether an fdatasync has covered the page's bytes.
    pub(crate) durable: bool,
    /// The checksum of those bytes, where one is known.
    pub(crate) checksum: Option<PageChecksum>,
    /// The unclean-boot epoch of the write.
    pub(crate) epoch: u32,
}

const LEN_BITS: u32 = 25;
const FLAG_WRITTEN: u32 = 1 << 25;
const FLAG_DURABLE: u32 = 1 << 26;
const FLAG_CHECKSUM: u32 = 1 << 27;
const FLAGS_KNOWN: u32 = FLAG_WRITTEN | FLAG_DURABLE | FLAG_CHECKSUM;
const _: () = assert!(PageSize::MAX.as_u64() < 1 << LEN_BITS);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    page_crc: U32,
    len_flags: U32,
    epoch: U32,
    crc: U32,
}
const _: () = assert!(size_of::<RawRecord>() == RECORD_LEN);

/// The record's checksum covers its place too, so that a record of another extent or page is refused.
fn record_crc(id: ExtentId, page: PageIndex, body: &[u8]) -> u32 {
    let mut covered = [0; 28];
    covered[..8].copy_from_slice(&id.0.to_le_bytes());
    covered[8..16].copy_from_slice(&page.0.to_le_bytes());
    covered[16..].copy_from_slice(&body[..12]);
    crc32c(&covered)
}

impl PageRecord {
    pub(crate) fn encode(&self, id: ExtentId, page: PageIndex) -> [u8; RECORD_LEN] {
        let mut flags = FLAG_WRITTEN;
        if self.durable {
            flags |= FLAG_DURABLE;
        }
        if self.checksum.is_some() {
            flags |= FLAG_CHECKSUM;
        }
        let mut raw = RawRecord {
            page_crc: self.checksum.map_or(0, |c| c.0).into(),
            len_flags: (self.len | flags).into(),
            epoch: self.epoch.into(),
            crc: 0.into(),
        };
        raw.crc = record_crc(id, page, raw.as_bytes()).into();
        zerocopy::transmute!(raw)
    }

    /// `Ok(None)` where no page was ever recorded (zeros).
    pub(crate) fn decode(bytes: &[u8], id: ExtentId, page: PageIndex) -> Result<Option<Self>, Refused> {
        let (raw, _) = RawRecord::ref_from_prefix(bytes).map_err(|_| Refused::Magic)?;
        if bytes[..RECORD_LEN] == [0; RECORD_LEN] {
            return Ok(None);
        }
        if record_crc(id, page, bytes) != raw.crc.get() {
            return Err(Refused::Checksum);
        }
        let bits = raw.len_flags.get();
        let len = bits & ((1 << LEN_BITS) - 1);
        if bits >> LEN_BITS << LEN_BITS & !FLAGS_KNOWN != 0 || bits & FLAG_WRITTEN == 0 || len == 0 {
            return Err(Refused::Field("len_flags"));
        }
        Ok(Some(Self {
            len,
            durable: bits & FLAG_DURABLE != 0,
            checksum: (bits & FLAG_CHECKSUM != 0).then_some(PageChecksum(raw.page_crc.get())),
            epoch: raw.epoch.get(),
        }))
    }
}

/// Where the block of records that holds `page` lies in the sidecar.
pub(crate) const fn block_at(block: u64) -> u64 {
    RECORDS_AT + block * BLOCK_LEN as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(sequence: u64, keys: usize) -> SidecarHeader {
        SidecarHeader {
            id: ExtentId(0xabc),
            sequence,
            page_size: PageSize::DEFAULT,
            authority: Authority::Origin,
            born_here: false,
            len: 5 << 20,
            origin_len: 5 << 20,
            keys: (0..keys).map(|k| ContentKey(k as u128 + 1)).collect(),
        }
    }

    /// Frozen: the bytes of docs/FORMATS.md.
    #[test]
    fn header_fields_stand_where_the_format_page_says() {
        let bytes = header(2, 1).encode();
        assert_eq!(&bytes[..8], b"FOREBAYX");
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 20, 1, 0, 1]);
        assert_eq!(bytes[16..24], 0xabcu64.to_le_bytes());
        assert_eq!(bytes[24..32], 2u64.to_le_bytes());
        assert_eq!(bytes[32..40], (5u64 << 20).to_le_bytes());
        assert_eq!(bytes[40..48], (5u64 << 20).to_le_bytes());
        assert_eq!(bytes[64..80], 1u128.to_le_bytes());
        assert_eq!(bytes[4092..], crc32c(&bytes[..4092]).to_le_bytes());
    }

    #[test]
    fn record_fields_stand_where_the_format_page_says() {
        let record =
            PageRecord { len: 7, durable: true, checksum: Some(PageChecksum(0x0403_0201)), epoch: 9 };
        let bytes = record.encode(ExtentId(1), PageIndex(2));
        assert_eq!(bytes[..12], [1, 2, 3, 4, 7, 0, 0, 0b1110, 9, 0, 0, 0]);
        let covered = [&1u64.to_le_bytes()[..], &2u64.to_le_bytes()[..], &bytes[..12]].concat();
        assert_eq!(bytes[12..], crc32c(&covered).to_le_bytes());
    }

    #[test]
    fn the_newer_whole_slot_counts() {
        let pair = |a: &[u8], b: &[u8]| SidecarHeader::decode_pair(&[a, b].concat(), ExtentId(0xabc));
        let (old, new) = (header(4, 1), header(5, 2));
        assert_eq!(pair(&old.encode(), &new.encode()), Ok(new.clone()));
        assert_eq!(pair(&new.encode(), &old.encode()), Ok(new.clone()));
        let mut torn = new.encode();
        torn[2048..].fill(0);
        assert_eq!(pair(&old.encode(), &torn), Ok(old.clone()));
        assert_eq!(pair(&torn, &torn), Err(Refused::Checksum));
        assert!(SidecarHeader::decode_pair(&new.encode(), ExtentId(1)).is_err());
    }

    #[test]
    fn the_oldest_key_is_forgotten_beyond_the_bound() {
        let read = SidecarHeader::decode(&header(0, KEYS_MAX + 3).encode(), ExtentId(0xabc)).unwrap();
        assert_eq!(read.keys.len(), KEYS_MAX);
        assert_eq!(read.keys[0], ContentKey(4));
    }

    #[test]
    fn a_record_of_another_place_is_refused() {
        let record = PageRecord { len: 4096, durable: true, checksum: None, epoch: 1 };
        let bytes = record.encode(ExtentId(5), PageIndex(6));
        assert_eq!(PageRecord::decode(&bytes, ExtentId(5), PageIndex(6)), Ok(Some(record)));
        assert_eq!(PageRecord::decode(&bytes, ExtentId(5), PageIndex(7)), Err(Refused::Checksum));
        assert_eq!(PageRecord::decode(&bytes, ExtentId(4), PageIndex(6)), Err(Refused::Checksum));
        assert_eq!(PageRecord::decode(&[0; 16], ExtentId(5), PageIndex(6)), Ok(None));
    }

    proptest! {
        #[test]
        fn garbage_headers_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert!(SidecarHeader::decode_pair(&bytes, ExtentId(1)).is_err());
        }

        #[test]
        fn garbage_records_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..17)) {
            if let Ok(found) = PageRecord::decode(&bytes, ExtentId(1), PageIndex(1)) {
                prop_assert_eq!(found, None);
                prop_assert!(bytes.iter().all(|b| *b == 0));
            }
        }

        #[test]
        fn records_read_back(
            len in 1u32..=16 << 20, durable: bool, crc: Option<u32>, epoch: u32, id: u64, page: u64,
        ) {
            let record = PageRecord { len, durable, checksum: crc.map(PageChecksum), epoch };
            let (id, page) = (ExtentId(id), PageIndex(page));
            let bytes = record.encode(id, page);
            prop_assert_eq!(PageRecord::decode(&bytes, id, page), Ok(Some(record)));
            for bit in 0..RECORD_LEN * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(PageRecord::decode(&flipped, id, page).is_err());
            }
        }

        #[test]
        fn headers_read_back(sequence: u64, len: u64, origin: u64, born: bool, here: bool, keys in 0usize..KEYS_MAX) {
            let authority = if here { Authority::Here } else { Authority::Origin };
            let header = SidecarHeader { len, origin_len: origin, born_here: born, authority, ..header(sequence, keys) };
            prop_assert_eq!(SidecarHeader::decode(&header.encode(), ExtentId(0xabc)), Ok(header));
        }
    }
}
