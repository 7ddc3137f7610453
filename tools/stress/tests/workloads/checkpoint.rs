//! `checkpoint`.

use crate::support::{assert_empty, operation, run};
use forebay_stress::Error;
use serde_json::Value;
use std::os::unix::fs::FileExt;

fn fact(report: &Value, name: &str) -> f64 {
    let facts = report["facts"].as_array().unwrap();
    let found = facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("{name}: {facts:?}"));
    found["value"].as_f64().unwrap()
}

#[test]
fn the_stall_is_held_against_the_device() {
    let (dir, device) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let line = format!(
        "checkpoint DIR --ranks 3 --size 3MiB --buffer 256KiB --rounds 3 --device {} --json",
        device.path().display()
    );
    let ran = run(&line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    for round in 1..=3 {
        for phase in ["device", "write", "read"] {
            let kind = if phase == "read" { "read" } else { "write" };
            assert_eq!(operation(&report, &format!("{phase} {round}"), kind)["bytes"], 3 << 20);
        }
        assert_eq!(operation(&report, &format!("write {round}"), "rename")["count"], 3);
        assert_eq!(operation(&report, &format!("commit {round}"), "commit")["count"], 1);
    }
    let ratio = fact(&report, "stall / floor");
    assert!(fact(&report, "stall / floor, lowest of the rounds") <= ratio);
    assert!(fact(&report, "stall / floor, highest of the rounds") >= ratio);
    assert_eq!(fact(&report, "bytes of the checkpoint"), f64::from(3 << 20));
    assert_empty(dir.path());
    assert_empty(device.path());
}

#[test]
fn a_corrupted_byte_is_found_later() {
    let dir = tempfile::tempdir().unwrap();
    let line = "checkpoint DIR --ranks 2 --size 1MiB --buffer 64KiB --json";
    run(&format!("{line} --keep"), dir.path()).result.unwrap();
    run(&format!("{line} --check"), dir.path()).result.unwrap();
    let path = dir.path().join("forebay-bench-checkpoint/node-0/rank-1");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300_001).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], 300_001).unwrap();
    let checked = run(&format!("{line} --check"), dir.path());
    assert!(matches!(checked.result, Err(Error::Failed(1))), "{:?}", checked.result);
    let report = checked.json();
    let why = report["phases"][0]["operations"]["verify"]["first_error"].as_str().unwrap();
    assert!(why.contains("rank-1: a wrong byte at 300001"), "{why}");
    std::fs::remove_file(&path).unwrap();
    assert!(
        matches!(run(&format!("{line} --check"), dir.path()).result, Err(Error::Failed(1))),
        "a rank is gone"
    );
}

#[test]
fn models_have_their_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let refused = run("checkpoint DIR --model llama-3-70b", dir.path());
    let Err(Error::Usage { cause, .. }) = refused.result else { panic!("{:?}", refused.result) };
    assert!(cause.contains("this run writes 1.80 TiB"), "{cause}");
    assert_empty(dir.path());
}
