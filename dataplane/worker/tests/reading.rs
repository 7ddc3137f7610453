//! Reading through client, endpoint, worker and store from a real directory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::watched::HELD;
use common::{MIB, Node, PAGE, Rules, Setup, eventually, node, pattern, read};
use forebay_client::{ClientConfig, Progress, ReadAheadConfig, ReadPolicy};
use forebay_shard::{FixedFrame, arena};
use forebay_types::{Admission, ByteSize, ContentKey, ContentLocation, FsErrorKind, Ino, ReadMode};
use forebay_worker::WorkerConfig;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn content_of(at: &ContentLocation) -> ContentKey {
    let (key, version) = at.ufs.as_ref().unwrap();
    ContentKey::of(at.mount, key, version)
}

#[test]
fn a_cold_file_is_read_once_and_then_from_here() {
    let node = node();
    let bytes = pattern(3 * PAGE + 17, 1);
    let at = node.put("a", &bytes);
    assert_eq!(node.read_all(&at).unwrap(), bytes);
    let cold = node.ufs.reads();
    assert_eq!(node.ufs.read_bytes(), bytes.len() as u64);
    assert_eq!(node.read_all(&at).unwrap(), bytes);
    assert_eq!(node.read(&at, PAGE - 3, 6).unwrap(), bytes[PAGE as usize - 3..PAGE as usize + 3]);
    assert_eq!(node.ufs.reads(), cold, "nothing is fetched twice");
    assert_eq!(node.read(&at, bytes.len() as u64, 100).unwrap(), b"");
    assert_eq!(node.read(&at, 1 << 40, 100).unwrap(), b"");
    assert!(node.client.backing(&at).is_some(), "it is wholly here");
}

/// Reads into a frame that is lent; says what came, and whether it came in that frame.
fn read_in_place(node: &Node, at: &ContentLocation, offset: u64, len: usize) -> (Vec<u8>, bool) {
    let at = at.clone();
    node.on_shard(move |client| async move {
        let place = FixedFrame::new(arena().try_frame(MIB as usize).unwrap());
        let frame = client.read_into(&at, offset, len, place.lend(len)).await.unwrap();
        (frame.to_vec(), place.is_lent_as(&frame))
    })
}

#[test]
fn a_read_fills_the_frame_that_it_was_given() {
    let node = node();
    let bytes = pattern(3 * PAGE + 17, 1);
    let at = node.put("in-place", &bytes);
    let all = bytes.len();
    // Cold, from memory where it landed, from its file, and less at the end.
    for _ in 0..3 {
        assert_eq!(read_in_place(&node, &at, 0, all + 100), (bytes.clone(), true));
    }
    let tail = bytes[all - 10..].to_vec();
    assert_eq!(read_in_place(&node, &at, all as u64 - 10, 4096), (tail, true));
    let written = node.begin_write(&at);
    node.write(&written, 5, &[7; 4096]).unwrap();
    assert_eq!(read_in_place(&node, &written, 5, 4096), (vec![7; 4096], true));
}

#[test]
fn what_just_landed_is_handed_on_from_memory_once() {
    let node = node();
    let bytes = pattern(4 * PAGE, 4);
    let at = node.put("a", &bytes);
    assert_eq!(node.read(&at, 0, 100).unwrap(), bytes[..100]);
    // On disk there is something else by now: whoever asks the disk gets that.
    let extent = node.store.find(&content_of(&at)).unwrap();
    let other = vec![0xA5; PAGE as usize];
    std::os::unix::fs::FileExt::write_all_at(extent.file().unwrap().std(), &other, 0).unwrap();
    assert_eq!(node.read(&at, 100, PAGE as usize - 100).unwrap(), bytes[100..PAGE as usize], "from memory");
    assert_eq!(node.read(&at, 0, PAGE as usize).unwrap(), other, "memory lets go of what was taken");
    assert_eq!(node.ufs.reads(), 1);
}

