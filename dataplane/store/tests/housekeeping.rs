//! What the store does by itself: packing and compaction, moving between tiers, scrubbing, eviction by region and below
//! the watermark, and making filled pages durable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use forebay_shard::{sleep, spawn};
use forebay_store::{
    Authority, EvictionKind, Extent, Hold, Store, StoreConfig, StoreError, TierConfig, TierKind,
};
use forebay_types::{ByteSize, ContentKey, PageIndex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A configuration in which nothing waits long before it is done.
fn eager(dir: &Path) -> StoreConfig {
    StoreConfig { sync_delay: Duration::ZERO, ..config(dir) }
}

/// Waits until something is so; housekeeping has its own pace.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never came about: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn filled(store: &Arc<Store>, key: u128, len: u64) -> Arc<Extent> {
    let extent = fetched(store, key, len).await;
    for page in 0..extent.page_size().pages_in(len) {
        fill(&extent, key as u64, page).await;
    }
    extent
}

async fn assert_bytes(extent: &Arc<Extent>, seed: u64) {
    let len = extent.len();
    for page in 0..extent.page_size().pages_in(len) {
        let page_len = extent.page_size().len_of(PageIndex(page), len) as usize;
        let found = read(extent, page * PAGE, PAGE as usize).await;
        assert!(found == bytes_of(seed, page, page_len), "page {page} of {}", extent.id());
    }
}

fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_under(&path)) } else { found.push(path) }
    }
    found
}

fn own_files(dir: &Path) -> usize {
    let files = files_under(&dir.join("extents"));
    files.iter().filter(|path| path.metadata().is_ok_and(|meta| meta.len() > 0)).count()
}

#[test]
fn small_files_are_packed_found_again_and_unpacked_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let cfg = StoreConfig { pack_max: ByteSize::kib(256), ..eager(dir.path()) };
    let (store, _) = Store::open(cfg.clone()).unwrap();
    let ids = on_shard({
        let store = store.clone();
        move || async move {
            spawn(store.clone().tend());
            let (mut ids, mut open) = (Vec::new(), None);
            for key in 1..=100u128 {
                let extent = filled(&store, key, 1000 * key as u64 + 70_000).await;
                // The first one, before anybody gets a turn to pack it.
                open.get_or_insert_with(|| extent.hold(Hold::OpenPassthrough).unwrap());
                ids.push(extent.id());
            }
            let open = open.unwrap();
            until("all but the open one are packed", || {
                ids[1..].iter().all(|id| store.get(*id).is_some_and(|e| e.is_packed()))
            })
            .await;
            assert!(!open.extent().is_packed());
            drop(open);
            until("the last one is packed", || store.get(ids[0]).is_some_and(|e| e.is_packed())).await;
            for (at, id) in ids.iter().enumerate() {
                let extent = store.get(*id).unwrap();
                assert!(extent.is_complete() && !extent.permits_passthrough() && extent.file().is_err());
                assert_bytes(&extent, at as u64 + 1).await;
            }
            ids
        }
    });
    assert_eq!(own_files(&path), 0, "no file of their own is left");
    assert_eq!(store.segments(0), 1);
    let used = store.usage()[0].used;
    drop(store);

    let (store, report) = Store::open(cfg).unwrap();
    assert_eq!((report.clean, report.records_refused), (100, 0));
    assert_eq!(store.usage()[0].used, used);
    on_shard(move || async move {
        for (at, id) in ids.iter().enumerate() {
            assert_bytes(&store.find(&ContentKey(at as u128 + 1)).unwrap(), at as u64 + 1).await;
            assert!(store.get(*id).unwrap().is_packed());
        }
        let extent = store.get(ids[4]).unwrap();
        store.unbind_all(extent.id()).await.unwrap();
        assert!(!extent.is_packed() && extent.authority() == Authority::Here);
        assert_bytes(&extent, 5).await;
        extent.write(frame_of(b"ours").await, 10).await.unwrap();
        extent.sync().await.unwrap();
        let mut expected = bytes_of(5, 0, PAGE as usize);
        expected[10..14].copy_from_slice(b"ours");
        assert_eq!(read(&extent, 0, PAGE as usize).await, expected);
        drop(extent);
        let id = ids[4];
        drop(store);
        let (store, _) = Store::open(eager(&path)).unwrap();
        let extent = store.get(id).unwrap();
        assert_eq!(extent.authority(), Authority::Here, "the file of its own is newer than the entry");
        assert_eq!(read(&extent, 0, PAGE as usize).await, expected);
    });
}

