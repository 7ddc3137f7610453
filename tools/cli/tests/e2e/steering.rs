//! What an operator asks of a running daemon: the admin socket, the metrics page.

use crate::support::{Ground, SOON, asked, eventually, finish, forebay, free_address, pattern};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn load_brings_all_bytes_and_free_drops_them() {
    let ground = Ground::new();
    fs::create_dir_all(ground.ufs().join("a/b")).unwrap();
    for (name, len) in [("one", 3_000_000), ("a/two", 10), ("a/b/three", 1 << 20)] {
        fs::write(ground.ufs().join(name), pattern(len, len as u64)).unwrap();
    }
    let daemon = ground.up(&[]);
    let one = ground.mnt().join("one");
    assert_eq!(asked(&["fs", "stat"], &one)["cached_bytes"], 0);
    let loaded = asked(&["fs", "load"], &ground.mnt());
    let total = 3_000_000 + 10 + (1 << 20);
    assert_eq!(
        (&loaded["files"], &loaded["bytes"], &loaded["fetched_bytes"]),
        (&3.into(), &total.into(), &total.into())
    );
    let known = asked(&["fs", "stat"], &one);
    assert_eq!((&known["cached_bytes"], &known["state"]), (&3_000_000.into(), &"clean".into()));
    assert_eq!(asked(&["fs", "load"], &ground.mnt())["fetched_bytes"], 0, "a second load fetches nothing");

    let freed = asked(&["fs", "free"], &ground.mnt());
    assert!(freed["freed_bytes"].as_u64().unwrap() >= total, "{freed}");
    assert_eq!(asked(&["fs", "stat"], &one)["cached_bytes"], 0);
    assert!(fs::read(&one).unwrap() == pattern(3_000_000, 3_000_000));
    daemon.stop();
}

#[test]
fn free_leaves_what_is_nowhere_else() {
    let ground = Ground::new();
    let daemon = ground.up(&["--write-mode", "transient"]);
    let path = ground.mnt().join("mine");
    fs::write(&path, "only here").unwrap();
    assert_eq!(asked(&["fs", "free"], &ground.mnt())["freed_bytes"], 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "only here");
    daemon.stop();
}

#[test]
fn a_listing_shows_the_state_of_each_file() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("theirs"), "x").unwrap();
    let daemon = ground.up(&["--write-mode", "transient"]);
    fs::write(ground.mnt().join("ours"), "y").unwrap();
    let mut command = forebay(["fs", "ls"]);
    command.arg(ground.mnt());
    let listed = String::from_utf8(finish(command, SOON).stdout).unwrap();
    let states: Vec<_> = listed.lines().map(|l| l.split_whitespace().skip(2).collect::<Vec<_>>()).collect();
    assert_eq!(states, [["native", "ours"], ["clean", "theirs"]]);
    daemon.stop();
}

#[test]
fn a_path_elsewhere_is_refused() {
    let output = finish(forebay(["fs", "stat", "/proc"]), SOON);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("not on a Forebay mount"), "{said}");
}

#[test]
fn the_metrics_page_tells_what_happened() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("f"), pattern(2 << 20, 1)).unwrap();
    let listen = free_address();
    let config = ground.file("forebay.toml");
    fs::write(&config, format!("[metrics]\nlisten = {listen:?}\n")).unwrap();
    let daemon = ground.up(&["--config", config.to_str().unwrap()]);
    let scrape = |path: &str| {
        let mut stream = TcpStream::connect(&listen).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    let figure = |page: &str, name: &str| {
        let line =
            page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {page}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(figure(&scrape("/metrics"), "forebay_ufs_read_bytes_total"), 0.0);
    // The first open finds nothing here. A later one passes through once the last page is in the cache and the kernel
    // has told of every close, both of which may come after the bytes did.
    let mut reads = 0.0;
    eventually("an open passes through", SOON, || {
        assert!(fs::read(ground.mnt().join("f")).unwrap() == pattern(2 << 20, 1));
        reads += 1.0;
        figure(&scrape("/metrics"), "forebay_opens_total{mode=\"passthrough\"}") == 1.0
    });
    let page = scrape("/metrics");
    assert_eq!(figure(&page, "forebay_ufs_read_bytes_total"), f64::from(2 << 20));
    assert!(reads >= 2.0, "the first open passed through");
    assert_eq!(figure(&page, "forebay_opens_total{mode=\"cached\"}"), reads - 1.0);
    assert!(figure(&page, "forebay_request_seconds_count{op=\"open\"}") >= reads);
    assert!(figure(&page, "forebay_tier_used_bytes{tier=\"cache\"}") >= f64::from(2 << 20));
    assert!(page.ends_with("# EOF\n"));
    assert!(scrape("/").starts_with("HTTP/1.1 404"));
    daemon.stop();
}

#[test]
fn all_reads_go_through_the_daemon_where_passthrough_is_switched_off() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("f"), pattern(2 << 20, 1)).unwrap();
    let config = ground.file("forebay.toml");
    fs::write(&config, "[fuse]\npassthrough = false\n").unwrap();
    let daemon = ground.up(&["--config", config.to_str().unwrap()]);
    assert!(daemon.ready.contains("cached"), "{}", daemon.ready);
    asked(&["fs", "load"], &ground.mnt().join("f"));
    for _ in 0..3 {
        assert!(fs::read(ground.mnt().join("f")).unwrap() == pattern(2 << 20, 1));
    }
    let info = asked(&["info", "--on"], &ground.mnt());
    assert_eq!((&info["passthrough"], &info["opens_passthrough"]), (&false.into(), &0.into()));
    daemon.stop();
}

/// The kernel tells the daemon of a close after it returned to whoever closed. Here that takes a while: a second
/// descriptor keeps the file for so long.
#[test]
fn persist_with_wait_waits_for_closes_that_are_under_way() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let mut file = fs::File::create(ground.mnt().join("closed")).unwrap();
    file.write_all(b"all of it").unwrap();
    let keeps = file.try_clone().unwrap();
    drop(file);
    let other = fs::File::create(ground.mnt().join("open")).unwrap();
    let lets_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        drop(keeps);
    });
    let report = asked(&["fs", "persist", "--wait"], &ground.mnt());
    assert_eq!(fs::read_to_string(ground.ufs().join("closed")).unwrap(), "all of it");
    assert_eq!((&report["open_for_write"], &report["left_dirty"]), (&1.into(), &1.into()));
    lets_go.join().unwrap();
    drop(other);
    daemon.stop();
}

#[test]
fn persist_with_wait_is_a_barrier() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    fs::create_dir(ground.mnt().join("d")).unwrap();
    for n in 0..20 {
        fs::write(ground.mnt().join(format!("d/{n}")), pattern(100_000 + n, n as u64)).unwrap();
    }
    fs::write(ground.mnt().join("d/temporary"), "x").unwrap();
    fs::rename(ground.mnt().join("d/temporary"), ground.mnt().join("d/final")).unwrap();
    let mut command = forebay(["fs", "persist", "--wait"]);
    command.arg(ground.mnt());
    let output = finish(command, SOON);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), daemon.log());
    for n in 0..20 {
        assert!(fs::read(ground.ufs().join(format!("d/{n}"))).unwrap() == pattern(100_000 + n, n as u64));
    }
    assert_eq!(fs::read_to_string(ground.ufs().join("d/final")).unwrap(), "x");
    assert!(!ground.ufs().join("d/temporary").exists());
    assert_eq!(asked(&["fs", "stat"], &ground.mnt().join("d/final"))["state"], "clean");
    daemon.stop();
}
