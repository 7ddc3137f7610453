//! A cache of several tiers: memory over disk.

use crate::support::{Ground, SOON, asked, eventually, finish, forebay, free_address, pattern};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

const MIB: usize = 1 << 20;
/// Together more than the tier in memory takes, each less than an eighth of it.
const FILES: usize = 12;
const FILE_LEN: usize = 7 * MIB + 11;

/// A directory in memory that goes with the test.
fn in_memory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("forebay-e2e.").tempdir_in("/dev/shm").unwrap()
}

fn figure(listen: &str, name: &str) -> f64 {
    let mut stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("no {name} in {page}"))
}

#[test]
fn what_has_priority_outlasts_what_has_none() {
    let ground = Ground::new();
    for (dir, files) in [("keep", 4), ("first", 4), ("rest", 14)] {
        fs::create_dir(ground.ufs().join(dir)).unwrap();
        (0..files)
            .for_each(|n| fs::write(ground.ufs().join(dir).join(n.to_string()), vec![1; 6 * MIB]).unwrap());
    }
    let config = ground.file("forebay.toml");
    fs::write(&config, "[cache]\neviction = \"lru\"\n").unwrap();
    let daemon =
        ground.up_on(&ground.cache(), &["--config", config.to_str().unwrap(), "--cache-size", "96MiB"]);
    let set = |dir: &str, priority: &str| {
        let mut command = forebay(["mount", "set"]);
        command.arg(ground.mnt().join(dir)).arg(format!("priority={priority}"));
        assert!(finish(command, SOON).status.success());
    };
    let read = |dir: &str| {
        for entry in fs::read_dir(ground.mnt().join(dir)).unwrap() {
            assert!(fs::read(entry.unwrap().path()).unwrap() == vec![1; 6 * MIB]);
        }
    };
    let cached = |dir: &str| {
        let files = fs::read_dir(ground.mnt().join(dir)).unwrap();
        let bytes =
            files.map(|entry| asked(&["fs", "stat"], &entry.unwrap().path())["cached_bytes"].as_u64());
        bytes.map(|bytes| bytes.unwrap() as usize).sum::<usize>()
    };
    set("keep", "10");
    // Written here, and so ranked when it is carried.
    fs::write(ground.mnt().join("keep/ours"), vec![1; 6 * MIB]).unwrap();
    let mut persist = forebay(["fs", "persist", "--wait"]);
    persist.arg(ground.mnt());
    assert!(finish(persist, SOON).status.success());
    for dir in ["keep", "first", "rest"] {
        read(dir);
    }
    assert_eq!(cached("keep"), 5 * 6 * MIB, "what has priority stays, though it was used before all others");
    assert!(cached("first") < 4 * 6 * MIB && cached("rest") > 0);
    set("keep", "-10");
    read("keep");
    // What the kernel has not let go of yet goes a little later.
    eventually("it goes first when it has less than others", SOON, || {
        read("rest");
        cached("keep") < 5 * 6 * MIB
    });
    daemon.stop();
}

#[test]
fn every_open_writer_holds_the_room_it_was_promised() {
    let ground = Ground::new();
    let config = ground.file("forebay.toml");
    let listen = free_address();
    fs::write(&config, format!("[cache]\nreserve = \"16MiB\"\n[metrics]\nlisten = {listen:?}\n")).unwrap();
    let daemon =
        ground.up_on(&ground.cache(), &["--config", config.to_str().unwrap(), "--cache-size", "64MiB"]);
    let promised = || figure(&listen, "forebay_tier_reserved_bytes{tier=\"cache\"}") as usize;
    assert_eq!(promised(), 0);
    let mut writers = Vec::new();
    let refused = loop {
        match fs::File::create(ground.mnt().join(format!("w{}", writers.len()))) {
            Ok(file) => writers.push(file),
            Err(refused) => break refused,
        }
        assert_eq!(promised(), writers.len() * 16 * MIB);
    };
    assert_eq!((refused.kind(), writers.len()), (std::io::ErrorKind::StorageFull, 4));
    drop(writers);
    eventually("closes give it back", SOON, || promised() == 0);
    fs::write(ground.mnt().join("now"), "there is room").unwrap();
    daemon.stop();
}

