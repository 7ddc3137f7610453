//! The command line: what can be asked of `forebay`, with help that teaches.
//!
//! Here are the commands and what starts a daemon; `fs` and `control` hold what is asked of one that runs.

mod control;
mod fs;

pub(crate) use control::{AddArguments, ConfigCommand, MountCommand, On, SetArguments, UpgradeArguments};
pub(crate) use fs::{CopyArguments, FsCommand, RemoveArguments, Steer};

use crate::config::{Log, LogFormat};
use clap::{Args, Parser, Subcommand};
use forebay_types::{ByteSize, HumanDuration, WriteMode};
use std::path::PathBuf;

/// Hot data at local speed, durable data in your object store.
///
/// Forebay mounts an under file system (an object store or a directory) as a POSIX file system. What is read
/// is kept on local disk and read from there; what is written lands on local disk and is carried to the under
/// file system behind the scenes, in its native layout.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Try it:\n  mkdir -p /tmp/data /tmp/mnt && echo hello > /tmp/data/a\n  \
     forebay up /tmp/data /tmp/mnt &        # prints a line beginning `ready`\n  \
     cat /tmp/mnt/a; umount /tmp/mnt        # or stop it with Ctrl-C";

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount an under file system on a directory, in the foreground.
    ///
    /// Prints one line beginning `ready` on standard output when the mount can be used, and logs to standard
    /// error. Ctrl-C or SIGTERM stops it: it waits for files open for writing (node.stop_grace), unmounts and
    /// exits. Nothing that was acknowledged is lost when it is killed instead: the next `up` with the same
    /// cache directory goes on where it was.
    #[command(after_help = UP_EXAMPLES)]
    Up(Box<UpArguments>),
    /// Run the daemon as a configuration file says, for systemd and the like.
    ///
    /// Every setting can also be given as a FOREBAY_SECTION_KEY variable, which wins over the file.
    Node {
        /// The TOML file. `forebay config list` shows what may stand in it.
        #[arg(long, value_name = "FILE", env = "FOREBAY_CONFIG")]
        config: PathBuf,
    },
    /// Look at and steer the files of a mount.
    Fs {
        /// What to do with them.
        #[command(subcommand)]
        command: FsCommand,
    },
    /// Add, remove and list under file systems of a running daemon, and change what applies to their files.
    Mount {
        /// What to do with them.
        #[command(subcommand)]
        command: MountCommand,
    },
    /// Look at the settings, and change those of a running daemon.
    Config {
        /// What to do with them.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Measure any directory: a mount of Forebay, of another system, a local file system.
    ///
    /// Works in a folder of its own, which it removes at the end, also after Ctrl-C. Prints a table, or JSON.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        command: forebay_stress::BenchCommand,
    },
    /// Show what this host can do for Forebay (kernel, io_uring, FUSE, limits), or what a daemon does.
    #[command(after_help = INFO_EXAMPLE)]
    Info {
        /// A path on the mount of a daemon: show its tiers, mounts and opens instead.
        #[arg(long, value_name = "DIR")]
        on: Option<PathBuf>,
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Have a running daemon go on as another binary: nothing is unmounted, and no request fails.
    ///
    /// What is asked of the mount meanwhile waits, a second or so. Files stay open.
    #[command(after_help = UPGRADE_EXAMPLE)]
    Upgrade(UpgradeArguments),
    /// Keep the mount of a daemon while nobody serves it.
    #[command(hide = true)]
    Custodian {
        /// The cache directory.
        dir: PathBuf,
        /// What it logs.
        #[command(flatten)]
        log: LogArguments,
    },
    /// Tell what this binary can go on with.
    #[command(hide = true)]
    EstateFormat,
    /// Show the version.
    Version {
        /// One JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
}

const UPGRADE_EXAMPLE: &str = "Example:\n  forebay upgrade --on /mnt/data\n  \
     forebay upgrade --binary /opt/forebay-0.2/forebay --on /mnt/data --json";

const INFO_EXAMPLE: &str =
    "Example:\n  forebay info\n  forebay info --on /mnt/data --json | jq '.tiers[] | {name, used, quota}'";

const UP_EXAMPLES: &str = "Examples:\n  forebay up /data /mnt/data\n  \
     forebay up s3://bucket/prefix /mnt/data --cache /nvme/forebay --cache-size 500GiB\n  \
     forebay up /data /mnt/data -o ro,allow_other --write-mode through";

/// `forebay up`.
#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// The under file system: s3://bucket/prefix, gs://bucket, az://container, file:///dir or a plain path.
    #[arg(value_name = "UFS")]
    pub(crate) ufs: String,
    /// The directory to mount on; it must exist.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to keep cached and not yet persisted data. Give a directory on your fastest local disk.
    ///
    /// If absent: /var/cache/forebay/NAME for root, else ~/.cache/forebay/NAME, where NAME is made from UFS.
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// The most content to keep, like 64GiB. If absent: four fifths of the free space.
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_size: Option<ByteSize>,
    /// What a write promises: through, cache-through, write-back or transient.
    #[arg(long, value_name = "MODE", value_parser = write_mode)]
    pub(crate) write_mode: Option<WriteMode>,
    /// How long names and attributes of the under file system are believed, like 30s.
    #[arg(long, value_name = "TIME")]
    pub(crate) metadata_ttl: Option<HumanDuration>,
    /// Mount options with commas, as `mount -o` takes them: ro, allow_other, noatime, nodev, nosuid, noexec, ...
    #[arg(short = 'o', value_name = "OPTS")]
    pub(crate) options: Vec<String>,
    /// An option of the under file system, like endpoint=http://127.0.0.1:9000; may be repeated.
    #[arg(long = "ufs-option", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) ufs_options: Vec<(String, String)>,
    /// Further such options come on standard input, each with a zero behind it.
    #[arg(long, hide = true)]
    pub(crate) ufs_options_from_stdin: bool,
    /// A TOML file with further settings; what is given here wins over it.
    #[arg(long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Which events to log: error, warn, info, debug, trace, or pairs like info,forebay_store=debug.
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Leave the terminal: a session of its own, for the mount helper.
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

/// What a process logs that reads no configuration.
#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// Which events to log.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

impl LogArguments {
    /// As a setting.
    pub(crate) fn of_process(self) -> Log {
        Log { filter: self.log, format: self.log_format }
    }
}

/// Reads a write mode by the name it has in the configuration file.
fn write_mode(text: &str) -> Result<WriteMode, String> {
    use serde::Deserialize;
    use serde::de::IntoDeserializer;
    let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    WriteMode::deserialize(text).map_err(|error| error.to_string())
}

/// `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it like endpoint=http://127.0.0.1:9000")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_are_typed() {
        let up = |extra: &[&str]| {
            Arguments::try_parse_from([&["forebay", "up", "/data", "/mnt"], extra].concat())
                .map_err(|error| error.to_string())
        };
        let Command::Up(ok) =
            up(&["--cache-size", "64GiB", "--write-mode", "cache-through"]).unwrap().command
        else {
            panic!("not `up`");
        };
        assert_eq!((ok.cache_size, ok.write_mode), (Some(ByteSize::gib(64)), Some(WriteMode::CacheThrough)));
        let unit = up(&["--cache-size", "64GB"]).unwrap_err();
        assert!(unit.contains("--cache-size") && unit.contains("write it like 512MiB"), "{unit}");
        let mode = up(&["--write-mode", "fast"]).unwrap_err();
        assert!(mode.contains("expected one of `through`, `cache-through`"), "{mode}");
    }
}
