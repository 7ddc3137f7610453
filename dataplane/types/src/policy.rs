//! The choices a mount, or a prefix of it, makes about its data.

use serde::{Deserialize, Serialize};

/// What a write promises before it is acknowledged, and where its bytes end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteMode {
    /// To the UFS before `close` (or `fsync`) returns; nothing is kept here.
    Through,
    /// To the UFS before `close` (or `fsync`) returns, and kept here for reading.
    CacheThrough,
    /// To the local tier; carried to the UFS behind the scenes.
    #[default]
    WriteBack,
    /// To the local tier for good; never carried to the UFS.
    Transient,
}

/// Whether reads leave their bytes in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// What is read is kept.
    #[default]
    Cache,
    /// What is read is passed on and forgotten.
    NoCache,
}

/// Which nodes a new file's bytes go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The node of the first writer.
    #[default]
    Local,
    /// Blocks spread over the ring, for many writers of one file.
    Striped,
}

/// In what order dirty files reach the UFS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersistOrder {
    /// A small object is not put before every multipart upload closed earlier has completed, so that a
    /// `latest` pointer never precedes its shards.
    #[default]
    Checkpoint,
    /// Only operations on one path are ordered.
    Path,
}

/// Which cold data may enter the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Whatever is read.
    #[default]
    All,
    /// Only what is asked for a second time.
    SecondRead,
    /// Only what `load` brings.
    LoadOnly,
}

/// What becomes of a file whose time to live is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TtlAction {
    /// Its cached bytes go, counted from their last use; the file stays.
    #[default]
    Free,
    /// It is deleted, counted from its last change.
    Delete,
}
