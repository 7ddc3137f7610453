//! Faults on purpose, for tests that must show that they would notice.
//!
//! Without the feature `fault-injection`, which no released build has, every question here is answered with a
//! constant "no".

/// Whether calls that make bytes durable are to return without doing it: the feature is on and the environment
/// has `FOREBAY_TEST_SKIP_FSYNC=1`. A power-loss test that passes all the same proves nothing.
#[cfg(feature = "fault-injection")]
pub fn skip_fsync() -> bool {
    static SKIP: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *SKIP.get_or_init(|| {
        let skip = std::env::var_os("FOREBAY_TEST_SKIP_FSYNC").is_some_and(|value| value == "1");
        if skip {
            tracing::warn!("FOREBAY_TEST_SKIP_FSYNC is set: nothing is made durable");
        }
        skip
    })
}

/// Whether calls that make bytes durable are to return without doing it: never in this build.
#[cfg(not(feature = "fault-injection"))]
pub const fn skip_fsync() -> bool {
    false
}
