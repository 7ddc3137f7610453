//! The part of the page about what stands around the data path: under file systems, memory, and what is done again and
//! again for pins, times to live, quotas and the audit log.

use super::page::{Encoded, Page, Sources};
use crate::memory::{PartReport, Report};
use forebay_types::MountId;
use forebay_ufs::StatsSnapshot;
use prometheus_client::metrics::MetricType;

const NANOS_PER_SEC: f64 = 1e9;
const MICROS_PER_SEC: f64 = 1e6;
/// Where the kernel tells how much memory this process has (proc_pid_statm(5)); the second figure, in pages.
const STATM: &str = "/proc/self/statm";

/// An under file system by where it is mounted, and its counters.
type Store = (String, StatsSnapshot);

impl Page<'_> {
    pub(super) fn stores(&mut self, from: &Sources) -> Encoded {
        let stores = snapshots(from);
        let each = |pick: fn(&StatsSnapshot) -> u64| {
            stores.iter().map(move |(at, did)| ([("mount", at.clone())], pick(did))).collect::<Vec<_>>()
        };
        self.counters(
            "ufs_content_read_bytes",
            "Bytes of content that came from the store",
            each(|did| did.bytes_read),
        )?;
        self.counters(
            "ufs_content_written_bytes",
            "Bytes of content that went to it",
            each(|did| did.bytes_written),
        )?;
        self.counters(
            "ufs_retries",
            "Requests repeated after a failure that may pass",
            each(|did| did.retries),
        )?;
        self.gauges("ufs_in_flight", "Requests under way", each(|did| did.in_flight))?;
        let by_kind = stores.iter().flat_map(|(at, did)| {
            did.ops.iter().flat_map(move |op| {
                let labels = |kind: &'static str| {
                    [("mount", at.clone()), ("op", op.op.label().to_owned()), ("kind", kind.to_owned())]
                };
                op.errors.iter().map(move |(kind, count)| (labels(kind.label()), *count))
            })
        });
        self.counters("ufs_request_errors", "Requests that failed, by kind", by_kind.collect::<Vec<_>>())?;
        self.store_latencies(&stores)
    }

    fn store_latencies(&mut self, stores: &[Store]) -> Encoded {
        let help = "Requests to under file systems, retries counted, by how long they took";
        let mut family =
            self.0.encode_descriptor("ufs_request_seconds", help, None, MetricType::Histogram)?;
        for (at, did) in stores {
            for op in &did.ops {
                let last = op.latency.len() - 1;
                let end = |bucket: usize| {
                    if bucket == last { f64::MAX } else { (1_u64 << bucket) as f64 / MICROS_PER_SEC }
                };
                let buckets: Vec<_> =
                    op.latency.iter().enumerate().map(|(at, count)| (end(at), *count)).collect();
                let labels = [("mount", at.as_str()), ("op", op.op.label())];
                let seconds = op.busy.as_nanos() as f64 / NANOS_PER_SEC;
                let mut metric = family.encode_family(&labels)?;
                metric.encode_histogram::<[(&str, &str); 0]>(seconds, op.attempts, &buckets, None)?;
            }
        }
        Ok(())
    }

    pub(super) fn memory(&mut self, from: &Sources) -> Encoded {
        let arena = forebay_shard::arena();
        self.gauge("arena_bytes", "I/O memory in all", arena.size().as_u64())?;
        self.gauge("arena_waiting", "Requests that wait for I/O memory", arena.waiting() as u64)?;
        self.gauge(
            "resident_memory_bytes",
            "Memory of the daemon, pages of files included",
            resident_memory(),
        )?;
        self.budget(&from.memory.report())?;
        let sizes = from.names.table_sizes();
        self.gauge("inodes_in_memory", "Inodes in the table", sizes.inodes as u64)?;
        self.gauge("names_in_memory", "Names in the cache of names", sizes.names as u64)?;
        self.gauge(
            "names_uncommitted",
            "Changed keys that the metadata engine does not have yet",
            sizes.overlay as u64,
        )?;
        self.counter(
            "notices_lost",
            "Notices to the kernel that found no place in the queue",
            from.mount.notifier().lost(),
        )
    }

    fn budget(&mut self, now: &Report) -> Encoded {
        self.gauge("memory_budget_bytes", "All memory that the daemon is to take (node.memory)", now.budget)?;
        self.gauge("memory_resident_bytes", "What it takes, pages of files not counted", now.resident)?;
        let each = |pick: fn(&PartReport) -> u64| {
            now.parts.iter().map(move |part| ([("part", part.part)], pick(part))).collect::<Vec<_>>()
        };
        self.gauges(
            "memory_limit_bytes",
            "The most of each part, or what was foreseen",
            each(|part| part.limit),
        )?;
        let within = now.within.iter().map(|within| ([("part", within.part)], within.used));
        let used = each(|part| part.used).into_iter().chain(within);
        self.counter(
            "inodes_prune_asked",
            "Inodes that the kernel was asked to forget",
            now.asked_to_forget,
        )?;
        self.gauges("memory_used_bytes", "What is in use of each; channel and fetched are within arena", used)
    }

    pub(super) fn upkeep(&mut self, from: &Sources) -> Encoded {
        let did = from.keeper.figures();
        self.gauge("pinned_files", "Files that pins keep", did.pinned_files)?;
        self.gauge("pinned_bytes", "Their bytes that are here", did.pinned_bytes)?;
        self.gauge(
            "pinned_absent_files",
            "Pinned files that could not be brought here wholly",
            did.unpinnable,
        )?;
        self.counter(
            "ttl_freed_files",
            "Files whose cached bytes went because their time was over",
            did.ttl_freed,
        )?;
        self.counter(
            "ttl_deleted_files",
            "Files that were deleted because their time was over",
            did.ttl_deleted,
        )?;
        self.counter("quota_evicted_files", "Files whose cached bytes went for a quota", did.quota_evicted)?;
        self.counter("keeper_rounds", "Rounds over pins, times to live and quotas", did.rounds)?;
        self.gauge(
            "keeper_round_milliseconds",
            "How long the last one took",
            did.last_round.as_millis() as u64,
        )?;
        self.quotas(from)?;
        let (written, dropped, failed) = from.audit.counts();
        self.counter("audit_lines", "Lines written to the audit log", written)?;
        self.counter("audit_dropped", "Events dropped because the audit log's queue was full", dropped)?;
        self.counter("audit_failures", "Lines of the audit log that the disk refused", failed)
    }

    fn quotas(&mut self, from: &Sources) -> Encoded {
        let mounts = from.names.mounts();
        let at =
            |id: MountId| mounts.iter().find(|mount| mount.id == id).map(|mount| mount.spec.path.clone());
        let uses: Vec<_> = from.vfs.quotas().uses();
        let each = |pick: fn(&forebay_vfs::QuotaUse) -> u64| {
            let labels = |used: &forebay_vfs::QuotaUse| {
                [("mount", at(used.mount).unwrap_or_default()), ("prefix", used.prefix.clone())]
            };
            uses.iter().map(|used| (labels(used), pick(used))).collect::<Vec<_>>()
        };
        self.gauges("quota_bytes", "The most bytes that may be kept here", each(|used| used.limit))?;
        self.gauges("quota_kept_bytes", "Bytes that are kept here, as last counted", each(|used| used.kept))?;
        self.gauges(
            "quota_only_here_bytes",
            "Those of them that are nowhere else",
            each(|used| used.only_here),
        )
    }
}

fn snapshots(from: &Sources) -> Vec<Store> {
    let mounts = from.names.mounts().into_iter();
    let stats = mounts.filter_map(|mount| {
        let stats = from.ufs.get(mount.id).ok()?.stats()?;
        Some((mount.spec.path, stats.snapshot()))
    });
    stats.collect()
}

fn resident_memory() -> u64 {
    let text = std::fs::read_to_string(STATM).unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
