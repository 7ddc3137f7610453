//! The bytes that are written: no two blocks of 4 KiB are equal, and each says of which file and which place it is, so that a
//! block that is lost, stale or in another's place shows when it is read back.
//!
//! A buffer is filled with random bytes once; before each write only the stamp at the head of its blocks is renewed, so
//! that making the data costs next to nothing beside writing it. All follows from a seed: what one run wrote another
//! can check.

/// What is stamped: also the unit and alignment of direct I/O.
pub(crate) const BLOCK: usize = 4096;
/// The file's tag and the block's offset.
const STAMP: usize = 16;

/// A buffer that begins on a block border in memory, as direct I/O asks for.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zeros.
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        Self { bytes, start, len }
    }

    /// Its first `len` bytes.
    pub(crate) fn head(&self, len: usize) -> &[u8] {
        &self.bytes[self.start..self.start + len.min(self.len)]
    }

    /// Its first `len` bytes, to be changed.
    pub(crate) fn head_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + len.min(self.len)]
    }
}

/// Content to write and to compare with.
#[derive(Debug)]
pub(crate) struct Pattern(Buffer);

impl Pattern {
    /// The content of all files of `seed` that are written in buffers of `len` bytes.
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        let mut buffer = Buffer::new(len);
        let mut state = seed;
        for word in buffer.head_mut(len).chunks_mut(8) {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            word.copy_from_slice(&mix(state).to_le_bytes()[..word.len()]);
        }
        Self(buffer)
    }

    /// The bytes of file `tag` at `offset`, which is a whole number of buffers.
    pub(crate) fn at(&mut self, tag: u64, offset: u64, len: usize) -> &[u8] {
        for (index, block) in self.0.head_mut(len).chunks_mut(BLOCK).enumerate() {
            let mut stamp = [0; STAMP];
            stamp[..8].copy_from_slice(&mix(tag).to_le_bytes());
            stamp[8..].copy_from_slice(&(offset + (index * BLOCK) as u64).to_le_bytes());
            let stamped = block.len().min(STAMP);
            block[..stamped].copy_from_slice(&stamp[..stamped]);
        }
        self.0.head(len)
    }

    /// Fills `into` with the bytes of file `tag` from `offset` on, which is anywhere; whole buffers follow each other.
    pub(crate) fn fill(&mut self, tag: u64, offset: u64, into: &mut [u8]) {
        let whole = self.0.len;
        let mut filled = 0;
        while filled < into.len() {
            let at = offset + filled as u64;
            let within = (at % whole as u64) as usize;
            let part = (whole - within).min(into.len() - filled);
            let bytes = self.at(tag, at - within as u64, whole);
            into[filled..filled + part].copy_from_slice(&bytes[within..within + part]);
            filled += part;
        }
    }

    /// Compares what was read of file `tag` at `offset`.
    ///
    /// # Errors
    /// Where the first wrong byte is, or how much is missing.
    pub(crate) fn check(&mut self, tag: u64, offset: u64, len: usize, read: &[u8]) -> Result<(), String> {
        if read.len() != len {
            return Err(format!("{} bytes at {offset} where there should be {len}", read.len()));
        }
        let expected = self.at(tag, offset, len);
        if expected == read {
            return Ok(());
        }
        let first = expected.iter().zip(read).position(|(a, b)| a != b).unwrap_or_default();
        Err(format!(
            "a wrong byte at {}: {:#04x} where {:#04x} was written",
            offset + first as u64,
            read[first],
            expected[first]
        ))
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"): spreads every bit.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned() {
        for len in [1, 100, BLOCK, 3 * BLOCK + 7] {
            let buffer = Buffer::new(len);
            assert_eq!((buffer.head(len).as_ptr() as usize % BLOCK, buffer.head(len).len()), (0, len));
        }
    }

    #[test]
    fn every_wrong_byte_is_found() {
        let len = 2 * BLOCK + 10;
        let mut pattern = Pattern::new(7, len);
        let written = pattern.at(3, 8192, len).to_vec();
        assert_eq!(pattern.check(3, 8192, len, &written), Ok(()));
        for at in [0, 8, 15, 16, BLOCK - 1, BLOCK, 2 * BLOCK + 9] {
            let mut bad = written.clone();
            bad[at] ^= 1;
            let said = pattern.check(3, 8192, len, &bad).unwrap_err();
            assert!(said.contains(&format!("at {}", 8192 + at)), "{said}");
        }
        assert!(pattern.check(4, 8192, len, &written).is_err(), "the bytes of another file");
        assert!(pattern.check(3, 0, len, &written).is_err(), "the bytes of another place");
        assert!(pattern.check(3, 8192, len, &written[1..]).is_err());
    }

    #[test]
    fn bytes_are_the_same_however_they_are_asked_for() {
        let mut pattern = Pattern::new(7, 2 * BLOCK);
        let mut whole = vec![0; 5 * BLOCK];
        pattern.fill(3, 0, &mut whole);
        assert_eq!(pattern.at(3, 2 * BLOCK as u64, 2 * BLOCK), &whole[2 * BLOCK..4 * BLOCK]);
        for (offset, len) in [(0, 1), (1, 5 * BLOCK - 1), (BLOCK, BLOCK), (2 * BLOCK - 1, 2), (5 * BLOCK, 0)]
        {
            let mut part = vec![0; len];
            pattern.fill(3, offset as u64, &mut part);
            assert_eq!(part, whole[offset..offset + len]);
        }
    }

    #[test]
    fn no_two_blocks_are_equal() {
        let mut pattern = Pattern::new(7, 4 * BLOCK);
        let mut seen = std::collections::BTreeSet::new();
        for (tag, offset) in [(1, 0), (1, 4 * BLOCK as u64), (2, 0)] {
            for block in pattern.at(tag, offset, 4 * BLOCK).chunks(BLOCK) {
                assert!(seen.insert(block.to_vec()));
            }
        }
    }
}
