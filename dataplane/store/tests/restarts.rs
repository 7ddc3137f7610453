//! What a start has to make of what several ends before it have left: an extent in two places, a start that was cut short
//! itself, syncs that failed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{PAGE, bytes_of, config, fetched, fill, frame_of, on_shard, read};
use forebay_shard::sleep;
use forebay_store::{
    Authority, Extent, ExtentSpec, LastExit, RecoveryReport, Store, StoreConfig, TierConfig,
};
use forebay_types::{ContentKey, ExtentId};
use futures_util::poll;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The first bytes of what is written over the under file system's.
const OURS: &[u8] = b"written here";

fn tiers(dirs: &[&Path], boot: u8) -> (Arc<Store>, RecoveryReport) {
    let one = config(dirs[0]);
    let tier = |dir: &&Path| TierConfig { dir: dir.to_path_buf(), ..one.tiers[0].clone() };
    let tiers = dirs.iter().map(tier).collect();
    let cfg = StoreConfig { tiers, boot_id: Some([boot; 16]), open_files_max: 0, ..one };
    Store::open(cfg).unwrap()
}

fn paths(dir: &Path, id: ExtentId) -> [PathBuf; 2] {
    let file = dir.join(format!("extents/{:02x}/{id}", (id.0 / 256) % 256));
    [file.with_extension("map"), file]
}

fn copy(from: &Path, to: &Path, id: ExtentId) {
    for (from, to) in paths(from, id).iter().zip(paths(to, id)) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// Other files come until the file of this extent is closed, and its sidecar with it: no file may stay open here. Some come in any
/// case, since what is open in its place may not have its name.
async fn close_by_others(store: &Arc<Store>, tier: &Path, id: ExtentId) {
    let [_, file] = paths(tier, id);
    let is_open = || {
        let fds = fs::read_dir("/proc/self/fd").unwrap();
        fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).any(|path| path == file)
    };
    for others in 1..100 {
        store.create(ExtentSpec::BORN_HERE).await.unwrap();
        if others > 4 && !is_open() {
            return;
        }
    }
    panic!("{} stays open", file.display());
}

/// A clean file of two pages, synced.
async fn clean(store: &Arc<Store>) -> Arc<Extent> {
    let extent = fetched(store, 1, 2 * PAGE).await;
    fill(&extent, 1, 0).await;
    fill(&extent, 1, 1).await;
    extent.sync().await.unwrap();
    extent
}

/// Nothing makes the removal of the old place durable when an extent moves, so a power loss may bring it back.
#[test]
fn what_was_written_counts_for_more_than_a_clean_copy_in_another_tier() {
    for written_in_faster in [true, false] {
        let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let old = tempfile::tempdir().unwrap();
        let (fast, slow, old) = (fast.path(), slow.path(), old.path());
        let (store, _) = tiers(&[fast, slow], 1);
        let (dir, kept) = (fast.to_owned(), old.to_owned());
        let id = on_shard(move || async move {
            let extent = clean(&store).await;
            copy(&dir, &kept, extent.id());
            store.unbind_all(extent.id()).await.unwrap();
            extent.write(frame_of(OURS).await, 0).await.unwrap();
            extent.sync().await.unwrap();
            extent.id()
        });
        if written_in_faster {
            copy(old, slow, id);
        } else {
            copy(fast, slow, id);
            copy(old, fast, id);
        }

        let (store, _) = tiers(&[fast, slow], 2);
        assert!(store.find(&ContentKey(1)).is_none(), "the content it had is not to be found in it");
        let extent = store.get(id).unwrap();
        assert_eq!(extent.tier_index(), usize::from(!written_in_faster));
        on_shard(move || async move {
            assert_eq!(extent.authority(), Authority::Here);
            assert_eq!(read(&extent, 0, OURS.len()).await, OURS);
        });
    }
}

/// ... and before the first byte is written there is no other copy any more, however old.
#[test]
fn no_other_tier_keeps_a_copy_of_what_is_about_to_be_written_to() {
    let (fast, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, _) = tiers(&[fast.path(), slow.path()], 1);
    let (from, to) = (fast.path().to_owned(), slow.path().to_owned());
    on_shard(move || async move {
        let extent = clean(&store).await;
        copy(&from, &to, extent.id());
        store.unbind_all(extent.id()).await.unwrap();
        assert!(paths(&to, extent.id()).iter().all(|path| !path.exists()));
        assert!(paths(&from, extent.id()).iter().all(|path| path.exists()));
    });
}

#[test]
fn that_the_machine_went_down_is_found_until_a_start_came_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let exit = |boot| {
        let (store, report) = tiers(&[dir.path()], boot);
        (store, report.tiers[0].1.unwrap())
    };
    assert_eq!(exit(1).1, LastExit::New);
    assert_eq!(exit(2).1, LastExit::Unclean);
    let (store, found) = exit(2);
    assert_eq!(found, LastExit::Unclean, "the start before ended before it had seen to it");
    store.confirm_start().unwrap();
    drop(store);
    assert_eq!(exit(2).1, LastExit::DaemonDied);
    assert_eq!(exit(3).1, LastExit::Unclean);
}

