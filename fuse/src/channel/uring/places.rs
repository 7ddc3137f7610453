//! Which shard serves the requests made on which CPU.
//!
//! A CPU that a shard is pinned to is served there. Any other CPU goes to a shard of the same memory node, if there is
//! one, to that with the fewest CPUs so far, and among those to the nearest by number.

use std::path::Path;

/// Where the kernel lists the CPUs that this machine could have, also those that are off.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
/// The most CPUs that Linux is built for.
const CPUS_MAX: usize = 8192;

/// The CPUs that there could be, by number. The kernel counts them and numbers its queues from 0.
pub(super) fn possible_cpus() -> Option<usize> {
    let text = std::fs::read_to_string(POSSIBLE).ok()?;
    Some(numbers_in(&text)?.len()).filter(|count| *count > 0)
}

/// The numbers of a list such as `0-3,8,10-11`.
fn numbers_in(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CPUS_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// The memory node of a CPU; 0 where the kernel does not say.
pub(super) fn node_of(cpu: usize) -> usize {
    let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
    let entries = Path::new(&dir).read_dir().into_iter().flatten().flatten();
    let node = |name: &str| name.strip_prefix("node").and_then(|number| number.parse().ok());
    entries.filter_map(|entry| node(entry.file_name().to_str()?)).next().unwrap_or(0)
}

/// For each of `cpus` CPUs, the index of its shard; `cores` are the CPUs that the shards are pinned to.
pub(super) fn assign(cpus: usize, cores: &[usize], node_of: impl Fn(usize) -> usize) -> Vec<usize> {
    assert!(!cores.is_empty(), "a mount has a shard");
    let mut load = vec![0_usize; cores.len()];
    let own = |cpu: usize| cores.iter().position(|core| *core == cpu);
    let mut places: Vec<Option<usize>> = (0..cpus).map(own).collect();
    places.iter().flatten().for_each(|shard| load[*shard] += 1);
    for (cpu, place) in places.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
        let node = node_of(cpu);
        let rank = |shard: &usize| {
            let core = cores[*shard];
            (node_of(core) != node, load[*shard], core.abs_diff(cpu))
        };
        let shard = (0..cores.len()).min_by_key(rank).expect("there is a shard");
        load[shard] += 1;
        *place = Some(shard);
    }
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(numbers_in("0-1\n"), Some(vec![0, 1]));
        assert_eq!(numbers_in("0-3,8,10-11"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(numbers_in("0-99999999"), None);
        assert_eq!(numbers_in("x"), None);
        assert!(possible_cpus().unwrap() >= std::thread::available_parallelism().unwrap().get());
    }

    #[test]
    fn a_cpu_is_served_where_it_is_or_near_by() {
        assert_eq!(assign(2, &[0, 1], |_| 0), [0, 1]);
        assert_eq!(assign(4, &[1], |_| 0), [0, 0, 0, 0]);
        // Two nodes of four CPUs each, a shard on the last CPU of each.
        assert_eq!(assign(8, &[3, 7], |cpu| cpu / 4), [0, 0, 0, 0, 1, 1, 1, 1]);
        // One node: the load is spread.
        assert_eq!(assign(4, &[0, 1], |_| 0), [0, 1, 1, 0]);
    }

    proptest! {
        #[test]
        fn every_cpu_has_a_shard_and_every_shard_its_own_cpu(
            cpus in 1_usize..300, picks in prop::collection::btree_set(0_usize..300, 1..20), nodes in 1_usize..5,
        ) {
            let cores: Vec<usize> = picks.into_iter().collect();
            let places = assign(cpus, &cores, |cpu| cpu % nodes);
            prop_assert_eq!(places.len(), cpus);
            for (cpu, shard) in places.iter().enumerate() {
                prop_assert!(cores.iter().position(|core| *core == cpu).is_none_or(|own| own == *shard));
            }
        }

        #[test]
        fn no_list_is_a_panic(text in "[0-9,\\- \n]{0,40}") {
            let _ = numbers_in(&text);
        }
    }
}
