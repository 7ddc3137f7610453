//! How long a thread waited for its core while others had it, as the scheduler counts it.
//!
//! A poll that was slow because the machine was busy is no fault of the task: what a task is to blame for is the time
//! in which it ran or was blocked. The kernel tells the rest in `/proc/thread-self/schedstat` (the second number:
//! nanoseconds on the run queue), where it was built to.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Three numbers of at most 20 digits.
const LINE_MAX: usize = 80;

/// The scheduler's account of one thread. May be read by any thread.
#[derive(Debug)]
pub(crate) struct RunQueue(File);

impl RunQueue {
    /// Of the calling thread; `None` where the kernel keeps no account.
    pub(crate) fn of_this_thread() -> Option<Self> {
        let account = Self(File::open("/proc/thread-self/schedstat").ok()?);
        account.waited().map(|_| account)
    }

    /// How long the thread has waited for its core since it was made.
    pub(crate) fn waited(&self) -> Option<Duration> {
        let mut line = [0; LINE_MAX];
        let n = self.0.read_at(&mut line, 0).ok()?;
        parse(&line[..n]).map(Duration::from_nanos)
    }
}

fn parse(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_counts() {
        assert_eq!(parse(b"12 345 6\n"), Some(345));
        assert_eq!(parse(b"12\n"), None);
        assert_eq!(parse(b"a b c"), None);
        assert_eq!(parse(&[0xff; 8]), None);
    }
}
