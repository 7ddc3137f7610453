//! `fuse-io` and `small-files`.

use crate::support::{assert_empty, operation, run, sometimes};
use forebay_stress::Error;

#[test]
fn large_files_are_written_read_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(
        "fuse-io DIR --threads 2 --dirs 2 --files 3 --file-size 200KiB --buffer 64KiB --verify --json",
        dir.path(),
    );
    ran.result.as_ref().unwrap();
    let report = ran.json();
    for (phase, kind, count, bytes) in [
        ("write", "open", 12, 0),
        ("write", "write", 48, 12 * 200 * 1024),
        ("write", "fsync", 12, 0),
        ("write", "file", 12, 0),
        ("read", "read", 48, 12 * 200 * 1024),
        ("list", "list", 4, 0),
    ] {
        let found = operation(&report, phase, kind);
        assert_eq!(
            (found["count"].as_u64(), found["bytes"].as_u64()),
            (Some(count), Some(bytes)),
            "{phase} {kind}"
        );
    }
    assert_eq!((report["errors"].as_u64(), report["interrupted"].as_bool()), (Some(0), Some(false)));
    assert_empty(dir.path());
}

#[test]
fn a_duration_is_kept_and_all_files_are_there_for_it() {
    let goes_round = |_| {
        let dir = tempfile::tempdir().unwrap();
        let line = "fuse-io DIR --threads 2 --files 2 --file-size 64KiB --buffer 4KiB --random --cold --no-fsync --warm-up 50ms --duration 200ms --json";
        let ran = run(line, dir.path());
        ran.result.as_ref().unwrap();
        let report = ran.json();
        for phase in report["phases"].as_array().unwrap() {
            let seconds = phase["seconds"].as_f64().unwrap();
            assert!((0.2..60.0).contains(&seconds), "{} lasted {seconds} s", phase["name"]);
        }
        assert_empty(dir.path());
        operation(&report, "read", "read")["count"].as_u64().unwrap() > 64
    };
    assert!(sometimes(goes_round), "it never comes to read the files again");
}

#[test]
fn past_the_page_cache() {
    // The directory of the build: what holds temporary files may keep them in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ran = run(
        "fuse-io DIR --threads 1 --files 1 --file-size 256KiB --buffer 64KiB --direct --verify",
        dir.path(),
    );
    ran.result.unwrap();
    assert!(ran.text.contains("MiB/s") && ran.text.contains("p99.99"), "{}", ran.text);
}

#[test]
fn what_is_written_over_has_the_bytes_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let line = "fuse-io DIR --threads 2 --files 2 --file-size 90KiB --buffer 16KiB --json --keep";
    run(&format!("{line} --name plain --phases write"), dir.path()).result.unwrap();
    // Five whole buffers are at random places, where six are in order.
    for (name, order, count) in [("ordered", "", 24), ("random", "--random ", 20)] {
        let ran = run(&format!("{line} --name {name} {order}--phases write,rewrite"), dir.path());
        ran.result.as_ref().unwrap();
        let report = ran.json();
        assert_eq!(operation(&report, "rewrite", "write")["count"], count, "{name}");
        assert_eq!(operation(&report, "rewrite", "fsync")["count"], 4, "{name}");
        for file in ["t0/d0/f0", "t0/d0/f1", "t1/d0/f0", "t1/d0/f1"] {
            let of = |name: &str| {
                std::fs::read(dir.path().join(format!("forebay-bench-{name}/node-0/{file}"))).unwrap()
            };
            assert!(of(name) == of("plain"), "{name} {file}");
        }
    }
}

#[test]
fn kept_files_are_read_by_a_later_run() {
    let dir = tempfile::tempdir().unwrap();
    let line = "small-files DIR --count 30 --sizes 1-9KiB --files-per-dir 7 --threads 2 --json";
    run(&format!("{line} --phases create --keep"), dir.path()).result.unwrap();
    let ran = run(&format!("{line} --phases list,stat,read,delete --kept"), dir.path());
    ran.result.as_ref().unwrap();
    for phase in ["stat", "read", "delete"] {
        assert_eq!(operation(&ran.json(), phase, phase)["count"], 30, "{phase}");
    }
    let gone = run(&format!("{line} --phases read --kept"), dir.path());
    assert!(matches!(gone.result, Err(Error::Failed(_))), "{:?}", gone.result);
}

#[test]
fn small_files_live_and_die() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        "small-files DIR --count 250 --sizes 0-20KiB --files-per-dir 20 --threads 3 --fsync --shuffle --json";
    let ran = run(line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    let written = operation(&report, "create", "create");
    for (phase, count) in [("create", 250), ("stat", 250), ("read", 250), ("delete", 250), ("list", 15)] {
        assert_eq!(operation(&report, phase, phase)["count"], count, "{phase}");
    }
    assert_eq!(operation(&report, "read", "read")["bytes"], written["bytes"]);
    assert!(written["bytes"].as_u64().unwrap() > 250 * 8 * 1024);
    assert_empty(dir.path());
}

#[test]
fn what_is_not_as_it_was_written_is_found() {
    let dir = tempfile::tempdir().unwrap();
    // Within the first lane: one file gone, one shorter, one with a byte changed, one longer.
    let spoil =
        "cd $DIR/t0/d0;rm f0;truncate -s 5 f1;printf x|dd of=f2 bs=1 seek=4095 conv=notrunc 2>&1;echo >>f3";
    std::fs::write(dir.path().join("spoil.sh"), spoil).unwrap();
    let line = "small-files DIR --count 20 --sizes 4KiB --threads 1 --json --then sh\tDIR/spoil.sh";
    let ran = run(line, dir.path());
    assert!(matches!(ran.result, Err(Error::Failed(_))), "{:?}", ran.result);
    let report = ran.json();
    let errors =
        |phase: usize, kind: &str| report["phases"][phase]["operations"][kind]["errors"].as_u64().unwrap();
    assert_eq!((errors(1, "list"), errors(2, "stat"), errors(2, "verify")), (1, 1, 2), "{report}");
    assert_eq!((errors(3, "read"), errors(3, "verify"), errors(4, "delete")), (3, 1, 1), "{report}");
    let why = report["phases"][3]["operations"]["verify"]["first_error"].as_str().unwrap();
    assert!(why.contains("f2") && why.contains("at 4095"), "{why}");
    assert!(report["facts"][0]["value"].as_f64().unwrap() > 0.0);
    std::fs::remove_file(dir.path().join("spoil.sh")).unwrap();
    assert_empty(dir.path());
}
