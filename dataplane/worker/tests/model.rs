//! Random operations on files, compared with a plain model after each: bytes, lengths, and where they end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Node, PAGE, Rules, Setup, pattern};
use forebay_client::AllocateMode;
use forebay_types::{ByteSize, ContentLocation, FsErrorKind};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const LEN_MAX: u64 = 5 * PAGE;

#[derive(Clone, Debug)]
enum Step {
    Read(u64, u64),
    Write(u64, u64),
    Truncate(u64),
    Punch(u64, u64),
    Zero(u64, u64),
    /// The writers close; the file is written to the under file system from outside as it is, and opened anew.
    Publish,
    Load,
    Evict,
    /// The next requests to the under file system fail.
    Fail(u64),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let at = prop_oneof![
        0..LEN_MAX,
        (0..5u64, 0..3u64).prop_map(|(page, by)| (page * PAGE + by).saturating_sub(1))
    ];
    let len = prop_oneof![1..9000u64, Just(PAGE), Just(2 * PAGE), 1..2 * PAGE];
    prop_oneof![
        4 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Read(at, len)),
        4 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Write(at, len)),
        2 => at.clone().prop_map(Step::Truncate),
        1 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Punch(at, len)),
        1 => (at, len).prop_map(|(at, len)| Step::Zero(at, len)),
        1 => Just(Step::Publish),
        1 => Just(Step::Load),
        1 => Just(Step::Evict),
        1 => (1..3u64).prop_map(Step::Fail),
        1 => Just(Step::Sync),
    ]
}

/// A file and what it should hold.
struct File {
    name: String,
    at: ContentLocation,
    bytes: Vec<u8>,
    seed: u64,
}

impl File {
    fn new(node: &Node, len: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("file-{}", COUNT.fetch_add(1, SeqCst));
        let bytes = pattern(len, len);
        let at = node.put(&name, &bytes);
        Self { name, at, bytes, seed: 0 }
    }

    /// Opens for write if it is not; as the name space would.
    fn open(&mut self, node: &Node) {
        if self.at.extent.is_none() {
            self.at = node.begin_write(&self.at);
        }
    }

    /// A step that the under file system fails has no effect, and succeeds when it is repeated.
    fn insist<T>(node: &Node, mut attempt: impl FnMut() -> forebay_types::FsResult<T>) -> T {
        for _ in 0..20 {
            match attempt() {
                Ok(value) => return value,
                Err(error) => assert_eq!(error.kind(), FsErrorKind::Unavailable, "{error}"),
            }
        }
        node.ufs.rule(Rules::default());
        attempt().unwrap()
    }

    fn zero(&mut self, from: u64, to: u64) {
        let to = (to as usize).min(self.bytes.len());
        if (from as usize) < to {
            self.bytes[from as usize..to].fill(0);
        }
    }

    fn take(&mut self, node: &Node, step: &Step) {
        match *step {
            Step::Read(offset, len) => self.check(node, offset, len),
            Step::Write(offset, len) => self.write(node, offset, len),
            Step::Truncate(len) => {
                self.open(node);
                self.call(node, move |client, at| async move { client.truncate(&at, len).await });
                self.bytes.resize(len as usize, 0);
            }
            Step::Punch(offset, len) => {
                self.allocate(node, AllocateMode::PunchHole, offset, len);
                self.zero(offset, offset + len);
            }
            Step::Zero(offset, len) => {
                self.allocate(node, AllocateMode::ZeroRange, offset, len);
                self.bytes.resize(self.bytes.len().max((offset + len) as usize), 0);
                self.zero(offset, offset + len);
            }
            Step::Publish => self.publish(node),
            Step::Load => self.call(node, |client, at| async move { client.complete(&at).await }),
            Step::Evict => self.call(node, |client, at| async move { client.evict(&at).await.map(|_| ()) }),
            Step::Fail(reads) => node.ufs.rule(Rules { reads_to_fail: reads, ..Rules::default() }),
            Step::Sync => self.call(node, |client, at| async move { client.sync(&at).await }),
        }
    }

    fn call<F>(
        &self,
        node: &Node,
        call: impl Fn(std::sync::Arc<forebay_client::Client>, ContentLocation) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = forebay_types::FsResult<()>> + 'static,
    {
        Self::insist(node, || {
            let (at, call) = (self.at.clone(), call.clone());
            node.on_shard(move |client| call(client, at))
        });
    }

    fn allocate(&mut self, node: &Node, mode: AllocateMode, offset: u64, len: u64) {
        self.open(node);
        self.call(node, move |client, at| async move { client.allocate(&at, mode, offset, len).await });
    }

    fn write(&mut self, node: &Node, offset: u64, len: u64) {
        self.open(node);
        self.seed += 1;
        let bytes = pattern(len, self.seed);
        Self::insist(node, || node.write(&self.at, offset, &bytes));
        let end = (offset + len) as usize;
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset as usize..end].copy_from_slice(&bytes);
    }

    fn publish(&mut self, node: &Node) {
        self.give_up(node);
        self.at = node.put(&self.name, &self.bytes);
    }

    /// The writers close and what they wrote goes: nobody persists here, so it would keep its room for good.
    fn give_up(&self, node: &Node) {
        let Some(extent) = self.at.extent else { return };
        node.on_shard(move |client| async move {
            client.end_write(extent, true);
            client.discard(extent).await.unwrap();
        });
    }

    fn check(&self, node: &Node, offset: u64, len: u64) {
        let got = Self::insist(node, || node.read(&self.at, offset, len as usize));
        let from = (offset as usize).min(self.bytes.len());
        let to = (from + len as usize).min(self.bytes.len());
        assert!(got == self.bytes[from..to], "{offset}+{len} of {}", self.bytes.len());
    }
}

#[test]
fn files_hold_what_a_plain_model_holds() {
    let node = Node::start(Setup { quota: ByteSize::mib(64), ..Setup::default() });
    let config =
        ProptestConfig { cases: 256, max_shrink_iters: 200, failure_persistence: None, ..Default::default() };
    let input = (0..LEN_MAX, prop::collection::vec(step(), 1..24));
    let outcome = TestRunner::new(config).run(&input, |(len, steps)| {
        let mut file = File::new(&node, len);
        steps.iter().for_each(|step| file.take(&node, step));
        node.ufs.rule(Rules::default());
        file.check(&node, 0, 2 * LEN_MAX);
        if let Some(extent) = file.at.extent {
            let seen = node.on_shard(move |client| async move { client.adopt(extent).await.unwrap() });
            prop_assert_eq!(seen.len, file.bytes.len() as u64);
        }
        file.give_up(&node);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (taken, total) = node.worker.fetch_memory();
    assert!(taken <= total);
}
