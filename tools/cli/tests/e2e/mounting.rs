//! Under file systems that come and go while the daemon runs, and the policies of their parts.

use crate::support::{Ground, SOON, asked, eventually, finish, forebay, refusal};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn run(arguments: &[&str], paths: &[&Path], more: &[&str]) {
    let mut command = forebay(arguments);
    command.args(paths).args(more);
    let output = finish(command, SOON);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn mounts(ground: &Ground) -> serde_json::Value {
    let mut command = forebay(["mount", "list", "--json", "--on"]);
    command.arg(ground.mnt());
    serde_json::from_slice(&finish(command, SOON).stdout).unwrap()
}

#[test]
fn a_mount_comes_serves_survives_a_restart_and_goes() {
    let (ground, other) = (Ground::new(), Ground::new());
    fs::create_dir_all(ground.ufs().join("dir")).unwrap();
    fs::write(other.ufs().join("theirs"), "nested").unwrap();
    let daemon = ground.up(&[]);
    let at = ground.mnt().join("dir/sets");
    // The kernel knows that there is nothing of this name.
    assert!(!at.exists());
    run(&["mount", "add"], &[&other.ufs(), &at], &["-p", "metadata_ttl=1s", "-p", "persist_delay=1h"]);
    assert_eq!(fs::read_to_string(at.join("theirs")).unwrap(), "nested");
    fs::write(at.join("ours"), "written").unwrap();
    fs::create_dir(at.join("sub")).unwrap();
    let taken = refusal(&["mount", "add", other.ufs().to_str().unwrap(), at.to_str().unwrap()]);
    assert!(taken.contains("a mount stands there"), "{taken}");
    let known = mounts(&ground);
    assert_eq!(
        (&known["mounts"][1]["at"], &known["mounts"][1]["origin"]),
        (&"/dir/sets".into(), &"added".into())
    );
    assert_eq!(known["mounts"][1]["dirty_names"], 2);
    daemon.stop();

    let daemon = ground.up(&[]);
    assert_eq!(fs::read_to_string(at.join("ours")).unwrap(), "written");
    let dirty = refusal(&["mount", "remove", at.to_str().unwrap()]);
    assert!(
        dirty.contains("/dir/sets/ours") && dirty.contains("remedy: run `forebay fs persist --wait"),
        "{dirty}"
    );
    run(&["fs", "persist", "--wait"], &[&at], &[]);
    assert_eq!(fs::read_to_string(other.ufs().join("ours")).unwrap(), "written");
    let file = fs::File::open(at.join("theirs")).unwrap();
    let open = refusal(&["mount", "remove", at.to_str().unwrap()]);
    assert!(open.contains(&format!("(pid {})", std::process::id())), "{open}");
    drop(file);
    eventually("nothing holds it any more", SOON, || {
        let mut command = forebay(["mount", "remove"]);
        command.arg(&at);
        finish(command, SOON).status.success()
    });
    assert!(!at.exists(), "its name is still there");
    assert!(other.ufs().join("theirs").exists() && other.ufs().join("ours").exists(), "its content went");
    let gone = refusal(&["mount", "remove", at.to_str().unwrap()]);
    assert!(gone.contains("nothing is mounted at /dir/sets"), "{gone}");
    daemon.stop();
    let daemon = ground.up(&[]);
    assert!(!at.exists(), "it came back");
    daemon.stop();
}

#[test]
fn what_was_started_with_stays_and_what_only_is_here_keeps_its_mount() {
    let (ground, other) = (Ground::new(), Ground::new());
    let daemon = ground.up(&[]);
    let root = refusal(&["mount", "remove", ground.mnt().to_str().unwrap()]);
    assert!(root.contains("part of what the daemon was started with"), "{root}");
    let at = ground.mnt().join("scratch");
    run(&["mount", "add"], &[&other.ufs(), &at], &["-p", "write_mode=transient"]);
    fs::write(at.join("mine"), "only here").unwrap();
    let native = refusal(&["mount", "remove", at.to_str().unwrap()]);
    assert!(native.contains("is kept here only"), "{native}");
    fs::remove_file(at.join("mine")).unwrap();
    run(&["mount", "remove"], &[&at], &[]);
    daemon.stop();
}

#[test]
fn a_mount_that_cannot_be_is_refused_and_nothing_is_left_of_it() {
    let (ground, other) = (Ground::new(), Ground::new());
    let daemon = ground.up(&[]);
    let (at, theirs, mnt) = (ground.mnt().join("x"), other.ufs(), ground.mnt());
    let (at, theirs) = (at.to_str().unwrap(), theirs.to_str().unwrap());
    let below = ground.mnt().join("no/such/x");
    let cache = ground.cache();
    let unreachable = "endpoint=http://127.0.0.1:1 region=x access_key_id=a secret_access_key=hunter2";
    let options = unreachable.split(' ').flat_map(|option| ["--ufs-option", option]);
    let cases = [
        (vec!["/no/such/dir", at], "cannot reach the under file system"),
        (vec![theirs, at, "-p", "quotta=1GiB"], "unknown field `quotta`"),
        (vec![theirs, at, "-p", "quota=1GB"], "write it like 512MiB"),
        (vec![theirs, at, "-p", "replicas=3"], "replicas above 1 is not supported"),
        (vec![theirs, below.to_str().unwrap()], "cannot resolve"),
        (vec![cache.to_str().unwrap(), at], "overlap"),
        (vec![mnt.to_str().unwrap(), at], "overlap"),
        (
            ["s3://bucket/prefix", at].into_iter().chain(options).collect(),
            "check the endpoint, the network and any proxy",
        ),
    ];
    for (arguments, cause) in cases {
        let said = refusal(&[&["mount", "add"], &arguments[..]].concat());
        assert!(said.contains(cause) && !said.contains("hunter2"), "{arguments:?}: {said}");
        assert_eq!(mounts(&ground)["mounts"].as_array().unwrap().len(), 1, "{arguments:?}");
        assert!(!ground.mnt().join("x").exists());
    }
    assert!(!daemon.log().contains("hunter2"));
    daemon.stop();
}

#[test]
fn a_prefix_believes_the_under_file_system_for_as_long_as_it_says() {
    let ground = Ground::new();
    for dir in ["hot", "cold"] {
        fs::create_dir(ground.ufs().join(dir)).unwrap();
        fs::write(ground.ufs().join(dir).join("f"), "old").unwrap();
    }
    let daemon = ground.up(&["--metadata-ttl", "1h"]);
    run(&["mount", "set"], &[&ground.mnt().join("hot")], &["metadata_ttl=1s"]);
    let read = |dir: &str| fs::read_to_string(ground.mnt().join(dir).join("f")).unwrap();
    assert_eq!((read("hot"), read("cold")), ("old".to_owned(), "old".to_owned()));
    for dir in ["hot", "cold"] {
        fs::write(ground.ufs().join(dir).join("f"), "changed outside").unwrap();
        fs::write(ground.ufs().join(dir).join("new"), "x").unwrap();
    }
    eventually("the prefix asks again", SOON, || {
        read("hot") == "changed outside" && ground.mnt().join("hot/new").exists()
    });
    assert_eq!(read("cold"), "old", "the rest of the mount does not");
    daemon.stop();
}

#[test]
fn the_line_to_the_under_file_system_carries_no_more_than_it_may() {
    const LEN: usize = 16 << 20;
    const RATE: usize = 4 << 20;
    let at_least = Duration::from_secs_f64(LEN as f64 / RATE as f64 * 0.9);
    let ground = Ground::new();
    fs::write(ground.ufs().join("cold"), vec![1; LEN]).unwrap();
    let capped = format!("read_bandwidth={}KiB", RATE >> 10);
    let daemon = ground.up(&["--ufs-option", &capped, "--ufs-option", "write_bandwidth=4MiB"]);
    let timed = |work: &dyn Fn()| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    let read = timed(&|| assert!(fs::read(ground.mnt().join("cold")).unwrap() == vec![1; LEN]));
    let persist = || run(&["fs", "persist", "--wait"], &[&ground.mnt()], &[]);
    let written = timed(&|| {
        fs::write(ground.mnt().join("new"), vec![2; LEN]).unwrap();
        persist();
    });
    assert!(read >= at_least && written >= at_least, "{LEN} bytes: {read:?} to read, {written:?} to write");
    daemon.stop();

    // Nothing else made it slow.
    let daemon = ground.up(&["--ufs-option", "concurrency=2", "--ufs-option", "call_timeout=30s"]);
    let mut free = (0..20).map(|round| {
        let name = format!("again-{round}");
        fs::write(ground.ufs().join(&name), vec![3; LEN]).unwrap();
        timed(&|| assert!(fs::read(ground.mnt().join(&name)).unwrap() == vec![3; LEN]))
    });
    // The machine may be busy for a while.
    assert!(free.any(|free| free < at_least), "it is as slow without a cap");
    let wrong = refusal(&[
        "mount",
        "add",
        ground.ufs().to_str().unwrap(),
        ground.mnt().join("x").to_str().unwrap(),
        "--ufs-option",
        "read_bandwidth=fast",
    ]);
    assert!(wrong.contains("read_bandwidth") && wrong.contains("write it like"), "{wrong}");
    daemon.stop();
}

#[test]
fn a_transient_part_of_a_mount_stays_here_for_good() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let at = |name: &str| ground.mnt().join(name);
    run(&["mount", "set"], &[&at("scratch")], &["write_mode=transient"]);
    fs::create_dir_all(at("scratch/deep")).unwrap();
    fs::write(at("scratch/deep/f"), "only here").unwrap();
    fs::write(at("carried"), "there as well").unwrap();
    run(&["fs", "persist", "--wait"], &[&ground.mnt()], &[]);
    let there: Vec<_> = fs::read_dir(ground.ufs()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["carried"]);
    let state = |name: &str| asked(&["fs", "stat"], &at(name))["state"].as_str().unwrap().to_owned();
    assert_eq!(["scratch", "scratch/deep/f", "carried"].map(state), ["native", "native", "clean"]);

    // Its border is one of those over which names do not go.
    let crosses = |error: std::io::Error| error.kind() == std::io::ErrorKind::CrossesDevices;
    assert!(crosses(fs::rename(at("scratch/deep/f"), at("f")).unwrap_err()));
    assert!(crosses(fs::rename(at("carried"), at("scratch/carried")).unwrap_err()));
    assert!(crosses(fs::hard_link(at("carried"), at("scratch/link")).unwrap_err()));
    assert_eq!(fs::rename(at("scratch"), at("moved")).unwrap_err().kind(), std::io::ErrorKind::ResourceBusy);
    fs::rename(at("scratch/deep/f"), at("scratch/g")).unwrap();
    let back = refusal(&["mount", "set", at("scratch").to_str().unwrap(), "write_mode=none"]);
    assert!(back.contains("write_mode cannot turn to or from transient while"), "{back}");
    fs::remove_dir_all(at("scratch")).unwrap();
    run(&["mount", "set"], &[&at("scratch")], &["write_mode=none"]);
    daemon.stop();
}