#[test]
fn a_segment_that_is_mostly_dead_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = StoreConfig { pack_max: ByteSize::kib(512), ..eager(dir.path()) };
    let (store, _) = Store::open(cfg.clone()).unwrap();
    let dir_path = dir.path().to_owned();
    on_shard(move || async move {
        spawn(store.clone().tend());
        let len = 500 << 10;
        // More than one segment's worth, so that the first is sealed.
        for key in 1..=150u128 {
            filled(&store, key, len).await;
        }
        let all =
            |store: &Arc<Store>| (1..=150).filter_map(|key| store.find(&ContentKey(key))).collect::<Vec<_>>();
        until("all are packed", || all(&store).iter().all(|extent| extent.is_packed())).await;
        assert_eq!(store.segments(0), 2);
        let before = segment_bytes(&dir_path);
        for key in (1..=120u128).filter(|key| key % 4 != 0) {
            let id = store.find(&ContentKey(key)).unwrap().id();
            // Housekeeping may be switching over the last batch just now.
            until("it may be evicted", || store.evict_now(id).is_ok_and(|freed| freed > len)).await;
        }
        until("the first segment is gone", || !dir_path.join(format!("segments/{:016x}", 1)).exists()).await;
        assert!(segment_bytes(&dir_path) < before * 2 / 3);
        for key in (1..=120u128).filter(|key| key % 4 == 0).chain(121..=150) {
            assert_bytes(&store.find(&ContentKey(key)).unwrap(), key as u64).await;
        }
        assert_eq!(all(&store).len(), 60);
    });
    let (store, report) = Store::open(cfg).unwrap();
    // An entry that died in a segment that is still there comes back to life.
    assert!(report.clean >= 60 && report.records_refused == 0, "{report:?}");
    on_shard(move || async move { assert_bytes(&store.find(&ContentKey(4)).unwrap(), 4).await });
}

fn segment_bytes(dir: &Path) -> u64 {
    files_under(&dir.join("segments")).iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// The length of the entry of such a file: with one key and two checksums, a multiple of 64.
const PACKED_LEN: usize = (48 + 16 + 2 * 4 + 100_000_usize).next_multiple_of(64);

/// Packs files of 100,000 bytes, with the keys from 1 on.
fn packed(dir: &Path, files: u128) -> StoreConfig {
    let cfg = StoreConfig { pack_max: ByteSize::kib(256), boot_id: Some([1; 16]), ..eager(dir) };
    let (store, _) = Store::open(cfg.clone()).unwrap();
    on_shard(move || async move {
        spawn(store.clone().tend());
        for key in 1..=files {
            filled(&store, key, 100_000).await;
        }
        let packed = |key| store.find(&ContentKey(key)).is_some_and(|extent| extent.is_packed());
        until("all are packed", || (1..=files).all(packed)).await;
    });
    cfg
}

#[test]
fn a_damaged_segment_costs_only_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = packed(dir.path(), 10);
    let segment = dir.path().join(format!("segments/{:016x}", 1));
    let mut bytes = std::fs::read(&segment).unwrap();
    let entry_len = (bytes.len() - 64) / 10;
    bytes[64 + entry_len * 3 + 5000] ^= 1;
    bytes[64 + entry_len * 8 + 10] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    // After an unclean boot the bytes of packed files are compared before they are believed.
    let (store, report) = Store::open(StoreConfig { boot_id: Some([2; 16]), ..cfg }).unwrap();
    assert_eq!((report.clean, report.records_refused), (8, 1));
    on_shard(move || async move {
        for key in 1..=8u128 {
            let extent = store.find(&ContentKey(key)).unwrap();
            let frame = frame_of(&[0; 4096]).await;
            let found = extent.read(frame, 0).await;
            if key == 4 {
                assert!(matches!(found, Err(StoreError::Gone(_))), "{found:?}");
                assert!(store.find(&ContentKey(key)).is_none(), "it is fetched again");
            } else {
                assert_bytes(&extent, key as u64).await;
            }
        }
    });
}

