//! Writing into extents: born here, wholly here, partly here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{MIB, Node, PAGE, Setup, eventually, node, pattern};
use forebay_client::{AllocateMode, SeekTo};
use forebay_types::{ByteSize, ContentLocation, FileTimes, FsErrorKind, LARGE_LEN, Writers};
use std::os::unix::fs::FileExt;
use std::time::Duration;

fn adopt(node: &Node, at: &ContentLocation) -> FileTimes {
    let extent = at.extent.unwrap();
    node.on_shard(move |client| async move { client.adopt(extent).await.unwrap() })
}

fn truncate(node: &Node, at: &ContentLocation, len: u64) {
    let at = at.clone();
    node.on_shard(move |client| async move { client.truncate(&at, len).await.unwrap() });
}

fn allocate(node: &Node, at: &ContentLocation, mode: AllocateMode, offset: u64, len: u64) {
    let at = at.clone();
    node.on_shard(move |client| async move { client.allocate(&at, mode, offset, len).await.unwrap() });
}

fn end_write(node: &Node, at: &ContentLocation, changed: bool) {
    let extent = at.extent.unwrap();
    node.on_shard(move |client| async move { client.end_write(extent, changed) });
}

#[test]
fn a_new_file_is_written_read_and_synced() {
    let node = node();
    let at = node.born();
    let bytes = pattern(3 * PAGE, 1);
    assert_eq!(node.write(&at, 0, &bytes[..100]).unwrap(), 100);
    node.write(&at, 100, &bytes[100..]).unwrap();
    node.write(&at, 5 * PAGE, b"end").unwrap();
    let mut expected = bytes;
    expected.resize(5 * PAGE as usize, 0);
    expected.extend(b"end");
    assert!(node.read_all(&at).unwrap() == expected);
    let synced = at.clone();
    node.on_shard(move |client| async move { client.sync(&synced).await }).unwrap();
    let times = adopt(&node, &at);
    assert_eq!(times.len, expected.len() as u64);
    assert!(times.blocks_512 > 0 && times.mtime.secs > 0);
    assert_eq!(node.ufs.reads(), 0);
    let extent = at.extent.unwrap();
    node.on_shard(move |client| async move { client.discard(extent).await.unwrap() });
    assert_eq!(node.read(&at, 0, 1).unwrap_err().kind(), FsErrorKind::Stale);
    node.on_shard(move |client| async move { client.discard(extent).await }).unwrap();
}

#[test]
fn the_kernel_may_write_what_is_wholly_here() {
    let node = node();
    let bytes = pattern(2 * PAGE, 2);
    let clean = node.put("a", &bytes);
    node.read_all(&clean).unwrap();
    let at = node.begin_write(&clean);
    let backing = node.client.backing(&at).unwrap();
    let before = adopt(&node, &at);
    assert_eq!(before.len, 2 * PAGE);
    backing.file().write_all_at(b"behind our back", 3 * PAGE).unwrap();
    let after = adopt(&node, &at);
    assert_eq!(after.len, 3 * PAGE + 15);
    assert!(after != before);
    assert_eq!(node.read(&at, 3 * PAGE, 100).unwrap(), b"behind our back");
    assert_eq!(node.read(&at, 0, 10).unwrap(), bytes[..10]);
}