#[test]
fn a_read_over_the_border_of_two_that_landed() {
    let node = node();
    let bytes = pattern(4 * PAGE, 5);
    let at = node.put("a", &bytes);
    for page in 0..4 {
        node.read(&at, page * PAGE, 1).unwrap();
    }
    let border = PAGE as usize - 50..3 * PAGE as usize + 50;
    assert_eq!(node.read(&at, border.start as u64, border.len()).unwrap(), bytes[border]);
    assert_eq!(node.read_all(&at).unwrap(), bytes);
    assert_eq!(node.ufs.reads(), 4);
}

#[test]
fn what_landed_is_not_shown_for_what_was_written_since() {
    let node = node();
    let bytes = pattern(2 * PAGE, 6);
    let at = node.put("a", &bytes);
    assert_eq!(node.read(&at, 0, 1).unwrap(), bytes[..1]);
    let at = node.begin_write(&at);
    node.write(&at, 10, b"changed").unwrap();
    assert_eq!(node.read(&at, 0, 20).unwrap(), [&bytes[..10], b"changed", &bytes[17..20]].concat());
}

#[test]
fn an_empty_file_and_a_tiny_one() {
    let node = node();
    let (empty, tiny) = (node.put("empty", b""), node.put("tiny", b"x"));
    assert_eq!(node.read_all(&empty).unwrap(), b"");
    assert_eq!(node.read_all(&tiny).unwrap(), b"x");
}

#[test]
fn many_readers_of_one_cold_page_cause_one_request() {
    let node = node();
    let bytes = pattern(PAGE, 2);
    let at = Arc::new(node.put("hot", &bytes));
    node.ufs.rule(Rules { read_takes: HELD, ..Rules::default() });
    let readers: Vec<_> = (0..64)
        .map(|i| {
            let (client, at, shard) = (Arc::clone(&node.client), Arc::clone(&at), node.shard(i));
            node.control.spawn(async move {
                let offset = (i as u64 * 997) % PAGE;
                let got = shard.call(move || async move { read(&client, &at, offset, 100).await });
                (offset as usize, got.await.unwrap().unwrap())
            })
        })
        .collect();
    eventually("they wait for the one request", || node.worker.counters().flights_joined >= 32);
    node.ufs.rule(Rules::default());
    for reader in readers {
        let (offset, got) = node.control.block_on(reader).unwrap();
        assert_eq!(got, bytes[offset..(offset + 100).min(bytes.len())]);
    }
    assert_eq!(node.ufs.reads(), 1);
}

#[test]
fn the_first_reader_may_go_away() {
    let node = node();
    let bytes = pattern(PAGE, 3);
    let at = node.put("a", &bytes);
    node.ufs.rule(Rules { read_takes: HELD, ..Rules::default() });
    let ufs = Arc::clone(&node.ufs);
    let got = node.on_shard(move |client| async move {
        let impatient = forebay_shard::timeout(Duration::from_millis(20), read(&client, &at, 0, 10)).await;
        assert!(impatient.is_err());
        ufs.rule(Rules::default());
        read(&client, &at, 0, 10).await
    });
    assert_eq!(got.unwrap(), bytes[..10]);
    assert_eq!(node.ufs.reads(), 1, "the fetch went on without its first reader");
}

#[test]
fn an_error_reaches_the_reader_and_the_next_read_recovers() {
    let node = node();
    let bytes = pattern(2 * PAGE, 4);
    let at = node.put("a", &bytes);
    node.ufs.rule(Rules { reads_to_fail: 1, ..Rules::default() });
    let error = node.read(&at, 0, 10).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::Unavailable);
    assert!(error.to_string().contains("reading a at 0"), "{error}");
    assert_eq!(node.read_all(&at).unwrap(), bytes);
}

#[test]
fn a_dead_store_ends_a_read_in_time() {
    let mut setup = Setup::default();
    setup.worker.get_within = Duration::from_millis(200);
    let node = Node::start(setup);
    let at = node.put("a", &pattern(PAGE, 5));
    node.ufs.rule(Rules { read_takes: HELD, ..Rules::default() });
    let began = Instant::now();
    let error = node.read(&at, 0, 10).unwrap_err();
    assert!(error.kind().is_transient(), "{error}");
    assert!(began.elapsed() < HELD / 10);
}

