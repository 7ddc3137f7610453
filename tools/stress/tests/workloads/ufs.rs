//! `ufs`, on a directory: the one under file system that is always there.

use crate::support::{assert_empty, operation, run};
use forebay_stress::Error;

#[test]
fn files_are_put_read_listed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let line = "ufs DIR --threads 2 --files 3 --file-size 2500KiB --buffer 600KiB --json";
    let ran = run(line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    let whole = 6 * 2500 * 1024;
    for (phase, kind, count, bytes) in [
        ("put", "put", 6, 0),
        ("put", "finish", 6, 0),
        ("stat", "stat", 6, 0),
        ("list", "list", 2, 0),
        ("read", "read", 30, whole),
        ("delete", "delete", 6, 0),
    ] {
        let found = operation(&report, phase, kind);
        assert_eq!(
            (found["count"].as_u64(), found["bytes"].as_u64()),
            (Some(count), Some(bytes)),
            "{phase} {kind}"
        );
    }
    assert_eq!(operation(&report, "put", "part")["bytes"], whole);
    assert_empty(dir.path());
}

#[test]
fn it_goes_on_for_a_time_and_clears_up() {
    let dir = tempfile::tempdir().unwrap();
    let line = "ufs DIR --files 5 --file-size 100KiB --buffer 4KiB --random --phases put,stat,read --duration 200ms --json";
    let ran = run(line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    assert!(operation(&report, "read", "read")["count"].as_u64().unwrap() > 500);
    for phase in &report["phases"].as_array().unwrap()[1..] {
        assert!((0.2..5.0).contains(&phase["seconds"].as_f64().unwrap()), "{phase}");
    }
    assert_empty(dir.path());
}

#[test]
fn what_is_not_there_or_there_already_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |line: &str| match run(line, dir.path()).result {
        Err(Error::Usage { cause, .. }) => cause,
        other => panic!("{line}: {other:?}"),
    };
    assert!(refused("ufs DIR/none").contains("none"));
    assert!(refused("ufs DIR --phases stat").contains("must be put"));
    let left = dir.path().join("forebay-bench-ufs/node-0");
    std::fs::create_dir_all(&left).unwrap();
    assert!(refused("ufs DIR").contains("is there already"));
    run("ufs DIR --name other --files 1 --file-size 1KiB", dir.path()).result.unwrap();
    assert!(left.exists() && !dir.path().join("forebay-bench-other").exists());
}
