//! Truncations that reached a file, its header and its records at different times: what was cut away never comes back over
//! what was written since.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::disk::{Disk, may_mount};
use common::{PAGE, bytes_of, config, fetched, fill, frame_of, on_shard, read};
use forebay_store::{Extent, ExtentSpec, LastExit, RecoveryReport, Store, StoreConfig};
use forebay_types::{ExtentId, PageIndex};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where files are cut: within their first page.
const CUT: u64 = 100;
/// Both header slots of a sidecar.
const HEADERS_LEN: usize = 8192;

fn boot(dir: &Path, boot: u8) -> (Arc<Store>, RecoveryReport) {
    Store::open(StoreConfig { boot_id: Some([boot; 16]), ..config(dir) }).unwrap()
}

fn paths(dir: &Path, id: ExtentId) -> (PathBuf, PathBuf) {
    let file = dir.join(format!("extents/{:02x}/{id}", (id.0 / 256) % 256));
    (file.clone(), file.with_extension("map"))
}

/// A file of three pages of the under file system that is ours; its first two pages are here, and synced.
async fn ours_in_part(store: &Arc<Store>) -> Arc<Extent> {
    let extent = fetched(store, 1, 3 * PAGE).await;
    fill(&extent, 1, 0).await;
    fill(&extent, 1, 1).await;
    store.unbind_all(extent.id()).await.unwrap();
    extent.sync().await.unwrap();
    extent
}

async fn write_behind_the_cut(extent: &Arc<Extent>) {
    let bytes = bytes_of(9, 0, 2 * PAGE as usize);
    extent.write(frame_of(&bytes).await, CUT).await.unwrap();
}

/// All that is there: the first bytes of old, then what was written behind them.
async fn check(store: &Arc<Store>, id: ExtentId) {
    let extent = store.get(id).unwrap();
    assert_eq!(extent.origin_len(), CUT);
    assert!(extent.is_complete(), "absent: {:?}", extent.missing(0..extent.len()));
    let whole = [bytes_of(1, 0, CUT as usize), bytes_of(9, 0, 2 * PAGE as usize)].concat();
    assert_eq!(read(&extent, 0, 4 * PAGE as usize).await, whole);
    let theirs = frame_of(&bytes_of(1, 0, PAGE as usize)).await;
    extent.fill(PageIndex(0), theirs).await.unwrap();
    assert_eq!(read(&extent, 0, 4 * PAGE as usize).await, whole);
}

#[test]
fn a_cut_that_only_the_file_tells_of_is_written_down_before_the_file_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = boot(dir.path(), 1);
    let id = on_shard(move || async move { ours_in_part(&store).await.id() });
    std::fs::File::options().write(true).open(paths(dir.path(), id).0).unwrap().set_len(CUT).unwrap();

    let (store, report) = boot(dir.path(), 2);
    assert_eq!((report.cuts_ended, report.tiers[0].1), (1, Some(LastExit::Unclean)));
    on_shard(move || async move {
        let extent = store.get(id).unwrap();
        write_behind_the_cut(&extent).await;
        extent.sync().await.unwrap();
    });

    let (store, report) = boot(dir.path(), 3);
    assert_eq!(report.cuts_ended, 0);
    on_shard(move || async move { check(&store, id).await });
}

#[test]
fn a_cut_that_only_the_records_tell_of_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = boot(dir.path(), 1);
    let tier = dir.path().to_owned();
    let id = on_shard(move || async move {
        let extent = ours_in_part(&store).await;
        let sidecar = paths(&tier, extent.id()).1;
        let before = std::fs::read(&sidecar).unwrap();
        extent.set_len(CUT).await.unwrap();
        write_behind_the_cut(&extent).await;
        // The disk had the records, and the file, but not yet the header.
        let file = std::fs::File::options().write(true).open(sidecar).unwrap();
        file.write_all_at(&before[..HEADERS_LEN], 0).unwrap();
        extent.id()
    });

    let (store, report) = boot(dir.path(), 2);
    assert_eq!((report.cuts_ended, report.pages_not_believed), (1, 0));
    on_shard(move || async move { check(&store, id).await });
}

/// What the dead daemon wrote is in the page cache alone, and the next daemon's sync has to answer for it.
#[test]
fn a_cut_that_a_dead_daemon_wrote_is_synced_by_the_next_one() {
    if !may_mount() {
        eprintln!("skipped: needs root and loop devices");
        return;
    }
    let mut disk = Disk::new(192);
    let (store, _) = boot(disk.path(), 1);
    let id = on_shard(move || async move {
        let extent = ours_in_part(&store).await;
        extent.set_len(CUT).await.unwrap();
        extent.id()
    });

    let (store, report) = boot(disk.path(), 1);
    assert_eq!(report.tiers[0].1, Some(LastExit::DaemonDied));
    on_shard(move || async move {
        let extent = store.get(id).unwrap();
        write_behind_the_cut(&extent).await;
        extent.sync().await.unwrap();
    });
    disk.cut_power();
    disk.reboot();

    let (store, report) = boot(disk.path(), 2);
    assert_eq!(report.tiers[0].1, Some(LastExit::Unclean));
    assert_eq!(report.cuts_ended, 0);
    on_shard(move || async move { check(&store, id).await });
}

/// A block that reached the disk without the length that covers it leaves bytes behind the end of a file. They must not come
/// up when the file grows over them.
#[test]
fn what_lay_behind_the_end_when_the_power_went_is_zeros() {
    if !may_mount() {
        eprintln!("skipped: needs root and loop devices");
        return;
    }
    let mut disk = Disk::new(600);
    let (store, _) = boot(disk.path(), 1);
    let id = on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        extent.write(frame_of(&bytes_of(1, 0, 4096)).await, 0).await.unwrap();
        extent.sync().await.unwrap();
        extent.id()
    });
    let file = paths(disk.path(), id).0;
    let within = file.strip_prefix(disk.path()).unwrap().to_owned();
    let set_len = |len: u64| format!("set_inode_field {} size {len}", within.display());
    let changed = std::fs::metadata(&file).unwrap().modified().unwrap();
    disk.edit_and_reboot(&set_len(CUT));

    let (store, report) = boot(disk.path(), 2);
    assert_eq!(report.tiers[0].1, Some(LastExit::Unclean));
    assert_eq!(store.get(id).unwrap().len(), CUT);
    drop(store);
    disk.edit_and_reboot(&set_len(4096));
    let behind = std::fs::read(&file).unwrap().split_off(CUT as usize);
    assert!(behind.iter().all(|byte| *byte == 0), "bytes that were behind the end: {:?}", &behind[..16]);
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), changed);
}
