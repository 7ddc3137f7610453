//! The highest rate that is kept up: doubled until less than 98 % of it is reached, then bisected to 2 %.

use crate::error::Result;
use serde::Serialize;

/// The share of the target that counts as reached.
const REACHED: f64 = 0.98;
/// How close the bounds are when the search ends.
const CLOSE: f64 = 0.02;
/// The most trials: beyond it the target doubles past anything real.
const TRIALS_MAX: usize = 40;

/// One rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Trial {
    /// Operations a second that were asked for.
    pub(crate) target: f64,
    /// Operations a second that were done.
    pub(crate) achieved: f64,
    /// Whether that is enough.
    pub(crate) reached: bool,
}

/// Whether what was done is enough to say that the target was kept up.
pub(crate) fn reached(target: f64, achieved: f64) -> bool {
    achieved >= REACHED * target
}

/// Finds the highest rate that `attempt` reaches, from `first` on; gives it all trials, in their order, and the rate: 0 if not even
/// halving `first` again and again finds one. `attempt` gives `None` when the search is to be left off.
///
/// # Errors
/// What `attempt` fails with.
pub(crate) fn search(
    first: f64,
    mut attempt: impl FnMut(f64) -> Result<Option<f64>>,
) -> Result<(f64, Vec<Trial>)> {
    let mut trials = Vec::new();
    let (mut kept, mut missed) = (0.0_f64, f64::INFINITY);
    while trials.len() < TRIALS_MAX && missed - kept > CLOSE * missed.min(f64::MAX) {
        let target = next(first, kept, missed);
        let Some(achieved) = attempt(target)? else { break };
        let trial = Trial { target, achieved, reached: reached(target, achieved) };
        trials.push(trial);
        if trial.reached {
            kept = target;
        } else {
            missed = target;
        }
    }
    Ok((kept, trials))
}

fn next(first: f64, kept: f64, missed: f64) -> f64 {
    match (kept > 0.0, missed.is_finite()) {
        (false, false) => first,
        (true, false) => kept * 2.0,
        (false, true) => missed / 2.0,
        (true, true) => f64::midpoint(kept, missed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_known_limit_is_found_to_two_percent(limit in 3.0f64..1e7, first in 1.0f64..1e5) {
            let (found, trials) = search(first, |target| Ok(Some(target.min(limit)))).unwrap();
            // A target up to 1/0.98 of the limit still counts as reached.
            prop_assert!(found >= limit * 0.97 && found <= limit / REACHED, "{} of {}", found, limit);
            prop_assert!(trials.len() <= TRIALS_MAX);
        }
    }

    #[test]
    fn a_target_that_does_nothing_ends_the_search() {
        let (found, trials) = search(100.0, |_| Ok(Some(0.0))).unwrap();
        assert_eq!((found, trials.len()), (0.0, TRIALS_MAX));
    }

    #[test]
    fn left_off_it_gives_what_it_knows() {
        let mut left = 3;
        let (found, trials) = search(1.0, |target| {
            left -= 1;
            Ok((left > 0).then_some(target))
        })
        .unwrap();
        assert_eq!((found, trials.len()), (2.0, 2));
    }
}