/// sync(2) writes out what the kernel wrote past us, and nobody tells us of it.
#[test]
fn what_is_wholly_here_needs_no_sync_of_ours_once_it_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = tiers(&[dir.path()], 1);
    let id = on_shard(move || async move {
        let extent = fetched(&store, 1, 2 * PAGE).await;
        fill(&extent, 1, 0).await;
        extent.sync().await.unwrap();
        fill(&extent, 1, 1).await;
        store.unbind_all(extent.id()).await.unwrap();
        assert!(extent.permits_passthrough());
        extent.write(frame_of(OURS).await, PAGE).await.unwrap();
        extent.id()
    });
    let (store, report) = tiers(&[dir.path()], 2);
    assert_eq!(report.pages_not_believed, 0);
    on_shard(move || async move {
        assert_eq!(read(&store.get(id).unwrap(), PAGE, OURS.len()).await, OURS);
    });
}

/// A file whose sync fails, like that of a device with no such thing, and what was there.
fn put_aside(path: &Path) -> PathBuf {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside).unwrap();
    symlink("/dev/null", path).unwrap();
    aside
}

/// The kernel tells of a write that failed once, and takes the bytes for written from then on.
#[test]
fn a_sync_that_failed_is_never_followed_by_one_that_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = tiers(&[dir.path()], 1);
    let tier = dir.path().to_owned();
    on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        let id = extent.id();
        extent.write(frame_of(OURS).await, 0).await.unwrap();
        close_by_others(&store, &tier, id).await;
        let [_, file] = paths(&tier, id);
        let aside = put_aside(&file);
        extent.sync().await.unwrap_err();
        close_by_others(&store, &tier, id).await;
        fs::rename(aside, file).unwrap();
        extent.sync().await.unwrap_err();
        assert!(store.close().is_err(), "no mark of a clean end");
        extent.set_len(0).await.unwrap();
        extent.sync().await.unwrap();
    });
}

#[test]
fn a_sidecar_that_could_not_be_synced_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = tiers(&[dir.path()], 1);
    let tier = dir.path().to_owned();
    let id = on_shard(move || async move {
        let extent = fetched(&store, 1, 2 * PAGE).await;
        let id = extent.id();
        store.unbind_all(id).await.unwrap();
        fill(&extent, 1, 0).await;
        close_by_others(&store, &tier, id).await;
        let [sidecar, _] = paths(&tier, id);
        let aside = put_aside(&sidecar);
        extent.sync().await.unwrap_err();
        close_by_others(&store, &tier, id).await;
        fs::rename(aside, sidecar).unwrap();
        extent.sync().await.unwrap();
        id
    });
    let (store, report) = tiers(&[dir.path()], 2);
    assert_eq!((report.pages_not_believed, report.damaged.len()), (0, 0));
    on_shard(move || async move {
        let extent = store.get(id).unwrap();
        assert_eq!(read(&extent, 0, PAGE as usize).await, bytes_of(1, 0, PAGE as usize));
    });
}

/// A program that waits for its fsync can be killed, and the request is then dropped wherever it is.
#[test]
fn a_sync_that_is_given_up_leaves_the_next_one_all_there_is_to_do() {
    const POLLS_MAX: u128 = 40;
    // Where a sync takes no time, the steps before and after it do.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (store, _) = tiers(&[dir.path()], 1);
    let tier = dir.path().to_owned();
    on_shard(move || async move {
        for polls in 1..=POLLS_MAX {
            let extent = fetched(&store, polls, 2 * PAGE).await;
            store.unbind_all(extent.id()).await.unwrap();
            fill(&extent, 1, 0).await;
            // The sidecar is opened again between the taking of what is to be written to it and the writing.
            close_by_others(&store, &tier, extent.id()).await;
            let mut given_up = Box::pin(extent.sync());
            for _ in 0..polls {
                if poll!(given_up.as_mut()).is_ready() {
                    break;
                }
                sleep(Duration::from_micros(20)).await;
            }
            drop(given_up);
            extent.sync().await.unwrap();
        }
    });
    let (_store, report) = tiers(&[dir.path()], 2);
    assert_eq!(report.pages_not_believed, 0);
}

/// The name space outlives the tier, and may speak of an extent of before.
#[test]
fn a_tier_that_was_lost_is_followed_by_one_with_other_ids() {
    let ids = || {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(config(dir.path())).unwrap();
        on_shard(move || async move {
            let mut ids = Vec::new();
            for key in 1..=20 {
                ids.push(fetched(&store, key, 10).await.id());
            }
            ids
        })
    };
    let (before, after) = (ids(), ids());
    assert!(before.iter().all(|id| !after.contains(id)), "{before:?} {after:?}");
}
