//! Everyday POSIX through the mount; the third-party suites (ci/suites) go deeper.

use crate::support::{Ground, pattern};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

#[test]
fn names_come_move_and_go() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let at = |name: &str| ground.mnt().join(name);
    fs::create_dir(at("d")).unwrap();
    assert_eq!(fs::create_dir(at("d")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    fs::write(at("d/one"), "1").unwrap();
    fs::write(at("d/two"), "2").unwrap();
    fs::rename(at("d/one"), at("d/two")).unwrap();
    assert_eq!(fs::read_to_string(at("d/two")).unwrap(), "1");
    assert_eq!(fs::metadata(at("d/one")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::remove_dir(at("d")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::rename(at("d"), at("e")).unwrap();
    assert_eq!(fs::read_to_string(at("e/two")).unwrap(), "1");
    fs::remove_file(at("e/two")).unwrap();
    fs::remove_dir(at("e")).unwrap();
    assert_eq!(fs::read_dir(ground.mnt()).unwrap().count(), 0);
    daemon.stop();
}

#[test]
fn links_modes_and_times_are_kept() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let at = |name: &str| ground.mnt().join(name);
    fs::write(at("f"), "x").unwrap();
    fs::hard_link(at("f"), at("g")).unwrap();
    let (f, g) = (fs::metadata(at("f")).unwrap(), fs::metadata(at("g")).unwrap());
    assert_eq!((f.ino(), f.nlink()), (g.ino(), 2));
    symlink("f", at("s")).unwrap();
    assert_eq!(fs::read_link(at("s")).unwrap().to_str(), Some("f"));
    assert_eq!(fs::read_to_string(at("s")).unwrap(), "x");
    fs::set_permissions(at("f"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(at("g")).unwrap().mode() & 0o7777, 0o640);
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    OpenOptions::new().write(true).open(at("f")).unwrap().set_modified(then).unwrap();
    assert_eq!(fs::metadata(at("g")).unwrap().modified().unwrap(), then);
    daemon.stop();
}

#[test]
fn times_set_through_a_writer_outlive_its_close() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let path = ground.mnt().join("f");
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_577_836_800, 123_456_789);
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"as tar does").unwrap();
    file.set_modified(then).unwrap();
    assert_eq!(file.metadata().unwrap().modified().unwrap(), then);
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), then);
    daemon.stop();
}

#[test]
fn an_unlinked_file_lives_as_long_as_it_is_open() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let path = ground.mnt().join("f");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(b"still here").unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let mut got = [0; 10];
    file.read_exact_at(&mut got, 0).unwrap();
    assert_eq!(&got, b"still here");
    drop(file);
    assert_eq!(fs::read_dir(ground.mnt()).unwrap().count(), 0);
    daemon.stop();
}

#[test]
fn holes_truncation_and_append() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let path = ground.mnt().join("f");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all_at(b"end", 2_000_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2_000_003);
    let mut got = vec![1; 1000];
    file.read_exact_at(&mut got, 500_000).unwrap();
    assert!(got.iter().all(|byte| *byte == 0));
    file.set_len(10).unwrap();
    file.set_len(2_000_003).unwrap();
    file.read_exact_at(&mut got[..3], 2_000_000).unwrap();
    assert_eq!(&got[..3], [0; 3], "what a truncate cut off came back");
    drop(file);
    let mut appender = OpenOptions::new().append(true).open(&path).unwrap();
    appender.write_all(b"tail").unwrap();
    drop(appender);
    assert_eq!(fs::metadata(&path).unwrap().len(), 2_000_007);
    daemon.stop();
}

#[test]
fn a_program_runs_from_the_mount() {
    let ground = Ground::new();
    fs::copy("/bin/true", ground.ufs().join("program")).unwrap();
    fs::set_permissions(ground.ufs().join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = ground.up(&[]);
    for round in 0..2 {
        assert!(Command::new(ground.mnt().join("program")).status().unwrap().success(), "round {round}");
    }
    daemon.stop();
}

#[test]
fn many_files_in_one_directory_are_all_listed_once() {
    let ground = Ground::new();
    for n in 0..3000 {
        fs::write(ground.ufs().join(format!("f{n:04}")), "").unwrap();
    }
    let daemon = ground.up(&[]);
    for n in 3000..3500 {
        fs::write(ground.mnt().join(format!("f{n:04}")), "").unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(ground.mnt()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let wanted: Vec<_> = (0..3500).map(|n| std::ffi::OsString::from(format!("f{n:04}"))).collect();
    assert!(names == wanted, "{} names", names.len());
    daemon.stop();
}

#[test]
fn a_partial_overwrite_of_a_native_file_keeps_the_rest() {
    let ground = Ground::new();
    let mut bytes = pattern(3 << 20, 9);
    fs::write(ground.ufs().join("f"), &bytes).unwrap();
    let daemon = ground.up(&[]);
    let path = ground.mnt().join("f");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"patched", (1 << 20) + 17).unwrap();
    drop(file);
    bytes[(1 << 20) + 17..][..7].copy_from_slice(b"patched");
    assert!(fs::read(&path).unwrap() == bytes);
    daemon.stop();
}
