//! `forebay bench` on a mount, and how it ends when somebody presses Ctrl-C.

use crate::support::{Ground, asked, finish, forebay};
use std::process::Command;
use std::time::Duration;

#[test]
fn a_mount_is_measured() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let cache = ground.cache();
    let lines: [&[&str]; 4] = [
        &["bench", "fuse-io", "--file-size", "1MiB", "--files", "2", "--verify"],
        &["bench", "metadata", "--files", "50", "--duration", "200ms"],
        &["bench", "small-files", "--count", "100", "--sizes", "1KiB-64KiB", "--shuffle"],
        &["bench", "checkpoint", "--size", "8MiB", "--device", cache.to_str().unwrap()],
    ];
    for line in lines {
        let report = asked(line, &ground.mnt());
        assert_eq!(
            (&report["place"]["kind"], &report["errors"]),
            (&"fuse.forebay".into(), &0.into()),
            "{report}"
        );
    }
    assert_eq!(std::fs::read_dir(ground.mnt()).unwrap().count(), 0);
    daemon.stop();
}

#[test]
fn ctrl_c_ends_it_with_a_report_and_nothing_left() {
    let ground = Ground::new();
    let mut command = Command::new("timeout");
    command.args(["--preserve-status", "-s", "INT", "2"]).arg(forebay([""; 0]).get_program());
    command
        .args(["bench", "fuse-io", "--file-size", "1MiB", "--duration", "10m", "--json"])
        .arg(ground.ufs());
    let output = finish(command, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped before the end"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    assert_eq!(std::fs::read_dir(ground.ufs()).unwrap().count(), 0);
}