#[test]
fn a_part_of_a_mount_is_read_without_being_kept() {
    let ground = Ground::new();
    for dir in ["once", "often"] {
        fs::create_dir(ground.ufs().join(dir)).unwrap();
        fs::write(ground.ufs().join(dir).join("f"), vec![7; 1 << 20]).unwrap();
    }
    let daemon = ground.up(&[]);
    run(&["mount", "set"], &[&ground.mnt().join("once")], &["read_mode=no-cache"]);
    let cached =
        |path: &str| asked(&["fs", "stat"], &ground.mnt().join(path))["cached_bytes"].as_u64().unwrap();
    for path in ["once/f", "often/f"] {
        assert_eq!(fs::read(ground.mnt().join(path)).unwrap(), vec![7; 1 << 20]);
    }
    eventually("what was read elsewhere is kept", SOON, || cached("often/f") == 1 << 20);
    assert_eq!(cached("once/f"), 0);
    daemon.stop();
}

#[test]
fn check_tells_what_differs_and_what_to_do() {
    let ground = Ground::new();
    for name in ["same", "changed", "missing"] {
        fs::write(ground.ufs().join(name), name).unwrap();
    }
    let daemon = ground.up(&["--metadata-ttl", "1h"]);
    for name in ["same", "changed", "missing"] {
        assert_eq!(fs::read_to_string(ground.mnt().join(name)).unwrap(), name);
    }
    fs::write(ground.ufs().join("changed"), "by somebody else").unwrap();
    fs::write(ground.mnt().join("missing"), "ours").unwrap();
    eventually("it is carried", SOON, || {
        run(&["fs", "persist", "--wait"], &[&ground.mnt()], &[]);
        asked(&["fs", "stat"], &ground.mnt().join("missing"))["state"] == "clean"
    });
    fs::remove_file(ground.ufs().join("missing")).unwrap();
    assert!(!ground.mnt().join("new").exists());
    fs::write(ground.ufs().join("new"), "x").unwrap();
    let open = fs::File::create(ground.mnt().join("dirty")).unwrap();
    let found = asked(&["fs", "check"], &ground.mnt());
    let of = |path: &str| {
        let all = found["findings"].as_array().unwrap();
        let found = all.iter().find(|f| f["path"] == path).unwrap_or_else(|| panic!("no {path} in {found}"));
        assert!(!found["advice"].as_str().unwrap().is_empty());
        found["finding"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        ["/changed", "/missing", "/new", "/dirty"].map(of),
        ["changed", "missing", "new", "dirty"],
        "{found}"
    );
    assert!(found["findings"].as_array().unwrap().iter().all(|f| f["path"] != "/same"), "{found}");
    drop(open);
    daemon.stop();
}

#[test]
fn what_cannot_be_carried_needs_a_person() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    // A directory of the under file system that refuses: another program has put a file where it should be.
    fs::create_dir(ground.mnt().join("d")).unwrap();
    run(&["fs", "persist", "--wait"], &[&ground.mnt()], &[]);
    fs::remove_dir(ground.ufs().join("d")).unwrap();
    fs::write(ground.ufs().join("d"), "in the way").unwrap();
    fs::write(ground.mnt().join("d/f"), "x").unwrap();
    eventually("it is found to fail", SOON, || {
        let mut command = forebay(["fs", "check"]);
        command.arg(ground.mnt());
        let output = finish(command, SOON);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        !output.status.success() && said.contains("/d/f") && said.contains("-> mend the cause")
    });
    drop(daemon);
}
