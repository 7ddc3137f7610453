//! The suite every engine passes. An engine's test hands it a way to open an empty store and to open it
//! again; the suite panics with what is wrong.
//!
//! Each case is small and says what the name space relies on. Crash cases are the engine's own, because
//! only it knows what to kill.

use crate::{Batch, KEY_LEN_MAX, MetaError, MetaStore};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Opens the store of one directory: empty the first time, with what was committed every later time. The
/// store that was opened before is closed by then.
pub trait Reopen {
    /// Opens it.
    fn open(&self) -> Arc<dyn MetaStore>;
}

/// What a case shows, and the case.
type Case<R> = (&'static str, fn(&R));

/// Runs every case; `fresh` yields an empty store for each.
///
/// # Panics
/// If the engine breaks a promise of [`MetaStore`].
pub fn run<R: Reopen>(fresh: impl Fn() -> R) {
    let cases: [Case<R>; 8] = [
        ("what is put is got", puts_and_gets),
        ("scans are ordered, bounded, half open", scans),
        ("deletes", deletes),
        ("changes of a batch apply in order", last_change_wins),
        ("a failed precondition changes nothing", preconditions),
        ("keys have bounds", key_bounds),
        ("what is committed is there after reopening", survives_reopening),
        ("readers see a batch whole or not at all", batches_are_atomic),
    ];
    for (name, case) in cases {
        println!("case: {name}");
        case(&fresh());
    }
}

fn put(store: &dyn MetaStore, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    store.commit(&batch).expect("a plain put commits");
}

fn get(store: &dyn MetaStore, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).expect("a get succeeds").map(Into::into)
}

fn puts_and_gets(at: &impl Reopen) {
    let store = at.open();
    assert_eq!(get(&*store, b"a"), None);
    put(&*store, b"a", b"1");
    put(&*store, b"empty", b"");
    put(&*store, b"\0\xff", &vec![7; 200_000]);
    assert_eq!(get(&*store, b"a"), Some(b"1".to_vec()));
    assert_eq!(get(&*store, b"empty"), Some(Vec::new()));
    assert_eq!(get(&*store, b"\0\xff"), Some(vec![7; 200_000]));
    let many = store.get_many(&[b"empty", b"none", b"a"]).expect("a get succeeds");
    assert_eq!(many, vec![Some(Box::from(*b"")), None, Some(Box::from(*b"1"))]);
}

fn scans(at: &impl Reopen) {
    let store = at.open();
    let mut expected = BTreeMap::new();
    let mut batch = Batch::new();
    for n in 0..1000_u32 {
        let key = format!("k/{}", n.wrapping_mul(2_654_435_761) % 1000).into_bytes();
        expected.insert(key.clone(), n.to_le_bytes().to_vec());
        batch.put(key, n.to_le_bytes());
    }
    batch.put(*b"j", *b"before").put(*b"l", *b"after");
    store.commit(&batch).expect("a batch commits");
    let all = store.scan(b"k/", b"k0", usize::MAX).expect("a scan succeeds");
    let all: Vec<_> = all.into_iter().map(|(k, v)| (k.into_vec(), v.into_vec())).collect();
    assert_eq!(all, expected.clone().into_iter().collect::<Vec<_>>());
    let some = store.scan(b"k/5", b"k/6", 3).expect("a scan succeeds");
    let wanted: Vec<_> = expected.range(b"k/5".to_vec()..).take(3).map(|(k, _)| k.clone()).collect();
    assert_eq!(some.into_iter().map(|(k, _)| k.into_vec()).collect::<Vec<_>>(), wanted);
    assert!(store.scan(b"k/7", b"k/7", 10).expect("a scan succeeds").is_empty());
    assert!(store.scan(b"z", b"a", 10).expect("a scan succeeds").is_empty());
    assert!(store.scan(b"k/", b"k0", 0).expect("a scan succeeds").is_empty());
}

fn deletes(at: &impl Reopen) {
    let store = at.open();
    put(&*store, b"a", b"1");
    let mut batch = Batch::new();
    batch.delete(*b"a").delete(*b"never there");
    store.commit(&batch).expect("a delete of nothing is no error");
    assert_eq!(get(&*store, b"a"), None);
}

fn last_change_wins(at: &impl Reopen) {
    let store = at.open();
    let mut batch = Batch::new();
    batch.put(*b"a", *b"1").delete(*b"a").put(*b"b", *b"1").put(*b"b", *b"2").delete(*b"c").put(*b"c", *b"3");
    store.commit(&batch).expect("a batch commits");
    assert_eq!(get(&*store, b"a"), None);
    assert_eq!(get(&*store, b"b"), Some(b"2".to_vec()));
    assert_eq!(get(&*store, b"c"), Some(b"3".to_vec()));
}

fn preconditions(at: &impl Reopen) {
    let store = at.open();
    put(&*store, b"gen", b"1");
    let attempt = |expected: Option<&[u8]>, new: &[u8]| {
        let mut batch = Batch::new();
        batch.put(*b"other", *b"x").put(*b"gen", new).expect(*b"gen", expected.map(Into::into));
        store.commit(&batch)
    };
    for wrong in [None, Some(&b"2"[..]), Some(b"")] {
        assert!(matches!(attempt(wrong, b"9"), Err(MetaError::PreconditionFailed { .. })));
        assert_eq!(get(&*store, b"gen"), Some(b"1".to_vec()));
        assert_eq!(get(&*store, b"other"), None);
    }
    attempt(Some(b"1"), b"2").expect("a met precondition lets the batch through");
    assert_eq!(get(&*store, b"gen"), Some(b"2".to_vec()));
}

fn key_bounds(at: &impl Reopen) {
    let store = at.open();
    let longest = vec![b'k'; KEY_LEN_MAX];
    put(&*store, &longest, b"v");
    assert_eq!(get(&*store, &longest), Some(b"v".to_vec()));
    for len in [0, KEY_LEN_MAX + 1] {
        let mut batch = Batch::new();
        batch.put(*b"fine", *b"v").put(vec![b'k'; len], *b"v");
        assert!(matches!(store.commit(&batch), Err(MetaError::InvalidKey { .. })), "{len} bytes were taken");
        assert_eq!(get(&*store, b"fine"), None);
        assert!(matches!(store.get(&vec![b'k'; len]), Err(MetaError::InvalidKey { .. })));
    }
}

fn survives_reopening(at: &impl Reopen) {
    for n in 0..5_u8 {
        let store = at.open();
        for earlier in 0..n {
            assert_eq!(get(&*store, &[b'k', earlier]), Some(vec![earlier; 100]));
        }
        put(&*store, &[b'k', n], &[n; 100]);
    }
}

fn batches_are_atomic(at: &impl Reopen) {
    const ROUNDS: u32 = 200;
    let store = at.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=ROUNDS {
                let mut batch = Batch::new();
                for key in 0..10_u8 {
                    batch.put([key], n.to_be_bytes());
                }
                store.commit(&batch).expect("a batch commits");
            }
        });
        loop {
            let seen = store.scan(&[0], &[10], 100).expect("a scan succeeds");
            assert!(seen.is_empty() || seen.len() == 10);
            assert!(seen.windows(2).all(|pair| pair[0].1 == pair[1].1), "a torn batch was seen");
            if seen.first().is_some_and(|(_, value)| **value == ROUNDS.to_be_bytes()) {
                return;
            }
        }
    });
}
