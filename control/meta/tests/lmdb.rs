//! The embedded engine: the suite, damage, a full map, a second opener, and kill -9.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use forebay_meta::{Batch, LmdbOptions, LmdbStore, MetaError, MetaStore, conformance};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Dir(tempfile::TempDir);

impl conformance::Reopen for Dir {
    fn open(&self) -> Arc<dyn MetaStore> {
        Arc::new(open(self.0.path()))
    }
}

/// Opens a store that nobody has open. A process that another test starts at this moment holds the lock a little longer:
/// until its exec it has all descriptors of this one.
fn open(dir: &Path) -> LmdbStore {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match LmdbStore::open(dir, &LmdbOptions::default()) {
            Err(MetaError::InUse(_)) if Instant::now() < give_up => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn put(store: &LmdbStore, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    store.commit(&batch).unwrap();
}

#[test]
fn passes_the_suite() {
    conformance::run(|| Dir(tempfile::tempdir().unwrap()));
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = LmdbStore::open(dir.path(), &LmdbOptions::default());
    assert!(matches!(second, Err(MetaError::InUse(_))));
    drop(store);
    open(dir.path());
}

#[test]
fn a_full_map_is_no_space_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = LmdbOptions { map_size: 1 << 20, ..Default::default() };
    let store = LmdbStore::open(dir.path(), &options).unwrap();
    put(&store, b"before", b"1");
    let mut batch = Batch::new();
    batch.put(*b"small", *b"v").put(*b"large", vec![0; 2 << 20]);
    assert!(matches!(store.commit(&batch), Err(MetaError::NoSpace(_))));
    assert!(store.get(b"small").unwrap().is_none());
    put(&store, b"after", b"2");
    assert_eq!(store.get(b"before").unwrap().unwrap(), Box::from(*b"1"));
}

#[test]
fn a_flipped_bit_is_found() {
    const MARK: &[u8] = b"a value nobody else has, long enough to find again";
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"key", MARK);
    drop(store);
    let path = dir.path().join("data.mdb");
    let bytes = std::fs::read(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Every copy of the page that is left in the file, since LMDB writes pages anew.
    for at in (0..bytes.len() - MARK.len()).filter(|&at| &bytes[at..at + MARK.len()] == MARK) {
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    }
    let store = open(dir.path());
    assert!(matches!(store.get(b"key"), Err(MetaError::Corrupt(_))));
    assert!(matches!(store.scan(b"a", b"z", 9), Err(MetaError::Corrupt(_))));
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data.mdb"), vec![0x5a; 16384]).unwrap();
    assert!(matches!(LmdbStore::open(dir.path(), &LmdbOptions::default()), Err(MetaError::Corrupt(_))));
}

/// Not a test of its own: the process that `survives_kill_9` kills. Commits pairs for ever and says so.
#[test]
#[ignore = "run by survives_kill_9"]
fn child_commits_for_ever() {
    let dir = std::env::var_os("FOREBAY_TEST_DIR").expect("set by the parent");
    let store = open(Path::new(&dir));
    for n in 0_u64.. {
        let mut batch = Batch::new();
        batch.put(format!("a/{n:08}").into_bytes(), n.to_le_bytes());
        batch.put(format!("b/{n:08}").into_bytes(), vec![n as u8; 3000]);
        store.commit(&batch).unwrap();
        println!("committed {n}");
    }
}

#[test]
fn survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_commits_for_ever", "--ignored", "--nocapture"])
            .env("FOREBAY_TEST_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let committed = |line: std::io::Result<String>| line.ok()?.split_once("committed ")?.1.parse().ok();
        let acked: Vec<u64> = lines.filter_map(committed).take(20 + 17 * round as usize).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(dir.path());
        let heads = store.scan(b"a/", b"a0", usize::MAX).unwrap();
        let tails = store.scan(b"b/", b"b0", usize::MAX).unwrap();
        assert_eq!(heads.len(), tails.len(), "a torn batch");
        assert!(heads.len() as u64 > *acked.last().unwrap(), "an acknowledged batch is lost");
    }
}
