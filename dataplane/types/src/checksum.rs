//! Page checksums: CRC-32C (Castagnoli), as iSCSI (RFC 3720, appendix B.4), ext4 and most object stores use.

use std::fmt;

/// The CRC-32C of one page's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageChecksum(pub u32);

impl PageChecksum {
    /// Computes the checksum of a page.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc32c(bytes))
    }
}

impl fmt::Debug for PageChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageChecksum({:08x})", self.0)
    }
}

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let wide = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(wide).expect("a 32-bit checksum algorithm yields at most 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 3720, appendix B.4.
    #[test]
    fn matches_the_published_vectors() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