#[test]
fn old_bytes_are_never_served_for_a_new_version() {
    let node = node();
    let (before, after) = (pattern(2 * PAGE, 6), pattern(2 * PAGE, 7));
    let old = node.put("a", &before);
    assert_eq!(node.read(&old, 0, 10).unwrap(), before[..10]);
    std::thread::sleep(Duration::from_millis(20));
    let new = node.put("a", &after);
    assert_eq!(node.read(&old, PAGE, 10).unwrap_err().kind(), FsErrorKind::Stale);
    assert_eq!(node.read(&old, 0, 10).unwrap(), before[..10], "what is here stays readable");
    assert_eq!(node.read_all(&new).unwrap(), after);
    std::fs::remove_file(node.ufs_dir.join("a")).unwrap();
    assert_eq!(node.read(&old, PAGE, 10).unwrap_err().kind(), FsErrorKind::Stale);
}

fn streaming() -> Setup {
    let read_ahead = ReadAheadConfig { window_min: ByteSize::kib(512), window_max: ByteSize::mib(4) };
    Setup { client: ClientConfig { read_ahead, ..ClientConfig::default() }, ..Setup::default() }
}

#[test]
fn reading_ahead_sends_few_large_requests_side_by_side() {
    let node = Node::start(streaming());
    let bytes = pattern(32 * MIB, 8);
    let at = node.put("big", &bytes);
    node.ufs.rule(Rules { read_takes: Duration::from_millis(30), ..Rules::default() });
    assert!(node.read_all(&at).unwrap() == bytes);
    let requests = node.ufs.reads();
    assert_eq!(node.ufs.read_bytes(), bytes.len() as u64, "nothing is fetched twice");
    assert!(requests < 80, "{requests} requests for 512 pages");
    assert!(node.ufs.reading_max() >= 4, "{} at one time", node.ufs.reading_max());
    let counters = node.worker.counters();
    assert!(counters.reads_hit > 3 * counters.reads_missed, "{counters:?}");
}

#[test]
fn random_reads_fetch_their_pages_only() {
    let node = Node::start(streaming());
    let bytes = pattern(32 * MIB, 9);
    let at = node.put("big", &bytes);
    let offsets = [20 * MIB + 5, 9 * MIB, 27 * MIB + 77, 3 * MIB, 13 * MIB + 1];
    for offset in offsets {
        let got = node.read(&at, offset, 4096).unwrap();
        assert_eq!(got, bytes[offset as usize..offset as usize + 4096]);
    }
    assert_eq!(node.ufs.reads(), offsets.len() as u64);
    assert_eq!(node.ufs.read_bytes(), offsets.len() as u64 * PAGE);
}

#[test]
fn a_full_tier_serves_without_keeping() {
    let node = Node::start(Setup { quota: ByteSize::mib(2), ..streaming() });
    let born = node.born();
    node.write(&born, 0, &pattern(MIB, 10)).unwrap();
    node.write(&born, MIB, &pattern(MIB, 10)).unwrap();
    let bytes = pattern(4 * MIB, 11);
    let at = node.put("cold", &bytes);
    assert!(node.read_all(&at).unwrap() == bytes);
    assert!(node.worker.counters().fetched_uncached > 0);
    assert!(node.ufs.read_bytes() < 2 * bytes.len() as u64, "{} bytes for 4 MiB", node.ufs.read_bytes());
    let error = node.on_shard(move |client| async move { client.complete(&at).await }).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::NoSpace);
}

#[test]
fn what_is_not_to_be_cached_is_passed_on() {
    let node = Node::start(streaming());
    let policy = ReadPolicy { mode: ReadMode::NoCache, admission: Admission::All, priority: None };
    node.client.set_read_policy(common::MOUNT, policy);
    let bytes = pattern(4 * MIB, 12);
    let at = node.put("stream", &bytes);
    assert!(node.read_all(&at).unwrap() == bytes);
    assert!(node.store.is_empty(), "no extent was made");
    assert_eq!(node.ufs.read_bytes(), bytes.len() as u64, "pieces of one page share its fetch");
    assert!(node.client.backing(&at).is_none());
}

