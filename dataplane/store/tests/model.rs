//! Random operations on one file, compared after each with a plain vector of bytes.
//!
//! The test plays the worker: it fetches what is absent from what the under file system has, and tells the store when
//! that changed. The store is opened again in between, as after the daemon's death or after a clean end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use forebay_shard::{Allocate, arena};
use forebay_store::{Authority, Extent, ExtentSpec, Store, StoreConfig};
use forebay_types::{ByteSize, ContentKey, ExtentId};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const LEN_MAX: u64 = 5 * PAGE;

#[derive(Debug, Clone)]
enum Op {
    Read(u64, u64),
    Write(u64, u64),
    Truncate(u64),
    Zero(u64, u64),
    Sync,
    /// The under file system has what was written.
    Persist,
    /// Fetch all that is absent, so that it may be packed.
    Complete,
    /// Let housekeeping work for a moment.
    Rest,
    Evict,
    Restart {
        clean: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..LEN_MAX;
    prop_oneof![
        4 => (at.clone(), 1..2 * PAGE).prop_map(|(at, len)| Op::Read(at, len)),
        4 => (at.clone(), 1..2 * PAGE).prop_map(|(at, len)| Op::Write(at, len)),
        // Whole pages, which need not be fetched first.
        2 => (0..4u64, 1..3u64).prop_map(|(page, pages)| Op::Write(page * PAGE, pages * PAGE)),
        2 => at.clone().prop_map(Op::Truncate),
        1 => (at, 1..2 * PAGE).prop_map(|(at, len)| Op::Zero(at, len)),
        1 => Just(Op::Sync),
        3 => Just(Op::Persist),
        1 => Just(Op::Complete),
        1 => Just(Op::Rest),
        1 => Just(Op::Evict),
        2 => any::<bool>().prop_map(|clean| Op::Restart { clean }),
    ]
}

/// One file as its user sees it, and what the under file system has of it.
struct File {
    store: Arc<Store>,
    id: ExtentId,
    bytes: Vec<u8>,
    /// Its content under its key.
    remote: (u128, Vec<u8>),
    /// What the absent pages are fetched from while it is ours.
    base: Vec<u8>,
    stamp: u8,
}

impl File {
    /// The extent; a new one if the file is clean and was evicted.
    async fn extent(&mut self) -> Arc<Extent> {
        if let Some(extent) = self.store.get(self.id) {
            return extent;
        }
        let (key, remote) = &self.remote;
        let extent =
            self.store.create(ExtentSpec::fetched(ContentKey(*key), remote.len() as u64)).await.unwrap();
        self.id = extent.id();
        extent
    }

    async fn fetch(&self, extent: &Arc<Extent>, range: std::ops::Range<u64>) {
        let clean = extent.authority() == Authority::Origin;
        let from = if clean { &self.remote.1 } else { &self.base };
        for page in extent.missing(range) {
            let start = page.0 * PAGE;
            let end = (start + PAGE).min(from.len() as u64);
            let frame = frame_of(&from[start as usize..end as usize]).await;
            extent.fill(page, frame).await.map_err(|(e, _)| e).unwrap();
        }
    }

    async fn make_ours(&mut self) -> Arc<Extent> {
        let extent = self.extent().await;
        if extent.authority() == Authority::Origin {
            self.base = self.remote.1.clone();
            self.store.unbind_all(self.id).await.unwrap();
        }
        self.extent().await
    }

    /// Fetches the pages that a change of `range` covers in part.
    async fn bring_edges(&self, extent: &Arc<Extent>, range: std::ops::Range<u64>) {
        for at in [range.start, range.end.saturating_sub(1)] {
            self.fetch(extent, at..at + 1).await;
        }
    }

    async fn write(&mut self, at: u64, len: u64) {
        let extent = self.make_ours().await;
        self.stamp = self.stamp.wrapping_add(1).max(1);
        if !at.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
            self.bring_edges(&extent, at..at + len).await;
        }
        let bytes = vec![self.stamp; len as usize];
        extent.write(frame_of(&bytes).await, at).await.map_err(|(e, _)| e).unwrap();
        let end = (at + len) as usize;
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[at as usize..end].copy_from_slice(&bytes);
    }

