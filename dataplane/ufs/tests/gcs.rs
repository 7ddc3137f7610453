//! Google Cloud Storage against a stand-in that speaks its XML interface. No real bucket was tried.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod servers;

use forebay_types::ByteSize;
use forebay_ufs::{OpenError, RetryPolicy, UfsOptions, conformance};
use servers::gcs::{TOKEN, serve};
use std::collections::BTreeMap;

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
