//! What only a directory promises: no way out of it, whole files or none, attributes kept, debris swept.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use forebay_types::{FileKind, TimeSpec, UfsKey, UfsVersion};
use forebay_ufs::{
    AttrChange, Expect, OpenError, PutAttrs, PutSpec, Ufs, UfsError, UfsErrorKind, UfsOptions, UfsResult,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tempfile::TempDir;

fn key(text: &str) -> UfsKey {
    UfsKey::new(text.as_bytes()).unwrap()
}

async fn open(dir: &Path) -> Arc<dyn Ufs> {
    forebay_ufs::open(dir.to_str().unwrap(), &UfsOptions::default()).await.unwrap()
}

async fn put(ufs: &dyn Ufs, at: &str, bytes: &'static [u8], spec: PutSpec) -> UfsResult<UfsVersion> {
    let mut upload = ufs.begin_put(&key(at), &PutSpec { len: bytes.len() as u64, ..spec }).await?;
    upload.part(0, Bytes::from_static(bytes)).await?;
    upload.finish().await
}

async fn names(ufs: &dyn Ufs, dir: &str) -> Vec<String> {
    let page = ufs.list(&key(dir), None, 1000).await.unwrap();
    assert!(page.next.is_none());
    let mut names: Vec<_> = page.entries.iter().map(|entry| entry.name.to_string()).collect();
    names.sort();
    names
}

fn kind<T: std::fmt::Debug>(result: UfsResult<T>) -> UfsErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn no_symbolic_link_leads_out_or_is_followed() {
    let (dir, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), dir.path().join("out")).unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("in/f"), "f").unwrap();
    symlink("in", dir.path().join("alias")).unwrap();
    let ufs = open(dir.path()).await;

    for path in ["out/secret", "alias/f"] {
        assert_eq!(ufs.stat(&key(path)).await.unwrap(), None, "{path}");
        assert_eq!(kind(ufs.delete(&key(path), &Expect::Any).await), UfsErrorKind::NotADirectory, "{path}");
        assert_eq!(kind(put(&*ufs, path, b"x", PutSpec::default()).await), UfsErrorKind::NotADirectory);
    }
    assert_eq!(kind(ufs.list(&key("out"), None, 10).await), UfsErrorKind::NotADirectory);
    let link = ufs.stat(&key("alias")).await.unwrap().unwrap();
    assert_eq!((link.kind, link.link_target.as_deref()), (FileKind::Symlink, Some(&b"in"[..])));
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_put_keeps_mode_and_owner_of_what_it_replaces() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&file, Some(1234), Some(4321)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    }
    let before = fs::metadata(&file).unwrap();
    let ufs = open(dir.path()).await;
    put(&*ufs, "f", b"new", PutSpec::default()).await.unwrap();
    let after = fs::metadata(&file).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(after.mode(), before.mode());
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
}

#[tokio::test]
async fn a_put_sets_the_attributes_it_is_given() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    let mtime = TimeSpec { secs: 1_000_000_000, nanos: 123_456_789 };
    let attrs = PutAttrs { mode: Some(0o640), owner: None, mtime: Some(mtime) };
    let version = put(&*ufs, "f", b"x", PutSpec { attrs, ..Default::default() }).await.unwrap();
    let attr = ufs.stat(&key("f")).await.unwrap().unwrap();
    assert_eq!((attr.mode, attr.mtime, &attr.version), (Some(0o640), mtime, &version));
    let on_disk = fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!(
        (on_disk.mtime(), on_disk.mtime_nsec(), on_disk.mode() & 0o7777),
        (1_000_000_000, 123_456_789, 0o640)
    );
}

#[tokio::test]
async fn an_upload_is_hidden_until_it_finishes_and_gone_when_dropped() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    let spec = PutSpec { len: 3, ..Default::default() };
    let upload = ufs.begin_put(&key("f"), &spec).await.unwrap();
    upload.part(0, Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the bytes are staged beside the target");
    assert_eq!(names(&*ufs, "").await, Vec::<String>::new());
    drop(upload);
    wait_for(|| fs::read_dir(dir.path()).unwrap().count() == 0).await;
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about within 5 s");
}

#[tokio::test]
async fn a_link_that_a_dead_process_was_making_is_swept_however_young() {
    let dir = TempDir::new().unwrap();
    let debris = dir.path().join(".forebay-put.00000000deadbeef00000000");
    std::os::unix::fs::symlink("../to/738", &debris).unwrap();
    let ufs = open(dir.path()).await;
    assert_eq!(names(&*ufs, "").await, Vec::<String>::new());
    assert!(debris.symlink_metadata().is_ok(), "others may be making it");
    ufs.sweep(&key("f")).await.unwrap();
    assert!(debris.symlink_metadata().is_err());
}

#[tokio::test]
async fn what_a_dead_upload_left_is_swept_and_a_live_one_is_not() {
    let dir = TempDir::new().unwrap();
    let debris = dir.path().join(".forebay-put.00000000deadbeef");
    fs::write(&debris, "half").unwrap();
    let patient = open(dir.path()).await;
    assert_eq!(names(&*patient, "").await, Vec::<String>::new());
    assert!(debris.exists(), "it may belong to an upload that has just begun");

    let eager = UfsOptions { stale_upload_after: Duration::ZERO, ..Default::default() };
    let eager = forebay_ufs::open(dir.path().to_str().unwrap(), &eager).await.unwrap();
    let mut live = eager.begin_put(&key("f"), &PutSpec::default()).await.unwrap();
    assert_eq!(names(&*eager, "").await, Vec::<String>::new());
    assert!(!debris.exists());
    live.finish().await.unwrap();
    assert_eq!(names(&*eager, "").await, ["f"]);
}

