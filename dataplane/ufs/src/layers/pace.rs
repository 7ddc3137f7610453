//! A cap on bytes a second, for one direction.

use forebay_types::ByteSize;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What may flow at once after a lull, as time at the capped rate.
const BURST: Duration = Duration::from_millis(100);

/// Lets bytes through no faster than its rate, with a burst of [`BURST`] (GCRA, ITU-T I.371: the state is one
/// instant, the time at which all that was let through has drained).
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: f64,
    drained_at: Mutex<Instant>,
}

impl Pace {
    /// A pace of `rate` bytes a second; at least 1.
    pub(super) fn new(rate: ByteSize) -> Self {
        let bytes_per_second = rate.as_u64().max(1) as f64;
        Self { bytes_per_second, drained_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may flow.
    pub(super) async fn take(&self, bytes: usize) {
        let wait = {
            let mut drained_at = self.drained_at.lock();
            let now = Instant::now();
            *drained_at = (*drained_at).max(now) + self.span(bytes);
            drained_at.duration_since(now).saturating_sub(BURST)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Gives back bytes that were taken and did not flow.
    pub(super) fn give_back(&self, bytes: usize) {
        let mut drained_at = self.drained_at.lock();
        if let Some(earlier) = drained_at.checked_sub(self.span(bytes)) {
            *drained_at = earlier;
        }
    }

    fn span(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_of_bytes_take_ten_seconds() {
        let (pace, began) = (Pace::new(ByteSize::mib(1)), Instant::now());
        for _ in 0..100 {
            pace.take(192 << 10).await;
            pace.give_back(64 << 10);
        }
        let took = began.elapsed().as_secs_f64();
        assert!((12.3..12.7).contains(&took), "12.5 MiB at 1 MiB/s took {took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lull_saves_up_no_more_than_the_burst() {
        let pace = Pace::new(ByteSize::mib(1));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let began = Instant::now();
        pace.take(2 << 20).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1890) && took <= Duration::from_millis(1910), "{took:?}");
    }
}
