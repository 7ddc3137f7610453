//! Every scalar setting by its name: what it means, and whether it may change while the daemon runs.

/// A scalar setting: where it stands in the file, and what it means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Its dotted path; the environment variable is `FOREBAY_` and the path in capitals with underscores.
    pub(crate) path: &'static str,
    /// Whether it may change while the daemon runs.
    pub(crate) live: bool,
    /// One line for people.
    pub(crate) meaning: &'static str,
}

const fn live(path: &'static str, meaning: &'static str) -> Field {
    Field { path, live: true, meaning }
}

const fn at_start(path: &'static str, meaning: &'static str) -> Field {
    Field { path, live: false, meaning }
}

/// Every scalar setting. Mounts and tiers are lists of tables and have no place here.
pub(crate) const FIELDS: &[Field] = &[
    at_start("node.name", "name of this node; the host's name if absent"),
    at_start("node.cores", "cores the shards may use, as a list; all if empty"),
    at_start(
        "node.memory",
        "all memory the daemon is to take; 1/16 of the machine's, 512MiB to 4GiB, if absent: `forebay info` says",
    ),
    at_start("node.arena", "of node.memory, what is registered for I/O; derived from it if absent"),
    at_start("node.tables", "of node.memory, what inodes, names and extents take; derived from it if absent"),
    live("node.stop_grace", "how long a stop waits for files open for writing"),
    live("log.filter", "which events are logged: a level or target=level pairs"),
    at_start("log.format", "text or json"),
    at_start("cache.dir", "directory of everything this node keeps"),
    live("cache.size", "most bytes of content kept; 4/5 of the free space if absent"),
    at_start("cache.page_size", "unit of fetching and of checksums, 64KiB to 16MiB"),
    at_start("cache.eviction", "what goes first when room is wanted: s3-fifo, lru, lfu, lrfu or sieve"),
    at_start(
        "cache.high_watermark",
        "percent of a tier above which what can be had again is evicted in the background",
    ),
    at_start("cache.low_watermark", "percent of a tier at which that stops"),
    at_start(
        "cache.dirty_mark",
        "percent of a tier taken by bytes that are nowhere else at which writers wait",
    ),
    at_start(
        "cache.full_mark",
        "percent of a tier taken by anything at which writers make sure of room first",
    ),
    at_start("cache.reserve", "room promised to each open writer; 1MiB, less on a small tier, if absent"),
    at_start(
        "cache.pack_max",
        "files up to this length are packed into segments, at most 1MiB; 0B packs none",
    ),
    at_start("cache.scrub_rate", "bytes a second read to find what a disk has lost"),
    at_start("persist.tasks", "files carried at one time"),
    at_start("persist.parts", "parts of one file under way at one time"),
    at_start("persist.memory", "of node.memory, what parts under way take; derived from it if absent"),
    live("metrics.listen", "address and port of GET /metrics, like 127.0.0.1:9464; none if absent"),
    live("audit.file", "file to which every open and change is written as a line of JSON; none if absent"),
    live("keeper.every", "how often pins, times to live and quotas are looked at"),
    at_start("fuse.dir", "directory to mount on"),
    at_start("fuse.options", "mount options as mount -o takes them"),
    at_start(
        "fuse.takeover_timeout",
        "how long the mount waits for another daemon when this one has died; 0s: not",
    ),
    at_start("fuse.channel", "how requests come: auto, uring, dev-fuse or fuser; `forebay info` says which"),
    at_start(
        "fuse.passthrough",
        "the kernel reads and writes by itself what is here; false: all goes through the daemon, which sees it",
    ),
];

impl Field {
    /// The setting of this name.
    pub(crate) fn named(path: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.path == path)
    }

    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("FOREBAY_{}", self.path.replace('.', "_").to_uppercase())
    }
}
