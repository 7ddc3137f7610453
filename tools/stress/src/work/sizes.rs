//! How large the files of a data set are.

use crate::data::mix;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The largest file of a data set of small files: it is written and read in one piece.
pub(crate) const SIZE_MAX: u64 = 256 << 20;
/// A logarithmic normal distribution is cut off so many times above its median.
const TAIL: f64 = 64.0;

/// A distribution of sizes. The size of a file follows from the distribution and the file's number alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sizes {
    /// All alike: `100KiB`.
    Fixed(u64),
    /// Any size between two, all as likely: `4KiB-1MiB`.
    Uniform(u64, u64),
    /// Most near the median, few much larger, as pictures and texts are: `lognormal:100KiB,0.8`.
    LogNormal {
        /// Half of the files are smaller.
        median: u64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// Some sizes by their share: `4KiB*70,64KiB*25,1MiB*5`.
    Shares(Vec<(u64, u32)>),
}

impl Sizes {
    /// The size of file `number`.
    pub(crate) fn of(&self, number: u64) -> u64 {
        let dice = mix(number.wrapping_add(0x5EED));
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform(from, to) => from + dice % (to - from + 1),
            Self::LogNormal { median, sigma } => {
                let factor = (sigma * normal(dice)).exp().min(TAIL);
                ((*median as f64 * factor) as u64).clamp(1, SIZE_MAX)
            }
            Self::Shares(shares) => share(shares, dice),
        }
    }

    /// The largest size there can be.
    pub(crate) fn max(&self) -> u64 {
        match self {
            Self::Fixed(size) | Self::Uniform(_, size) => *size,
            Self::LogNormal { median, .. } => ((*median as f64 * TAIL) as u64).min(SIZE_MAX),
            Self::Shares(shares) => shares.iter().map(|(size, _)| *size).max().unwrap_or_default(),
        }
    }
}

/// A value of the standard normal distribution (Box and Muller, 1958).
fn normal(dice: u64) -> f64 {
    let unit = |dice: u64| (dice >> 11) as f64 / (1_u64 << 53) as f64;
    let (a, b) = (1.0 - unit(dice), unit(mix(dice)));
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

fn share(shares: &[(u64, u32)], dice: u64) -> u64 {
    let total: u64 = shares.iter().map(|(_, share)| u64::from(*share)).sum();
    let mut at = dice % total;
    for (size, share) in shares {
        if at < u64::from(*share) {
            return *size;
        }
        at -= u64::from(*share);
    }
    unreachable!("the dice were thrown below the sum of the shares")
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = if let Some(parts) = text.strip_prefix("lognormal:") {
            let (median, sigma) = parts.split_once(',').ok_or("write it like lognormal:100KiB,0.8")?;
            let sigma = sigma.parse().ok().filter(|sigma| (0.0..=4.0).contains(sigma));
            Self::LogNormal {
                median: size(median)?,
                sigma: sigma.ok_or("the deviation is a number from 0 to 4")?,
            }
        } else if text.contains('*') {
            Self::Shares(text.split(',').map(one_share).collect::<Result<_, _>>()?)
        } else if let Some((from, to)) = text.split_once('-') {
            Self::Uniform(size(from)?, size(to)?)
        } else {
            Self::Fixed(size(text)?)
        };
        match &sizes {
            Self::Uniform(from, to) if from > to => Err(format!("{text:?}: the smaller size comes first")),
            _ => Ok(sizes),
        }
    }
}

fn one_share(text: &str) -> Result<(u64, u32), String> {
    let (of, share) = text.split_once('*').ok_or("write it like 4KiB*70,64KiB*30")?;
    let share = share.parse().ok().filter(|share| *share > 0);
    Ok((size(of)?, share.ok_or_else(|| format!("{text:?}: the share is a whole number above 0"))?))
}

fn size(text: &str) -> Result<u64, String> {
    match crate::args::size(text)? {
        size if size > SIZE_MAX => Err(format!("{text}: small files have 256MiB at most")),
        size => Ok(size),
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Uniform(from, to) => write!(f, "{from}-{to}"),
            Self::LogNormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
            Self::Shares(shares) => {
                let shares: Vec<_> = shares.iter().map(|(size, share)| format!("{size}*{share}")).collect();
                f.write_str(&shares.join(","))
            }
        }
    }
}

impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, count: u64) -> Vec<u64> {
        let sizes: Sizes = text.parse().unwrap();
        assert_eq!(sizes.to_string().parse(), Ok(sizes.clone()), "what is printed reads back");
        let mut all: Vec<_> = (0..count).map(|number| sizes.of(number)).collect();
        all.sort_unstable();
        assert!(*all.last().unwrap() <= sizes.max());
        all
    }

    #[test]
    fn distributions_are_what_they_say() {
        assert_eq!(of("100KiB", 3), [102_400; 3]);
        let uniform = of("4KiB-1MiB", 10_000);
        assert!(uniform[0] >= 4096 && (480_000..570_000).contains(&uniform[5_000]), "{}", uniform[5_000]);
        let pictures = of("lognormal:100KiB,0.8", 10_000);
        let median = pictures[5_000] as f64 / 102_400.0;
        // One standard deviation above the median lie 15.9 % of the files.
        let above = pictures[8_413] as f64 / 102_400.0;
        assert!((0.96..1.04).contains(&median) && (2.1..2.35).contains(&above), "{median} {above}");
        let shares = of("4KiB*70,64KiB*25,1MiB*5", 10_000);
        assert!((6_800..7_200).contains(&shares.iter().filter(|size| **size == 4096).count()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "x", "1MiB-4KiB", "lognormal:1MiB", "lognormal:1MiB,9", "4KiB*0", "4KiB*1,", "1GiB"]
        {
            assert!(text.parse::<Sizes>().is_err(), "{text:?}");
        }
    }
}