#[test]
fn every_writer_is_promised_room_from_its_open_to_its_close() {
    let mut setup = Setup { quota: ByteSize::mib(8), ..Setup::default() };
    setup.worker.reserve = ByteSize::mib(1);
    let node = Node::start(setup);
    let promised = || node.store.usage()[0].reserved;
    let create = || node.on_shard(move |client| async move { client.create(0).await });
    let writers: Vec<_> = (1..=8)
        .map(|n| {
            let extent = create().unwrap();
            assert_eq!(promised(), n * MIB);
            extent
        })
        .collect();
    let refused = create().unwrap_err();
    assert_eq!(refused.kind(), FsErrorKind::NoSpace, "one more would overrun the tier");
    assert_eq!(promised(), 8 * MIB);

    // All of the tier is promised, and each writer gets what was promised to it.
    let at = common::born_at(writers[0]);
    for n in 0..4 {
        node.write(&at, n * 4 * PAGE, &pattern(4 * PAGE, n)).unwrap();
    }
    assert_eq!(node.write(&at, MIB, b"beyond").unwrap_err().kind(), FsErrorKind::NoSpace);
    assert_eq!(promised(), 7 * MIB);
    let usage = &node.store.usage()[0];
    assert!(usage.used + usage.reserved <= usage.quota + MIB / 4, "{usage:?}");

    let (gone, kept) = (writers[1], writers[2]);
    node.on_shard(move |client| async move { client.discard(gone).await.unwrap() });
    assert_eq!(promised(), 6 * MIB, "it went with its file");
    end_write(&node, &common::born_at(kept), true);
    assert_eq!(promised(), 5 * MIB, "it went with its close");
    node.write(&at, MIB, b"beyond").unwrap();
    assert!(promised() > 5 * MIB, "what was lent is promised again");
}

#[test]
fn what_was_opened_for_write_is_not_found_as_clean_any_more() {
    let node = node();
    let bytes = pattern(2 * PAGE, 3);
    let clean = node.put("a", &bytes);
    node.read_all(&clean).unwrap();
    let cold = node.ufs.reads();
    let at = node.begin_write(&clean);
    assert_eq!(node.begin_write(&at).extent, at.extent, "it may be repeated");
    node.write(&at, 0, b"changed").unwrap();
    end_write(&node, &at, true);
    assert_eq!(node.read_all(&clean).unwrap(), bytes, "the clean content is fetched anew");
    assert!(node.ufs.reads() > cold);
    assert_eq!(node.read(&at, 0, 7).unwrap(), b"changed");
}

#[test]
fn a_writer_that_changed_nothing_gives_the_identity_back() {
    let node = node();
    let bytes = pattern(2 * PAGE, 4);
    let clean = node.put("a", &bytes);
    node.read_all(&clean).unwrap();
    let cold = node.ufs.reads();
    let at = node.begin_write(&clean);
    assert!(node.client.backing(&at).is_some());
    end_write(&node, &at, false);
    eventually("it is clean again", || node.client.backing(&clean).is_some());
    assert_eq!(node.read_all(&clean).unwrap(), bytes);
    assert_eq!(node.ufs.reads(), cold);
}

#[test]
fn part_of_an_absent_page_is_fetched_before_it_is_written() {
    let node = node();
    let mut expected = pattern(4 * PAGE + 100, 5);
    let at = node.begin_write(&node.put("a", &expected));
    assert!(node.client.backing(&at).is_none());
    let mut put = |offset: u64, bytes: &[u8]| {
        node.write(&at, offset, bytes).unwrap();
        let end = offset as usize + bytes.len();
        expected.resize(expected.len().max(end), 0);
        expected[offset as usize..end].copy_from_slice(bytes);
    };
    put(10, b"middle of the first page");
    assert_eq!(node.ufs.reads(), 1);
    put(PAGE, &pattern(PAGE, 6));
    assert_eq!(node.ufs.reads(), 1, "a page that is replaced whole is not fetched");
    put(3 * PAGE - 5, b"over a border");
    put(6 * PAGE, b"beyond the end");
    assert!(node.read_all(&at).unwrap() == expected);
    assert!(node.client.backing(&at).is_none(), "its times are the worker's as long as it is open");
    end_write(&node, &at, true);
    eventually("the kernel may have it", || node.client.backing(&at).is_some());
}

