//! Settings that change while the daemon runs, and the audit log.

use crate::support::{Ground, SOON, asked, eventually, finish, forebay, free_address, refusal};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

fn config(ground: &Ground, arguments: &[&str]) -> serde_json::Value {
    let mut command = forebay([&["config"], arguments, &["--json", "--on"]].concat());
    command.arg(ground.mnt());
    let output = finish(command, SOON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(ground: &Ground, arguments: &[&str]) -> String {
    refusal(&[&["config"], arguments, &["--on", ground.mnt().to_str().unwrap()]].concat())
}

#[test]
fn live_settings_change_at_once_and_the_others_say_so() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    assert_eq!(config(&ground, &["get", "cache.size"])["value"], "1GiB");
    let set = config(&ground, &["set", "cache.size", "2GiB"]);
    assert_eq!((&set["value"], &set["live"]), (&"2GiB".into(), &true.into()));
    assert!(set["lasts"].as_str().unwrap().contains("until the daemon ends"));
    let space = rustix::fs::statvfs(ground.mnt()).unwrap();
    assert_eq!(space.f_blocks * space.f_frsize, 2 << 30, "statfs shows the new size");

    assert!(!daemon.log().contains("admin request"));
    config(&ground, &["set", "log.filter", "info,forebay=debug"]);
    config(&ground, &["get", "log.filter"]);
    eventually("what is logged has changed", SOON, || daemon.log().contains("admin request"));

    let restart = refused(&ground, &["set", "node.arena", "1GiB"]);
    assert!(
        restart.contains("takes effect only when the daemon starts")
            && restart.contains("FOREBAY_NODE_ARENA")
    );
    for (key, value, said) in [
        ("cache.size", "64GB", "write it like 512MiB"),
        ("cache.size", "1MiB", "too small"),
        ("cache.sise", "1GiB", "there is no setting cache.sise"),
        ("log.filter", "info,=,", "is no filter"),
        ("audit.file", "/no/such/dir/audit", "cannot write the audit log"),
        ("metrics.listen", "nowhere", "metrics.listen"),
        ("node.stop_grace", "30", "write it like 250ms or 30s"),
    ] {
        let told = refused(&ground, &["set", key, value]);
        assert!(told.contains(said), "{key} = {value}: {told}");
    }
    assert_eq!(config(&ground, &["get", "cache.size"])["value"], "2GiB", "a refusal changed something");
    let listed = config(&ground, &["list"]);
    let all = listed["settings"].as_array().unwrap();
    assert!(all.iter().any(|s| s["key"] == "log.filter" && s["value"] == "info,forebay=debug"), "{listed}");
    config(&ground, &["set", "node.stop_grace", "1s"]);
    daemon.stop();
}

#[test]
fn the_metrics_port_opens_and_closes_live() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let address = free_address();
    config(&ground, &["set", "metrics.listen", &address]);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    for name in METRICS {
        assert!(page.contains(&format!("# TYPE forebay_{name} ")), "no {name} in {page}");
    }
    config(&ground, &["set", "metrics.listen", "none"]);
    eventually("the port is closed", SOON, || TcpStream::connect(&address).is_err());
    daemon.stop();
}

/// What an operator is promised to find.
const METRICS: [&str; 42] = [
    "opens",
    "opens_resident_bytes",
    "open_handles",
    "daemon_reads",
    "daemon_read_bytes",
    "daemon_written_bytes",
    "read_bytes",
    "ufs_reads",
    "ufs_read_bytes",
    "ufs_saved_bytes",
    "ufs_request_seconds",
    "ufs_request_errors",
    "ufs_retries",
    "ufs_in_flight",
    "request_seconds",
    "request_errors",
    "dirty_names",
    "dirty_bytes",
    "dirty_oldest_seconds",
    "persist_in_flight",
    "persist_set_aside",
    "persist_put_bytes",
    "persist_failures",
    "tier_used_bytes",
    "tier_quota_bytes",
    "evictions",
    "evicted_bytes",
    "corrupt_pages",
    "ring_operations",
    "shard_stalls",
    "arena_bytes",
    "arena_used_bytes",
    "fetch_memory_bytes",
    "resident_memory_bytes",
    "memory_budget_bytes",
    "memory_limit_bytes",
    "memory_used_bytes",
    "memory_resident_bytes",
    "pinned_files",
    "quota_kept_bytes",
    "audit_lines",
    "audit_dropped",
];

#[test]
fn the_audit_log_is_switched_on_and_off_and_tells_who_did_what() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("f"), "x").unwrap();
    let daemon = ground.up(&[]);
    let at = |name: &str| ground.mnt().join(name);
    let audit = ground.file("audit.jsonl");
    fs::write(at("before"), "x").unwrap();
    config(&ground, &["set", "audit.file", audit.to_str().unwrap()]);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/a"), "x").unwrap();
    fs::rename(at("d/a"), at("d/b")).unwrap();
    assert!(fs::remove_dir(at("d")).is_err());
    fs::remove_file(at("d/b")).unwrap();
    fs::read(at("f")).unwrap();
    let (from, to) = (fs::File::open(at("f")).unwrap(), fs::File::create(at("copy")).unwrap());
    rustix::fs::fallocate(&to, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 4096).unwrap();
    // Where the bytes cannot be shared the kernel asks all the same, and copies by itself.
    rustix::fs::copy_file_range(&from, None, &to, None, 1).unwrap();
    drop((from, to));
    config(&ground, &["set", "keeper.every", "7s"]);
    refused(&ground, &["set", "node.arena", "1GiB"]);
    asked(&["fs", "load"], &at("f"));
    asked(&["fs", "stat"], &at("f"));
    config(&ground, &["set", "audit.file", "none"]);
    fs::write(at("after"), "x").unwrap();
    let text = fs::read_to_string(&audit).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |op: &str, path: &str| {
        let found = lines.iter().find(|line| line["op"] == op && line["path"] == path);
        found.unwrap_or_else(|| panic!("no {op} of {path} in {text}"))
    };
    assert_eq!(find("mkdir", "/d")["result"], "ok");
    // The kernel names the thread that asked.
    assert_eq!(find("create", "/d/a")["pid"], rustix::thread::gettid().as_raw_nonzero().get());
    assert_eq!(find("rename", "/d/a")["to"], "/d/b");
    let refused = find("rmdir", "/d");
    assert_eq!(refused["errno"], rustix::io::Errno::NOTEMPTY.raw_os_error());
    assert!(refused["result"].as_str().unwrap().starts_with("Directory not empty"), "{refused}");
    assert_eq!(find("unlink", "/d/b")["uid"], 0);
    assert!(find("open", "/f")["latency_us"].is_u64());
    assert_eq!(find("fallocate", "/copy")["result"], "ok");
    assert_eq!(find("copy_file_range", "/f")["to"], "/copy");
    let set = find("admin.config-set", "keeper.every=7s");
    assert_eq!((&set["result"], &set["uid"]), (&"ok".into(), &0.into()));
    assert!(set["pid"].as_u64().unwrap() > 0);
    let refused = find("admin.config-set", "node.arena=1GiB")["result"].as_str().unwrap();
    assert!(refused.contains("takes effect only when the daemon starts"), "{refused}");
    assert_eq!(find("admin.load", "/f")["result"], "ok");
    assert_eq!(find("admin.config-set", "audit.file=none")["result"], "begun");
    assert!(!text.contains("admin.stat"), "who only looks is not told of");
    assert!(!text.contains("before") && !text.contains("after"));
    daemon.stop();
}
