//! The metrics page: one snapshot of every part, in the OpenMetrics text format.

use crate::audit::AuditLog;
use crate::keeper::Keeper;
use crate::memory::Account;
use forebay_fuse::{FuseMount, bucket_end_us};
use forebay_namespace::Namespace;
use forebay_shard::ShardHandle;
use forebay_store::Store;
use forebay_vfs::Vfs;
use forebay_worker::{Persister, UfsTable, Worker};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::{Arc, Weak};

/// Upper bounds of the latency histograms in microseconds: the parts count finer, a page would be too long.
const LATENCY_BOUNDS_US: [u64; 19] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];
const MICROS_PER_SEC: f64 = 1e6;

/// Where the numbers come from.
#[derive(Clone)]
pub(crate) struct Sources {
    /// Requests by kind.
    pub(crate) mount: Arc<FuseMount>,
    /// Opens by mode.
    pub(crate) vfs: Arc<Vfs>,
    /// Reads, fetches.
    pub(crate) worker: Arc<Worker>,
    /// Tiers, evictions.
    pub(crate) store: Arc<Store>,
    /// What is dirty.
    pub(crate) names: Arc<Namespace>,
    /// What was carried.
    pub(crate) persister: Weak<Persister>,
    /// Rings and tasks.
    pub(crate) shards: Vec<ShardHandle>,
    /// Under file systems.
    pub(crate) ufs: UfsTable,
    /// Pins and times to live.
    pub(crate) keeper: Arc<Keeper>,
    /// What was audited.
    pub(crate) audit: Arc<AuditLog>,
    /// The memory and its parts.
    pub(crate) memory: Arc<Account>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Sources {
    /// The page.
    pub(super) fn render(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("forebay");
        registry.register_collector(Box::new(self.clone()));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

pub(super) type Encoded = Result<(), fmt::Error>;

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Encoded {
        let mut page = Page(encoder);
        page.requests(self)?;
        page.opens(self)?;
        page.reads(self)?;
        page.persist(self)?;
        page.tiers(self)?;
        page.shards(self)?;
        page.stores(self)?;
        page.memory(self)?;
        page.upkeep(self)
    }
}

/// What is written to.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> Encoded {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> Encoded {
        let metric = ConstCounter::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> Encoded {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Encoded {
        let metric = ConstGauge::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn requests(&mut self, from: &Sources) -> Encoded {
        let ops: Vec<_> = from.mount.stats().ops.into_iter().filter(|op| op.count > 0).collect();
        let failed = ops.iter().map(|op| ([("op", op.kind.name())], op.errors));
        self.counters(
            "request_errors",
            "Requests answered with an errno, a lookup that found nothing included",
            failed,
        )?;
        let help = "Requests of the kernel by kind, from arrival to answer";
        let mut family = self.0.encode_descriptor("request_seconds", help, None, MetricType::Histogram)?;
        for op in &ops {
            let buckets = coarse(&op.buckets);
            let seconds = op.total_us as f64 / MICROS_PER_SEC;
            let labels = [("op", op.kind.name())];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<[(&str, &str); 0]>(seconds, op.count, &buckets, None)?;
        }
        Ok(())
    }

    fn opens(&mut self, from: &Sources) -> Encoded {
        let opens = from.vfs.open_counts();
        let by_mode = [([("mode", "passthrough")], opens.passthrough), ([("mode", "cached")], opens.cached)];
        self.counters("opens", "Opens by I/O mode; the daemon sees no read of a passthrough file", by_mode)?;
        self.counter(
            "opens_resident_bytes",
            "Bytes of the files that passthrough opens found wholly here",
            opens.passthrough_bytes,
        )?;
        self.gauge("open_handles", "File handles open now", opens.open_now)
    }

    fn reads(&mut self, from: &Sources) -> Encoded {
        let did = from.worker.counters();
        let reads = [([("found", "here")], did.reads_hit), ([("found", "absent")], did.reads_missed)];
        self.counters(
            "daemon_reads",
            "Reads that came to the daemon, by whether all bytes were here",
            reads,
        )?;
        let fetched = did.ufs_get_bytes.min(did.read_bytes);
        let by_source = [([("source", "cache")], did.read_bytes - fetched), ([("source", "ufs")], fetched)];
        self.counters(
            "read_bytes",
            "Bytes read through the daemon, by whether they were here; what was fetched ahead counts as fetched",
            by_source,
        )?;
        self.counter(
            "ufs_saved_bytes",
            "Bytes no under file system had to send: found here by the daemon, or by a passthrough open, as if it \
             read its file once",
            did.read_bytes - fetched + from.vfs.open_counts().passthrough_bytes,
        )?;
        self.counter("daemon_read_bytes", "Bytes read through the daemon", did.read_bytes)?;
        self.counter("daemon_written_bytes", "Bytes written through the daemon", did.written_bytes)?;
        self.counter("ufs_reads", "Ranged reads sent to under file systems", did.ufs_gets)?;
        self.counter("ufs_read_bytes", "Bytes fetched from under file systems", did.ufs_get_bytes)?;
        self.counter("ufs_read_errors", "Ranged reads that failed after all retries", did.ufs_get_errors)?;
        self.counter(
            "fetches_uncached",
            "Fetches that were kept nowhere, by policy or for lack of room",
            did.fetched_uncached,
        )?;
        self.counter(
            "fetches_joined",
            "Pages that somebody waited for while another brought them",
            did.flights_joined,
        )?;
        let (used, most) = from.worker.fetch_memory();
        self.gauge("fetch_memory_bytes", "Memory that fetched bytes take", used)?;
        self.gauge("fetch_memory_limit_bytes", "The most they may take", most)
    }

    fn persist(&mut self, from: &Sources) -> Encoded {
        let dirty = from.names.dirty_stats();
        self.gauge(
            "dirty_names",
            "Names that differ from what the under file system has",
            dirty.names as u64,
        )?;
        self.gauge("dirty_bytes", "Bytes of files that are to be put", dirty.bytes)?;
        self.gauge(
            "dirty_oldest_seconds",
            "Age of the oldest change",
            dirty.oldest.unwrap_or_default().as_secs(),
        )?;
        self.gauge("persist_in_flight", "Persist tasks under way", dirty.in_flight as u64)?;
        self.gauge("persist_set_aside", "Names that keep failing", dirty.set_aside as u64)?;
        let did = from.persister.upgrade().map(|persister| persister.counters()).unwrap_or_default();
        self.counter("persist_puts", "Files put", did.puts)?;
        self.counter("persist_put_bytes", "Bytes of files put", did.put_bytes)?;
        self.counter("persist_changes", "Directories, links, moves and attributes carried", did.changes)?;
        self.counter("persist_removals", "Names taken away", did.removals)?;
        self.counter(
            "persist_changed",
            "Uploads thrown away because the file changed meanwhile",
            did.changed,
        )?;
        self.counter("persist_conflicts", "Files put beside what somebody else wrote", did.conflicts)?;
        self.counter(
            "persist_unpersistable",
            "Results the under file system cannot hold",
            did.unpersistable,
        )?;
        self.counter("persist_failures", "Tasks that failed and are tried again", did.failed)
    }

    fn tiers(&mut self, from: &Sources) -> Encoded {
        let tiers = from.store.usage();
        let each = |pick: fn(&forebay_store::TierUsage) -> u64| {
            tiers.iter().map(move |tier| ([("tier", tier.name.clone())], pick(tier))).collect::<Vec<_>>()
        };
        self.gauges("tier_used_bytes", "Disk taken by content", each(|tier| tier.used))?;
        self.gauges("tier_quota_bytes", "The most it may take", each(|tier| tier.quota))?;
        self.gauges("tier_reserved_bytes", "Promised to writers", each(|tier| tier.reserved))?;
        self.gauges("tier_extents", "Files and parts of files kept", each(|tier| tier.extents))?;
        let did = from.store.counters();
        self.counter("evictions", "Extents or regions evicted", did.evictions())?;
        self.counter("evicted_bytes", "Bytes evicted", did.evicted_bytes())?;
        self.counter("promotions", "Extents moved to a faster tier", did.promotions())?;
        self.counter("promoted_bytes", "Their bytes", did.promoted_bytes())?;
        self.counter(
            "demotions",
            "Extents moved to a slower tier instead of being evicted",
            did.demotions(),
        )?;
        self.counter("demoted_bytes", "Their bytes", did.demoted_bytes())?;
        self.counter("corrupt_pages", "Pages whose checksum was wrong", did.corrupt_pages())?;
        self.counter("scrubbed_bytes", "Bytes read by the scrubber", did.scrubbed_bytes())
    }

    fn shards(&mut self, from: &Sources) -> Encoded {
        let counters: Vec<_> =
            from.shards.iter().map(|shard| (shard.id().0.to_string(), shard.counters())).collect();
        let each = |pick: fn(&forebay_shard::ShardCounters) -> u64| {
            counters.iter().map(move |(id, did)| ([("shard", id.clone())], pick(did))).collect::<Vec<_>>()
        };
        self.counters("ring_operations", "Operations handed to the ring", each(|did| did.submitted))?;
        self.counters("shard_stalls", "Polls that held a shard for too long", each(|did| did.stalls))?;
        self.counters(
            "shard_mailbox_full",
            "Messages refused because the mailbox was full",
            each(|did| did.mailbox_full),
        )?;
        self.counters("shard_panics", "Tasks that panicked", each(|did| did.panicked))?;
        self.gauge("arena_used_bytes", "I/O memory in use", forebay_shard::arena().in_use().as_u64())
    }
}

/// A part's fine buckets gathered under the page's bounds, in seconds; the last is unbounded.
fn coarse(fine: &[u64]) -> Vec<(f64, u64)> {
    let mut buckets: Vec<_> =
        LATENCY_BOUNDS_US.iter().map(|bound| (*bound as f64 / MICROS_PER_SEC, 0)).collect();
    buckets.push((f64::MAX, 0));
    for (index, count) in fine.iter().enumerate() {
        let end = bucket_end_us(index);
        let at = LATENCY_BOUNDS_US.partition_point(|bound| *bound < end);
        buckets[at].1 += count;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_buckets_lose_no_request() {
        let fine: Vec<u64> = (0..forebay_fuse::BUCKETS as u64).collect();
        let coarse = coarse(&fine);
        assert_eq!(coarse.iter().map(|(_, count)| count).sum::<u64>(), fine.iter().sum::<u64>());
        assert_eq!(coarse.len(), LATENCY_BOUNDS_US.len() + 1);
        assert!(coarse.is_sorted_by(|a, b| a.0 < b.0));
    }
}