/// The machine went down before the bytes of entries were on the disk, and nobody read them before the next starts.
#[test]
fn packed_bytes_are_compared_by_a_later_start_too_and_before_they_are_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = packed(dir.path(), 2);
    let segment = dir.path().join(format!("segments/{:016x}", 1));
    let mut bytes = std::fs::read(&segment).unwrap();
    // There may be more than two: what is read while it is packed is packed once more.
    for entry in bytes[64..].chunks_exact_mut(PACKED_LEN) {
        entry[5000..][..4096].fill(0);
    }
    std::fs::write(&segment, &bytes).unwrap();
    let after = StoreConfig { boot_id: Some([2; 16]), ..cfg };
    let (store, _) = Store::open(after.clone()).unwrap();
    store.close().unwrap();
    drop(store);

    let (store, _) = Store::open(after).unwrap();
    on_shard(move || async move {
        let read = store.find(&ContentKey(1)).unwrap();
        let found = read.read(frame_of(&[0; 4096]).await, 0).await;
        assert!(matches!(found, Err(StoreError::Gone(_))), "{found:?}");
        let written = store.find(&ContentKey(2)).unwrap();
        let ours = store.unbind_all(written.id()).await;
        assert!(matches!(ours, Err(StoreError::Gone(_))), "{ours:?}");
    });
}

fn two_tiers(fast: &Path, slow: &Path, kind: TierKind) -> StoreConfig {
    let tier = |name: &str, dir: &Path, kind, pages| TierConfig {
        name: name.into(),
        dir: dir.to_owned(),
        quota: ByteSize::bytes(pages * PAGE),
        kind,
    };
    let tiers = vec![tier("fast", fast, kind, 16), tier("slow", slow, TierKind::Hdd, 64)];
    StoreConfig { tiers, eviction: EvictionKind::Lru, ..eager(fast) }
}

#[test]
fn what_does_not_fit_moves_down_and_out_of_the_last_tier() {
    let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cfg = two_tiers(fast.path(), slow.path(), TierKind::Nvme);
    let (store, _) = Store::open(cfg.clone()).unwrap();
    on_shard(move || async move {
        for key in 1..=12 {
            filled(&store, key, 4 * PAGE - 100).await;
        }
        let tier_of = |key| store.find(&ContentKey(key)).map(|extent| extent.tier_index());
        assert_eq!((tier_of(1), tier_of(8), tier_of(12)), (Some(1), Some(1), Some(0)));
        for key in 1..=12 {
            assert_bytes(&store.find(&ContentKey(key)).unwrap(), key as u64).await;
        }
        for key in 13..=40 {
            filled(&store, key, 4 * PAGE - 100).await;
        }
        assert_eq!((tier_of(1), tier_of(40)), (None, Some(0)), "the oldest went altogether");
        for usage in store.usage() {
            assert!(usage.used <= usage.quota, "{usage:?}");
        }
        let there: Vec<_> = (1..=40).filter(|key| tier_of(*key).is_some()).collect();
        assert!(there.len() >= 17, "{there:?}");
        drop(store);
        let (store, report) = Store::open(cfg).unwrap();
        assert_eq!(report.clean, there.len() as u64);
        for key in there {
            assert_bytes(&store.find(&ContentKey(key)).unwrap(), key as u64).await;
        }
    });
}

