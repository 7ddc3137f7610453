//! How a name space is opened.

use crate::mounts::MountSpec;
use forebay_types::{Clock, Ino, InodeMemo, NodeId, SystemClock};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a name space is opened.
#[derive(Clone)]
pub struct NamespaceConfig {
    /// The directory of the home's log.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// What stands at `/`. An empty source is a root without UFS.
    pub root: MountSpec,
    /// Owner and group of what the UFS gives none.
    pub owner: (u32, u32),
    /// The most inodes in memory that nobody refers to; those in use come on top.
    pub inodes_max: usize,
    /// The most names in memory.
    pub names_max: usize,
    /// The most mutations that wait for the home.
    pub queue_len: usize,
    /// How long a mutation waits for a place in the queue.
    pub queue_deadline: Duration,
    /// How long a question to the UFS may take.
    pub ufs_deadline: Duration,
    /// How long changes gather before the engine gets them.
    pub commit_gather: Duration,
    /// The most bytes of changes that wait for the engine.
    pub commit_bytes_max: usize,
    /// The length at which the log goes on in a new segment, in bytes.
    pub log_segment_max: u64,
    /// Threads that read the engine.
    pub readers: usize,
    /// Where what the kernel was told of is left for the next process, if it is to go on with this one's mount.
    pub memo: Option<Arc<dyn InodeMemo>>,
    /// What the last process left there.
    pub former: Vec<(Ino, Box<[u8]>)>,
}

impl NamespaceConfig {
    /// A name space in `dir` with the machine's clock and limits for one host.
    pub fn new(dir: impl Into<PathBuf>, node: NodeId, root: MountSpec) -> Self {
        Self {
            dir: dir.into(),
            node,
            clock: Arc::new(SystemClock),
            root,
            owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
            inodes_max: 1 << 20,
            names_max: 1 << 20,
            queue_len: 4096,
            queue_deadline: Duration::from_secs(30),
            ufs_deadline: Duration::from_secs(60),
            commit_gather: Duration::from_millis(20),
            commit_bytes_max: 64 << 20,
            log_segment_max: 16 << 20,
            readers: 2,
            memo: None,
            former: Vec::new(),
        }
    }
}
