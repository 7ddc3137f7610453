//! Google Cloud Storage against a stand-in that speaks its XML interface. No real bucket was tried.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod servers;

use forebay_types::{ByteSize, FileKind, UfsKey};
use forebay_ufs::{OpenError, RetryPolicy, UfsOptions, conformance};
use proptest::prelude::*;
use servers::gcs::{TOKEN, serve};
use servers::http;
use std::collections::{BTreeMap, BTreeSet};

fn options(port: u16, token: &str) -> UfsOptions {
    let store = BTreeMap::from([
        ("endpoint".to_owned(), format!("http://127.0.0.1:{port}")),
        ("bearer_token".to_owned(), token.to_owned()),
    ]);
    let retry = RetryPolicy { attempts_max: 3, ..Default::default() };
    UfsOptions { store, retry, part_len_min: ByteSize::mib(5), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_cloud_storage_conforms() {
    let port = serve();
    let ufs = forebay_ufs::open("gs://bucket/a prefix", &options(port, TOKEN)).await.unwrap();
    let report = conformance::run(ufs).await;
    println!("{report}");
    let not_shown: Vec<_> = report.not_shown().iter().map(|(case, _)| *case).collect();
    let expected = [
        "names_that_are_no_text",
        "renames_replace",
        "directories_are_renamed",
        "a_hard_link_is_a_second_name",
        "a_hard_link_takes_the_place_of_what_is_expected",
        "attributes_change_alone",
    ];
    assert_eq!(not_shown, expected);
}

#[tokio::test]
async fn opening_names_cause_and_remedy() {
    let port = serve();
    let refused = forebay_ufs::open("gs://bucket", &options(port, "hunter2")).await.unwrap_err();
    assert!(matches!(refused, OpenError::Denied { .. }), "{refused}");
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
    let missing = forebay_ufs::open("gs://missing", &options(port, TOKEN)).await.unwrap_err();
    assert!(matches!(missing, OpenError::NotFound { .. }), "{missing}");
}

/// What a file system shows of the keys in a bucket.
fn shown(keys: &BTreeSet<String>) -> BTreeMap<String, FileKind> {
    let dirs: BTreeSet<&str> = keys.iter().filter_map(|key| Some(key.split_once('/')?.0)).collect();
    let dir = |name: &&str| (name.to_string(), FileKind::Directory);
    let file = |key: &String| match dirs.contains(&**key) {
        true => (format!("{key}.forebay-object"), FileKind::Regular),
        false => (key.clone(), FileKind::Regular),
    };
    let files = keys.iter().filter(|key| !key.contains('/')).map(file);
    dirs.iter().map(dir).chain(files).collect()
}

async fn listed(url: &str, options: &UfsOptions, limit: usize) -> Vec<(String, FileKind)> {
    let ufs = forebay_ufs::open(url, options).await.unwrap();
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = ufs.list(&UfsKey::root(), from.as_ref(), limit).await.unwrap();
        assert!(page.entries.len() <= limit && page.left_out == 0);
        for entry in page.entries {
            let asked =
                ufs.stat_listed(&UfsKey::root().child(&entry.name)).await.unwrap().map(|attr| attr.kind);
            let kind = entry.told.attr().map(|attr| attr.kind).or(asked).unwrap();
            found.push((entry.name.to_string(), kind));
        }
        from = page.next;
        if from.is_none() {
            found.sort_by(|a, b| a.0.cmp(&b.0));
            return found;
        }
    }
}

/// Objects and prefixes of one name, with keys that sort between them, listed in pages that end anywhere.
#[test]
fn any_keys_are_listed_once_as_files_or_directories() {
    let port = serve();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let auth = format!("Bearer {TOKEN}");
    let mut config = ProptestConfig::with_cases(60);
    config.failure_persistence = None;
    let keys = proptest::collection::btree_set("[ab][-.!0]{0,2}(/[ab]?)?", 0..12);
    let buckets = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&(keys, 1usize..5), |(keys, limit)| {
        let bucket = buckets.get();
        buckets.set(bucket + 1);
        for key in &keys {
            let key = key.replace('!', "%21");
            http(port, "PUT", &format!("/bucket/{bucket}/{key}"), &[("Authorization", &auth)], "");
        }
        let url = format!("gs://bucket/{bucket}");
        let found = runtime.block_on(listed(&url, &options(port, TOKEN), limit));
        prop_assert_eq!(found, shown(&keys).into_iter().collect::<Vec<_>>());
        Ok(())
    });
    outcome.unwrap();
}
