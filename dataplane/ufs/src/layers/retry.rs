//! When and how often a call is tried again.

use crate::error::{UfsError, UfsResult};
use rand::RngExt;
use std::time::Duration;
use tokio::time::Instant;

/// How transient failures are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most attempts, the first one counted; at least 1.
    pub attempts_max: u32,
    /// The longest pause before the second attempt; it doubles from one attempt to the next.
    pub pause_first: Duration,
    /// The longest pause of all.
    pub pause_max: Duration,
    /// No attempt begins later than this after the first.
    pub total_max: Duration,
}

impl RetryPolicy {
    /// One attempt and no more.
    pub const NEVER: Self = Self {
        attempts_max: 1,
        pause_first: Duration::ZERO,
        pause_max: Duration::ZERO,
        total_max: Duration::ZERO,
    };
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 8,
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
            total_max: Duration::from_secs(120),
        }
    }
}

/// When a call may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// After every transient failure.
    Always,
    /// Only after a refusal, which surely took no effect.
    IfRefused,
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    repeat: Repeat,
    began: Instant,
    made: u32,
    /// Whether an earlier attempt failed in a way that leaves open whether it took effect.
    in_doubt: bool,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy, repeat: Repeat) -> Self {
        Self { policy, repeat, began: Instant::now(), made: 0, in_doubt: false }
    }

    /// Takes note of an attempt's outcome. Hands it back if it stands; else waits, and the caller tries again.
    pub(crate) async fn settle<T>(&mut self, outcome: UfsResult<T>) -> Option<UfsResult<T>> {
        self.made += 1;
        let error = match outcome {
            Err(error) if error.is_transient() => error,
            settled => return Some(settled),
        };
        self.in_doubt |= !matches!(error, UfsError::Throttled(_));
        let pause = self.pause();
        let late = self.began.elapsed() + pause >= self.policy.total_max;
        let unsound = self.in_doubt && self.repeat == Repeat::IfRefused;
        if unsound || self.made >= self.policy.attempts_max || late {
            return Some(Err(error));
        }
        tracing::debug!(%error, attempt = self.made, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        None
    }

    /// Whether an earlier attempt may have taken effect.
    pub(super) fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// How many attempts came after the first.
    pub(super) fn repeats(&self) -> u32 {
        self.made.saturating_sub(1)
    }

    /// A random span up to the doubled limit ("full jitter"): callers that failed together do not come back
    /// together.
    fn pause(&self) -> Duration {
        let doublings = (self.made - 1).min(16);
        let longest = self.policy.pause_first.saturating_mul(1 << doublings).min(self.policy.pause_max);
        longest.mul_f64(rand::rng().random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> UfsResult<()> {
        Err(UfsError::Unavailable("test".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_and_time_are_bounded() {
        let mut attempts =
            Attempts::new(RetryPolicy { attempts_max: 3, ..Default::default() }, Repeat::Always);
        assert!(attempts.settle(failure()).await.is_none());
        assert!(attempts.settle(failure()).await.is_none());
        assert_eq!(attempts.settle(failure()).await, Some(failure()));

        let policy =
            RetryPolicy { attempts_max: 1000, total_max: Duration::from_secs(30), ..Default::default() };
        let (mut attempts, began) = (Attempts::new(policy, Repeat::Always), Instant::now());
        while attempts.settle(failure()).await.is_none() {}
        assert!(began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
        assert!(attempts.repeats() >= 3, "only {} attempts in 30 s", attempts.repeats());
    }

    #[tokio::test(start_paused = true)]
    async fn only_transient_failures_are_retried() {
        let mut attempts = Attempts::new(RetryPolicy::default(), Repeat::Always);
        let lasting: UfsResult<()> = Err(UfsError::Io("bad disk".into()));
        assert_eq!(attempts.settle(lasting.clone()).await, Some(lasting));
        assert!(!attempts.in_doubt());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_took_no_effect_a_lost_one_may_have() {
        let mut attempts = Attempts::new(RetryPolicy::default(), Repeat::Always);
        assert!(attempts.settle::<()>(Err(UfsError::Throttled("test".into()))).await.is_none());
        assert!(!attempts.in_doubt());
        assert!(attempts.settle::<()>(Err(UfsError::Timeout("test".into()))).await.is_none());
        assert!(attempts.in_doubt());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_to_repeat_is_repeated_only_after_a_refusal() {
        let mut attempts = Attempts::new(RetryPolicy::default(), Repeat::IfRefused);
        assert!(attempts.settle::<()>(Err(UfsError::Throttled("test".into()))).await.is_none());
        assert_eq!(attempts.settle(failure()).await, Some(failure()));
    }
}
