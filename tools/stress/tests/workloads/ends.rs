//! How runs end that do not go to their end.

use crate::support::{assert_empty, operation, run, run_until};
use forebay_stress::{Error, Stop};
use std::time::{Duration, Instant};

#[test]
fn a_stopped_run_reports_what_it_measured_and_clears_up() {
    for line in [
        "fuse-io DIR --threads 2 --files 2 --file-size 1MiB --duration 10m --json",
        "metadata DIR --files 50 --duration 10m --json",
        "metadata DIR --files 50 --ops stat --rate 1 --threads 1 --duration 10m --json",
        "small-files DIR --count 200000 --sizes 1-10 --json",
        "checkpoint DIR --size 64MiB --rounds 100000 --json",
        "ufs DIR --files 5 --file-size 64KiB --duration 10m --json",
        "client-io DIR --threads 2 --file-size 64KiB --duration 10m --json",
        "worker DIR --threads 2 --file-size 64KiB --duration 10m --json",
    ] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let stop = Stop::default();
        let begun = Instant::now();
        let ran = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(400));
                stop.set();
            });
            run_until(line, dir.path(), &stop)
        });
        assert!(matches!(ran.result, Err(Error::Interrupted)), "{line}: {:?}", ran.result);
        assert!(begun.elapsed() < Duration::from_secs(300), "{line} took {:?}", begun.elapsed());
        assert_eq!(ran.json()["interrupted"], true);
        assert_empty(dir.path());
    }
}

#[test]
fn what_was_kept_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let line = "small-files DIR --count 10 --sizes 1KiB --phases create,read --keep";
    run(line, dir.path()).result.unwrap();
    let again = run(line, dir.path());
    let Err(error @ Error::Usage { .. }) = again.result else { panic!("{:?}", again.result) };
    assert!(error.remedy().unwrap().contains("--name"));
    run(&format!("{line} --name other --json"), dir.path()).result.unwrap();
    let kept = |name: &str| dir.path().join(format!("forebay-bench-{name}/node-0/t0/d0/f0"));
    assert!(kept("small-files").exists() && kept("other").exists());
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "fuse-io DIR/none",
        "fuse-io DIR --phases read",
        "fuse-io DIR --buffer 1000 --file-size 5000",
        "fuse-io DIR --phases write,remote-read --file-size 4KiB",
        "fuse-io DIR --file-size 1PiB",
        "metadata DIR --duration 0s",
        "checkpoint DIR --size 4KiB --ranks 8",
        "checkpoint DIR --check",
        "small-files DIR --phases read",
        "small-files DIR --kept",
        "small-files DIR --phases read --kept",
    ] {
        let refused = run(line, dir.path());
        assert!(matches!(refused.result, Err(Error::Usage { .. })), "{line}: {:?}", refused.result);
        assert!(refused.text.is_empty());
        assert_empty(dir.path());
    }
}

#[test]
fn a_place_that_cannot_be_written_to_is_an_error_and_no_measurement() {
    let refused = run("metadata /proc --duration 50ms", std::path::Path::new("/"));
    assert!(matches!(refused.result, Err(Error::Io { .. })), "{:?}", refused.result);
}

#[test]
fn a_table_shows_percentiles_that_were_measured() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run("metadata DIR --ops stat --files 50 --rate 100 --duration 200ms", dir.path());
    ran.result.unwrap();
    let line = ran.text.lines().find(|line| line.starts_with("stat")).unwrap();
    let cells: Vec<_> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    // phase, operation, count, rate, p50, p90, p99, p99.9, p99.99, max, failed: 20 operations have no 99th percentile.
    assert_eq!((&cells[6..9], cells[10]), (["-"; 3].as_slice(), "0"), "{line}");
    let count: u64 = cells[2].parse().unwrap();
    assert!((1..=20).contains(&count), "a busy machine may begin the last ones too late: {line}");
    let json =
        run("metadata DIR --ops stat --files 50 --rate 100 --duration 200ms --json", dir.path()).json();
    let count = operation(&json, "stat", "stat")["count"].as_u64().unwrap();
    assert_eq!(count + json["phases"][0]["not_begun"].as_u64().unwrap(), 20);
}

#[test]
fn what_cannot_be_removed_is_told_after_the_report() {
    let dir = tempfile::tempdir().unwrap();
    // A file that its own system lets nobody remove: one that is a mount point of another.
    let mount = "touch $DIR/held $DIR/over;mount --bind $DIR/over $DIR/held";
    std::fs::write(dir.path().join("hold.sh"), mount).unwrap();
    let ran = run("small-files DIR --count 4 --sizes 1KiB --json --then sh\tDIR/hold.sh", dir.path());
    let held = dir.path().join("forebay-bench-small-files/node-0/held");
    let freed = std::process::Command::new("umount").arg(&held).status().unwrap();
    assert!(freed.success(), "the test needs to be allowed to mount");
    assert!(matches!(ran.result, Err(Error::Io { what: "remove", .. })), "{:?}", ran.result);
    assert!(ran.json()["notes"][0].as_str().unwrap().starts_with("not all that was made is gone"));
}
