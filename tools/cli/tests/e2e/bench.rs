//! `forebay bench` on a mount, and how it ends when somebody presses Ctrl-C.

use crate::support::{Ground, Running, SOON, asked, eventually, finish, forebay, free_address};
use std::process::Command;

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
    let mut command = forebay(["bench", "fuse-io", "--file-size", "1MiB", "--duration", "10m", "--json"]);
    command.arg(ground.ufs());
    let running = Running::start(command);
    eventually("it has begun", SOON, || works_in(&ground, "forebay-bench-fuse-io/node-0"));
    running.signal("INT");
    let output = running.end(SOON);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped before the end"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    assert_eq!(std::fs::read_dir(ground.ufs()).unwrap().count(), 0);
}

/// A node of a run that `forebay bench` does on several.
fn node(ground: &Ground, how: &[&str]) -> Command {
    let mut command = forebay(["bench", "small-files", "--count", "60", "--sizes", "1KiB-9KiB", "--json"]);
    command.arg(ground.ufs()).args(how);
    command
}

fn works_in(ground: &Ground, dir: &str) -> bool {
    ground.ufs().join(dir).exists()
}

#[test]
fn two_processes_measure_together() {
    let (ground, at) = (Ground::new(), free_address());
    let joined = node(&ground, &["--join", &at]);
    let joined = std::thread::spawn(move || finish(joined, SOON));
    let output = finish(node(&ground, &["--coordinate", &at, "--nodes", "2"]), SOON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let joined = joined.join().unwrap();
    assert!(
        joined.status.success() && joined.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&joined.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["nodes"].as_array().unwrap().len(), 2);
    for phase in ["create", "stat", "read", "delete"] {
        let phases = report["phases"].as_array().unwrap();
        let found = phases.iter().find(|found| found["name"] == phase).unwrap();
        assert_eq!(found["operations"][phase]["count"], 120, "{found}");
    }
    assert_eq!(std::fs::read_dir(ground.ufs()).unwrap().count(), 0);
}

#[test]
fn a_process_that_is_killed_ends_the_run_of_the_other() {
    let (ground, at) = (Ground::new(), free_address());
    let line = ["bench", "metadata", "--ops", "stat", "--files", "10", "--duration", "10m"];
    let start = |how: &[&str]| {
        let mut command = forebay(line);
        command.arg(ground.ufs()).args(how);
        Running::start(command)
    };
    let coordinator = start(&["--coordinate", &at, "--nodes", "2"]);
    let joined = start(&["--join", &at]);
    eventually("both have begun", SOON, || {
        ["node-0", "node-1"].iter().all(|node| works_in(&ground, &format!("forebay-bench-metadata/{node}")))
    });
    joined.signal("KILL");
    let output = coordinator.end(SOON);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("is gone"), "{said}");
    assert!(!joined.end(SOON).status.success());
    // What the killed one made stays; the other removed its own.
    assert!(!ground.ufs().join("forebay-bench-metadata/node-0").exists());
}
