//! Azure Blob Storage against Azurite, which checks signatures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod servers;

use forebay_types::{ByteSize, TimeSpec, Told, UfsKey};
use forebay_ufs::{OpenError, PutAttrs, PutSpec, RetryPolicy, UfsOptions, conformance};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;
use servers::{Server, azurite, http};
use std::collections::BTreeMap;

/// The account that every Azurite has, and its key, both published with it.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const CONTAINER: &str = "forebay-test";

fn options(server: &Server, key: &str) -> UfsOptions {
    let store = BTreeMap::from([
        ("account".to_owned(), ACCOUNT.to_owned()),
        ("access_key".to_owned(), key.to_owned()),
        ("endpoint".to_owned(), format!("http://127.0.0.1:{}/{ACCOUNT}", server.port)),
    ]);
    let retry = RetryPolicy { attempts_max: 3, ..Default::default() };
    UfsOptions { store, retry, part_len_min: ByteSize::mib(1), ..Default::default() }
}

/// Makes the container by a signed request: Azurite makes none by itself.
async fn with_container() -> Server {
    let server = azurite();
    let url = format!("http://127.0.0.1:{}/{ACCOUNT}/{CONTAINER}?restype=container", server.port);
    let mut request = ::http::Request::put(&url).body(HttpRequestBody::empty()).unwrap();
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
    let headers: Vec<_> = request.headers().iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
    let answer = http(server.port, "PUT", &format!("/{ACCOUNT}/{CONTAINER}?restype=container"), &headers, "");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_blob_storage_conforms() {
    let server = with_container().await;
    let url = format!("az://{CONTAINER}/a prefix");
    let ufs = forebay_ufs::open(&url, &options(&server, KEY)).await.unwrap();
    let wrong_in_azurite = [("control_characters_are_kept", "Azurite fails to list a prefix with one")];
    let report = conformance::run_without(ufs, &wrong_in_azurite).await;
    println!("{report}");
    let not_shown: Vec<_> = report.not_shown().iter().map(|(case, _)| *case).collect();
    let expected = [
        "a_backslash_is_kept",
        "control_characters_are_kept",
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
async fn a_listing_tells_what_rides_with_a_blob() {
    let server = with_container().await;
    let ufs = forebay_ufs::open(&format!("az://{CONTAINER}"), &options(&server, KEY)).await.unwrap();
    let mtime = Some(TimeSpec { secs: 1_000_000_000, nanos: 7 });
    let attrs = PutAttrs { mode: Some(0o755), owner: Some((7, 8)), mtime };
    let key = UfsKey::new(*b"script").unwrap();
    ufs.begin_put(&key, &PutSpec { attrs, ..Default::default() }).await.unwrap().finish().await.unwrap();
    let listed = ufs.list(&UfsKey::root(), None, 10).await.unwrap().entries.remove(0);
    let Told::All(listed) = listed.told else { panic!("{listed:?}") };
    assert_eq!(Some(listed.clone()), ufs.stat(&key).await.unwrap());
    assert_eq!((listed.mode, listed.owner, Some(listed.mtime)), (Some(0o755), Some((7, 8)), mtime));
}

#[tokio::test]
async fn opening_names_cause_and_remedy() {
    let server = with_container().await;
    let wrong = KEY.replace("Eby8", "Eby9");
    let refused =
        forebay_ufs::open(&format!("az://{CONTAINER}"), &options(&server, &wrong)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Denied { .. }), "{refused}");
    assert!(!refused.to_string().contains("Eby9"), "{refused}");
    let missing = forebay_ufs::open("az://no-such-container", &options(&server, KEY)).await.unwrap_err();
    assert!(matches!(missing, OpenError::NotFound { .. }), "{missing}");
}
