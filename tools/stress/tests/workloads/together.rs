//! Several nodes: each a thread here, which speak to each other over TCP as on different machines.

use crate::support::{Ran, assert_empty, free_address, operation, run, run_until, until_there};
use forebay_stress::{Error, Stop};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// Runs the same on a coordinator and on those who join it.
fn together(line: &str, nodes: usize, dir: &Path, stops: &[Stop]) -> Vec<Ran> {
    let at = free_address();
    let with = |node: usize| match node {
        0 => format!("{line} --json --coordinate {at} --nodes {nodes}"),
        _ => format!("{line} --json --join {at}"),
    };
    std::thread::scope(|scope| {
        let lines: Vec<_> = (0..nodes).map(with).collect();
        let nodes = lines.into_iter().enumerate();
        let stop = |node: usize| stops.get(node).cloned().unwrap_or_default();
        let runs: Vec<_> = nodes.map(|(node, line)| (line, stop(node))).collect();
        let running: Vec<_> =
            runs.into_iter().map(|(line, stop)| scope.spawn(move || run_until(&line, dir, &stop))).collect();
        running.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

#[test]
fn what_all_measured_is_added_up() {
    let dir = tempfile::tempdir().unwrap();
    let line = "fuse-io DIR --threads 2 --files 2 --file-size 128KiB --buffer 32KiB --phases write,read,remote-read,list --verify";
    let ran = together(line, 3, dir.path(), &[]);
    for one in &ran {
        one.result.as_ref().unwrap();
    }
    let report = ran[0].json();
    assert!(ran[1].text.is_empty() && ran[2].text.is_empty(), "only the coordinator reports");
    assert_eq!(report["nodes"].as_array().unwrap().len(), 3);
    for (phase, kind, count) in
        [("write", "write", 48), ("read", "read", 48), ("remote-read", "read", 48), ("list", "list", 6)]
    {
        assert_eq!(operation(&report, phase, kind)["count"], count, "{phase}");
    }
    assert_eq!(report["phases"][0]["lanes"], 6);
    assert_empty(dir.path());
}

#[test]
fn a_rate_is_of_all_nodes_together() {
    let dir = tempfile::tempdir().unwrap();
    let ran = together("metadata DIR --ops stat --files 20 --rate 200 --duration 400ms", 2, dir.path(), &[]);
    let report = ran[0].json();
    let count = operation(&report, "stat", "stat")["count"].as_u64().unwrap();
    assert_eq!(count + report["phases"][0]["not_begun"].as_u64().unwrap(), 80);
    assert_eq!(report["phases"][0]["target_rate"], 200.0);
}

#[test]
fn all_nodes_search_for_one_rate() {
    let dir = tempfile::tempdir().unwrap();
    let line = "metadata DIR --ops stat,delete --threads 1 --files 300 --max --from 2000 --duration 60ms";
    let ran = together(line, 2, dir.path(), &[]);
    for one in &ran {
        one.result.as_ref().unwrap();
    }
    for search in ran[0].json()["searches"].as_array().unwrap() {
        assert!(search["highest_rate"].as_f64().unwrap() > 0.0, "{search}");
    }
    assert_empty(dir.path());
}

#[test]
fn who_is_stopped_stops_all() {
    let dir = tempfile::tempdir().unwrap();
    for stopped in [0, 1] {
        let stops = [Stop::default(), Stop::default()];
        let ran = std::thread::scope(|scope| {
            scope.spawn(|| {
                for node in 0..2 {
                    until_there(dir.path(), &format!("forebay-bench-metadata/node-{node}"));
                }
                std::thread::sleep(Duration::from_millis(200));
                stops[stopped].set();
            });
            together("metadata DIR --files 20 --threads 1 --duration 10m", 2, dir.path(), &stops)
        });
        for one in &ran {
            assert!(matches!(one.result, Err(Error::Interrupted)), "{:?}", one.result);
        }
        assert_eq!(ran[0].json()["interrupted"], true);
        assert_empty(dir.path());
    }
}

#[test]
fn other_settings_and_other_talk_are_refused_and_the_right_node_may_still_come() {
    let (dir, at) = (tempfile::tempdir().unwrap(), free_address());
    let line = "metadata DIR --ops stat --files 10 --duration 50ms";
    std::thread::scope(|scope| {
        let coordinator =
            scope.spawn(|| run(&format!("{line} --json --coordinate {at} --nodes 2"), dir.path()));
        let other = run(&format!("{line} --threads 7 --join {at}"), dir.path());
        let Err(Error::Usage { cause, .. }) = other.result else { panic!("{:?}", other.result) };
        assert!(cause.contains("threads is 4 here and 7 there"), "{cause}");
        let mut stranger = TcpStream::connect(&at).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut said = String::new();
        // The length that these letters make is far too long; the answer says so, or the connection is just closed.
        let _ = stranger.read_to_string(&mut said);
        run(&format!("{line} --join {at}"), dir.path()).result.unwrap();
        coordinator.join().unwrap().result.unwrap();
    });
    assert_empty(dir.path());
}

#[test]
fn a_node_that_is_lost_ends_the_run_of_the_others() {
    let (dir, at) = (tempfile::tempdir().unwrap(), free_address());
    let line =
        format!("metadata DIR --ops stat --files 10 --duration 50ms --json --coordinate {at} --nodes 2");
    std::thread::scope(|scope| {
        let coordinator = scope.spawn(|| run(&line, dir.path()));
        // The settings are what the coordinator says it misses.
        let settings = serde_json::json!({
            "dirs": 1, "duration": "50ms", "files": 10, "from": 100.0, "keep": false, "max": false, "name": null,
            "ops": ["stat"], "rate": null, "threads": 4, "warm_up": "0ms",
        });
        let system = serde_json::json!({ "host": "h", "kernel": "k", "cores": 1, "load": "" });
        let hello = serde_json::json!({ "Hello": { "version": 1, "workload": "metadata", "settings": settings, "system": system } });
        let mut stream = loop {
            match TcpStream::connect(&at) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let body = hello.to_string();
        stream.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut len = [0; 4];
        stream.read_exact(&mut len).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(len) as usize];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), r#"{"Welcome":{"node":1,"nodes":2}}"#);
        drop(stream);
        let ended = coordinator.join().unwrap();
        let Err(error @ Error::Peer { .. }) = ended.result else { panic!("{:?}", ended.result) };
        assert_eq!(error.to_string(), "node 1 (h) is gone");
    });
    assert_empty(dir.path());
}