    async fn zero(&mut self, at: u64, len: u64) {
        let extent = self.make_ours().await;
        self.bring_edges(&extent, at..at + len).await;
        extent.allocate(Allocate::PunchHole, at, len).await.unwrap();
        let end = self.bytes.len().min((at + len) as usize);
        if (at as usize) < end {
            self.bytes[at as usize..end].fill(0);
        }
    }

    async fn check(&mut self, at: u64, len: u64) {
        let extent = self.extent().await;
        assert_eq!(extent.len(), self.bytes.len() as u64);
        self.fetch(&extent, at..at + len).await;
        let frame = arena().frame(len as usize).await.unwrap();
        let found = extent.read(frame, at).await.unwrap();
        let end = self.bytes.len().min((at + len) as usize);
        let expected = self.bytes.get(at as usize..end).unwrap_or_default();
        if found[..] != *expected {
            let first = found.iter().zip(expected).position(|(a, b)| a != b);
            panic!("{} against {} bytes, first difference at {first:?} of {at}", found.len(), expected.len());
        }
    }

    async fn run(&mut self, op: Op) {
        match op {
            Op::Read(at, len) => self.check(at, len).await,
            Op::Write(at, len) => self.write(at, len).await,
            Op::Zero(at, len) => self.zero(at, len).await,
            Op::Truncate(len) => {
                self.make_ours().await.set_len(len).await.unwrap();
                self.bytes.resize(len as usize, 0);
            }
            Op::Sync => self.extent().await.sync().await.unwrap(),
            Op::Persist => {
                if self.extent().await.authority() == Authority::Here {
                    self.remote = (self.remote.0 + 1, self.bytes.clone());
                    self.store.bind(self.id, ContentKey(self.remote.0)).await.unwrap();
                }
            }
            Op::Complete => {
                let extent = self.extent().await;
                self.fetch(&extent, 0..LEN_MAX * 4).await;
            }
            Op::Rest => forebay_shard::sleep(Duration::from_millis(600)).await,
            Op::Evict => {
                // Housekeeping may have it in hand just now.
                let _ = self.store.evict_now(self.id);
            }
            Op::Restart { .. } => unreachable!("done outside"),
        }
    }
}

fn cfg(dir: &std::path::Path) -> StoreConfig {
    StoreConfig { pack_max: ByteSize::mib(1), sync_delay: Duration::ZERO, ..config(dir) }
}

/// Runs the operations up to the next restart on a shard.
fn run_until_restart(mut file: File, ops: Vec<Op>) -> File {
    on_shard(move || async move {
        forebay_shard::spawn(Arc::clone(&file.store).tend());
        for op in ops {
            file.run(op).await;
            file.check(0, 4 * PAGE).await;
            file.check(4 * PAGE, 4 * PAGE).await;
        }
        file
    })
}

fn restart(file: File, dir: &std::path::Path, clean: bool) -> File {
    let File { store, id, bytes, remote, base, stamp } = file;
    if clean {
        store.close().unwrap();
    }
    drop(store);
    let (store, report) = Store::open(cfg(dir)).unwrap();
    assert_eq!((report.records_refused, report.damaged.len()), (0, 0), "{report:?}");
    store.sweep(|known| known == id);
    File { store, id, bytes, remote, base, stamp }
}

fn cases() -> u32 {
    std::env::var("FOREBAY_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn an_extent_is_what_its_user_wrote(ops in prop::collection::vec(op(), 1..30), remote_len in 0..LEN_MAX) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(cfg(dir.path())).unwrap();
        let remote = bytes_of(1, 0, remote_len as usize);
        let mut file = File {
            store,
            id: ExtentId(0),
            bytes: remote.clone(),
            remote: (1, remote),
            base: Vec::new(),
            stamp: 0,
        };
        for part in ops.split_inclusive(|op| matches!(op, Op::Restart { .. })) {
            let (ops, clean) = match part.split_last() {
                Some((Op::Restart { clean }, ops)) => (ops, Some(*clean)),
                _ => (part, None),
            };
            file = run_until_restart(file, ops.to_vec());
            if let Some(clean) = clean {
                file = restart(file, dir.path(), clean);
            }
        }
    }
}