#[test]
fn fetching_an_absent_page_is_no_change() {
    let node = node();
    let bytes = pattern(4 * PAGE, 7);
    let at = node.begin_write(&node.put("a", &bytes));
    let before = adopt(&node, &at);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(node.read(&at, PAGE, 10).unwrap(), bytes[PAGE as usize..PAGE as usize + 10]);
    assert_eq!(adopt(&node, &at), before);
    node.write(&at, 0, b"x").unwrap();
    let after = adopt(&node, &at);
    assert!(after.mtime > before.mtime && after.len == before.len);
    end_write(&node, &at, false);
}

#[test]
fn cut_bytes_stay_cut_when_the_file_grows_again() {
    let node = node();
    let bytes = pattern(4 * PAGE, 8);
    let at = node.begin_write(&node.put("a", &bytes));
    let cut = PAGE + 10;
    truncate(&node, &at, cut);
    truncate(&node, &at, 6 * PAGE);
    let mut expected = bytes[..cut as usize].to_vec();
    expected.resize(6 * PAGE as usize, 0);
    assert!(node.read_all(&at).unwrap() == expected);
    assert!(node.ufs.read_bytes() <= 2 * PAGE, "what was cut is not fetched");
    truncate(&node, &at, 0);
    assert_eq!(node.read_all(&at).unwrap(), b"");
    assert_eq!(adopt(&node, &at).len, 0);
}

#[test]
fn holes_are_ours_to_tell() {
    let node = node();
    let seek = |at: &ContentLocation, offset, to| {
        let at = at.clone();
        node.on_shard(move |client| async move { client.seek(&at, offset, to).await })
    };
    let clean = node.put("a", &pattern(4 * PAGE, 9));
    assert_eq!(seek(&clean, 5, SeekTo::Data).unwrap(), 5, "absent is not a hole");
    assert_eq!(seek(&clean, 5, SeekTo::Hole).unwrap(), 4 * PAGE);
    assert_eq!(seek(&clean, 4 * PAGE, SeekTo::Data).unwrap_err().kind(), FsErrorKind::OutOfRange);
    let born = node.born();
    node.write(&born, MIB, b"data").unwrap();
    assert_eq!(seek(&born, 0, SeekTo::Hole).unwrap(), 0);
    assert_eq!(seek(&born, 0, SeekTo::Data).unwrap(), MIB);
    assert_eq!(seek(&born, MIB + 4, SeekTo::Hole).unwrap_err().kind(), FsErrorKind::OutOfRange);
    let nothing = ContentLocation { extent: None, size: 100, ..born };
    assert_eq!(seek(&nothing, 1, SeekTo::Hole).unwrap(), 1);
    assert_eq!(seek(&nothing, 1, SeekTo::Data).unwrap_err().kind(), FsErrorKind::OutOfRange);
    assert_eq!(node.read_all(&nothing).unwrap(), [0; 100]);
}

#[test]
fn ranges_are_reserved_punched_and_zeroed() {
    let node = node();
    let mut expected = pattern(4 * PAGE, 10);
    let at = node.begin_write(&node.put("a", &expected));
    allocate(&node, &at, AllocateMode::PunchHole, 100, 2 * PAGE);
    expected[100..100 + 2 * PAGE as usize].fill(0);
    allocate(&node, &at, AllocateMode::ZeroRange, 4 * PAGE - 10, 20);
    expected.truncate(4 * PAGE as usize - 10);
    expected.resize(4 * PAGE as usize + 10, 0);
    assert!(node.read_all(&at).unwrap() == expected);
    allocate(&node, &at, AllocateMode::KeepSize, 0, 8 * PAGE);
    assert_eq!(adopt(&node, &at).len, 4 * PAGE + 10);
    allocate(&node, &at, AllocateMode::Grow, 0, 8 * PAGE);
    assert_eq!(adopt(&node, &at).len, 8 * PAGE);
    expected.resize(8 * PAGE as usize, 0);
    assert!(node.read_all(&at).unwrap() == expected);
}

