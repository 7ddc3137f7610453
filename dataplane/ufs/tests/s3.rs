//! S3 against moto: the conformance suite with signatures checked, and what only an object store shows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod servers;

use bytes::Bytes;
use forebay_types::{ByteSize, FileKind, TimeSpec, Told, UfsKey, UfsVersion};
use forebay_ufs::layers::Op;
use forebay_ufs::{
    Attributes, Expect, OpenError, PutAttrs, PutSpec, RetryPolicy, Ufs, UfsError, UfsErrorKind, UfsOptions,
    conformance,
};
use servers::wire::{Accident, Wire};
use servers::{Server, http, moto};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const BUCKET: &str = "forebay-test";

fn key(text: &str) -> UfsKey {
    UfsKey::new(text.as_bytes()).unwrap()
}

fn options(server: &Server, more: &[(&str, &str)]) -> UfsOptions {
    options_for(server.port, more)
}

fn options_for(port: u16, more: &[(&str, &str)]) -> UfsOptions {
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut store: BTreeMap<String, String> = [
        ("endpoint", &*endpoint),
        ("access_key_id", "test"),
        ("secret_access_key", "test"),
        ("region", "us-east-1"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    store.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    let retry = RetryPolicy { attempts_max: 3, ..Default::default() };
    UfsOptions { store, retry, part_len_min: ByteSize::mib(5), ..Default::default() }
}

fn make_bucket(server: &Server) {
    let answer = http(server.port, "PUT", &format!("/{BUCKET}"), &[], "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A server with an empty bucket that checks no signature.
fn with_bucket() -> Server {
    let server = moto(None);
    make_bucket(&server);
    server
}

async fn open(server: &Server, prefix: &str) -> Arc<dyn Ufs> {
    forebay_ufs::open(&format!("s3://{BUCKET}/{prefix}"), &options(server, &[])).await.unwrap()
}

async fn put(ufs: &dyn Ufs, at: &str, bytes: &'static [u8], attrs: PutAttrs) {
    let spec = PutSpec { len: bytes.len() as u64, attrs, ..PutSpec::default() };
    let mut upload = ufs.begin_put(&key(at), &spec).await.unwrap();
    upload.part(0, Bytes::from_static(bytes)).await.unwrap();
    upload.finish().await.unwrap();
}

/// Puts an object as another client would, under any key.
fn put_raw(server: &Server, object: &str, body: &str) {
    let answer = http(server.port, "PUT", &format!("/{BUCKET}/{object}"), &[], body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn get_raw(server: &Server, object: &str) -> String {
    let auth =
        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x";
    http(server.port, "GET", &format!("/{BUCKET}/{object}"), &[("Authorization", auth)], "")
}

async fn names(ufs: &dyn Ufs, dir: &str, limit: usize) -> Vec<String> {
    let (mut names, mut from) = (Vec::new(), None);
    loop {
        let page = ufs.list(&key(dir), from.as_ref(), limit).await.unwrap();
        names.extend(page.entries.iter().map(|entry| entry.name.to_string()));
        from = page.next;
        if from.is_none() {
            names.sort();
            return names;
        }
    }
}

/// Makes a user who may do everything, after which the server checks every signature; needs 3 requests.
fn make_user(server: &Server) -> (String, String) {
    let auth =
        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x";
    let headers = [("Authorization", auth), ("Content-Type", "application/x-www-form-urlencoded")];
    let iam = |form: &str| {
        let answer = http(server.port, "POST", "/", &headers, &format!("{form}&Version=2010-05-08"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    };
    iam("Action=CreateUser&UserName=tester");
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C\
                  %22Action%22%3A%22%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
    iam(&format!("Action=PutUserPolicy&UserName=tester&PolicyName=all&PolicyDocument={policy}"));
    let answer = iam("Action=CreateAccessKey&UserName=tester");
    let field = |name: &str| {
        let rest = answer.split_once(&format!("<{name}>")).unwrap().1;
        rest.split_once('<').unwrap().0.to_owned()
    };
    (field("AccessKeyId"), field("SecretAccessKey"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_conforms_with_signatures_checked() {
    let server = moto(Some(4));
    make_bucket(&server);
    let (id, secret) = make_user(&server);
    let url = format!("s3://{BUCKET}/a prefix/100%");
    let wrong = options(&server, &[("access_key_id", &id), ("secret_access_key", "wrong")]);
    let refused = forebay_ufs::open(&url, &wrong).await.unwrap_err();
    assert!(matches!(refused, OpenError::Denied { .. }), "{refused}");
    assert!(!refused.to_string().contains(&id), "{refused}");

    let right = options(&server, &[("access_key_id", &id), ("secret_access_key", &secret)]);
    let ufs = forebay_ufs::open(&url, &right).await.unwrap();
    let wrong_in_moto = [("control_characters_are_kept", "moto finds no route to a key with a line feed")];
    let report = conformance::run_without(ufs, &wrong_in_moto).await;
    println!("{report}");
    let not_shown: Vec<_> = report.not_shown().iter().map(|(case, _)| *case).collect();
    let expected = [
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
async fn without_attributes_the_rest_of_the_suite_is_passed() {
    let server = with_bucket();
    let options = UfsOptions { attributes: Attributes::None, ..options(&server, &[]) };
    let ufs = forebay_ufs::open(&format!("s3://{BUCKET}"), &options).await.unwrap();
    let wrong_in_moto = [("control_characters_are_kept", "moto finds no route to a key with a line feed")];
    let report = conformance::run_without(ufs, &wrong_in_moto).await;
    println!("{report}");
    let not_shown: Vec<_> = report.not_shown().iter().map(|(case, _)| *case).collect();
    for case in ["attributes_come_with_a_put", "a_symbolic_link_is_a_link"] {
        assert!(not_shown.contains(&case), "{case} is among {not_shown:?}");
    }
}

#[tokio::test]
async fn without_attributes_a_listing_tells_all_there_is_to_know() {
    let server = with_bucket();
    let with = open(&server, "").await;
    let attrs = PutAttrs {
        mode: Some(0o600),
        owner: Some((7, 8)),
        mtime: Some(TimeSpec { secs: 1_000_000_000, nanos: 5 }),
    };
    put(&*with, "dir/theirs", b"bytes", attrs).await;
    with.symlink(&key("dir/link"), b"theirs", &attrs, &Expect::Any).await.unwrap();
    with.mkdir(&key("dir/sub"), &attrs).await.unwrap();

    let options = UfsOptions { attributes: Attributes::None, ..options(&server, &[]) };
    let bare = forebay_ufs::open(&format!("s3://{BUCKET}"), &options).await.unwrap();
    put(&*bare, "dir/ours", b"more", attrs).await;
    let page = bare.list(&key("dir"), None, 100).await.unwrap();
    assert_eq!(page.entries.len(), 4);
    for entry in page.entries {
        let Told::All(told) = entry.told else { panic!("{entry:?}") };
        let at = key(&format!("dir/{}", String::from_utf8_lossy(entry.name.as_bytes())));
        assert_eq!(bare.stat(&at).await.unwrap(), Some(told.clone()), "{at}");
        assert_eq!((told.mode, told.owner, told.link_target), (None, None, None), "{at}");
        let is_dir = at == key("dir/sub");
        assert!(is_dir || told.mtime.nanos == 0, "{at}: a look at the object tells no fractions");
        assert_eq!(told.kind, if is_dir { FileKind::Directory } else { FileKind::Regular }, "{at}");
    }
    let kept = with.stat(&key("dir/ours")).await.unwrap().unwrap();
    assert_eq!((kept.mode, kept.owner), (None, None), "nothing was sent with it");
    let refused = bare.symlink(&key("dir/new"), b"x", &attrs, &Expect::Any).await.unwrap_err();
    assert_eq!(refused.kind(), UfsErrorKind::Unsupported);
}

#[tokio::test]
async fn objects_are_named_as_files_are() {
    let server = with_bucket();
    let ufs = open(&server, "data").await;
    ufs.mkdir(&key("empty"), &PutAttrs::default()).await.unwrap();
    put(&*ufs, "dir/a b%", b"content", PutAttrs::default()).await;
    assert!(get_raw(&server, "data/dir/a%20b%25").ends_with("\r\n\r\ncontent"));
    assert!(get_raw(&server, "data/empty/").starts_with("HTTP/1.1 200"));
    put_raw(&server, "data/other/from%20outside", "theirs");
    let attr = ufs.stat(&key("other/from outside")).await.unwrap().unwrap();
    let mut buf = [0; 6];
    assert_eq!(ufs.read(&key("other/from outside"), &attr.version, 0, &mut buf).await, Ok(6));
    assert_eq!((&buf, attr.mode), (b"theirs", None));
    assert_eq!(names(&*ufs, "", 100).await, ["dir", "empty", "other"]);
}

#[tokio::test]
async fn a_directory_hides_an_object_of_its_name() {
    let server = with_bucket();
    for object in ["a", "a/below", "a-1", "a-2", "a.b", "plain"] {
        put_raw(&server, object, object);
    }
    let ufs = open(&server, "").await;
    let expected = ["a", "a-1", "a-2", "a.b", "a.forebay-object", "plain"];
    for limit in [1, 2, 3, 1000] {
        assert_eq!(names(&*ufs, "", limit).await, expected, "pages of {limit}");
    }
    assert_eq!(ufs.stat(&key("a")).await.unwrap().unwrap().kind, FileKind::Directory);
    let (shown, at) = (ufs.stat(&key("a.forebay-object")).await.unwrap().unwrap(), key("a.forebay-object"));
    let mut buf = [0; 8];
    assert_eq!(ufs.read(&at, &shown.version, 0, &mut buf).await, Ok(1));
    assert_eq!((shown.kind, shown.size, buf[0]), (FileKind::Regular, 1, b'a'));
    ufs.delete(&at, &Expect::Version(shown.version)).await.unwrap();
    assert_eq!(names(&*ufs, "", 2).await, ["a", "a-1", "a-2", "a.b", "plain"]);
    assert!(get_raw(&server, "a").starts_with("HTTP/1.1 404"));
    assert!(get_raw(&server, "a/below").ends_with("a/below"));
}

#[tokio::test]
async fn keys_that_are_no_names_are_left_out_and_counted() {
    let server = with_bucket();
    for object in ["fine", "//two", "x//y", "x/./z", "x/ok"] {
        put_raw(&server, object, "");
    }
    let ufs = open(&server, "").await;
    let page = ufs.list(&key(""), None, 100).await.unwrap();
    let shown: Vec<_> = page.entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!((shown.len(), page.left_out), (2, 1), "{shown:?}");
    let below = ufs.list(&key("x"), None, 100).await.unwrap();
    assert_eq!(below.entries.len(), 1);
    assert_eq!(below.left_out, 2);
}

#[tokio::test]
async fn attributes_ride_with_the_object() {
    let server = with_bucket();
    let ufs = open(&server, "").await;
    let mtime = Some(TimeSpec { secs: -5, nanos: 1 });
    put(&*ufs, "f", b"x", PutAttrs { mode: Some(0o600), owner: Some((7, 8)), mtime }).await;
    let raw = get_raw(&server, "f").to_ascii_lowercase();
    for header in ["x-amz-meta-forebay-mode: 0600", "forebay-owner: 7:8", "forebay-mtime: -5.000000001"] {
        assert!(raw.contains(header), "{header} is not in {raw}");
    }
    let attr = ufs.stat(&key("f")).await.unwrap().unwrap();
    assert_eq!((attr.mode, attr.owner, Some(attr.mtime)), (Some(0o600), Some((7, 8)), mtime));
    let link = ufs.symlink(&key("l"), &[b'x'; 601], &PutAttrs::default(), &Expect::Any).await;
    assert_eq!(link.unwrap_err().kind(), UfsErrorKind::Unpersistable);
}

#[tokio::test]
async fn an_abandoned_upload_leaves_no_parts() {
    let server = with_bucket();
    let ufs = open(&server, "").await;
    let spec = PutSpec { len: 12 << 20, ..Default::default() };
    let upload = ufs.begin_put(&key("big"), &spec).await.unwrap();
    upload.part(0, Bytes::from(vec![1; 5 << 20])).await.unwrap();
    let uploads = || http(server.port, "GET", &format!("/{BUCKET}?uploads"), &[], "");
    assert!(uploads().contains("<UploadId>"));
    drop(upload);
    for _ in 0..1200 {
        if !uploads().contains("<UploadId>") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the parts are still there: {}", uploads());
}

#[tokio::test]
async fn what_a_process_that_died_left_of_a_key_is_swept() {
    let server = with_bucket();
    let (dead, ufs) = (open(&server, "p").await, open(&server, "p").await);
    let spec = PutSpec { len: 12 << 20, ..Default::default() };
    for name in ["big", "big2"] {
        let upload = dead.begin_put(&key(name), &spec).await.unwrap();
        upload.part(0, Bytes::from(vec![1; 5 << 20])).await.unwrap();
        std::mem::forget(upload);
    }
    let mut ours = ufs.begin_put(&key("big"), &spec).await.unwrap();
    let uploads =
        || http(server.port, "GET", &format!("/{BUCKET}?uploads"), &[], "").matches("<UploadId>").count();
    assert_eq!(uploads(), 3);
    ufs.sweep(&key("big")).await.unwrap();
    assert_eq!(uploads(), 2, "ours and that of the other key stay");
    for (index, len) in [(0, 5 << 20), (1, 5 << 20), (2, 2 << 20)] {
        ours.part(index, Bytes::from(vec![2; len])).await.unwrap();
    }
    ours.finish().await.unwrap();
    ufs.sweep(&key("big2")).await.unwrap();
    assert_eq!(uploads(), 0);
}

#[tokio::test]
async fn opening_names_cause_and_remedy() {
    let server = with_bucket();
    let missing = forebay_ufs::open("s3://no-such-bucket", &options(&server, &[])).await.unwrap_err();
    assert!(matches!(missing, OpenError::NotFound { .. }), "{missing}");
    assert!(missing.to_string().contains("create it"), "{missing}");
    let typo = forebay_ufs::open(&format!("s3://{BUCKET}"), &options(&server, &[("regoin", "x")]))
        .await
        .unwrap_err();
    assert!(typo.to_string().contains("regoin") && typo.to_string().contains("region"), "{typo}");
    let mut nobody = options(&server, &[("endpoint", "http://127.0.0.1:9")]);
    nobody.connect_timeout = Duration::from_secs(2);
    let unreachable = forebay_ufs::open(&format!("s3://{BUCKET}"), &nobody).await.unwrap_err();
    assert!(matches!(unreachable, OpenError::Unreachable { .. }), "{unreachable}");
    for error in [missing, typo, unreachable] {
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_dies_is_unavailable_and_not_empty() {
    let server = with_bucket();
    let ufs = open(&server, "").await;
    put(&*ufs, "f", b"x", PutAttrs::default()).await;
    let version = ufs.stat(&key("f")).await.unwrap().unwrap().version;
    drop(server);
    let gone = [
        ufs.stat(&key("f")).await.map(drop).unwrap_err(),
        ufs.list(&key(""), None, 10).await.map(drop).unwrap_err(),
        ufs.read(&key("f"), &version, 0, &mut [0; 1]).await.map(drop).unwrap_err(),
    ];
    for error in gone {
        assert_eq!(error.kind(), UfsErrorKind::Unavailable, "{error}");
    }
    let snapshot = ufs.stats().unwrap().snapshot();
    let stat = snapshot.ops.iter().find(|op| op.op == Op::Stat).unwrap();
    assert!(stat.errors.contains(&(UfsErrorKind::Unavailable, 3)), "{:?}", stat.errors);
}

/// A store behind a wire on which accidents happen.
async fn behind_wire(server: &Server) -> (Wire, Arc<dyn Ufs>) {
    let wire = Wire::to(server.port);
    let ufs = forebay_ufs::open(&format!("s3://{BUCKET}/p"), &options_for(wire.port, &[])).await.unwrap();
    (wire, ufs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_answer_is_lost_is_known_again() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    wire.next(1, "PUT /forebay-test/p/small", Accident::Lost);
    let spec = PutSpec { len: 5, expect: Expect::Absent, ..Default::default() };
    let mut upload = ufs.begin_put(&key("small"), &spec).await.unwrap();
    upload.part(0, Bytes::from_static(b"small")).await.unwrap();
    let version = upload.finish().await.unwrap();
    assert_eq!((ufs.stat(&key("small")).await.unwrap().unwrap().version, wire.struck()), (version, 1));

    wire.next(1, "p/big?uploadId", Accident::Lost);
    wire.next(2, "p/big?partNumber=2", Accident::Refused(503));
    let spec = PutSpec { len: 6 << 20, expect: Expect::Absent, ..Default::default() };
    let mut upload = ufs.begin_put(&key("big"), &spec).await.unwrap();
    upload.part(0, Bytes::from(vec![1; 5 << 20])).await.unwrap();
    upload.part(1, Bytes::from(vec![2; 1 << 20])).await.unwrap();
    let version = upload.finish().await.unwrap();
    let found = ufs.stat(&key("big")).await.unwrap().unwrap();
    assert_eq!((found.version, found.size, wire.struck()), (version, 6 << 20, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_of_somebody_else_is_not_taken_for_ours() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    let spec = PutSpec { len: 4, expect: Expect::Absent, ..Default::default() };
    let mut upload = ufs.begin_put(&key("f"), &spec).await.unwrap();
    upload.part(0, Bytes::from_static(b"ours")).await.unwrap();
    wire.next(1, "PUT /forebay-test/p/f", Accident::Refused(500));
    put_raw(&server, "p/f", "theirs");
    assert_eq!(upload.finish().await.unwrap_err().kind(), UfsErrorKind::Exists);
    assert!(get_raw(&server, "p/f").ends_with("theirs"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_is_asked_for_again() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    let body: String = (0..20_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    put_raw(&server, "p/f", &body);
    let version = ufs.stat(&key("f")).await.unwrap().unwrap().version;
    wire.next(1, "GET /forebay-test/p/f", Accident::Cut);
    wire.next(1, "list-type", Accident::Cut);
    let mut buf = vec![0; body.len()];
    assert_eq!(ufs.read(&key("f"), &version, 0, &mut buf).await, Ok(body.len()));
    assert_eq!(buf, body.as_bytes());
    assert_eq!(names(&*ufs, "", 10).await, ["f"]);
    assert_eq!(wire.struck(), 2);
}

/// Empty objects may be links: a listing leaves that open, and who asks is answered for each by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_asks_about_no_object_and_each_that_is_asked_for_is_repeated_by_itself() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    let mut expected: Vec<String> = (0..60).map(|n| format!("empty-{n:02}")).collect();
    for name in &expected {
        put_raw(&server, &format!("p/{name}"), "");
    }
    put_raw(&server, "p/full", "content");
    wire.once_each(
        "HEAD /forebay-test/p/",
        &[Accident::Refused(500), Accident::Refused(503), Accident::Lost],
    );
    let page = ufs.list(&key(""), None, 100).await.unwrap();
    assert_eq!(wire.struck(), 0);
    let open = page.entries.iter().filter(|entry| matches!(entry.told, Told::FileOrLink(_)));
    let mut shown = Vec::new();
    for entry in open {
        let attr = ufs.stat_listed(&key("").child(&entry.name)).await.unwrap().unwrap();
        assert_eq!((attr.kind, attr.size, &attr.version), (FileKind::Regular, 0, entry.told.version()));
        shown.push(entry.name.to_string());
    }
    assert_eq!((&shown, wire.struck()), (&expected, 60));
    expected.push("full".into());
    assert_eq!(names(&*ufs, "", 100).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_within_a_listing_is_repeated_only_while_that_may_help() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    // Whether `a` is hidden by a directory of its name is not seen from a page that ends before `a/`.
    ["p/a", "p/a-1", "p/a-2"].iter().for_each(|object| put_raw(&server, object, ""));
    let below = "prefix=p%2Fa%2F";
    wire.next(1000, below, Accident::Refused(403));
    let denied = ufs.list(&key(""), None, 2).await.unwrap_err();
    assert_eq!((denied.kind(), wire.struck()), (UfsErrorKind::Denied, 1));
    let (wire, ufs) = behind_wire(&server).await;
    wire.next(1000, below, Accident::Refused(500));
    let down = ufs.list(&key(""), None, 2).await.unwrap_err();
    // Three attempts are allowed, of the listing and within each of the request.
    assert_eq!((down.kind(), wire.struck()), (UfsErrorKind::Unavailable, 9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_goes_silent_is_given_up_in_time_for_another() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    put_raw(&server, "p/f", "0123456789");
    let version = ufs.stat(&key("f")).await.unwrap().unwrap().version;
    wire.next(1, "GET /forebay-test/p/f", Accident::Stalled);
    wire.next(1, "HEAD /forebay-test/p/other", Accident::Silent);
    let began = std::time::Instant::now();
    let mut buf = [0; 10];
    let (read, stat) = (key("f"), key("other"));
    let (read, stat) = tokio::join!(ufs.read(&read, &version, 0, &mut buf), ufs.stat(&stat));
    assert_eq!((read, stat), (Ok(10), Ok(None)));
    assert_eq!((&buf, wire.struck()), (b"0123456789", 2));
    assert!(began.elapsed() < Duration::from_secs(55), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_of_another_version_are_refused() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    put_raw(&server, "p/f", "0123456789");
    let version = ufs.stat(&key("f")).await.unwrap().unwrap().version;
    wire.next(1, "GET /forebay-test/p/f", Accident::Retagged);
    let refused = ufs.read(&key("f"), &version, 0, &mut [0; 10]).await.unwrap_err();
    assert_eq!(refused.kind(), UfsErrorKind::Changed);
}

async fn try_put(ufs: &dyn Ufs, at: &str, expect: Expect) -> Result<UfsVersion, UfsError> {
    put_ours(ufs, at, PutSpec { expect, ..Default::default() }).await
}

async fn put_ours(ufs: &dyn Ufs, at: &str, spec: PutSpec) -> Result<UfsVersion, UfsError> {
    let mut upload = ufs.begin_put(&key(at), &PutSpec { len: 4, ..spec }).await?;
    upload.part(0, Bytes::from_static(b"ours")).await?;
    upload.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_looks_once_at_what_must_be_so() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    ufs.mkdir(&key("d"), &PutAttrs::default()).await.unwrap();
    wire.methods();
    let version = try_put(&*ufs, "d/f", Expect::Absent).await.unwrap();
    assert_eq!(wire.methods(), ["GET", "PUT"]);
    let version = try_put(&*ufs, "d/f", Expect::Version(version)).await.unwrap();
    assert_eq!(wire.methods(), ["GET", "PUT"]);
    ufs.symlink(&key("d/l"), b"f", &PutAttrs::default(), &Expect::Absent).await.unwrap();
    assert_eq!(wire.methods(), ["GET", "PUT"]);
    ufs.delete(&key("d/f"), &Expect::Version(version)).await.unwrap();
    assert_eq!(wire.methods(), ["DELETE", "GET", "GET"]);
}

async fn put_believing(ufs: &dyn Ufs, at: &str, expect: Expect) -> Result<UfsVersion, UfsError> {
    put_ours(ufs, at, PutSpec { expect, believed: Duration::from_secs(60), ..Default::default() }).await
}

/// Who puts many files into a directory has it listed once. What others do meanwhile may hide a file and takes nothing away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_believes_is_one_request() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    ufs.mkdir(&key("d"), &PutAttrs::default()).await.unwrap();
    wire.methods();
    let version = put_believing(&*ufs, "d/a", Expect::Absent).await.unwrap();
    assert_eq!(wire.methods(), ["GET", "PUT", "PUT"], "the store was not found to keep conditions");
    for name in ["d/b", "d/c", "d/d"] {
        put_believing(&*ufs, name, Expect::Absent).await.unwrap();
        assert_eq!(wire.methods(), ["GET", "PUT"]);
    }
    put_believing(&*ufs, "d/e", Expect::Absent).await.unwrap();
    assert_eq!(wire.methods(), ["PUT"]);
    let version = put_believing(&*ufs, "d/a", Expect::Version(version)).await.unwrap();
    assert_eq!(wire.methods(), ["GET", "PUT"], "what is replaced is looked at");
    open(&server, "p").await.delete(&key("d/a"), &Expect::Any).await.unwrap();
    let gone = put_believing(&*ufs, "d/a", Expect::Version(version)).await.unwrap_err();
    assert_eq!(gone.kind(), UfsErrorKind::Changed);
    wire.methods();
    put_raw(&server, "p/d/theirs", "theirs");
    put_raw(&server, "p/d/x/y", "theirs");
    assert_eq!(
        put_believing(&*ufs, "d/theirs", Expect::Absent).await.unwrap_err().kind(),
        UfsErrorKind::Exists
    );
    put_believing(&*ufs, "d/x", Expect::Absent).await.unwrap();
    assert_eq!(wire.methods(), ["PUT", "PUT"]);
    assert!(get_raw(&server, "p/d/theirs").ends_with("theirs"));
    let shown = ["b", "c", "d", "e", "theirs", "x", "x.forebay-object"];
    assert_eq!(names(&*ufs, "d", 100).await, shown);
    assert!(get_raw(&server, "p/d/x").ends_with("ours"));
}

/// A directory of which the first page does not tell is listed from the names on that are put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_believes_is_one_request_in_a_large_directory_too() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    (0..1010).for_each(|n| put_raw(&server, &format!("p/d/a{n:04}"), "x"));
    for name in ["d/z0", "d/z1", "d/z2", "d/z3"] {
        put_believing(&*ufs, name, Expect::Absent).await.unwrap();
    }
    wire.methods();
    for name in ["d/z4", "d/z5"] {
        put_believing(&*ufs, name, Expect::Absent).await.unwrap();
        assert_eq!(wire.methods(), ["PUT"]);
    }
}

/// A store that says in the middle that it does not implement conditions gets no put that nobody has looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_gives_conditions_up_replaces_nothing() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    for name in ["a", "b", "c", "d"] {
        put_believing(&*ufs, name, Expect::Absent).await.unwrap();
    }
    put_raw(&server, "p/theirs", "theirs");
    wire.next(1, "PUT /forebay-test/p/theirs", Accident::Refused(501));
    assert!(put_believing(&*ufs, "theirs", Expect::Absent).await.is_err());
    let refused = put_believing(&*ufs, "theirs", Expect::Absent).await.unwrap_err();
    assert_eq!((refused.kind(), wire.struck()), (UfsErrorKind::Exists, 1));
    assert!(get_raw(&server, "p/theirs").ends_with("theirs"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_passes_conditions_over_is_looked_at_before_each_put() {
    let server = with_bucket();
    let (wire, ufs) = behind_wire(&server).await;
    wire.next(u32::MAX, "PUT ", Accident::Unconditional);
    wire.methods();
    let version = put_believing(&*ufs, "a", Expect::Absent).await.unwrap();
    assert_eq!(wire.methods(), ["GET", "HEAD", "PUT", "PUT"]);
    assert_eq!(ufs.stat(&key("a")).await.unwrap().unwrap().version, version);
    wire.methods();
    for name in ["b", "c", "d", "e"] {
        put_believing(&*ufs, name, Expect::Absent).await.unwrap();
        assert_eq!(wire.methods(), ["GET", "PUT"]);
    }
    put_raw(&server, "p/theirs", "theirs");
    let refused = put_believing(&*ufs, "theirs", Expect::Absent).await.unwrap_err();
    assert_eq!(refused.kind(), UfsErrorKind::Exists);
}

/// More names sort between a file and its directory than one look shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_seen_behind_names_that_sort_before_it() {
    let server = with_bucket();
    let ufs = open(&server, "p").await;
    for object in ["a", "a!", "a+", "a,", "a-", "a.", "a/x", "b!", "b+", "b,", "b-", "b."] {
        put_raw(&server, &format!("p/{object}"), "theirs");
    }
    let put = try_put(&*ufs, "a", Expect::Any).await.unwrap_err();
    assert_eq!(put.kind(), UfsErrorKind::IsADirectory);
    let gone = ufs.delete(&key("a"), &Expect::Any).await.unwrap_err();
    assert_eq!(gone.kind(), UfsErrorKind::IsADirectory);
    ufs.delete(&key("a.forebay-object"), &Expect::Any).await.unwrap();
    try_put(&*ufs, "b", Expect::Absent).await.unwrap();
    let exists = try_put(&*ufs, "b", Expect::Absent).await.unwrap_err();
    assert_eq!(exists.kind(), UfsErrorKind::Exists);
    assert_eq!(
        names(&*ufs, "", 100).await,
        ["a", "a!", "a+", "a,", "a-", "a.", "b", "b!", "b+", "b,", "b-", "b."]
    );
}