#[tokio::test]
async fn debris_does_not_keep_a_directory_from_being_removed() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    ufs.mkdir(&key("d"), &PutAttrs::default()).await.unwrap();
    fs::write(dir.path().join("d/.forebay-put.0000000000000001"), "half").unwrap();
    ufs.rmdir(&key("d")).await.unwrap();
    assert!(!dir.path().join("d").exists());
}

#[tokio::test]
async fn reserved_names_are_not_taken() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    let refused = ufs.begin_put(&key(".forebay-put.x"), &PutSpec::default()).await;
    assert_eq!(refused.err().unwrap().kind(), UfsErrorKind::Unpersistable);
}

#[tokio::test]
async fn a_named_pipe_holds_nobody_up() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let ufs = open(dir.path()).await;
    let attr = ufs.stat(&key("pipe")).await.unwrap().unwrap();
    assert_eq!(attr.kind, FileKind::Fifo);
    let reading = ufs.read(&key("pipe"), &attr.version, 0, &mut [0; 8]).await;
    assert_eq!(kind(reading), UfsErrorKind::Changed);
}

#[tokio::test]
async fn a_change_in_place_is_noticed_by_the_reader() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("f"), "one").unwrap();
    let ufs = open(dir.path()).await;
    let version = ufs.stat(&key("f")).await.unwrap().unwrap().version;
    let mut buf = [0; 8];
    assert_eq!(ufs.read(&key("f"), &version, 0, &mut buf).await.unwrap(), 3);
    tokio::time::sleep(Duration::from_millis(20)).await;
    fs::write(dir.path().join("f"), "two").unwrap();
    assert_eq!(kind(ufs.read(&key("f"), &version, 0, &mut buf).await), UfsErrorKind::Changed);
}

#[tokio::test]
async fn attributes_change_without_the_content() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    let old = put(&*ufs, "f", b"x", PutSpec::default()).await.unwrap();
    let change =
        AttrChange { mode: Some(0o600), mtime: Some(TimeSpec { secs: 7, nanos: 0 }), ..Default::default() };
    let new = ufs.set_attr(&key("f"), &change, &Expect::Version(old.clone())).await.unwrap();
    assert_ne!(old, new);
    let attr = ufs.stat(&key("f")).await.unwrap().unwrap();
    assert_eq!((attr.mode, attr.mtime.secs, attr.version), (Some(0o600), 7, new));
    let stale = ufs.set_attr(&key("f"), &change, &Expect::Version(old)).await;
    assert_eq!(kind(stale), UfsErrorKind::Changed);
}

#[tokio::test]
async fn opening_what_is_not_there_names_cause_and_remedy() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("nowhere");
    let error = forebay_ufs::open(missing.to_str().unwrap(), &UfsOptions::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }));
    assert!(error.to_string().contains("nowhere") && error.to_string().contains("create it"), "{error}");
    fs::write(dir.path().join("file"), "").unwrap();
    let file = dir.path().join("file");
    let error = forebay_ufs::open(file.to_str().unwrap(), &UfsOptions::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_token_of_another_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    for name in ["a", "b"] {
        ufs.mkdir(&key(name), &PutAttrs::default()).await.unwrap();
        put(&*ufs, &format!("{name}/f"), b"", PutSpec::default()).await.unwrap();
    }
    let token = ufs.list(&key("a"), None, 1).await.unwrap().next.unwrap();
    assert_eq!(kind(ufs.list(&key("b"), Some(&token), 1).await), UfsErrorKind::Changed);
    let garbage = forebay_types::PageToken(Box::from(*b"xyz"));
    let refused = ufs.list(&key("a"), Some(&garbage), 1).await;
    assert!(matches!(refused, Err(UfsError::Invalid(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_becomes_another_files_is_never_missing() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    put(&*ufs, "a", b"first", PutSpec::default()).await.unwrap();
    put(&*ufs, "b", b"second", PutSpec::default()).await.unwrap();
    ufs.hard_link(&key("a"), (&key("name"), &Expect::Absent)).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (looked, over) = (Arc::clone(&ufs), Arc::clone(&done));
    let looking = tokio::spawn(async move {
        let mut looks = 0;
        while !over.load(SeqCst) {
            assert_eq!(names(&*looked, "").await, ["a", "b", "name"], "after {looks} looks");
            looks += 1;
        }
        looks
    });
    for n in 0..200 {
        let from = if n % 2 == 0 { "b" } else { "a" };
        ufs.hard_link(&key(from), (&key("name"), &Expect::Any)).await.unwrap();
    }
    done.store(true, SeqCst);
    assert!(looking.await.unwrap() > 50);
}

#[tokio::test]
async fn a_name_that_is_moved_over_another_one_of_the_same_file_is_gone() {
    let dir = TempDir::new().unwrap();
    let ufs = open(dir.path()).await;
    put(&*ufs, "a", b"one", PutSpec::default()).await.unwrap();
    let version = ufs.hard_link(&key("a"), (&key("b"), &Expect::Absent)).await.unwrap();
    let moved = ufs.rename((&key("a"), &Expect::Version(version.clone())), (&key("b"), &Expect::Any)).await;
    assert_eq!(moved.unwrap(), version);
    assert_eq!(names(&*ufs, "").await, ["b"]);
    ufs.rename((&key("b"), &Expect::Any), (&key("b"), &Expect::Any)).await.unwrap();
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"one");
}
