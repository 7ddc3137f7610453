//! `forebay fs`: the files of a mount. Paths are those of the mount, as every program sees them.

use clap::{Args, Subcommand};
use std::path::PathBuf;

const LS_EXAMPLE: &str = "Example:\n  forebay fs ls /mnt/data/checkpoints";
const STAT_EXAMPLE: &str =
    "Example:\n  forebay fs stat /mnt/data/model.safetensors --json | jq .cached_bytes";
const CAT_EXAMPLE: &str = "Example:\n  forebay fs cat /mnt/data/train.log | tail -3\n  \
     forebay fs cat /mnt/data/model.bin --offset 4096 --length 1KiB | xxd";
const CP_EXAMPLE: &str = "Example:\n  forebay fs cp -r ./dataset /mnt/data/\n  \
     forebay fs cp /mnt/data/a /mnt/data/b ./here --json";
const RM_EXAMPLE: &str = "Example:\n  forebay fs rm -r /mnt/data/checkpoints/step-1000";
const LOAD_EXAMPLE: &str = "Example:\n  forebay fs load /mnt/data/dataset";
const FREE_EXAMPLE: &str = "Example:\n  forebay fs free /mnt/data/dataset";
const PERSIST_EXAMPLE: &str =
    "Example:\n  forebay fs persist --wait /mnt/data/checkpoints && echo all of it is safe";
const PIN_EXAMPLE: &str = "Example:\n  forebay fs pin /mnt/data/tokenizer";
const UNPIN_EXAMPLE: &str = "Example:\n  forebay fs unpin /mnt/data/tokenizer";
const CHECK_EXAMPLE: &str = "Example:\n  forebay fs check /mnt/data --json | jq '.findings[].advice'";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum FsCommand {
    /// List a directory with the state of each file: clean, dirty, native, ... Sorted by name, above 10,000 entries in
    /// pieces of that many.
    #[command(after_help = LS_EXAMPLE)]
    Ls {
        /// A directory or file on a mount.
        #[arg(default_value = ".")]
        path: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show what Forebay knows of a file: its state, how much of it is cached, whether it is pinned, where it is in
    /// the UFS.
    #[command(after_help = STAT_EXAMPLE)]
    Stat {
        /// A file or directory on a mount.
        path: PathBuf,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write the bytes of files to standard output.
    #[command(after_help = CAT_EXAMPLE)]
    Cat {
        /// The files, one after the other.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Begin here, in bytes, or like 64MiB.
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = bytes)]
        offset: u64,
        /// So many bytes at most, or like 64MiB.
        #[arg(long, value_name = "SIZE", value_parser = bytes)]
        length: Option<u64>,
    },
    /// Copy files onto a mount, from it, or within it, and show how far it is.
    ///
    /// Content, modes and times are copied. A file appears under its name when it is whole: it is written beside it
    /// and renamed, and an old one is replaced in one step.
    #[command(after_help = CP_EXAMPLE)]
    Cp(CopyArguments),
    /// Remove files, and with -r directories with all that is in them.
    #[command(after_help = RM_EXAMPLE)]
    Rm(RemoveArguments),
    /// Bring all bytes of a file, or of everything below a directory, into the cache.
    #[command(after_help = LOAD_EXAMPLE)]
    Load(Steer),
    /// Drop the cached bytes of a file, or of everything below a directory. What is not yet persisted stays, and so
    /// does what is open or pinned.
    #[command(after_help = FREE_EXAMPLE)]
    Free(Steer),
    /// Carry what was written to the under file system now, without the persist delay.
    #[command(after_help = PERSIST_EXAMPLE)]
    Persist {
        /// What to carry.
        #[command(flatten)]
        what: Steer,
        /// Return only when all of it is there: a barrier. Fails if something could not be carried.
        #[arg(long)]
        wait: bool,
    },
    /// Load everything at or below a path and keep it: it is not evicted until it is unpinned.
    ///
    /// A pin holds the path: what comes there later is loaded and kept as well, after a restart too.
    #[command(after_help = PIN_EXAMPLE)]
    Pin(Steer),
    /// Take a pin away. What is cached stays until room is needed.
    #[command(after_help = UNPIN_EXAMPLE)]
    Unpin(Steer),
    /// Compare what is here with the under file system, and say what to do about each difference.
    ///
    /// Ends with status 1 if something needs a person: a name that keeps failing or that the UFS cannot hold.
    #[command(after_help = CHECK_EXAMPLE)]
    Check(Steer),
}

/// What a request is about.
#[derive(Debug, Args)]
pub(crate) struct Steer {
    /// A file or directory on a mount.
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The result as one JSON object, and no progress.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `forebay fs cp`.
#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// What to copy, and last where to.
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
    pub(crate) paths: Vec<PathBuf>,
    /// Copy directories with all that is in them.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// The result as one JSON object, and no progress.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `forebay fs rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// What to remove.
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Remove directories with all that is in them.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// What is not there is no failure.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// The result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A number of bytes, with a unit or without.
fn bytes(text: &str) -> Result<u64, String> {
    if let Ok(plain) = text.parse() {
        return Ok(plain);
    }
    text.parse::<forebay_types::ByteSize>().map(|size| size.as_u64()).map_err(|error| error.to_string())
}
