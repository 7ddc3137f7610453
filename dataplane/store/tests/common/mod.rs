//! A real store in a real directory, driven on a real shard.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod crash;
pub mod disk;

use forebay_shard::{File, Frame, Shards, ShardsConfig, arena};
use forebay_store::{Extent, ExtentSpec, RecoveryReport, Store, StoreConfig, TierConfig, TierKind};
use forebay_types::{ByteSize, ContentKey, NodeId, PageIndex, PageSize};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

/// Small pages, so that small files have several.
pub const PAGE: u64 = 64 << 10;

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Whether the page cache is all that a file has.
pub fn is_on_tmpfs(file: &File) -> bool {
    rustix::fs::fstatfs(file).unwrap().f_type as i64 == TMPFS_MAGIC
}

pub fn config(dir: &Path) -> StoreConfig {
    let tier = TierConfig {
        name: "nvme".into(),
        dir: dir.to_owned(),
        quota: ByteSize::gib(1),
        kind: TierKind::Nvme,
    };
    StoreConfig {
        page_size: PageSize::new(ByteSize::bytes(PAGE)).unwrap(),
        blanks: 8,
        pack_max: ByteSize::bytes(0),
        ..StoreConfig::new(NodeId::new("test").unwrap(), vec![tier])
    }
}

pub fn open(dir: &Path) -> (Arc<Store>, RecoveryReport) {
    Store::open(config(dir)).unwrap()
}

/// Runs a future on a shard of its own.
pub fn on_shard<F, Fut, T>(f: F) -> T
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let cfg = ShardsConfig { cores: vec![0], arena: ByteSize::mib(16), ..ShardsConfig::default() };
    let shards = Shards::start(&cfg).unwrap();
    let handle = shards.handles()[0].clone();
    handle.block_on(f).unwrap()
}

/// Bytes that differ from page to page and extent to extent, and are never zero.
pub fn bytes_of(seed: u64, page: u64, len: usize) -> Vec<u8> {
    let mut state = (seed << 32 | page).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 255 + 1) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub async fn frame_of(bytes: &[u8]) -> Frame {
    let mut frame = arena().frame(bytes.len()).await.unwrap();
    frame.copy_from_slice(bytes);
    frame
}

pub async fn read(extent: &Arc<Extent>, offset: u64, len: usize) -> Vec<u8> {
    let frame = arena().frame(len).await.unwrap();
    extent.read(frame, offset).await.unwrap().to_vec()
}

/// An extent of `len` bytes with none of them here.
pub async fn fetched(store: &Arc<Store>, key: u128, len: u64) -> Arc<Extent> {
    store.create(ExtentSpec::fetched(ContentKey(key), len)).await.unwrap()
}

/// Fills one page with its own bytes.
pub async fn fill(extent: &Arc<Extent>, seed: u64, page: u64) {
    let len = extent.page_size().len_of(PageIndex(page), extent.len()) as usize;
    let frame = frame_of(&bytes_of(seed, page, len)).await;
    extent.fill(PageIndex(page), frame).await.map_err(|(e, _)| e).unwrap();
}
