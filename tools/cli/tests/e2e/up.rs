//! The main job: what is in the under file system is read, what is written is seen and gets there.

use crate::support::{Ground, SOON, eventually, kind_of_mount, pattern};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn what_the_under_file_system_holds_is_read_byte_for_byte() {
    let ground = Ground::new();
    fs::create_dir_all(ground.ufs().join("a/b")).unwrap();
    let sizes = [0, 1, 4096, 1 << 20, (1 << 20) + 1, 5_000_001];
    for size in sizes {
        fs::write(ground.ufs().join(format!("a/b/{size}")), pattern(size, size as u64)).unwrap();
    }
    let daemon = ground.up(&[]);
    assert!(daemon.ready.starts_with("ready"), "{}", daemon.ready);
    let mut names: Vec<_> = fs::read_dir(ground.mnt().join("a/b"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut wanted = sizes.map(|size| size.to_string());
    wanted.sort();
    assert_eq!(names, wanted);
    for round in 0..2 {
        for size in sizes {
            let path = ground.mnt().join(format!("a/b/{size}"));
            assert_eq!(fs::metadata(&path).unwrap().len(), size as u64);
            assert!(fs::read(&path).unwrap() == pattern(size, size as u64), "{size} bytes, round {round}");
        }
    }
    daemon.stop();
}

#[test]
fn a_range_of_a_large_file_is_right_wherever_it_lies() {
    let ground = Ground::new();
    let bytes = pattern(9 << 20, 7);
    fs::write(ground.ufs().join("big"), &bytes).unwrap();
    let daemon = ground.up(&[]);
    let file = fs::File::open(ground.mnt().join("big")).unwrap();
    for (offset, len) in
        [(0, 10), (8 << 20, 1 << 20), ((1 << 20) - 3, 6), (5_000_000, 2_000_000), ((9 << 20) - 1, 1)]
    {
        let mut got = vec![0; len];
        file.read_exact_at(&mut got, offset as u64).unwrap();
        assert!(got == bytes[offset..offset + len], "{len} bytes at {offset}");
    }
    assert_eq!(file.read_at(&mut [0; 8], 9 << 20).unwrap(), 0, "past the end");
    drop(file);
    daemon.stop();
}

#[test]
fn what_is_written_is_seen_at_once_and_reaches_the_under_file_system() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let bytes = pattern(3_000_000, 1);
    fs::create_dir_all(ground.mnt().join("out/deep")).unwrap();
    let path = ground.mnt().join("out/deep/file");
    fs::write(&path, &bytes).unwrap();
    assert!(fs::read(&path).unwrap() == bytes);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"overwritten", 1_500_000).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"appended").unwrap();
    file.sync_all().unwrap();
    drop(file);
    let mut wanted = bytes;
    wanted[1_500_000..1_500_011].copy_from_slice(b"overwritten");
    wanted.extend_from_slice(b"appended");
    assert!(fs::read(&path).unwrap() == wanted);
    let native = ground.ufs().join("out/deep/file");
    eventually("the file is in the under file system", SOON, || {
        fs::read(&native).is_ok_and(|native| native == wanted)
    });
    daemon.stop();
}

#[test]
fn what_appears_in_the_under_file_system_appears_in_the_mount() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("old"), "one").unwrap();
    let daemon = ground.up(&["--metadata-ttl", "4s"]);
    assert_eq!(fs::read_to_string(ground.mnt().join("old")).unwrap(), "one");
    fs::write(ground.ufs().join("new"), "two").unwrap();
    fs::write(ground.ufs().join("old"), "changed outside").unwrap();
    let (since, mut missed) = (Instant::now(), Duration::ZERO);
    eventually("the new file and the new content show", SOON, || {
        let began = since.elapsed();
        let shows = fs::read_to_string(ground.mnt().join("new")).is_ok_and(|text| text == "two")
            && fs::read_to_string(ground.mnt().join("old")).is_ok_and(|text| text == "changed outside");
        if !shows {
            missed = began;
        }
        shows
    });
    // A look that begins later must see it, however long it takes itself. On a busy machine the kernel's time begins a while
    // after the daemon's.
    assert!(missed < Duration::from_secs(7), "{missed:?} after the change it did not show");
    daemon.stop();
}

#[test]
fn the_mount_shows_its_type_and_the_source_as_the_user_named_it() {
    let ground = Ground::new();
    let daemon = ground.up(&["-o", "ro"]);
    assert_eq!(kind_of_mount(&ground.mnt()), "fuse.forebay");
    let shown =
        Command::new("findmnt").arg("-nT").arg(ground.mnt()).args(["-o", "SOURCE,OPTIONS"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.starts_with(ground.ufs().to_str().unwrap()), "{shown}");
    assert!(shown.split_whitespace().last().unwrap().split(',').any(|option| option == "ro"), "{shown}");
    let refused = fs::write(ground.mnt().join("x"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    daemon.stop();
}

#[test]
fn a_second_read_does_not_touch_the_under_file_system() {
    let ground = Ground::new();
    let bytes = pattern(4 << 20, 3);
    fs::write(ground.ufs().join("f"), &bytes).unwrap();
    let daemon = ground.up(&[]);
    let path = ground.mnt().join("f");
    assert!(fs::read(&path).unwrap() == bytes);
    // Same inode, size and times, other bytes: only a second fetch could see them.
    let native = ground.ufs().join("f");
    let seen = fs::metadata(&native).unwrap().modified().unwrap();
    fs::write(&native, pattern(4 << 20, 4)).unwrap();
    fs::File::options().write(true).open(&native).unwrap().set_modified(seen).unwrap();
    let mut again = Vec::new();
    fs::File::open(&path).unwrap().read_to_end(&mut again).unwrap();
    assert!(again == bytes, "the second read did not come from the cache");
    daemon.stop();
}
