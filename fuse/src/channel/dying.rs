//! Whether a thread that waits for an answer is being killed, which is the only reason not to wait for it.
//!
//! The kernel sends one INTERRUPT for a request, at the first signal of whatever kind, and says neither which it was nor
//! what comes later. Most signals kill nobody (a timer, a child that ended, a profiler, a runtime that stops its threads),
//! and hardly any program expects that stat(2) or open(2) fails for them: no local file system lets them.

use std::time::Duration;

/// How often a thread that had a signal is looked at. The kill itself is seen at once: it is there before its INTERRUPT.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long whoever cannot be seen from here, in another PID namespace, waits for an answer after a signal.
const UNSEEN_WAITS: Duration = Duration::from_secs(5);
/// The bit of SIGKILL among pending signals. Every signal that ends the process becomes this one for each of its threads.
const KILL: u64 = 1 << (9 - 1);

/// Waits until a thread is being killed, or has had its time where nothing is known of it.
pub(super) async fn until_dying(thread: u32) {
    loop {
        match is_dying(thread) {
            Some(true) => return,
            Some(false) => forebay_shard::sleep(LOOK_EVERY).await,
            None => return forebay_shard::sleep(UNSEEN_WAITS).await,
        }
    }
}

/// By `SigPnd` of `/proc/TID/status`; `None`: there is no such thread here.
fn is_dying(thread: u32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"))?;
    Some(u64::from_str_radix(pending.trim(), 16).ok()? & KILL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lives_is_not_dying_and_of_strangers_nothing_is_known() {
        assert_eq!(is_dying(std::process::id()), Some(false));
        assert_eq!(is_dying(0), None);
    }
}
