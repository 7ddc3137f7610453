//! Frames and files on real rings: contents, ends of files, exhaustion, and frames the kernel still holds.

use crate::common::{small, start};
use forebay_shard::{
    Allocate, ArenaError, File, Frame, ShardsConfig, arena, sleep, spawn, timeout, yield_now,
};
use forebay_types::ByteSize;
use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pattern that differs at every offset of interest.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8) ^ ((i >> 8) as u8).wrapping_mul(31) ^ seed).collect()
}

fn temp(contents: &[u8]) -> (tempfile::NamedTempFile, File) {
    let mut named = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    named.write_all(contents).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(named.path()).unwrap();
    (named, File::new(file))
}

fn direct(path: &std::path::Path) -> File {
    let mut options = std::fs::File::options();
    File::new(options.read(true).write(true).custom_flags(libc::O_DIRECT).open(path).unwrap())
}

async fn frame_of(bytes: &[u8]) -> Frame {
    let mut frame = arena().frame(bytes.len()).await.unwrap();
    frame.copy_from_slice(bytes);
    frame
}

#[test]
fn what_is_written_is_read_back() {
    let shards = start(&small(1));
    let (_named, file) = temp(b"");
    let ran = shards.handles()[0].block_on(move || async move {
        for (len, offset) in [(1, 0), (4096, 4096), (5000, 123), (1 << 20, 1 << 20), (16 << 20, 7)] {
            let bytes = pattern(len, offset as u8);
            let (wrote, frame) = file.write_at(frame_of(&bytes).await, offset).await;
            assert_eq!(wrote.unwrap(), len);
            drop(frame);
            let mut empty = arena().frame(len).await.unwrap();
            empty.fill(0xee);
            let (read, frame) = file.read_at(empty, offset).await;
            assert_eq!(read.unwrap(), len);
            assert!(frame[..] == bytes[..], "{len} bytes at {offset}");
        }
        file.sync_data().await.unwrap();
        file.sync_all().await.unwrap();
    });
    assert_eq!(ran, Ok(()));
}

