//! Long writes go past the page cache and short ones through it, and both make one file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use forebay_shard::File;
use forebay_store::{Extent, ExtentSpec, Hold, Store, StoreConfig};
use forebay_types::PageIndex;
use futures_util::future::join;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags};
use std::sync::Arc;

const LONG: usize = 256 << 10;
const FILE_LEN: u64 = 2 << 20;

/// Whether the page cache has the byte at `offset`; `None` where the file system does not tell, or has its bytes nowhere
/// else.
fn is_in_page_cache(file: &File, offset: u64) -> Option<bool> {
    if is_on_tmpfs(file) {
        return None;
    }
    let mut byte = [0];
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
    match read {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(Errno::OPNOTSUPP) => None,
        Err(error) => panic!("preadv2: {error}"),
    }
}

async fn write(extent: &Arc<Extent>, bytes: &[u8], at: u64) {
    extent.write(frame_of(bytes).await, at).await.unwrap();
}

#[test]
fn a_long_write_leaves_nothing_in_the_page_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        let bytes = bytes_of(1, 0, LONG);
        write(&extent, &bytes, 0).await;
        assert_ne!(is_in_page_cache(&extent.file().unwrap(), 0), Some(true));
        write(&extent, &bytes[..100], LONG as u64).await;
        assert_ne!(is_in_page_cache(&extent.file().unwrap(), LONG as u64), Some(false), "not a disk's turn");
        assert_eq!(read(&extent, 0, LONG).await, bytes);
    });
}

#[test]
fn what_is_fetched_and_handed_on_leaves_nothing_in_the_page_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let len = 17 * PAGE as usize + 100;
        let extent = fetched(&store, 1, len as u64).await;
        let bytes = bytes_of(1, 0, len);
        extent.fill(PageIndex(0), frame_of(&bytes).await).await.unwrap();
        let whole = 17 * PAGE as usize;
        assert_eq!(read(&extent, 0, whole).await, bytes[..whole]);
        assert_ne!(is_in_page_cache(&extent.file().unwrap(), 0), Some(true));
        assert_eq!(read(&extent, 10, len - 10).await, bytes[10..], "off the grid, through the page cache");
    });
}

#[test]
fn what_the_kernel_works_on_is_written_through_the_page_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        let open = extent.hold(Hold::OpenPassthrough).unwrap();
        write(&extent, &bytes_of(1, 0, LONG), 0).await;
        assert_ne!(is_in_page_cache(&extent.file().unwrap(), 0), Some(false));
        drop(open);
    });
}

#[test]
fn writes_of_all_lengths_at_all_places_make_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let path = dir.path().to_owned();
    let (id, expected) = on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        let mut random = StdRng::seed_from_u64(7);
        let mut expected = Vec::new();
        for round in 0..300 {
            // Half of them on the grid, some of those ending off it.
            let at: u64 = random.random_range(0..FILE_LEN);
            let at = if random.random() { at / 4096 * 4096 } else { at };
            let len = *[1, 4095, 4096, 65_536, 70_000, LONG].get(random.random_range(0..6)).unwrap();
            let bytes = bytes_of(round, at, len);
            write(&extent, &bytes, at).await;
            expected.resize(expected.len().max(at as usize + len), 0);
            expected[at as usize..][..len].copy_from_slice(&bytes);
            if round % 8 == 0 {
                let from = random.random_range(0..expected.len() - 1);
                let len = (expected.len() - from).min(100_000);
                assert_eq!(read(&extent, from as u64, len).await, expected[from..][..len], "after {round}");
            }
        }
        assert_eq!(extent.len(), expected.len() as u64);
        extent.sync().await.unwrap();
        (extent.id(), expected)
    });
    // Opened anew, as after the daemon's death.
    let (store, _) = Store::open(StoreConfig { direct_writes: false, ..config(&path) }).unwrap();
    on_shard(move || async move {
        let extent = store.get(id).unwrap();
        let len = expected.len();
        assert_eq!(read(&extent, 0, len).await, expected);
    });
}

/// A run goes to the disk past the page cache while somebody writes a few bytes in the middle of each of its pages. Around those
/// are the bytes of the run, whoever came last; were both under way at once, the file system would say so at the next sync.
#[test]
fn a_run_loses_nothing_to_short_writes_of_its_pages() {
    const IN_PAGE: usize = 1000;
    const SHORT: [u8; 100] = [u8::MAX; 100];
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    on_shard(move || async move {
        let extent = store.create(ExtentSpec::BORN_HERE).await.unwrap();
        for round in 1..60 {
            let bytes = vec![round; LONG];
            let run = write(&extent, &bytes, 0);
            let short_ones = async {
                for page in (0..LONG).step_by(4096) {
                    write(&extent, &SHORT, (page + IN_PAGE) as u64).await;
                }
            };
            join(run, short_ones).await;
            let now = read(&extent, 0, LONG).await;
            let is_short = |at: &usize| (IN_PAGE..IN_PAGE + SHORT.len()).contains(&(at % 4096));
            let lost = (0..LONG).filter(|at| !is_short(at)).find(|at| now[*at] != round);
            assert_eq!(lost, None, "in round {round}");
        }
        extent.sync().await.unwrap();
    });
}
