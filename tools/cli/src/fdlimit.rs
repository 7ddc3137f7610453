//! The limit of open files: raised at start, because every cached file that is open costs two descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many descriptors as a node with some hundred thousand open files needs; the kernel's default ceiling
/// (`fs.nr_open`) is the same number.
const WANTED: u64 = 1 << 20;

/// Raises the soft limit, and the hard one where that is permitted, and returns what was got.
pub(crate) fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (current, maximum) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    if current >= WANTED {
        return current;
    }
    let attempts = [(WANTED, WANTED.max(maximum)), (WANTED.min(maximum), maximum)];
    for (soft, hard) in attempts {
        if setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: Some(hard) }).is_ok() {
            return soft;
        }
    }
    current
}

/// Raises the limit and says what was got.
pub(crate) fn raise_and_tell() {
    let got = raise();
    if got < WANTED {
        tracing::warn!(got, wanted = WANTED, "few open files are permitted; raise LimitNOFILE or ulimit -n");
    } else {
        tracing::info!(got, "open files permitted");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_never_sinks() {
        let before =
            rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let got = super::raise();
        assert!(got >= before.min(super::WANTED));
        let after = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        assert_eq!(got, after);
    }
}
