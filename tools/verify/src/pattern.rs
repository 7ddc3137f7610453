//! Bytes that say who wrote them: every byte follows from a tag and its offset, and none is zero, so that a
//! hole, a lost page and a page of another write all show.

use crate::rng::mix;

/// Fills `out` with the bytes that `tag` writes at `offset`.
pub(crate) fn fill(tag: u64, offset: u64, out: &mut [u8]) {
    let mut at = offset;
    let mut rest = out;
    while !rest.is_empty() {
        let word = (mix(tag ^ mix(at >> 3)) | 0x0101_0101_0101_0101).to_le_bytes();
        let skip = (at & 7) as usize;
        let n = rest.len().min(8 - skip);
        rest[..n].copy_from_slice(&word[skip..skip + n]);
        at += n as u64;
        rest = &mut rest[n..];
    }
}

/// The bytes that `tag` writes at `offset`.
pub(crate) fn bytes(tag: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    fill(tag, offset, &mut out);
    out
}

/// Puts the bytes of `tag` into `data` at `offset`, which grows with zeros to hold them.
pub(crate) fn put(data: &mut Vec<u8>, tag: u64, offset: u64, len: u64) {
    let (start, end) = (offset as usize, (offset + len) as usize);
    if data.len() < end {
        data.resize(end, 0);
    }
    fill(tag, offset, &mut data[start..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_follows_from_tag_and_offset_alone() {
        let whole = bytes(9, 0, 100);
        for start in 0..50 {
            assert_eq!(bytes(9, start as u64, 50), whole[start..start + 50]);
        }
        assert!(!whole.contains(&0));
        assert_ne!(bytes(9, 0, 100), bytes(10, 0, 100));
    }
}
