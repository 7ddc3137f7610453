//! Extents through their life: filled, read, written, truncated, bound, found again after a restart.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use forebay_store::{Authority, ExtentSpec, Hold, LastExit, Store, StoreError};
use forebay_types::{ContentKey, PageIndex};

#[test]
fn a_fetched_file_fills_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.tiers, [("nvme".to_owned(), Some(LastExit::New))]);
    on_shard(move || async move {
        let len = 3 * PAGE + 100;
        let extent = fetched(&store, 1, len).await;
        assert!(!extent.is_resident(0..1) && !extent.is_complete());
        assert_eq!(extent.missing(0..len).len(), 4);
        fill(&extent, 1, 3).await;
        fill(&extent, 1, 0).await;
        assert!(extent.is_resident(0..PAGE) && extent.is_resident(3 * PAGE..len + 5));
        assert_eq!(extent.missing(0..len), [PageIndex(1), PageIndex(2)]);
        assert_eq!(read(&extent, 3 * PAGE, 4096).await, bytes_of(1, 3, 100));
        let frame = forebay_shard::arena().frame(PAGE as usize).await.unwrap();
        let absent = extent.read(frame, PAGE - 10).await;
        assert!(matches!(absent, Err(StoreError::NotResident { page: PageIndex(1), .. })));
        fill(&extent, 1, 1).await;
        fill(&extent, 1, 2).await;
        assert!(extent.is_complete());
        assert!(store.find(&ContentKey(1)).is_some_and(|found| found.id() == extent.id()));
        assert!(store.usage()[0].used >= 3 * PAGE);
    });
}

#[test]
fn one_frame_fills_adjacent_pages_and_leaves_those_that_are_here() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let len = 3 * PAGE + 7;
        let extent = fetched(&store, 1, len).await;
        fill(&extent, 1, 1).await;
        let other = bytes_of(2, 0, len as usize);
        extent.fill(PageIndex(0), frame_of(&other).await).await.unwrap();
        assert!(extent.is_complete());
        let mut expected = other;
        expected[PAGE as usize..2 * PAGE as usize].copy_from_slice(&bytes_of(1, 1, PAGE as usize));
        assert_eq!(read(&extent, 0, 4 * PAGE as usize).await, expected);
        for page in 0..4 {
            let frame = forebay_shard::arena().frame(PAGE as usize).await.unwrap();
            extent.read_verified(PageIndex(page), frame).await.unwrap();
        }
    });
}

#[test]
fn a_new_file_is_written_read_and_becomes_clean() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        assert!(extent.is_complete() && extent.authority() == Authority::Here);
        assert_eq!(store.usage()[0].authored, 0);
        let bytes = bytes_of(3, 0, 150_000);
        extent.write(frame_of(&bytes).await, 1000).await.unwrap();
        assert_eq!(extent.len(), 151_000);
        assert_eq!(read(&extent, 0, 200_000).await, [vec![0; 1000], bytes.clone()].concat());
        extent.sync().await.unwrap();
        let usage = &store.usage()[0];
        assert!(usage.authored >= 150_000 && usage.authored == usage.used, "{usage:?}");
        store.bind(extent.id(), ContentKey(9)).await.unwrap();
        assert_eq!(store.usage()[0].authored, 0);
        assert_eq!(extent.authority(), Authority::Origin);
        assert!(extent.is_complete() && extent.is_durable());
        let refused = extent.write(frame_of(b"x").await, 0).await;
        assert!(matches!(refused, Err((StoreError::Invalid(_), _))), "{refused:?}");
        store.unbind_all(extent.id()).await.unwrap();
        assert!(store.find(&ContentKey(9)).is_none());
        extent.write(frame_of(b"x").await, 0).await.unwrap();
        assert_eq!(read(&extent, 0, 1).await, b"x");
    });
}

#[test]
fn what_was_written_here_is_never_filled_over() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent = fetched(&store, 1, 4 * PAGE).await;
        store.unbind_all(extent.id()).await.unwrap();
        let part = extent.write(frame_of(b"part").await, PAGE + 5).await;
        assert!(matches!(part, Err((StoreError::NotResident { page: PageIndex(1), .. }, _))));
        let ours = bytes_of(7, 1, PAGE as usize);
        extent.write(frame_of(&ours).await, PAGE).await.unwrap();
        let theirs = bytes_of(1, 0, 4 * PAGE as usize);
        extent.fill(PageIndex(0), frame_of(&theirs).await).await.unwrap();
        assert!(extent.is_complete());
        assert_eq!(read(&extent, PAGE, PAGE as usize).await, ours);
        assert_eq!(read(&extent, 0, PAGE as usize).await, theirs[..PAGE as usize]);
        extent.write(frame_of(b"past the end").await, 9 * PAGE).await.unwrap();
        assert_eq!(extent.len(), 9 * PAGE + 12);
        assert!(extent.is_complete());
    });
}