#[test]
fn what_is_in_the_page_cache_is_read_without_the_ring_and_the_rest_by_it() {
    let shards = start(&small(1));
    let bytes = pattern(40_000, 5);
    let (named, file) = temp(&bytes);
    let of_file = named.as_file().try_clone().unwrap();
    let submitted = {
        let handle = shards.handles()[0].clone();
        move || handle.counters().submitted
    };
    let ran = shards.handles()[0].block_on(move || async move {
        let before = submitted();
        for (len, offset) in [(1, 0), (4096, 4096), (5000, 123), (30_000, 10_000)] {
            let mut frame = arena().frame(len).await.unwrap();
            assert_eq!(file.read_now_at(&mut frame, offset as u64), len);
            assert!(frame[..] == bytes[offset..offset + len], "{len} bytes at {offset}");
        }
        assert_eq!(submitted(), before, "the page cache had all of it");
        let mut frame = arena().frame(64 << 10).await.unwrap();
        let here = file.read_now_at(&mut frame, 8192);
        assert_eq!(here, 40_000 - 8192, "a read is short at the end of the file");
        assert!(frame[..40_000 - 8192] == bytes[8192..]);
        // Dirty pages stay whatever one advises.
        file.sync_data().await.unwrap();
        let before = submitted();
        rustix::fs::fadvise(&of_file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let mut frame = arena().frame(5000).await.unwrap();
        let here = file.read_now_at(&mut frame, 20_000);
        let (read, frame) = file.read_rest_at(frame, here, 20_000).await;
        assert_eq!(read.unwrap(), 5000);
        assert!(frame[..] == bytes[20_000..25_000]);
        assert!(submitted() > before, "what is on the disk comes by the ring");
    });
    assert_eq!(ran, Ok(()));
}

#[test]
fn reads_are_short_only_at_the_end_of_the_file() {
    let shards = start(&small(1));
    let bytes = pattern(10_000, 3);
    let (named, buffered) = temp(&bytes);
    let direct = direct(named.path());
    let ran = shards.handles()[0].block_on(move || async move {
        for file in [buffered, direct] {
            let (read, frame) = file.read_at(arena().frame(64 << 10).await.unwrap(), 0).await;
            assert_eq!(read.unwrap(), 10_000);
            assert!(frame[..10_000] == bytes[..]);
            let (read, frame) = file.read_at(frame, 8192).await;
            assert_eq!(read.unwrap(), 10_000 - 8192);
            assert!(frame[..1808] == bytes[8192..]);
            let (read, _frame) = file.read_at(frame, 1 << 20).await;
            assert_eq!(read.unwrap(), 0);
        }
    });
    assert_eq!(ran, Ok(()));
}

#[test]
fn space_is_allocated_and_freed() {
    let shards = start(&small(1));
    let (_named, file) = temp(&pattern(8192, 1));
    let size = file.clone();
    let ran = shards.handles()[0].block_on(move || async move {
        file.allocate(Allocate::Reserve { keep_size: true }, 0, 1 << 20).await.unwrap();
        assert_eq!(file.std().metadata().unwrap().len(), 8192);
        file.allocate(Allocate::Reserve { keep_size: false }, 0, 1 << 20).await.unwrap();
        file.allocate(Allocate::PunchHole, 0, 4096).await.unwrap();
        let (read, frame) = file.read_at(arena().frame(8192).await.unwrap(), 0).await;
        assert_eq!(read.unwrap(), 8192);
        assert!(frame[..4096].iter().all(|b| *b == 0) && frame[4096..] == pattern(8192, 1)[4096..]);
    });
    assert_eq!(ran, Ok(()));
    assert_eq!(size.std().metadata().unwrap().len(), 1 << 20);
}

#[test]
fn errors_are_the_systems_and_the_frame_comes_back() {
    let shards = start(&small(1));
    let (named, _file) = temp(b"x");
    let read_only = File::new(std::fs::File::open(named.path()).unwrap());
    let ran = shards.handles()[0].block_on(move || async move {
        let (wrote, frame) = read_only.write_at(frame_of(b"no").await, 0).await;
        assert_eq!(wrote.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(&frame[..], b"no");
    });
    assert_eq!(ran, Ok(()));
}

#[test]
fn a_full_device_is_an_error_to_the_writer() {
    let shards = start(&small(1));
    let full = File::new(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let wrote = shards.handles()[0].block_on(move || async move {
        full.write_at(frame_of(b"data").await, 0).await.0.map_err(|e| e.raw_os_error())
    });
    assert_eq!(wrote, Ok(Err(Some(libc::ENOSPC))));
}

#[test]
fn off_the_shards_a_file_refuses() {
    let shards = start(&small(1));
    let (_named, file) = temp(b"x");
    let frame = shards.arena().try_frame(4096).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (read, frame) = runtime.block_on(file.read_at(frame, 0));
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert_eq!(frame.len(), 4096);
}

#[test]
fn an_abandoned_write_never_reaches_a_file_opened_later() {
    let shards = start(&small(1));
    let (first_reader, first) = pipe();
    let (second_reader, second) = pipe();
    let ran = shards.handles()[0].block_on(move || async move {
        for _ in 0..100 {
            let file = File::new(first.try_clone().unwrap());
            let frame = frame_of(b"for the first").await;
            // Started and dropped within one poll, so the ring has yet to be told of it...
            assert!(timeout(Duration::ZERO, file.write_at(frame, 0)).await.is_err());
            drop(file);
            // ...when this one would get the number of the other, were that closed already.
            let later = second.try_clone().unwrap();
            while arena().in_use() > ByteSize::bytes(0) {
                yield_now().await;
            }
            drop(later);
        }
        drop(second);
        let (read, _frame) = second_reader.read_at(arena().frame(64).await.unwrap(), 0).await;
        assert_eq!(read.unwrap(), 0, "the bytes went into the wrong file");
    });
    assert_eq!(ran, Ok(()));
    drop(first_reader);
}

/// A pipe: a read of it stays with the kernel for as long as the test likes.
fn pipe() -> (File, std::fs::File) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let file = |fd: OwnedFd| std::fs::File::from(fd);
    (File::new(file(read)), file(write))
}

#[test]
fn a_dropped_future_leaves_its_frame_with_the_kernel() {
    let shards = start(&small(1));
    let (reader, writer) = pipe();
    let arena = *shards.arena();
    let before = arena.in_use();
    let ran = shards.handles()[0].block_on(move || async move {
        let frame = arena.frame(4096).await.unwrap();
        assert!(timeout(Duration::from_millis(20), reader.read_at(frame, 0)).await.is_err());
        // A frame taken now must be another one, until the completion of the cancelled read came.
        let other = arena.try_frame(4096).unwrap();
        let give_up = Instant::now() + Duration::from_secs(60);
        drop(other);
        while arena.in_use() > before && Instant::now() < give_up {
            yield_now().await;
        }
        arena.in_use() == before
    });
    assert_eq!(ran, Ok(true), "the cancellation brought the frame back");
    drop(writer);
}

#[test]
fn a_stop_brings_back_frames_of_reads_that_never_end() {
    let shards = start(&small(1));
    let (reader, writer) = pipe();
    let arena = *shards.arena();
    let task = move || async move {
        let frame = arena.frame(4096).await.unwrap();
        drop(reader.read_at(frame, 0).await);
    };
    shards.handles()[0].try_spawn(task).unwrap();
    shards.handles()[0].block_on(|| async { sleep(Duration::from_millis(20)).await }).unwrap();
    let report = shards.stop(Duration::ZERO);
    assert_eq!((report.tasks_dropped, report.ops_abandoned, report.threads_left), (1, 0, 0));
    assert!(writer.as_raw_fd() > 0);
}

#[test]
fn more_operations_than_the_ring_has_places_all_complete() {
    let shards = start(&small(1));
    let bytes = pattern(4 << 20, 5);
    let (_named, file) = temp(&bytes);
    let expected = Arc::new(bytes);
    let ran = shards.handles()[0].block_on(move || async move {
        let done = Rc::new(RefCell::new(0));
        for n in 0..2000usize {
            let (file, done, expected) = (file.clone(), Rc::clone(&done), Arc::clone(&expected));
            spawn(async move {
                let at = (n * 2048) % (4 << 20);
                let frame = arena().frame(2048).await.unwrap();
                let (read, frame) = file.read_at(frame, at as u64).await;
                assert_eq!(read.unwrap(), 2048);
                assert!(frame[..] == expected[at..at + 2048]);
                *done.borrow_mut() += 1;
            });
        }
        while Rc::strong_count(&done) > 1 {
            sleep(Duration::from_millis(1)).await;
        }
        done.take()
    });
    assert_eq!(ran, Ok(2000));
}

#[test]
fn an_exhausted_arena_refuses_after_the_deadline() {
    let shards = start(&ShardsConfig { frame_wait: Duration::from_millis(300), ..small(1) });
    let ran = shards.handles()[0].block_on(|| async {
        let held: Vec<Frame> = std::iter::from_fn(|| arena().try_frame(1 << 20)).collect();
        assert_eq!(held.len(), 32);
        let begun = Instant::now();
        let refused = arena().frame(4096).await.map(drop);
        (refused, begun.elapsed() >= Duration::from_millis(300))
    });
    let waited = Duration::from_millis(300);
    assert_eq!(ran, Ok((Err(ArenaError::Exhausted { len: 4096, waited }), true)));
}

#[test]
fn those_who_wait_for_frames_are_served_in_order() {
    let shards = start(&small(1));
    let order = shards.handles()[0].block_on(|| async {
        let mut held: Vec<Frame> = std::iter::from_fn(|| arena().try_frame(16 << 20)).collect();
        let order = Rc::new(RefCell::new(Vec::new()));
        for (n, len) in [4096usize, 16 << 20, 4096, 1 << 20].into_iter().enumerate() {
            let order = Rc::clone(&order);
            spawn(async move {
                let frame = arena().frame(len).await.unwrap();
                order.borrow_mut().push(n);
                sleep(Duration::from_millis(10)).await;
                drop(frame);
            });
        }
        yield_now().await;
        yield_now().await;
        assert_eq!(arena().waiting(), 4);
        held.pop();
        assert!(arena().try_frame(4096).is_none(), "there is room, but others wait for it");
        sleep(Duration::from_millis(100)).await;
        drop(held);
        while Rc::strong_count(&order) > 1 {
            sleep(Duration::from_millis(1)).await;
        }
        order.take()
    });
    assert_eq!(order, Ok(vec![0, 1, 2, 3]));
}

#[test]
fn one_large_frame_serves_all_the_small_ones_that_wait() {
    let shards = start(&small(1));
    let served = shards.handles()[0].block_on(|| async {
        let mut held: Vec<Frame> = std::iter::from_fn(|| arena().try_frame(16 << 20)).collect();
        let small = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..8 {
            let small = Rc::clone(&small);
            spawn(async move {
                let frame = arena().frame(4096).await.unwrap();
                small.borrow_mut().push(frame);
            });
        }
        yield_now().await;
        assert_eq!(arena().waiting(), 8);
        held.pop();
        let give_up = Instant::now() + Duration::from_secs(30);
        while small.borrow().len() < 8 && Instant::now() < give_up {
            sleep(Duration::from_millis(10)).await;
        }
        small.borrow().len()
    });
    assert_eq!(served, Ok(8), "each that is served lets the next one try");
}

#[test]
fn frames_come_back_from_any_thread() {
    let shards = start(&small(2));
    let arena = *shards.arena();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut held: Vec<Frame> = std::iter::from_fn(|| arena.try_frame(1 << 20)).collect();
    let last = held.pop().unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        drop(last);
    });
    assert!(runtime.block_on(arena.frame(1 << 20)).is_ok(), "a wait off the shards is served too");
    assert!(matches!(runtime.block_on(arena.frame(0)), Err(ArenaError::BadLength { len: 0 })));
}
