//! What a store is made of.

use crate::eviction::EvictionKind;
use forebay_types::limits::PACK_MAX_DEFAULT;
use forebay_types::{ByteSize, NodeId, PageSize};
use std::path::PathBuf;
use std::time::Duration;

/// What medium a tier lies on, which decides what may be put there; the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TierKind {
    /// tmpfs: gone after a reboot, so clean bytes only.
    Mem,
    /// A local SSD.
    Nvme,
    /// A rotating disk.
    Hdd,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierConfig {
    /// How people call it.
    pub name: String,
    /// Its directory: empty, or a tier of this node.
    pub dir: PathBuf,
    /// The most bytes its extents may take on disk.
    pub quota: ByteSize,
    /// What it lies on.
    pub kind: TierKind,
}

/// A store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Whose store it is.
    pub node: NodeId,
    /// The tiers, fastest first.
    pub tiers: Vec<TierConfig>,
    /// The page size of new extents.
    pub page_size: PageSize,
    /// How many empty extent files are kept ready at first.
    pub blanks: usize,
    /// How many at most, where they are wanted so fast that they run out. Each is an open file.
    pub blanks_max: usize,
    /// How to choose what to evict.
    pub eviction: EvictionKind,
    /// Above this share of a tier's quota, in percent, eviction runs in the background.
    pub high_watermark: u8,
    /// Eviction stops below this share, in percent.
    pub low_watermark: u8,
    /// Files up to this length are packed into segments; 0 packs none.
    pub pack_max: ByteSize,
    /// How many extent files may be open at once without being in use.
    pub open_files_max: usize,
    /// Whether the daemon's own long writes go past the page cache on an SSD.
    pub direct_writes: bool,
    /// Bytes the scrubber may read in a second.
    pub scrub_rate: ByteSize,
    /// How long filled pages wait for the sync that makes them count after a power loss.
    pub sync_delay: Duration,
    /// Stands for the kernel's boot_id, so that a test can take the machine down without doing so.
    #[doc(hidden)]
    pub boot_id: Option<[u8; 16]>,
    /// Whether durable bits are set without the fdatasync that must precede them. For the test that shows that the
    /// power-loss test notices: never set it.
    #[doc(hidden)]
    pub skip_data_sync: bool,
}

impl StoreConfig {
    /// The defaults for a node with these tiers.
    pub fn new(node: NodeId, tiers: Vec<TierConfig>) -> Self {
        Self {
            node,
            tiers,
            page_size: PageSize::DEFAULT,
            blanks: 256,
            blanks_max: 4096,
            eviction: EvictionKind::default(),
            high_watermark: 95,
            low_watermark: 90,
            pack_max: PACK_MAX_DEFAULT,
            open_files_max: 8192,
            direct_writes: true,
            scrub_rate: ByteSize::mib(32),
            sync_delay: Duration::from_secs(5),
            boot_id: None,
            skip_data_sync: false,
        }
    }
}
