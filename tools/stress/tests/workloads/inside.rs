//! `worker` and `client-io`: a real node without a mount, over a real store.

use crate::support::{assert_empty, operation, run};
use forebay_stress::Error;

/// What holds temporary files may keep them in memory, where files cannot be punched; the build is on a disk.
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn a_worker_gives_pages_cold_in_order_and_at_random() {
    let (dir, under) = (on_disk(), on_disk());
    let line = format!(
        "worker DIR --ufs {} --threads 3 --file-size 1100KiB --buffer 64KiB --page-size 256KiB --verify --json",
        under.path().display()
    );
    let ran = run(&line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    for phase in ["cold", "sequential", "random"] {
        assert_eq!(operation(&report, phase, "read")["count"], 3 * 18, "{phase}");
    }
    assert_eq!(operation(&report, "cold", "read")["bytes"], 3 * 1100 * 1024);
    assert_empty(dir.path());
    assert_empty(under.path());
}

#[test]
fn a_client_writes_and_reads() {
    let dir = on_disk();
    let line = "client-io DIR --threads 2 --file-size 1MiB --buffer 128KiB --verify --json";
    let ran = run(line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    for (kind, count) in [("create", 2), ("write", 16), ("sync", 2), ("file", 2)] {
        assert_eq!(operation(&report, "write", kind)["count"], count, "{kind}");
    }
    for phase in ["cold", "sequential", "random"] {
        assert_eq!(operation(&report, phase, "read")["count"], 16, "{phase}");
    }
    assert_empty(dir.path());
}

#[test]
fn both_go_on_for_a_time() {
    let dir = on_disk();
    let ran =
        run("client-io DIR --threads 3 --file-size 512KiB --buffer 4KiB --duration 200ms --json", dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    for phase in ["write", "sequential", "random"] {
        let found = report["phases"].as_array().unwrap().iter().find(|found| found["name"] == phase).unwrap();
        assert!((0.2..60.0).contains(&found["seconds"].as_f64().unwrap()), "{found}");
    }
    assert!(operation(&report, "random", "read")["count"].as_u64().unwrap() > 0);
    assert_empty(dir.path());
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let dir = on_disk();
    for line in [
        "worker DIR --buffer 2MiB",
        "worker DIR --buffer 100",
        "worker DIR --phases write",
        "client-io DIR --page-size 3MiB",
        "client-io DIR --file-size 0",
    ] {
        let refused = run(line, dir.path());
        assert!(matches!(refused.result, Err(Error::Usage { .. })), "{line}: {:?}", refused.result);
    }
    assert_empty(dir.path());
}
