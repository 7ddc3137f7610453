//! The layers over a real directory: what a caller sees when the store fails, hangs, lies or is slow.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use forebay_types::{ByteSize, UfsKey};
use forebay_ufs::layers::{Fault, FaultPlan, FaultRule, FaultyUfs, Governed, Op};
use forebay_ufs::{
    Expect, PosixUfs, PutSpec, RetryPolicy, Ufs, UfsError, UfsErrorKind, UfsOptions, conformance,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn key(text: &str) -> UfsKey {
    UfsKey::new(text.as_bytes()).unwrap()
}

fn quick() -> UfsOptions {
    let retry = RetryPolicy {
        attempts_max: 20,
        pause_first: Duration::from_millis(1),
        pause_max: Duration::from_millis(20),
        ..Default::default()
    };
    UfsOptions { retry, part_len_min: ByteSize::kib(64), ..Default::default() }
}

async fn faulty(options: &UfsOptions) -> (TempDir, FaultPlan, Arc<dyn Ufs>) {
    let dir = TempDir::new().unwrap();
    let plan = FaultPlan::new(7);
    let posix = Arc::new(PosixUfs::open(dir.path().to_path_buf(), options).await.unwrap());
    let ufs = Governed::new(Arc::new(FaultyUfs::new(posix, plan.clone())), options);
    (dir, plan, Arc::new(ufs))
}

fn lost() -> Fault {
    Fault::LoseAnswer(UfsError::Unavailable("the answer was lost".into()))
}

fn down() -> Fault {
    Fault::Fail(UfsError::Unavailable("down".into()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_often_still_conforms() {
    let (_dir, plan, ufs) = faulty(&quick()).await;
    // A refusal leaves no doubt. A call that got no answer does, and then what another client may have done
    // meanwhile cannot be told from what the call did: such calls have tests of their own.
    let slow_down = Fault::Fail(UfsError::Throttled("slow down".into()));
    plan.add(FaultRule { chance: 0.15, ..FaultRule::always(&[], slow_down) });
    let beyond_doubt = [Op::Stat, Op::List, Op::Read, Op::BeginPut, Op::Part, Op::Finish, Op::Abort];
    plan.add(FaultRule { chance: 0.15, ..FaultRule::always(&beyond_doubt, down()) });
    plan.add(FaultRule { chance: 0.15, ..FaultRule::always(&beyond_doubt, lost()) });
    let report = conformance::run(ufs).await;
    assert_eq!(report.not_shown(), []);
    assert!(plan.struck() > 1000, "only {} calls were struck", plan.struck());
}

#[tokio::test]
async fn a_lost_answer_is_not_a_second_effect() {
    let (_dir, plan, ufs) = faulty(&quick()).await;
    for op in [Op::Mkdir, Op::Delete, Op::Rmdir, Op::Rename, Op::HardLink, Op::Symlink, Op::Finish] {
        plan.add(FaultRule::next(1, &[op], lost()));
    }
    ufs.mkdir(&key("d"), &Default::default()).await.unwrap();
    let spec = PutSpec { len: 1, expect: Expect::Absent, ..Default::default() };
    let mut upload = ufs.begin_put(&key("d/f"), &spec).await.unwrap();
    upload.part(0, Bytes::from_static(b"x")).await.unwrap();
    let version = upload.finish().await.unwrap();
    let (from, to) = (key("d/f"), key("d/g"));
    let renamed = ufs.rename((&from, &Expect::Version(version)), (&to, &Expect::Absent)).await.unwrap();
    let linked = ufs.hard_link(&to, (&key("d/h"), &Expect::Absent)).await.unwrap();
    assert_eq!(renamed, linked, "a further name is no other content");
    ufs.symlink(&key("d/l"), b"g", &Default::default(), &Expect::Absent).await.unwrap();
    for name in ["d/g", "d/h", "d/l"] {
        ufs.delete(&key(name), &Expect::Any).await.unwrap();
    }
    ufs.rmdir(&key("d")).await.unwrap();
    assert_eq!(plan.struck(), 7);
    let snapshot = ufs.stats().unwrap().snapshot();
    assert_eq!((snapshot.retries, snapshot.in_flight, snapshot.bytes_written), (7, 0, 1));
}

#[tokio::test]
async fn what_is_taken_for_done_is_made_durable_first() {
    let (dir, plan, ufs) = faulty(&quick()).await;
    let (a, b, d) = (key("a"), key("b"), key("d"));
    let sick = UfsError::Io("the disk does not sync".into());
    for op in [Op::Delete, Op::Rmdir, Op::Mkdir, Op::Rename, Op::HardLink, Op::Symlink] {
        let _ = std::fs::remove_dir_all(dir.path().join("d"));
        for name in ["a", "b"] {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
        std::fs::write(dir.path().join("a"), "x").unwrap();
        if op == Op::Rmdir {
            std::fs::create_dir(dir.path().join("d")).unwrap();
        }
        plan.add(FaultRule::next(1, &[op], lost()));
        plan.add(FaultRule::next(1, &[Op::SyncName], Fault::Fail(sick.clone())));
        let before = plan.struck();
        let outcome = match op {
            Op::Delete => ufs.delete(&a, &Expect::Any).await,
            Op::Rmdir => ufs.rmdir(&d).await,
            Op::Mkdir => ufs.mkdir(&d, &Default::default()).await,
            Op::Rename => ufs.rename((&a, &Expect::Any), (&b, &Expect::Absent)).await.map(drop),
            Op::HardLink => ufs.hard_link(&a, (&b, &Expect::Absent)).await.map(drop),
            _ => ufs.symlink(&b, b"a", &Default::default(), &Expect::Absent).await.map(drop),
        };
        assert_eq!(outcome.unwrap_err().kind(), UfsErrorKind::Io, "{op:?} was not synced");
        assert_eq!(plan.struck() - before, 2, "{op:?}");
        plan.clear();
    }
}

#[tokio::test]
async fn a_delete_of_nothing_is_an_error_unless_in_doubt() {
    let (_dir, plan, ufs) = faulty(&quick()).await;
    let missing = ufs.delete(&key("missing"), &Expect::Any).await;
    assert_eq!(missing.unwrap_err().kind(), UfsErrorKind::NotFound);
    // A refusal leaves no doubt.
    plan.add(FaultRule::next(1, &[Op::Delete], Fault::Fail(UfsError::Throttled("slow down".into()))));
    let missing = ufs.delete(&key("missing"), &Expect::Any).await;
    assert_eq!(missing.unwrap_err().kind(), UfsErrorKind::NotFound);
}

#[tokio::test]
async fn a_lasting_failure_is_reported_at_once_and_a_passing_one_after_its_attempts() {
    let (_dir, plan, ufs) = faulty(&quick()).await;
    let denied = UfsError::Denied { what: "stat".into(), remedy: "ask".into() };
    plan.add(FaultRule::always(&[Op::Stat], Fault::Fail(denied)));
    assert_eq!(ufs.stat(&key("f")).await.unwrap_err().kind(), UfsErrorKind::Denied);
    assert_eq!(plan.struck(), 1);
    plan.clear();
    plan.add(FaultRule::always(&[Op::Stat], down()));
    assert_eq!(ufs.stat(&key("f")).await.unwrap_err().kind(), UfsErrorKind::Unavailable);
    assert_eq!(plan.struck(), 1 + 20);
}

#[tokio::test]
async fn a_hung_call_ends_at_its_deadline_and_lets_others_by() {
    let options =
        UfsOptions { call_timeout: Duration::from_millis(200), retry: RetryPolicy::NEVER, ..quick() };
    let (_dir, plan, ufs) = faulty(&options).await;
    plan.add(FaultRule { below: Some(key("hung")), ..FaultRule::always(&[], Fault::Hang) });
    let began = Instant::now();
    let (hung_key, fine_key) = (key("hung"), key("fine"));
    let (hung, fine) = tokio::join!(ufs.stat(&hung_key), ufs.stat(&fine_key));
    assert_eq!(hung.unwrap_err().kind(), UfsErrorKind::Timeout);
    assert_eq!(fine, Ok(None));
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn calls_at_once_are_bounded() {
    let options = UfsOptions { concurrency: 2, ..quick() };
    let (_dir, plan, ufs) = faulty(&options).await;
    plan.add(FaultRule::always(&[Op::Stat], Fault::Delay(Duration::from_millis(100))));
    let began = Instant::now();
    let keys: Vec<_> = (0..6).map(|n| key(&format!("f{n}"))).collect();
    futures_util::future::join_all(keys.iter().map(|key| ufs.stat(key))).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "6 calls of 100 ms took {:?}", began.elapsed());
}

#[tokio::test]
async fn bytes_flow_no_faster_than_asked() {
    let mib = ByteSize::mib(1);
    let options = UfsOptions { read_bandwidth: Some(mib), write_bandwidth: Some(mib), ..quick() };
    let (_dir, _plan, ufs) = faulty(&options).await;
    let began = Instant::now();
    let spec = PutSpec { len: 1 << 20, ..Default::default() };
    let mut upload = ufs.begin_put(&key("f"), &spec).await.unwrap();
    for index in 0..16 {
        upload.part(index, Bytes::from(vec![1; 64 << 10])).await.unwrap();
    }
    let version = upload.finish().await.unwrap();
    let wrote = began.elapsed();
    assert!(wrote >= Duration::from_millis(800) && wrote < Duration::from_secs(60), "1 MiB took {wrote:?}");
    let mut buf = vec![0; 1 << 20];
    assert_eq!(ufs.read(&key("f"), &version, 0, &mut buf).await, Ok(1 << 20));
    assert!(began.elapsed() - wrote >= Duration::from_millis(800));
    assert_eq!(ufs.stats().unwrap().snapshot().bytes_read, 1 << 20);
}

#[tokio::test]
async fn a_read_only_mount_changes_nothing() {
    let (dir, _plan, ufs) = faulty(&UfsOptions { read_only: true, ..quick() }).await;
    let (f, g) = (key("f"), key("g"));
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let any = &Expect::Any;
    let refused = [
        ufs.delete(&f, any).await.unwrap_err(),
        ufs.mkdir(&g, &Default::default()).await.unwrap_err(),
        ufs.rmdir(&g).await.unwrap_err(),
        ufs.rename((&f, any), (&g, any)).await.unwrap_err(),
        ufs.hard_link(&f, (&g, any)).await.unwrap_err(),
        ufs.symlink(&g, b"f", &Default::default(), any).await.unwrap_err(),
        ufs.set_attr(&f, &Default::default(), any).await.unwrap_err(),
        ufs.begin_put(&g, &PutSpec::default()).await.err().unwrap(),
    ];
    for error in refused {
        assert_eq!(error.kind(), UfsErrorKind::ReadOnly);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(ufs.stat(&f).await.unwrap().is_some());
}

#[tokio::test]
async fn a_plan_cuts_reads_short_and_lies_about_length() {
    let (dir, plan, ufs) = faulty(&quick()).await;
    std::fs::write(dir.path().join("f"), vec![1; 1000]).unwrap();
    plan.add(FaultRule::next(1, &[Op::Stat, Op::List], Fault::Lengthen(24)));
    plan.add(FaultRule::next(1, &[Op::Read], Fault::CutShort));
    let attr = ufs.stat(&key("f")).await.unwrap().unwrap();
    assert_eq!(attr.size, 1024);
    assert_eq!(ufs.read(&key("f"), &attr.version, 0, &mut [0; 1000]).await, Ok(500));
    assert_eq!(ufs.read(&key("f"), &attr.version, 0, &mut [0; 1000]).await, Ok(1000));
}
