//! The tier header: whose directory this is, and how the last process left it.

use super::{FORMAT_VERSION, Refused};
use forebay_types::{NodeId, PageSize, crc32c};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of the header file in bytes.
pub(crate) const TIER_HEADER_LEN: usize = 512;
const MAGIC: [u8; 8] = *b"FOREBAYT";

/// What the header file of a tier says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TierHeader {
    pub(crate) node: NodeId,
    /// The page size new extents had when the tier was last opened; each sidecar has its own.
    pub(crate) page_size: PageSize,
    /// The kernel's boot_id when the tier was last opened.
    pub(crate) boot_id: [u8; 16],
    /// Counts the unclean boots: a residency bit of an older epoch counts only if it is durable.
    pub(crate) epoch: u32,
    /// Whether the last process synced everything and said goodbye.
    pub(crate) clean: bool,
    /// Extent ids below this one may have been handed out.
    pub(crate) id_mark: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    page_log2: u8,
    clean: u8,
    node_len: u8,
    zero: u8,
    boot_id: [u8; 16],
    epoch: U32,
    zero2: U32,
    id_mark: U64,
    node: [u8; 64],
    padding: [u8; 396],
    crc: U32,
}
const _: () = assert!(size_of::<Raw>() == TIER_HEADER_LEN);
const _: () = assert!(NodeId::LEN_MAX < 64);

impl TierHeader {
    pub(crate) fn encode(&self) -> [u8; TIER_HEADER_LEN] {
        let name = self.node.as_str().as_bytes();
        let mut node = [0; 64];
        node[..name.len()].copy_from_slice(name);
        let mut raw = Raw {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            page_log2: self.page_size.bytes().trailing_zeros() as u8,
            clean: self.clean.into(),
            node_len: name.len() as u8,
            zero: 0,
            boot_id: self.boot_id,
            epoch: self.epoch.into(),
            zero2: 0.into(),
            id_mark: self.id_mark.into(),
            node,
            padding: [0; 396],
            crc: 0.into(),
        };
        raw.crc = crc32c(&raw.as_bytes()[..TIER_HEADER_LEN - 4]).into();
        zerocopy::transmute!(raw)
    }

    /// Checks the magic number first, then the version, then the checksum: a later version may put its
    /// checksum elsewhere, and must be named as such rather than called damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| Refused::Magic)?;
        if raw.magic != MAGIC {
            return Err(Refused::Magic);
        }
        if raw.version.get() != FORMAT_VERSION {
            return Err(Refused::Version(raw.version.get()));
        }
        if crc32c(&bytes[..TIER_HEADER_LEN - 4]) != raw.crc.get() {
            return Err(Refused::Checksum);
        }
        Self::from_raw(raw)
    }

    fn from_raw(raw: &Raw) -> Result<Self, Refused> {
        let name = raw.node.get(..usize::from(raw.node_len)).ok_or(Refused::Field("node_len"))?;
        let name = std::str::from_utf8(name).map_err(|_| Refused::Field("node"))?;
        Ok(Self {
            node: NodeId::new(name).map_err(|_| Refused::Field("node"))?,
            page_size: super::sidecar::page_size_of(raw.page_log2)?,
            boot_id: raw.boot_id,
            epoch: raw.epoch.get(),
            clean: raw.clean == 1,
            id_mark: raw.id_mark.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> TierHeader {
        TierHeader {
            node: NodeId::new("gpu-007").unwrap(),
            page_size: PageSize::DEFAULT,
            boot_id: [7; 16],
            epoch: 3,
            clean: true,
            id_mark: 0x1_0000,
        }
    }

    /// Frozen: the bytes of docs/FORMATS.md.
    #[test]
    fn fields_stand_where_the_format_page_says() {
        let bytes = header().encode();
        assert_eq!(&bytes[..8], b"FOREBAYT");
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 20, 1, 7, 0]);
        assert_eq!(bytes[16..32], [7; 16]);
        assert_eq!(bytes[32..40], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[40..48], [0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[48..55], b"gpu-007");
        assert_eq!(bytes[508..], crc32c(&bytes[..508]).to_le_bytes());
    }

    #[test]
    fn another_version_is_named_before_the_checksum_is_looked_at() {
        let mut bytes = header().encode();
        bytes[8] = 9;
        assert_eq!(TierHeader::decode(&bytes), Err(Refused::Version(9)));
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(TierHeader::decode(&bytes).is_err());
        }

        #[test]
        fn any_flipped_bit_is_noticed(at in 0usize..TIER_HEADER_LEN, bit in 0u8..8) {
            let mut bytes = header().encode();
            bytes[at] ^= 1 << bit;
            prop_assert!(TierHeader::decode(&bytes).is_err());
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(TierHeader::decode(&header().encode()), Ok(header()));
    }
}