#[test]
fn what_is_read_again_and_again_moves_into_memory_and_out_of_it_again() {
    let (ground, memory) = (Ground::new(), in_memory());
    let listen = free_address();
    let (ram, config) = (memory.path().join("ram"), ground.file("forebay.toml"));
    let text = format!(
        "[cache]\neviction = \"lru\"\n\
         [[cache.tiers]]\nname = \"ram\"\ndir = {ram:?}\nkind = \"mem\"\nquota = \"64MiB\"\n\
         [[cache.tiers]]\nname = \"disk\"\ndir = {:?}\nkind = \"nvme\"\nquota = \"512MiB\"\n\
         [metrics]\nlisten = {listen:?}\n",
        ground.cache()
    );
    fs::write(&config, text).unwrap();
    for n in 0..FILES {
        fs::write(ground.ufs().join(format!("f{n}")), pattern(FILE_LEN, n as u64)).unwrap();
    }
    // A cache that was one directory, and keeps what it has.
    let daemon = ground.up(&[]);
    fs::write(ground.mnt().join("ours"), "from before").unwrap();
    daemon.stop();
    let up = ["--config", config.to_str().unwrap()];
    let daemon = ground.up_on(&ground.cache(), &up);
    let known = || asked(&["info", "--on"], &ground.mnt());
    let tier = |name: &str| {
        let tiers = known()["tiers"].as_array().unwrap().clone();
        tiers.into_iter().find(|tier| tier["name"] == name).unwrap()
    };
    assert_eq!(fs::read_to_string(ground.mnt().join("ours")).unwrap(), "from before");
    assert_eq!((&tier("ram")["kind"], &tier("disk")["kind"]), (&"mem".into(), &"nvme".into()));
    let read = |n: usize| {
        assert!(fs::read(ground.mnt().join(format!("f{n}"))).unwrap() == pattern(FILE_LEN, n as u64), "f{n}");
    };
    eventually("the hot file is in memory", SOON, || {
        read(0);
        known()["promotions"] == 1
    });
    assert!(tier("ram")["used"].as_u64().unwrap() >= FILE_LEN as u64);
    read(0);
    eventually("more is hot than there is memory", SOON, || {
        (0..FILES).for_each(read);
        known()["demotions"].as_u64().unwrap() > 0
    });
    assert!(figure(&listen, "forebay_promotions_total") > 1.0);
    assert!(figure(&listen, "forebay_promoted_bytes_total") > FILE_LEN as f64);
    assert!(figure(&listen, "forebay_demotions_total") > 0.0);
    assert!(figure(&listen, "forebay_tier_used_bytes{tier=\"ram\"}") <= (64 * MIB) as f64);
    (0..FILES).for_each(read);

    // Written to while somebody reads it: what is written is on the disk.
    let reader = fs::File::open(ground.mnt().join("f0")).unwrap();
    for n in 0..FILES {
        let path = ground.mnt().join(format!("f{n}"));
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(b"appended").unwrap();
        file.sync_all().unwrap();
    }
    drop(reader);
    assert_eq!(tier("ram")["only_here"], 0);
    daemon.stop();

    // As after a reboot.
    fs::remove_dir_all(&ram).unwrap();
    let daemon = ground.up_on(&ground.cache(), &up);
    for n in 0..FILES {
        let bytes = fs::read(ground.mnt().join(format!("f{n}"))).unwrap();
        assert!(
            bytes[..FILE_LEN] == pattern(FILE_LEN, n as u64) && &bytes[FILE_LEN..] == b"appended",
            "f{n}"
        );
    }
    daemon.stop();
}