#[test]
fn a_truncation_cuts_what_may_still_be_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent = fetched(&store, 1, 4 * PAGE).await;
        store.unbind_all(extent.id()).await.unwrap();
        extent.set_len(PAGE + 10).await.unwrap();
        extent.set_len(3 * PAGE).await.unwrap();
        assert_eq!(extent.missing(0..3 * PAGE), [PageIndex(0), PageIndex(1)]);
        let theirs = bytes_of(1, 0, 4 * PAGE as usize);
        let returned = extent.fill(PageIndex(0), frame_of(&theirs).await).await.unwrap();
        assert_eq!(returned[..], theirs[..], "the caller serves from the frame it gets back");
        let cut = PAGE as usize + 10;
        let expected = [&theirs[..cut], &vec![0; 3 * PAGE as usize - cut]].concat();
        assert_eq!(read(&extent, 0, 4 * PAGE as usize).await, expected);
    });
}

#[test]
fn ids_are_never_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut highest = 0;
    for _ in 0..3 {
        let (store, _) = open(dir.path());
        let first = on_shard({
            let store = store.clone();
            move || async move {
                let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
                store.remove(extent.id()).await.unwrap();
                extent.id().0
            }
        });
        assert!(first > highest);
        highest = first;
        store.close().unwrap();
    }
}

#[test]
fn everything_is_found_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for clean in [true, false] {
        let dir = dir.path().join(format!("{clean}"));
        let (store, _) = open(&dir);
        let (fetched_id, written_id) = on_shard({
            let store = store.clone();
            move || async move {
                let extent = fetched(&store, 1, 3 * PAGE).await;
                fill(&extent, 1, 0).await;
                fill(&extent, 1, 2).await;
                store.bind(extent.id(), ContentKey(2)).await.unwrap();
                let written = store.create(ExtentSpec::BORN_HERE).await.unwrap();
                written.write(frame_of(b"born here").await, 0).await.unwrap();
                (extent.id(), written.id())
            }
        });
        if clean {
            store.close().unwrap();
        }
        drop(store);
        let (store, report) = open(&dir);
        let exit = if clean { LastExit::Clean } else { LastExit::DaemonDied };
        assert_eq!(report.tiers[0].1, Some(exit));
        assert_eq!((report.clean, report.records_refused, report.pages_not_believed), (1, 0, 0));
        on_shard(move || async move {
            for key in [1, 2] {
                assert_eq!(store.find(&ContentKey(key)).unwrap().id(), fetched_id);
            }
            let extent = store.get(fetched_id).unwrap();
            assert_eq!(extent.missing(0..3 * PAGE), [PageIndex(1)]);
            assert_eq!(read(&extent, 2 * PAGE, PAGE as usize).await, bytes_of(1, 2, PAGE as usize));
            let written = store.get(written_id).unwrap();
            assert_eq!(read(&written, 0, 100).await, b"born here");
            assert!(store.sweep(|id| id == written_id) > 0 || store.len() == 2);
            assert!(store.get(written_id).is_some() && store.len() == 2);
        });
    }
}

#[test]
fn a_directory_is_refused_with_its_cause_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let locked = Store::open(config(dir.path())).unwrap_err();
    assert!(locked.to_string().contains(&format!("in use by process {}", std::process::id())), "{locked}");
    store.close().unwrap();
    drop(store);
    let mut foreign = config(dir.path());
    foreign.node = forebay_types::NodeId::new("other").unwrap();
    let error = Store::open(foreign).unwrap_err().to_string();
    assert!(error.contains("belongs to node test, this is other; give an empty directory"), "{error}");
    let header = dir.path().join("tier");
    let mut bytes = std::fs::read(&header).unwrap();
    bytes[8] = 2;
    std::fs::write(&header, &bytes).unwrap();
    let error = Store::open(config(dir.path())).unwrap_err().to_string();
    assert!(error.contains("has format 2, this build reads 1; use the build that wrote it"), "{error}");
    bytes[8] = 1;
    bytes[50] ^= 1;
    std::fs::write(&header, &bytes).unwrap();
    assert!(Store::open(config(dir.path())).unwrap_err().to_string().contains("is damaged"));
    let mine = tempfile::tempdir().unwrap();
    std::fs::write(mine.path().join("thesis.tex"), "x").unwrap();
    let error = Store::open(config(mine.path())).unwrap_err().to_string();
    assert!(error.contains("is no cache directory"), "{error}");
    assert_eq!(std::fs::read_dir(mine.path()).unwrap().count(), 1, "nothing was left there");
}

