//! How much memory there is for this process: the machine's, or less where its control group may have no more.

use forebay_types::ByteSize;
use std::fs::read_to_string;
use std::path::Path;

const MEMINFO: &str = "/proc/meminfo";
const OWN_GROUPS: &str = "/proc/self/cgroup";
/// Where a controller of the first version is mounted, where that of the second, and the files with their limits.
const FIRST: (&str, &str) = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");
const SECOND: (&str, &str) = ("/sys/fs/cgroup", "memory.max");
/// What is taken for the machine's memory if the kernel does not say.
const UNKNOWN: ByteSize = ByteSize::gib(8);

/// The memory that there is.
pub(crate) fn available() -> ByteSize {
    let machine = read_to_string(MEMINFO).ok().and_then(|text| total_in(&text)).unwrap_or(UNKNOWN);
    let groups = read_to_string(OWN_GROUPS).unwrap_or_default();
    groups.lines().filter_map(limit_of).fold(machine, ByteSize::min)
}

/// The machine's memory, as `/proc/meminfo` begins with it.
fn total_in(meminfo: &str) -> Option<ByteSize> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10).map(ByteSize::bytes)
}

/// The limit of a group that this process is in, or of one around it: the lowest of them counts.
fn limit_of(line: &str) -> Option<ByteSize> {
    let ((mount, file), group) = memory_group(line)?;
    let dirs =
        Path::new(group).ancestors().map(|dir| Path::new(mount).join(dir.strip_prefix("/").unwrap_or(dir)));
    dirs.filter_map(|dir| limit_in(&read_to_string(dir.join(file)).ok()?)).min()
}

/// Where the limit of a group stands, and which group; from a line like `4:memory:/a/b` or `0::/a/b` (cgroups(7)).
fn memory_group(line: &str) -> Option<((&'static str, &'static str), &str)> {
    let mut fields = line.splitn(3, ':');
    let (number, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    match (number, controllers) {
        ("0", "") => Some((SECOND, group)),
        (_, names) => names.split(',').any(|name| name == "memory").then_some((FIRST, group)),
    }
}

/// `max`, or a number of bytes.
fn limit_in(text: &str) -> Option<ByteSize> {
    text.trim().parse().ok().map(ByteSize::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(total_in("MemTotal:       24684092 kB\nMemFree: 1 kB\n"), Some(ByteSize::kib(24_684_092)));
        assert_eq!(memory_group("0::/a/b"), Some((SECOND, "/a/b")));
        assert_eq!(memory_group("4:cpu,memory:/x"), Some((FIRST, "/x")));
        assert_eq!(memory_group("3:cpuset:/"), None);
        assert_eq!((limit_in("max\n"), limit_in("4096\n")), (None, Some(ByteSize::kib(4))));
        assert!(available() >= ByteSize::mib(64));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(text in "[0-9a-zMT:/, \n]{0,60}") {
            let _ = (total_in(&text), limit_of(&text), limit_in(&text));
        }
    }
}
