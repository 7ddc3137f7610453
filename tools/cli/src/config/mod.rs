//! The configuration: its schema, its defaults, and what a live change may touch.
//!
//! **Owns** every setting of the binary, typed and with its unit. One [`Config`] is made from the defaults,
//! then a TOML file, then `FOREBAY_*` variables, then the command line ([`load()`]); after that nothing else in
//! the process reads a file or the environment for a setting.
//!
//! **Never does** anything with a setting: the parts take their own `...Config` structures, which
//! `daemon` fills from here.
//!
//! **Why this shape:** the schema is plain data with `deny_unknown_fields`, so a misspelt key is an error
//! and not a setting that silently does nothing. [`FIELDS`] lists each scalar once, with its meaning and
//! whether it may change while the daemon runs; a test holds it equal to the schema.

mod fields;
mod load;
mod locate;
mod policy;

pub(crate) use fields::{FIELDS, Field};
pub(crate) use load::{ConfigError, changed, load};
pub(crate) use policy::{refuse_unsupported, with_policy};

use forebay_namespace::{Policy, PolicyChange};
use forebay_store::{EvictionKind, StoreConfig, TierKind};
use forebay_types::{ByteSize, HumanDuration, NodeId, PageSize};
use forebay_worker::{PersistConfig, WorkerConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Every setting of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// This machine.
    pub(crate) node: Node,
    /// What is written to standard error.
    pub(crate) log: Log,
    /// Where bytes are kept.
    pub(crate) cache: Cache,
    /// Where the kernel shows the tree.
    pub(crate) fuse: Fuse,
    /// What Prometheus reads.
    pub(crate) metrics: Metrics,
    /// Who did what.
    pub(crate) audit: Audit,
    /// How what is dirty is carried.
    pub(crate) persist: Persist,
    /// What is done again and again for pins, times to live and quotas.
    pub(crate) keeper: Keeper,
    /// The under file systems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<Mount>,
}

/// This machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Its name in the cluster and in conflict files; the host's name if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<NodeId>,
    /// The cores the shards may use; all permitted ones if empty.
    pub(crate) cores: Vec<usize>,
    /// All memory that the daemon is to take; a share of the machine's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<ByteSize>,
    /// Of that, the memory registered for I/O.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arena: Option<ByteSize>,
    /// Of that, the memory for inodes, names and extents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tables: Option<ByteSize>,
    /// How long an orderly stop waits for files open for writing.
    pub(crate) stop_grace: HumanDuration,
}

/// What is written to standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Which events: a level, or `target=level` pairs with commas.
    pub(crate) filter: String,
    /// How they look.
    pub(crate) format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where bytes are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cache {
    /// The directory of everything this node keeps; made from the under file system's name if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    /// The most bytes of file content kept; four fifths of the free space if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<ByteSize>,
    /// The unit of fetching and of checksums.
    pub(crate) page_size: PageSize,
    /// How to choose what goes when room is wanted.
    pub(crate) eviction: EvictionKind,
    /// Above this share of a tier, in percent, what can be had again goes by itself,
    pub(crate) high_watermark: u8,
    /// ... until it is below this share.
    pub(crate) low_watermark: u8,
    /// Above this share taken by bytes that are nowhere else, writers wait while any are carried away.
    pub(crate) dirty_mark: u8,
    /// Above this share taken by anything, writers make sure of room before they write.
    pub(crate) full_mark: u8,
    /// Room promised to each open writer; 1 MiB, or a sixty-fourth of a small tier, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reserve: Option<ByteSize>,
    /// Files up to this length are packed into segments.
    pub(crate) pack_max: ByteSize,
    /// Bytes a second that are read to find what a disk has lost.
    pub(crate) scrub_rate: ByteSize,
    /// Where content is kept, fastest first; in `dir` alone if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tiers: Vec<Tier>,
}

/// A place for content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tier {
    /// How people and metrics call it.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// What it lies on: `mem` (a tmpfs, for what can be fetched again), `nvme` or `hdd`.
    pub(crate) kind: TierKind,
    /// The most bytes kept there.
    pub(crate) quota: ByteSize,
}

/// Where the kernel shows the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fuse {
    /// The directory to mount on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    /// Mount options as `mount -o` takes them.
    pub(crate) options: String,
    /// The way requests come from the kernel: `auto`, `uring`, `dev-fuse` or `fuser`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<String>,
    /// Whether the kernel may read and write by itself what is here.
    pub(crate) passthrough: bool,
    /// How long the mount waits for another daemon when this one has died; 0 does not.
    pub(crate) takeover_timeout: HumanDuration,
}

/// What Prometheus reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// Where `GET /metrics` is answered; nowhere if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
}

/// Who did what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// The file to which every open and every change is written, one JSON object a line; none is written if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
}

/// How what is dirty is carried to the under file systems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Persist {
    /// Files carried at one time.
    pub(crate) tasks: usize,
    /// Parts of one file under way at one time.
    pub(crate) parts: usize,
    /// Of `node.memory`, that for parts under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<ByteSize>,
}

/// What is done again and again for pins, times to live and quotas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Keeper {
    /// How often they are looked at; seldomer where that takes long.
    pub(crate) every: HumanDuration,
}

