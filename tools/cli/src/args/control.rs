//! `forebay mount` and `forebay config`: the mounts and the settings of a running daemon.

use super::key_value;
use clap::{Args, Subcommand};
use std::path::PathBuf;

const ADD_EXAMPLE: &str = "Example:\n  forebay mount add s3://bucket/sets /mnt/data/sets -p read_only=true -p metadata_ttl=10m\n  \
     forebay mount add /srv/scratch /mnt/data/scratch -p write_mode=transient -p quota=200GiB";
const REMOVE_EXAMPLE: &str =
    "Example:\n  forebay fs persist --wait /mnt/data/sets && forebay mount remove /mnt/data/sets";
const LIST_EXAMPLE: &str =
    "Example:\n  forebay mount list\n  forebay mount list --json | jq '.mounts[] | {at, dirty_names}'";
const SET_EXAMPLE: &str = "Example:\n  forebay mount set /mnt/data metadata_ttl=30s\n  \
     forebay mount set /mnt/data/tmp ttl=7d ttl_action=delete quota=50GiB\n  forebay mount set /mnt/data/tmp ttl=none";
const GET_EXAMPLE: &str = "Example:\n  forebay config get log.filter";
const CONFIG_SET_EXAMPLE: &str = "Example:\n  forebay config set log.filter info,forebay_worker=debug\n  \
     forebay config set audit.file /var/log/forebay/audit.jsonl --on /mnt/data";
const CONFIG_LIST_EXAMPLE: &str = "Example:\n  forebay config list --config /etc/forebay/data.toml\n  \
     forebay config list --on /mnt/data --json";

/// Which daemon is meant.
#[derive(Debug, Args)]
pub(crate) struct On {
    /// A path on the mount of the daemon that is meant; not needed in such a directory, or while only one runs.
    #[arg(long, value_name = "DIR")]
    pub(crate) on: Option<PathBuf>,
}

/// `forebay upgrade`.
#[derive(Debug, Args)]
pub(crate) struct UpgradeArguments {
    /// The binary to go on as; what lies at the place of the running one if absent.
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Which daemon.
    #[command(flatten)]
    pub(crate) on: On,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `forebay mount`.
#[derive(Debug, Subcommand)]
pub(crate) enum MountCommand {
    /// Show an under file system at a path of a running mount, from now on and after every restart.
    ///
    /// What the under file system around it has at that path is hidden meanwhile.
    #[command(after_help = ADD_EXAMPLE)]
    Add(AddArguments),
    /// Take an under file system away that was added. Refused while something in it is open or not persisted.
    #[command(after_help = REMOVE_EXAMPLE)]
    Remove {
        /// Where it is shown.
        path: PathBuf,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List the under file systems with what applies to them and how much of them is dirty.
    #[command(after_help = LIST_EXAMPLE)]
    List {
        /// Which daemon.
        #[command(flatten)]
        on: On,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Change what applies to the files at or below a path, at once: of the whole mount if the path is where it is
    /// shown, else of that path alone.
    ///
    /// For mounts that were added with `forebay mount add` the change outlives a restart; for those of the
    /// configuration file or of `forebay up` write it there as well.
    #[command(after_help = SET_EXAMPLE)]
    Set(SetArguments),
}

/// `forebay mount add`.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// The under file system: s3://bucket/prefix, gs://bucket, az://container, file:///dir or a plain path.
    #[arg(value_name = "UFS")]
    pub(crate) ufs: String,
    /// Where to show it: a path on a mount, whose directory exists.
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// What applies to its files, like write_mode=through, read_mode=no-cache, metadata_ttl=30s, read_only=true,
    /// ttl=7d, ttl_action=delete, pin=true, quota=1TiB, persist_order=path, persist_delay=5s,
    /// persist_yield=0s; may be repeated.
    #[arg(short, long = "policy", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) policy: Vec<(String, String)>,
    /// An option of the under file system, like endpoint=http://127.0.0.1:9000; may be repeated.
    #[arg(long = "ufs-option", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) ufs_options: Vec<(String, String)>,
    /// Further such options come on standard input, each with a zero behind it.
    #[arg(long, hide = true)]
    pub(crate) ufs_options_from_stdin: bool,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `forebay mount set`.
#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// Whose files.
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// What to change; the value `none` takes a setting back.
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) changes: Vec<(String, String)>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `forebay config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting with its value, where it may be set, whether it may change live, and what it means.
    #[command(after_help = CONFIG_LIST_EXAMPLE)]
    List {
        /// The TOML file to take values from.
        #[arg(long, value_name = "FILE", env = "FOREBAY_CONFIG")]
        config: Option<PathBuf>,
        /// Ask the daemon of this mount what it runs with instead.
        #[arg(long, value_name = "DIR", conflicts_with = "config")]
        on: Option<PathBuf>,
        /// The whole configuration as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show one setting of a running daemon.
    #[command(after_help = GET_EXAMPLE)]
    Get {
        /// Its dotted name, as `forebay config list` shows it.
        key: String,
        /// Which daemon.
        #[command(flatten)]
        on: On,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Change one setting of a running daemon, until it ends. Settings that only a restart can change say so.
    #[command(after_help = CONFIG_SET_EXAMPLE)]
    Set {
        /// Its dotted name, as `forebay config list` shows it.
        key: String,
        /// The new value; `none` for none.
        value: String,
        /// Which daemon.
        #[command(flatten)]
        on: On,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
}