#[test]
fn the_second_read_is_kept_where_the_policy_says_so() {
    let node = node();
    let policy = ReadPolicy { mode: ReadMode::Cache, admission: Admission::SecondRead, priority: None };
    node.client.set_read_policy(common::MOUNT, policy);
    let bytes = pattern(4 * PAGE, 13);
    let at = node.put("a", &bytes);
    assert_eq!(node.read_all(&at).unwrap(), bytes);
    assert!(node.store.is_empty());
    assert_eq!(node.read_all(&at).unwrap(), bytes);
    assert_eq!(node.store.len(), 1);
    assert_eq!(node.read_all(&at).unwrap(), bytes);
    assert!(node.client.backing(&at).is_some());
}

#[test]
fn load_fetches_what_is_absent_and_counts() {
    let node = node();
    let bytes = pattern(20 * MIB + 5, 14);
    let at = node.put("big", &bytes);
    node.read(&at, 10 * MIB, 10).unwrap();
    node.ufs.rule(Rules { read_takes: Duration::from_millis(30), ..Rules::default() });
    let before = node.ufs.reads();
    let progress = Arc::new(Progress::default());
    let (shown, whole) = (Arc::clone(&progress), at.clone());
    node.on_shard(move |client| async move { client.complete_counting(&whole, &shown).await }).unwrap();
    assert_eq!((progress.total(), progress.done()), (at.size, at.size));
    assert_eq!(progress.fetched(), at.size - PAGE);
    assert!(node.ufs.reads() - before < 40, "{} requests", node.ufs.reads() - before);
    assert!(node.ufs.reading_max() > 2);
    let whole = at.clone();
    let here = node.on_shard(move |client| async move { client.resident_bytes(&whole).await.unwrap() });
    assert_eq!(here, at.size);
    assert!(node.read_all(&at).unwrap() == bytes);
    assert_eq!(node.ufs.read_bytes(), at.size);
}

#[test]
fn memory_for_fetched_bytes_is_given_back() {
    let node = Node::start(streaming());
    let at = node.put("big", &pattern(16 * MIB, 15));
    node.read_all(&at).unwrap();
    // What just landed may wait for readers in half of it, until the memory is wanted.
    eventually("the rest is free", || node.worker.fetch_memory().0 <= 8 * MIB);
    assert_eq!(node.worker.fetch_memory().1, 16 * MIB);
}

#[test]
fn what_readers_left_behind_makes_way_for_reading_ahead() {
    let node = Node::start(streaming());
    let mut inos = 1000..;
    let mut begin = |name: &str, mode: ReadMode| {
        let policy = ReadPolicy { mode, admission: Admission::All, priority: None };
        node.client.set_read_policy(common::MOUNT, policy);
        let mut at = node.put(name, &pattern(16 * MIB, 21));
        at.ino = Ino(inos.next().unwrap());
        let before = node.client.read_ahead_counters().started_bytes;
        for piece in 0..3 {
            node.read(&at, piece * PAGE, PAGE as usize).unwrap();
        }
        let started = node.client.read_ahead_counters().started_bytes - before;
        eventually("it landed", || node.worker.transfer_memory() == 0);
        started
    };
    for count in 0..12 {
        begin(&format!("passed on {count}"), ReadMode::NoCache);
    }
    let alone = begin("first", ReadMode::Cache);
    assert!(alone > 0);
    for count in 0..24 {
        assert_eq!(begin(&format!("kept {count}"), ReadMode::Cache), alone, "file {count}");
    }
}

#[test]
fn a_file_is_freed_when_asked_unless_it_is_in_use() {
    let node = node();
    let at = Arc::new(node.put("a", &pattern(4 * PAGE, 16)));
    node.read_all(&at).unwrap();
    let evict = || {
        let at = Arc::clone(&at);
        node.on_shard(move |client| async move { client.evict(&at).await })
    };
    let backing = node.client.backing(&at).unwrap();
    assert_eq!(evict().unwrap_err().kind(), FsErrorKind::Busy);
    drop(backing);
    assert_eq!(evict().unwrap(), 4 * PAGE);
    assert_eq!(evict().unwrap(), 0);
    let fetched = node.ufs.read_bytes();
    node.read_all(&at).unwrap();
    assert_eq!(node.ufs.read_bytes(), 2 * fetched);
    let born = node.born();
    node.write(&born, 0, b"nowhere else").unwrap();
    let there = born.clone();
    assert_eq!(node.on_shard(move |client| async move { client.evict(&there).await }).unwrap(), 0);
    assert_eq!(node.read(&born, 0, 7).unwrap(), b"nowhere");
}