#[test]
fn guards_and_eviction_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut cfg = config(dir.path());
    cfg.tiers[0].quota = forebay_types::ByteSize::bytes(8 * PAGE);
    let (store, _) = Store::open(cfg).unwrap();
    on_shard(move || async move {
        let mut held = Vec::new();
        for key in 0..4 {
            let extent = fetched(&store, key + 1, 2 * PAGE).await;
            held.push(extent.hold(Hold::OpenPassthrough).unwrap());
            fill(&extent, key as u64, 0).await;
            fill(&extent, key as u64, 1).await;
        }
        let fifth = fetched(&store, 5, 2 * PAGE).await;
        let frame = frame_of(&bytes_of(5, 0, PAGE as usize)).await;
        let (error, frame) = fifth.fill(PageIndex(0), frame).await.unwrap_err();
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert_eq!(frame[..], bytes_of(5, 0, PAGE as usize), "the bytes are served all the same");
        let freed = held.remove(2);
        let (id, extent) = (freed.extent().id(), std::sync::Arc::clone(freed.extent()));
        drop(freed);
        fill(&fifth, 5, 0).await;
        assert!(store.get(id).is_none(), "only the one nobody held went");
        assert!(matches!(extent.hold(Hold::Pinned), Err(StoreError::Gone(_))));
        assert_eq!(
            read(&extent, 0, PAGE as usize).await,
            bytes_of(2, 0, PAGE as usize),
            "open files keep their bytes"
        );
        assert_eq!(store.len(), 4);
    });
}

/// A tier whose file system is smaller than its quota: the quota never stops a write, the disk does.
#[test]
fn a_full_disk_evicts_first_and_gives_the_bytes_back_when_nothing_can_go() {
    if !disk::may_mount() {
        eprintln!("skipped: needs root and loop devices");
        return;
    }
    let small = disk::Disk::new(48);
    let (store, _) = open(small.path());
    on_shard(move || async move {
        for key in 1..=60 {
            let extent = fetched(&store, key, 16 * PAGE).await;
            for page in 0..16 {
                fill(&extent, key as u64, page).await;
            }
        }
        assert!(store.counters().evictions() > 10, "60 MiB went through a disk of 48");
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        let bytes = bytes_of(7, 7, 1 << 20);
        let mut at = 0;
        let (error, frame) = loop {
            match extent.write(frame_of(&bytes).await, at).await {
                Ok(_) => at += bytes.len() as u64,
                Err(refused) => break refused,
            }
        };
        assert!(at > 20 << 20, "what was clean made room: {at}");
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert_eq!(frame[..], bytes[..]);
        assert_eq!(read(&extent, 0, 1 << 20).await, bytes);
        store.remove(extent.id()).await.unwrap();
        let other = fetched(&store, 99, PAGE).await;
        fill(&other, 99, 0).await;
    });
}

/// Whatever a disk makes of a sidecar, no page is believed whose bytes are not there.
#[test]
fn a_sidecar_of_garbage_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let id = on_shard({
        let store = store.clone();
        move || async move {
            let extent = fetched(&store, 1, 6 * PAGE + 99).await;
            for page in [0, 2, 3, 6] {
                fill(&extent, 1, page).await;
            }
            extent.sync().await.unwrap();
            extent.id()
        }
    });
    drop(store);
    let path = dir.path().join(format!("extents/00/{id}.map"));
    let whole = std::fs::read(&path).unwrap();
    let data = std::fs::read(path.with_extension("")).unwrap();
    for round in 0..60u64 {
        // Each round starts from the whole extent: one whose sidecar is refused may be dropped at start.
        std::fs::write(path.with_extension(""), &data).unwrap();
        std::fs::write(&path, spoiled(&whole, round)).unwrap();
        let (store, _) = open(dir.path());
        store.sweep(|_| false);
        on_shard(move || async move {
            let Some(extent) = store.find(&ContentKey(1)) else { return };
            for page in (0..7).filter(|page| extent.is_resident(page * PAGE..page * PAGE + 1)) {
                let len = if page == 6 { 99 } else { PAGE as usize };
                assert_eq!(
                    read(&extent, page * PAGE, PAGE as usize).await,
                    bytes_of(1, page, len),
                    "{round}"
                );
            }
        });
    }
}

fn spoiled(whole: &[u8], round: u64) -> Vec<u8> {
    let noise = bytes_of(round, 5, 4096);
    let at = (round * 7919) as usize % whole.len();
    let mut bytes = whole.to_vec();
    match round % 5 {
        0 => bytes[at] ^= 1 << (round % 8),
        1 => bytes.truncate(at),
        2 => bytes = noise,
        // Both header slots are whole, the records are those of other pages.
        3 => bytes[8192..].rotate_left(16 * (1 + round as usize % 7)),
        _ => {
            let end = whole.len().min(at + noise.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
        }
    }
    bytes
}