/// An under file system and where it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mount {
    /// `s3://bucket/prefix`, `file:///dir` or a plain path.
    pub(crate) ufs: String,
    /// The path in the tree.
    #[serde(default = "root_path")]
    pub(crate) at: String,
    /// What applies to its files.
    #[serde(default)]
    pub(crate) policy: Policy,
    /// What paths below it change of that, without slashes around; the longest match counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) prefixes: BTreeMap<String, PolicyChange>,
    /// What the adapter of that under file system wants to know (endpoint, region, ...).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<String, String>,
}

/// The longest an orderly stop waits unless told otherwise.
const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(30);
/// How long a mount waits for another daemon unless told otherwise.
const TAKEOVER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// How often pins, times to live and quotas are looked at unless told otherwise.
const KEEPER_EVERY_DEFAULT: Duration = Duration::from_secs(10);

fn root_path() -> String {
    "/".to_owned()
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            cores: Vec::new(),
            memory: None,
            arena: None,
            tables: None,
            stop_grace: HumanDuration(STOP_GRACE_DEFAULT),
        }
    }
}

/// The defaults of the parts are those of the settings too.
impl Default for Cache {
    fn default() -> Self {
        let node = NodeId::new("any").expect("three letters are a name");
        let (store, worker) = (StoreConfig::new(node, Vec::new()), WorkerConfig::default());
        Self {
            dir: None,
            size: None,
            page_size: PageSize::default(),
            eviction: store.eviction,
            high_watermark: store.high_watermark,
            low_watermark: store.low_watermark,
            dirty_mark: worker.dirty_mark,
            full_mark: worker.full_mark,
            reserve: None,
            pack_max: store.pack_max,
            scrub_rate: store.scrub_rate,
            tiers: Vec::new(),
        }
    }
}

impl Default for Fuse {
    fn default() -> Self {
        let takeover_timeout = HumanDuration(TAKEOVER_TIMEOUT_DEFAULT);
        Self { dir: None, options: String::new(), channel: None, passthrough: true, takeover_timeout }
    }
}

impl Default for Persist {
    fn default() -> Self {
        let PersistConfig { tasks_at_once, parts_at_once, .. } =
            PersistConfig::new(NodeId::new("any").expect("three letters are a name"));
        Self { tasks: tasks_at_once, parts: parts_at_once, memory: None }
    }
}

impl Default for Keeper {
    fn default() -> Self {
        Self { every: HumanDuration(KEEPER_EVERY_DEFAULT) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Config {
    /// The value of a setting; `None` where an optional one is absent.
    pub(crate) fn value_of(&self, path: &str) -> Option<toml::Value> {
        let table = toml::Table::try_from(self).expect("a configuration is a table of tables");
        let (section, key) = path.split_once('.')?;
        table.get(section)?.get(key).cloned()
    }
}

impl Mount {
    /// A mount of `ufs` at the root of the tree with every other choice left at its default.
    pub(crate) fn at_root(ufs: String) -> Self {
        Self {
            ufs,
            at: root_path(),
            policy: Policy::default(),
            prefixes: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn scalars(prefix: &str, table: &toml::Table, into: &mut BTreeSet<String>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) => scalars(&path, inner, into),
                _ if path == "mounts" => {}
                _ => drop(into.insert(path)),
            }
        }
    }

    #[test]
    fn the_field_table_names_every_scalar_of_the_schema() {
        let full = Config {
            node: Node {
                name: Some(NodeId::new("n").unwrap()),
                memory: Some(ByteSize::gib(2)),
                arena: Some(ByteSize::mib(256)),
                tables: Some(ByteSize::mib(256)),
                ..Node::default()
            },
            persist: Persist { memory: Some(ByteSize::mib(64)), ..Persist::default() },
            cache: Cache {
                dir: Some("/c".into()),
                size: Some(ByteSize::gib(1)),
                reserve: Some(ByteSize::mib(1)),
                ..Cache::default()
            },
            fuse: Fuse { dir: Some("/m".into()), channel: Some("auto".into()), ..Fuse::default() },
            metrics: Metrics { listen: Some(([127, 0, 0, 1], 9464).into()) },
            audit: Audit { file: Some("/a".into()) },
            mounts: vec![Mount::at_root("/x".into())],
            ..Config::default()
        };
        assert!(full.cache.tiers.is_empty());
        let mut in_schema = BTreeSet::new();
        scalars("", &toml::Table::try_from(&full).unwrap(), &mut in_schema);
        let in_table = FIELDS.iter().map(|f| f.path.to_owned()).collect();
        assert_eq!(in_schema, in_table);
    }

    /// As it is shipped, and with everything in it that is commented out.
    #[test]
    fn the_example_is_a_configuration() {
        let example = include_str!("../../../../deploy/example.toml");
        let whole = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || rest.contains(" = ") => rest.to_owned(),
            _ => line.to_owned(),
        };
        let all = example.lines().map(whole).collect::<Vec<_>>().join("\n");
        for text in [example, &all] {
            let config: Config = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            for mount in &config.mounts {
                refuse_unsupported(&mount.policy, mount.prefixes.values()).unwrap();
            }
        }
        assert_eq!(toml::from_str::<Config>(&all).unwrap().mounts.len(), 2);
    }

    #[test]
    fn what_is_written_reads_back() {
        let config = Config { mounts: vec![Mount::at_root("/data".into())], ..Config::default() };
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }
}
