//! Faults on purpose, for tests that must show that they would notice.

/// Whether the log is not to be synced: the feature `fault-injection`, which no released build has, is on and
/// the environment has `FOREBAY_TEST_SKIP_FSYNC=1`.
#[cfg(feature = "fault-injection")]
pub(crate) fn skip_fsync() -> bool {
    static SKIP: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *SKIP.get_or_init(|| std::env::var_os("FOREBAY_TEST_SKIP_FSYNC").is_some_and(|value| value == "1"))
}

/// Whether the log is not to be synced: never in this build.
#[cfg(not(feature = "fault-injection"))]
pub(crate) const fn skip_fsync() -> bool {
    false
}