/// The same bytes by a bare client: ranged reads of 4 MiB, eight at a time. Returns the time it took.
fn bare_client(node: &Node, at: &forebay_types::ContentLocation) -> Duration {
    let (key, version) = at.ufs.clone().unwrap();
    let (ufs, size) = (Arc::clone(&node.ufs), at.size);
    let began = Instant::now();
    node.control.block_on(async move {
        let pieces = (0..size).step_by(4 << 20).map(|offset| {
            let (ufs, key, version) = (Arc::clone(&ufs), key.clone(), version.clone());
            async move {
                let mut buf = vec![0; (size - offset).min(4 << 20) as usize];
                forebay_ufs::Ufs::read(&*ufs, &key, &version, offset, &mut buf).await.unwrap()
            }
        });
        let read: usize =
            stream::iter(pieces).buffer_unordered(8).fold(0, |sum, n| async move { sum + n }).await;
        assert_eq!(read as u64, size);
    });
    began.elapsed()
}

#[test]
fn a_sequential_reader_keeps_a_shaped_link_full() {
    let worker = WorkerConfig { fetch_memory: ByteSize::mib(32), ..Setup::default().worker };
    let node = Node::start(Setup { client: ClientConfig::default(), worker, ..Setup::default() });
    node.ufs.rule(Rules {
        read_takes: Duration::from_millis(20),
        bytes_per_s: 60_000_000,
        ..Rules::default()
    });
    // The best of three: other tests use the same cores, and they disturb both sides.
    let ratios = [1, 2, 3].map(|round| {
        let at = node.put(&format!("big-{round}"), &pattern(32 * MIB, round));
        let bare = bare_client(&node, &at);
        let began = Instant::now();
        let mut read_bytes = 0;
        while read_bytes < at.size {
            read_bytes += node.read(&at, read_bytes, 256 << 10).unwrap().len() as u64;
        }
        let ours = began.elapsed();
        println!("60 MB/s, 20 ms: bare client {bare:?}, through the worker {ours:?}");
        bare.as_secs_f64() / ours.as_secs_f64()
    });
    // Without reading ahead it is less than a fifth, also on a machine with ten other things to do.
    assert!(ratios.iter().any(|ratio| *ratio > 0.3), "{ratios:?} of the bare client's speed");
}

#[test]
fn bytes_are_right_while_files_come_and_go() {
    let setup = Setup { quota: ByteSize::mib(3), ..streaming() };
    let node = Node::start(setup);
    let files: Vec<_> =
        (0..40u64).map(|i| node.put(&format!("file-number-{i}"), &pattern(4 * PAGE + i, i))).collect();
    let files = Arc::new(files);
    let readers: Vec<_> = (0..4u64)
        .map(|lane| {
            let (client, files, shard) =
                (Arc::clone(&node.client), Arc::clone(&files), node.shard(lane as usize));
            node.control.spawn(async move {
                let all = shard.call(move || async move {
                    for round in 0..400u64 {
                        let number = (round * 31 + lane * 17) % 40;
                        let at = &files[number as usize];
                        let offset = (round * 7919) % at.size;
                        let got = read(&client, at, offset, 100_000).await.unwrap();
                        let expected = pattern(at.size, number);
                        let end = (offset + 100_000).min(at.size);
                        assert!(got == expected[offset as usize..end as usize], "file {number} at {offset}");
                        if round % 13 == 0 {
                            // In use, or gone already: both are fine.
                            let _ = client.evict(at).await;
                        }
                    }
                });
                all.await.unwrap();
            })
        })
        .collect();
    readers.into_iter().for_each(|reader| node.control.block_on(reader).unwrap());
    assert!(node.store.counters().evictions() > 50, "{}", node.store.counters().evictions());
}
