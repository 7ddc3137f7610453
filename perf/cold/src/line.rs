//! A line of a given rate and round trip, shared by all connections.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What passes at once: short enough that connections share the line evenly.
pub(crate) const PIECE: usize = 256 << 10;

/// The line.
pub(crate) struct Line {
    /// Bytes a second; 0: as fast as it goes.
    rate: u64,
    delay: Duration,
    /// When the line is free for the next piece.
    free_at: Mutex<Instant>,
}

impl Line {
    pub(crate) fn new(rate: u64, delay: Duration) -> Self {
        Self { rate, delay, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits as long as a question and the first byte of its answer are on their way.
    pub(crate) fn round_trip(&self, asked_at: Instant) {
        sleep_until(asked_at + self.delay);
    }

    /// Waits for the place of a piece of `len` bytes behind all pieces that came before.
    pub(crate) fn pass(&self, len: usize) {
        if self.rate == 0 {
            return;
        }
        let takes = Duration::from_secs_f64(len as f64 / self.rate as f64);
        let begins = {
            let mut free_at = self.free_at.lock().expect("nobody panics with the line");
            let begins = (*free_at).max(Instant::now());
            *free_at = begins + takes;
            begins
        };
        sleep_until(begins + takes);
    }
}

fn sleep_until(at: Instant) {
    let left = at.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        sleep(left);
    }
}
