//! The seeded generator of all choices: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
//! Written out here so that a seed names the same operations for as long as this file stays as it is.

/// A reproducible stream of choices.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream of `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice among nothing");
        self.next() % bound
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One element; `None` of an empty slice.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len() as u64) as usize) }
    }

    /// An index, chosen by weight.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let mut at = self.below(total.max(1));
        for (index, weight) in weights.iter().enumerate() {
            if at < u64::from(*weight) {
                return index;
            }
            at -= u64::from(*weight);
        }
        0
    }

    /// A length that is small most of the time, near a page border often, and up to `max` now and then.
    pub(crate) fn length(&mut self, max: u64) -> u64 {
        let length = match self.below(8) {
            0 => 1 + self.below(16),
            1..=3 => 1 + self.below(4096),
            4 | 5 => 4096 * (1 + self.below(16)) + self.below(3) - 1,
            6 => 1 + self.below(64 << 10),
            _ => 1 + self.below(max),
        };
        length.min(max)
    }
}

/// SplitMix64's finalizer: a bijection that spreads every bit.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_one_stream() {
        let mut rng = Rng::new(1_234_567);
        // The first outputs that the published algorithm gives for this seed.
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn lengths_stay_within_bounds() {
        let mut rng = Rng::new(7);
        assert!((0..10_000).all(|_| (1..=5000).contains(&rng.length(5000))));
    }
}
