//! What was just written is read back as fast as from the local file system: by the kernel itself, and from memory.
//!
//! A training job that starts again reads the checkpoint that it wrote a moment ago, which is being carried meanwhile.

use crate::support::{Daemon, Ground, SOON, asked, eventually, finish, forebay, pattern};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::{self, File};
use std::io::{IoSliceMut, Write};
use std::path::{Path, PathBuf};

const LEN: usize = 12 << 20;

/// Written under another name, made durable, renamed.
fn write_as_a_checkpoint_is(path: &Path, bytes: &[u8]) {
    let making = path.with_extension("making");
    let mut file = File::create(&making).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::rename(making, path).unwrap();
}

/// A mount whose store takes three seconds for the file.
fn up_on_a_slow_store(ground: &Ground) -> Daemon {
    ground.up(&["--ufs-option", "write_bandwidth=4MiB"])
}

fn persist(path: &Path) {
    let mut command = forebay(["fs", "persist", "--wait"]);
    command.arg(path);
    let output = finish(command, SOON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn whoever_opens_what_was_just_written_reads_it_without_the_daemon() {
    let ground = Ground::new();
    let daemon = up_on_a_slow_store(&ground);
    let (path, native) = (ground.mnt().join("shard"), ground.ufs().join("shard"));
    let bytes = pattern(LEN, 1);
    write_as_a_checkpoint_is(&path, &bytes);
    let mut reads = 0;
    eventually("it is carried", SOON, || {
        assert!(fs::read(&path).unwrap() == bytes);
        reads += 1;
        native.exists()
    });
    assert!(reads > 3, "it was carried before it was read: nothing is proved");
    persist(&path);
    assert!(fs::read(&path).unwrap() == bytes);
    let info = asked(&["info", "--on"], &ground.mnt());
    assert_eq!(info["opens_cached"], 0, "a file that is wholly here was read through the daemon: {info}");
    daemon.stop();
}

/// The file in the cache that has so many bytes.
fn extent_of(len: usize, dir: &Path) -> Option<PathBuf> {
    fs::read_dir(dir).unwrap().find_map(|entry| {
        let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        let is_it = meta.is_file() && meta.len() == len as u64;
        if is_it { Some(path) } else { meta.is_dir().then(|| extent_of(len, &path)).flatten() }
    })
}

/// How many of its bytes, from the first on, can be had without waiting for a disk.
fn in_memory(path: &Path) -> usize {
    let (file, mut buffer, mut at) = (File::open(path).unwrap(), vec![0; 1 << 20], 0);
    loop {
        let mut into = [IoSliceMut::new(&mut buffer)];
        match preadv2(&file, &mut into, at as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(Errno::AGAIN) => return at,
            Ok(read) => at += read,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}

/// The kernel may take pages away at any time, on a machine with proactive reclaim soon. What we take away is never there.
#[test]
fn what_was_made_durable_and_carried_is_still_in_memory() {
    let ground = Ground::new();
    let daemon = up_on_a_slow_store(&ground);
    let missing = |attempt| {
        let (name, len) = (format!("shard-{attempt}"), LEN + attempt);
        write_as_a_checkpoint_is(&ground.mnt().join(&name), &pattern(len, 1));
        let extent = extent_of(len, &ground.cache()).expect("its bytes are in the cache");
        // Whoever carries it may only read what is there: it would bring back what the sync had thrown out.
        let synced = in_memory(&extent);
        persist(&ground.mnt().join(&name));
        len - synced.min(in_memory(&extent))
    };
    let kept = (0..5).any(|attempt| missing(attempt) == 0);
    assert!(kept, "of each of five files something was not in memory any more");
    daemon.stop();
}
