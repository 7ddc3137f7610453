//! A cache of several tiers: memory over disk.

use crate::support::{Ground, asked, eventually, pattern};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);
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
fn what_is_read_again_and_again_moves_into_memory_and_out_of_it_again() {
    let (ground, memory) = (Ground::new(), in_memory());
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
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