#[test]
fn what_is_used_again_and_again_moves_up_and_back_to_be_written() {
    let slow = tempfile::tempdir().unwrap();
    let fast = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = Store::open(two_tiers(fast.path(), slow.path(), TierKind::Mem)).unwrap();
    on_shard(move || async move {
        spawn(store.clone().tend());
        let id = filled(&store, 1, 2 * PAGE).await.id();
        let old = store.get(id).unwrap();
        assert_eq!(old.tier_index(), 1, "what is fetched goes to a tier that outlives a reboot");
        let tier = || store.get(id).unwrap().tier_index();
        let begun = Instant::now();
        while tier() == 1 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never moved");
            assert_bytes(&old, 1).await;
            sleep(Duration::from_millis(200)).await;
        }
        assert_bytes(&store.get(id).unwrap(), 1).await;
        assert_bytes(&old, 1).await;
        assert!(matches!(old.hold(Hold::Pinned), Err(StoreError::Gone(_))));
        assert_eq!((store.counters().promotions(), store.counters().demotions()), (1, 0));
        // Somebody keeps it there, and reads on from what is there.
        let (pinned, in_memory) =
            (store.get(id).unwrap().hold(Hold::Pinned).unwrap(), store.get(id).unwrap());
        assert!(!in_memory.permits_passthrough());
        store.unbind_all(id).await.unwrap();
        assert_bytes(&in_memory, 1).await;
        drop(pinned);
        assert_eq!(tier(), 1, "what is written here is never in memory alone");
        store.get(id).unwrap().write(frame_of(b"ours").await, 0).await.unwrap();
        assert_eq!(read(&store.get(id).unwrap(), 0, 4).await, b"ours");
    });
}

#[test]
fn the_scrubber_drops_a_bad_page_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = StoreConfig { scrub_rate: ByteSize::mib(16), ..config(dir.path()) };
    let (store, _) = Store::open(cfg).unwrap();
    on_shard(move || async move {
        let extent = filled(&store, 1, 5 * PAGE + 9).await;
        let written = store.create(forebay_store::ExtentSpec::BORN_HERE).await.unwrap();
        written.write(frame_of(b"no checksum yet").await, 0).await.unwrap();
        let files = files_under(&dir.path().join("extents"));
        let path = files.iter().find(|path| path.file_name().unwrap() == &*extent.id().to_string()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(
            &std::fs::File::options().write(true).open(path).unwrap(),
            b"rot",
            3 * PAGE + 50,
        )
        .unwrap();
        spawn(store.clone().tend());
        until("a bad page is noticed", || store.counters().corrupt_pages() == 1).await;
        until("it is absent", || !extent.is_complete()).await;
        assert_eq!(extent.missing(0..extent.len()), [PageIndex(3)]);
        fill(&extent, 1, 3).await;
        let scrubbed = store.counters().scrubbed_bytes();
        until("it went round again", || store.counters().scrubbed_bytes() > scrubbed + 2 * extent.len())
            .await;
        assert_eq!(store.counters().corrupt_pages(), 1);
        assert_bytes(&extent, 1).await;
    });
}

#[test]
fn a_large_file_is_evicted_by_region_and_never_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut cfg = config(dir.path());
    // Twenty pages, and the file system's own notes of where they are.
    cfg.tiers[0].quota = ByteSize::bytes(20 * PAGE + PAGE / 2);
    let (store, _) = Store::open(cfg.clone()).unwrap();
    on_shard(move || async move {
        let region = 64 << 20;
        let pages_per_region = region / PAGE;
        let large = fetched(&store, 1, (1 << 30) + region).await;
        for at in 0..16 {
            fill(&large, 1, at * pages_per_region).await;
        }
        let open = large.hold(Hold::OpenPassthrough).unwrap();
        let other = fetched(&store, 2, 8 * PAGE).await;
        for page in 0..4 {
            fill(&other, 2, page).await;
        }
        let held = other.hold(Hold::Filling).unwrap();
        let full = other.fill(PageIndex(5), frame_of(&bytes_of(2, 5, PAGE as usize)).await).await;
        assert!(matches!(full, Err((StoreError::NoSpace { .. }, _))));
        assert_eq!(large.missing(0..region * 16).len(), (16 * pages_per_region - 16) as usize);
        drop(open);
        fill(&other, 2, 5).await;
        drop(held);
        let gone: Vec<_> = (0..16).filter(|at| !large.is_resident(at * region..at * region + 1)).collect();
        assert!(!gone.is_empty() && gone.len() < 16, "some regions went, not all: {gone:?}");
        for at in (0..16).filter(|at| !gone.contains(at)) {
            let found = read(&large, at * region, PAGE as usize).await;
            assert_eq!(found, bytes_of(1, at * pages_per_region, PAGE as usize));
        }
        let frame = frame_of(&[0; 100]).await;
        assert!(matches!(large.read(frame, gone[0] * region).await, Err(StoreError::NotResident { .. })));
        let left = large.resident_bytes();
        drop((store, large, other));
        let (store, _) = Store::open(cfg).unwrap();
        let large = store.find(&ContentKey(1)).unwrap();
        assert_eq!(large.resident_bytes(), left, "what was punched stays absent");
    });
}

