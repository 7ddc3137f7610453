//! The memory that the kernel says this process has.

use forebay_types::ByteSize;

const STATUS: &str = "/proc/self/status";

/// Memory of this process that is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resident {
    /// What only its end gives back: anonymous and shared memory, and reserved huge pages.
    pub(crate) own: ByteSize,
    /// Pages of files, which the kernel takes back when it wants to.
    pub(crate) files: ByteSize,
}

impl Resident {
    /// Looks.
    pub(crate) fn look() -> Self {
        Self::read(&std::fs::read_to_string(STATUS).unwrap_or_default())
    }

    /// From the text of `/proc/PID/status` (proc_pid_status(5)). What it does not say is not there.
    fn read(status: &str) -> Self {
        let of = |key: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let kib = rest.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            ByteSize::bytes(kib.unwrap_or(0).saturating_mul(1 << 10))
        };
        Self { own: super::sum([of("RssAnon"), of("RssShmem"), of("HugetlbPages")]), files: of("RssFile") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_of_files_are_told_apart() {
        let text = "VmRSS:\t 9 kB\nRssAnon:\t    10 kB\nRssFile:\t 4 kB\nRssShmem:\t 2 kB\nHugetlbPages:\t 2048 kB\n";
        let resident = Resident { own: ByteSize::kib(2060), files: ByteSize::kib(4) };
        assert_eq!(Resident::read(text), resident);
        assert!(Resident::look().own > ByteSize::kib(64));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(text in "[0-9RsAnonHugetlbPages: \tkB\n]{0,80}") {
            let _ = Resident::read(&text);
        }
    }
}
