//! Bounds that settings may be given, and how they hang together.
//!
//! A share or a number that makes no sense is refused here, while a refusal still leaves no trace; the parts
//! assert what they need and never mend it.

use crate::config::{Cache, Config, Persist};
use crate::failure::{Failure, Outcome};
use forebay_types::ByteSize;

/// Room promised to a writer where nobody says how much, and the most of a tier that this may be.
const RESERVE: ByteSize = ByteSize::mib(1);
const RESERVE_SHARE: u64 = 64;
/// The largest share of a tier that one writer may be promised.
const RESERVE_SHARE_MIN: u64 = 4;
/// Files carried at one time, and parts of one.
const TASKS_MAX: usize = 256;
const PARTS_MAX: usize = 64;
/// The least memory for parts: one of the usual length.
pub(crate) const PERSIST_MEMORY_MIN: ByteSize = ByteSize::mib(8);
/// The longest file that is packed: a segment holds many.
const PACK_MAX: ByteSize = ByteSize::mib(1);
/// The slowest scrubber: below it a disk of a terabyte takes longer than it lasts.
const SCRUB_RATE_MIN: ByteSize = ByteSize::kib(64);

/// Checks the settings that bound something.
///
/// # Errors
/// The first that cannot be, with what could.
pub(crate) fn check(config: &Config) -> Outcome<()> {
    check_marks(&config.cache)?;
    check_sizes(&config.cache)?;
    check_persist(&config.persist)
}

fn check_marks(cache: &Cache) -> Outcome<()> {
    let Cache { high_watermark: high, low_watermark: low, dirty_mark: dirty, full_mark: full, .. } = cache;
    if !(1 <= *low && low < high && *high <= 100) {
        let cause = format!("cache.low_watermark = {low} and cache.high_watermark = {high} cannot be");
        return Err(Failure::new(cause).remedy("give percentages of which the low one is below the high one"));
    }
    if !(1 <= *dirty && dirty < full && *full < 100) {
        let cause = format!("cache.dirty_mark = {dirty} and cache.full_mark = {full} cannot be");
        return Err(Failure::new(cause)
            .remedy("give percentages below 100 of which the dirty mark is below the full one"));
    }
    Ok(())
}

fn check_sizes(cache: &Cache) -> Outcome<()> {
    if cache.pack_max > PACK_MAX {
        return Err(Failure::new(format!("cache.pack_max = {} is too large", cache.pack_max))
            .remedy(format!("give at most {PACK_MAX}")));
    }
    if cache.scrub_rate < SCRUB_RATE_MIN {
        return Err(Failure::new(format!("cache.scrub_rate = {} is too small", cache.scrub_rate))
            .remedy(format!("give at least {SCRUB_RATE_MIN} a second")));
    }
    let sizes = cache.tiers.iter().map(|tier| tier.quota).chain(cache.size);
    let too_much = |size: &ByteSize| {
        cache.reserve.is_some_and(|reserve| reserve.as_u64() > size.as_u64() / RESERVE_SHARE_MIN)
    };
    match sizes.into_iter().find(too_much) {
        None => Ok(()),
        Some(size) => Err(Failure::new(format!("cache.reserve is too large for a tier of {size}"))
            .remedy(format!("give at most one in {RESERVE_SHARE_MIN} of it: few could write at once"))),
    }
}

fn check_persist(persist: &Persist) -> Outcome<()> {
    let number = |key: &str, is: usize, most: usize| {
        if (1..=most).contains(&is) {
            return Ok(());
        }
        Err(Failure::new(format!("persist.{key} = {is} cannot be"))
            .remedy(format!("give a number from 1 to {most}")))
    };
    number("tasks", persist.tasks, TASKS_MAX)?;
    number("parts", persist.parts, PARTS_MAX)
}

/// The room that a writer is promised on a tier of `quota` bytes.
pub(crate) fn reserve(wanted: Option<ByteSize>, quota: u64) -> ByteSize {
    wanted.unwrap_or_else(|| RESERVE.min(ByteSize::bytes(quota / RESERVE_SHARE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        check(&config).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_hang_together() {
        check(&Config::default()).unwrap();
        assert_eq!(reserve(None, 1 << 40), RESERVE);
        assert_eq!(reserve(None, 64 << 20), ByteSize::mib(1));
        assert_eq!(reserve(None, 32 << 20), ByteSize::kib(512));
        assert_eq!(reserve(Some(ByteSize::mib(9)), 64 << 20), ByteSize::mib(9));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could() {
        assert!(refusal(|c| c.cache.low_watermark = 95).contains("the low one is below the high one"));
        assert!(refusal(|c| c.cache.high_watermark = 101).contains("cache.high_watermark = 101"));
        assert!(refusal(|c| c.cache.dirty_mark = 90).contains("the dirty mark is below the full one"));
        assert!(refusal(|c| c.cache.pack_max = ByteSize::gib(1)).contains("give at most"));
        assert!(refusal(|c| c.cache.scrub_rate = ByteSize::kib(1)).contains("64KiB a second"));
        assert!(refusal(|c| c.persist.tasks = 0).contains("persist.tasks = 0 cannot be"));
        assert!(refusal(|c| c.persist.parts = 1000).contains("from 1 to 64"));
        let large = |c: &mut Config| {
            (c.cache.reserve, c.cache.size) = (Some(ByteSize::mib(64)), Some(ByteSize::mib(128)));
        };
        assert!(refusal(large).contains("too large for a tier of 128MiB"));
    }
}