#[test]
fn eviction_keeps_below_the_watermark_and_pages_become_durable_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let mut cfg = StoreConfig { high_watermark: 50, low_watermark: 25, ..eager(dir.path()) };
    cfg.tiers[0].quota = ByteSize::bytes(100 * PAGE);
    let (store, _) = Store::open(cfg).unwrap();
    on_shard(move || async move {
        for key in 1..=40 {
            filled(&store, key, 2 * PAGE).await;
        }
        assert_eq!(store.len(), 40);
        spawn(store.clone().tend());
        until("it is below the low watermark", || store.usage()[0].used <= 25 * PAGE).await;
        assert!(store.len() >= 10, "and no more went than had to: {}", store.len());
        let left: Vec<_> = (1..=40).filter_map(|key| store.find(&ContentKey(key))).collect();
        until("what is left is durable", || left.iter().all(|extent| extent.is_durable())).await;
    });
}

fn opened_in(extents_dir: &Path) -> Vec<PathBuf> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(extents_dir) && target.extension().is_none()).collect()
}

fn open_in(extents_dir: &Path) -> usize {
    opened_in(extents_dir).len()
}

#[test]
fn no_more_files_stay_open_than_there_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = StoreConfig { open_files_max: 5, blanks: 2, blanks_max: 2, ..config(dir.path()) };
    let (store, _) = Store::open(cfg).unwrap();
    let extents_dir = dir.path().join("extents");
    on_shard(move || async move {
        let mut all = Vec::new();
        for key in 1..=30 {
            all.push(filled(&store, key, PAGE).await.hold(Hold::OpenPassthrough).unwrap());
        }
        assert!(open_in(&extents_dir) >= 30, "what is held stays open");
        drop(all);
        let held = store.find(&ContentKey(3)).unwrap().hold(Hold::OpenPassthrough).unwrap();
        spawn(store.clone().tend());
        // The two blanks are open as well.
        until("the idle ones are closed", || open_in(&extents_dir) <= 7).await;
        for key in 1..=30 {
            assert_bytes(&store.find(&ContentKey(key)).unwrap(), key as u64).await;
        }
        drop(held);
    });
}

#[test]
fn however_fast_files_are_opened_no_more_stay_open_than_there_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = StoreConfig { open_files_max: 40, blanks: 2, blanks_max: 2, ..config(dir.path()) };
    let (store, _) = Store::open(cfg).unwrap();
    let extents_dir = dir.path().join("extents");
    // Nothing tends the store.
    on_shard(move || async move {
        let mut open_max = 0;
        for key in 1..=300 {
            filled(&store, key, PAGE).await;
            open_max = open_max.max(open_in(&extents_dir));
        }
        let first = store.find(&ContentKey(1)).unwrap();
        let held = first.hold(Hold::OpenPassthrough).unwrap();
        first.file().unwrap();
        for key in (2..=300).chain(2..=300) {
            store.find(&ContentKey(key)).unwrap().file().unwrap();
            open_max = open_max.max(open_in(&extents_dir));
        }
        // A quarter more while the order is gone through for the first time, and blanks that are being made.
        assert!(open_max <= 80, "{open_max} were open");
        let of_first = format!("{:016x}", first.id().0);
        assert!(
            opened_in(&extents_dir).iter().any(|path| path.ends_with(&of_first)),
            "what is held stays open"
        );
        drop(held);
        for key in 1..=300 {
            assert_bytes(&store.find(&ContentKey(key)).unwrap(), key as u64).await;
        }
    });
}
