//! Reads of what is in memory are plain calls; all others are left to those that can wait.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use forebay_shard::Frame;
use forebay_store::{Extent, ExtentSpec, Store, StoreConfig};
use forebay_types::{ByteSize, ContentKey};
use rustix::fs::{Advice, fadvise};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LEN: usize = 8192;

async fn frame() -> Frame {
    forebay_shard::arena().frame(LEN).await.unwrap()
}

/// Takes the pages of a synced file out of memory; false where the file system has its bytes nowhere else.
fn forget_pages(extent: &Extent) -> bool {
    let file = extent.file().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    !is_on_tmpfs(&file)
}

#[test]
fn what_is_in_memory_is_read_by_a_plain_call() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        let bytes = bytes_of(1, 0, 3 * LEN);
        extent.write(frame_of(&bytes).await, 0).await.unwrap();
        let now = extent.read_now(frame().await, LEN as u64).unwrap();
        assert!(now[..] == bytes[LEN..2 * LEN]);
        assert!(extent.read_now(frame().await, 3 * LEN as u64 - 1).is_err(), "it ends before");
        assert_eq!(read(&extent, 0, 3 * LEN).await, bytes);
        extent.sync().await.unwrap();
        if !forget_pages(&extent) {
            return;
        }
        assert!(extent.read_now(frame().await, 0).is_err(), "the disk has it");
        let other = extent.file().unwrap();
        std::os::unix::fs::FileExt::read_exact_at(other.std(), &mut vec![0; 3 * LEN], 0).unwrap();
        assert!(extent.read_now(frame().await, 0).is_err(), "what failed is not tried again at once");
        assert_eq!(read(&extent, 0, LEN).await, bytes[..LEN]);
        let now = extent.read_now(frame().await, 0).unwrap();
        assert!(now[..] == bytes[..LEN], "but after a read that found its bytes in memory it is");
    });
}

#[test]
fn what_is_absent_or_goes_past_the_page_cache_is_not_read_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent: Arc<Extent> = fetched(&store, 1, 32 * PAGE).await;
        fill(&extent, 1, 0).await;
        assert!(extent.read_now(frame().await, PAGE).is_err(), "a page that is not here");
        assert!(extent.read_now(frame().await, PAGE - 1).is_err(), "nor in part");
        let page = forebay_shard::arena().frame(PAGE as usize).await.unwrap();
        assert!(extent.read_now(page, 0).is_err(), "a long read of what was fetched makes no pages");
    });
}

#[test]
fn of_a_segment_only_the_bytes_of_the_file_are_read_so() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = StoreConfig {
        pack_max: ByteSize::kib(256),
        sync_delay: Duration::ZERO,
        boot_id: Some([1; 16]),
        ..config(dir.path())
    };
    let (store, _) = Store::open(cfg.clone()).unwrap();
    on_shard({
        let store = store.clone();
        move || async move {
            for key in 1..=3 {
                fill(&fetched(&store, key, PAGE).await, key as u64, 0).await;
            }
            forebay_shard::spawn(store.clone().tend());
            let extents: Vec<_> = (1..=3).map(|key| store.find(&ContentKey(key)).unwrap()).collect();
            let give_up = Instant::now() + Duration::from_secs(60);
            while !extents.iter().all(|extent| extent.is_packed()) {
                assert!(Instant::now() < give_up, "they are never packed");
                forebay_shard::sleep(Duration::from_millis(20)).await;
            }
            for (extent, key) in extents.iter().zip(1..) {
                // A first read finds the bytes in memory.
                read(extent, 0, LEN).await;
                let now = extent.read_now(frame().await, LEN as u64).unwrap();
                assert!(now[..] == bytes_of(key, 0, 2 * LEN)[LEN..]);
                assert!(extent.read_now(frame().await, PAGE - 1).is_err(), "what follows is another file");
            }
        }
    });
    drop(store);

    // The machine went down: what the segment has is compared first.
    let (store, _) = Store::open(StoreConfig { boot_id: Some([2; 16]), ..cfg }).unwrap();
    on_shard(move || async move {
        let extent = store.find(&ContentKey(2)).unwrap();
        assert!(extent.read_now(frame().await, 0).is_err());
        assert_eq!(read(&extent, 0, LEN).await, bytes_of(2, 0, LEN));
        let now = extent.read_now(frame().await, 0).unwrap();
        assert!(now[..] == bytes_of(2, 0, LEN));
    });
}