#[test]
fn ranges_are_copied_within_the_tier() {
    let node = node();
    let bytes = pattern(4 * PAGE, 11);
    let (source, target) = (node.put("a", &bytes), node.born());
    let copy = |source: &ContentLocation| {
        let (source, target) = (source.clone(), target.clone());
        node.on_shard(
            move |client| async move { client.copy_range((&source, 5), (&target, 7), 1 << 40).await },
        )
    };
    assert_eq!(copy(&source).unwrap_err().kind(), FsErrorKind::Unsupported, "it is not here");
    node.read_all(&source).unwrap();
    assert_eq!(copy(&source).unwrap(), 4 * PAGE - 5);
    let got = node.read_all(&target).unwrap();
    assert!(got[..7] == [0; 7] && got[7..] == bytes[5..]);
}

#[test]
fn a_full_tier_refuses_writes_and_keeps_what_it_has() {
    let node = Node::start(Setup { quota: ByteSize::mib(2), ..Setup::default() });
    let at = node.born();
    let bytes = pattern(MIB, 12);
    let mut written = 0;
    let error = loop {
        match node.write(&at, written, &bytes) {
            Ok(n) => written += n as u64,
            Err(error) => break error,
        }
        assert!(written < 64 * MIB, "the quota holds");
    };
    assert_eq!(error.kind(), FsErrorKind::NoSpace);
    assert!(written >= MIB);
    assert!(node.read(&at, 0, MIB as usize).unwrap() == bytes);
    let (total, available) = node.client.space();
    assert!(total == 2 * MIB && available < MIB, "{available} of {total}");
}

#[test]
fn writers_and_readers_of_a_partial_file_agree() {
    let node = node();
    let mut expected = pattern(64 * PAGE, 13);
    let at = node.begin_write(&node.put("a", &expected));
    let pieces: Vec<_> =
        (0..200u64).map(|i| ((i * 7919 * 613) % (64 * PAGE - 5000), 1 + (i * 131) % 5000)).collect();
    let tasks: Vec<_> = (0..4)
        .map(|lane: u64| {
            // Each lane has its own pages, so that the result does not depend on the order.
            let (client, at, shard, pieces) =
                (node.client.clone(), at.clone(), node.shard(lane as usize), pieces.clone());
            node.control.spawn(async move {
                let all = shard.call(move || async move {
                    for (offset, len) in pieces {
                        let page = offset / PAGE;
                        if page % 4 != lane || (offset + len - 1) / PAGE != page {
                            common::read(&client, &at, offset, len as usize).await.unwrap();
                            continue;
                        }
                        let bytes = common::frame(&pattern(len, offset)).await;
                        client.write(&at, offset, bytes).await.unwrap();
                    }
                });
                all.await.unwrap();
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| node.control.block_on(task).unwrap());
    for (offset, len) in pieces {
        if (offset + len - 1) / PAGE == offset / PAGE {
            expected[offset as usize..(offset + len) as usize].copy_from_slice(&pattern(len, offset));
        }
    }
    assert!(node.read_all(&at).unwrap() == expected);
}

#[test]
fn whoever_writes_a_large_file_is_busy_until_a_moment_after() {
    const LEN: u64 = LARGE_LEN + 1;
    let node = node();
    assert!(!node.worker.are_busy());
    let small = node.begin_write(&node.born());
    node.write(&small, 0, &pattern(MIB, 1)).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    assert!(!node.worker.are_busy(), "a small file is no matter");
    let large = node.begin_write(&node.born());
    node.write(&large, LEN - MIB, &pattern(MIB, 1)).unwrap();
    // By the time the test machine gives it a turn that may be a while ago.
    eventually("the writer is seen", || {
        node.write(&large, 0, b"again").unwrap();
        node.worker.are_busy()
    });
    eventually("the writer has stopped", || !node.worker.are_busy());
    eventually("the writer is seen again", || {
        node.write(&large, 0, b"again").unwrap();
        node.worker.are_busy()
    });
    node.on_shard(move |client| async move { client.end_write(large.extent.unwrap(), true) });
    eventually("it is closed", || !node.worker.are_busy());
}
