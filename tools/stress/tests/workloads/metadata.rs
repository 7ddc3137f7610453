//! `metadata`.

use crate::support::{assert_empty, operation, run};

const ALL: [&str; 7] = ["create", "stat", "open", "list", "list-located", "rename", "delete"];

#[test]
fn every_operation_as_fast_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let report = |line: &str| {
        let ran = run(&format!("metadata DIR --threads 2 --dirs 2 --files 30 {line} --json"), dir.path());
        ran.result.as_ref().unwrap();
        assert_empty(dir.path());
        ran.json()
    };
    let all = report("--duration 400ms");
    for name in ALL {
        assert!(operation(&all, name, name)["count"].as_u64().unwrap() > 0);
    }
    let deletes = report("--ops delete --duration 10m");
    assert_eq!(operation(&deletes, "delete", "delete")["count"], 120, "each file once, and then it ends");
}

#[test]
fn every_operation_at_a_fixed_rate() {
    let dir = tempfile::tempdir().unwrap();
    let line = "metadata DIR --threads 3 --files 50 --rate 200 --warm-up 50ms --duration 300ms --json";
    let ran = run(line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    for (phase, name) in report["phases"].as_array().unwrap().iter().zip(ALL) {
        let count = operation(&report, name, name)["count"].as_u64().unwrap();
        assert_eq!(count + phase["not_begun"].as_u64().unwrap(), 60, "{phase}");
        assert_eq!(phase["target_rate"], 200.0);
    }
    assert_empty(dir.path());
}

#[test]
fn the_highest_rate_is_searched() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        "metadata DIR --ops stat,delete --threads 1 --files 200 --max --from 500 --duration 50ms --json";
    let ran = run(line, dir.path());
    ran.result.as_ref().unwrap();
    let report = ran.json();
    for search in report["searches"].as_array().unwrap() {
        let trials = search["trials"].as_array().unwrap();
        assert!(trials.len() > 2 && trials[0]["target"] == 500.0, "{search}");
        let reached = trials.iter().filter(|trial| trial["reached"] == true);
        let best = reached.map(|trial| trial["target"].as_f64().unwrap()).fold(0.0, f64::max);
        assert!(best > 0.0 && search["highest_rate"] == best, "{search}");
        let phase =
            report["phases"].as_array().unwrap().iter().find(|phase| phase["name"] == search["operation"]);
        assert_eq!(phase.unwrap()["target_rate"], best);
    }
    assert_empty(dir.path());
}
