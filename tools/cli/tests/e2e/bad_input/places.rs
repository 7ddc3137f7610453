//! Starts that fail by what is there already: mount points and caches in use or of somebody else, and disks that are full
//! or read-only.

use super::{refused, up};
use crate::support::{Ground, SOON, finish, forebay};
use std::fs;
use std::process::Command;

#[test]
fn a_mount_point_that_is_not_there_in_use_or_overlapping() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let other_cache = ground.file("other");
    let mut command = forebay(["up"]);
    command.arg(ground.ufs()).arg(ground.mnt()).arg("--cache").arg(&other_cache);
    let output = finish(command, SOON);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("is in use"), "{said}");
    assert!(!other_cache.exists());
    daemon.stop();

    let mut command = forebay(["up"]);
    command.arg(ground.ufs()).arg(ground.ufs().join("inside")).arg("--cache").arg(&other_cache);
    fs::create_dir(ground.ufs().join("inside")).unwrap();
    let output = finish(command, SOON);
    assert!(String::from_utf8_lossy(&output.stderr).contains("overlap"));
    fs::remove_dir(ground.mnt()).unwrap();
    assert!(String::from_utf8_lossy(&ground.up_fails(&[]).stderr).contains("mkdir -p"));
    assert!(!other_cache.exists());
}

#[test]
fn a_cache_of_another_daemon_node_version_or_under_file_system() {
    let ground = Ground::new();
    let second = Ground::new();
    let daemon = ground.up(&[]);
    let on_cache = |ufs: &Ground| {
        let mut command = forebay(["up"]);
        command.arg(ufs.ufs()).arg(second.mnt()).arg("--cache").arg(ground.cache());
        command
    };
    refused(&second, &finish(on_cache(&ground), SOON), "is in use by process");
    daemon.stop();
    refused(&second, &finish(on_cache(&second), SOON), "belongs to");
    let mut other_node = on_cache(&ground);
    other_node.env("FOREBAY_NODE_NAME", "somebody-else");
    refused(&second, &finish(other_node, SOON), "this is node somebody-else");
    let claim = ground.cache().join("FOREBAY");
    let text = fs::read_to_string(&claim).unwrap().replace("layout = 1", "layout = 7");
    fs::write(&claim, text).unwrap();
    refused(&second, &finish(on_cache(&ground), SOON), "layout version 7");
}

#[test]
fn an_added_mount_that_cannot_be_had_again_is_named() {
    let (ground, other) = (Ground::new(), Ground::new());
    let daemon = ground.up(&[]);
    let mut add = forebay(["mount", "add"]);
    add.arg(other.ufs()).arg(ground.mnt().join("sets"));
    assert!(finish(add, SOON).status.success());
    daemon.stop();
    fs::remove_dir(other.ufs()).unwrap();
    let output = finish(up(&ground), SOON);
    refused(&ground, &output, "the mount at /sets, added with `forebay mount add`, cannot be had");
    assert!(String::from_utf8_lossy(&output.stderr).contains("take its table out of the file ASKED"));
    fs::create_dir(other.ufs()).unwrap();
    let daemon = ground.up(&[]);
    assert!(ground.mnt().join("sets").exists(), "a refused start has changed something");
    daemon.stop();
    fs::write(ground.cache().join("ASKED"), "layout = 9\npins = []\n").unwrap();
    refused(&ground, &finish(up(&ground), SOON), "layout version 9");
}

#[test]
fn a_directory_of_somebody_elses_files_is_no_cache() {
    let ground = Ground::new();
    fs::create_dir(ground.cache()).unwrap();
    fs::write(ground.cache().join("thesis"), "x").unwrap();
    refused(&ground, &ground.up_fails(&[]), "is no cache directory");
    assert_eq!(fs::read_dir(ground.cache()).unwrap().count(), 1);
}

/// A small file system of its own on which to run out of space or rights.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(ground: &Ground, options: &str) -> Self {
        let at = ground.file("disk");
        fs::create_dir(&at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).status().unwrap();
        assert!(mounted.success());
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// What fills the disk is the cache itself.
#[test]
fn a_cache_that_fills_its_disk_starts_again_and_keeps_its_size() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("f"), vec![1; 150 << 20]).unwrap();
    let disk = SmallDisk::mount(&ground, "size=200m");
    let size = |extra: &[&str]| {
        let (dir, mnt) = (disk.0.join("cache"), ground.mnt());
        let daemon = ground.up_on(&dir, extra);
        let mut load = forebay(["fs", "load"]);
        load.arg(mnt.join("f"));
        let loaded = finish(load, SOON);
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        let space = rustix::fs::statvfs(&mnt).unwrap();
        daemon.stop();
        space.f_blocks * space.f_frsize
    };
    let first = size(&[]);
    let again = size(&[]);
    assert!(first.abs_diff(again) < 8 << 20, "{first} bytes at first, then {again}");
    assert_eq!(size(&["--cache-size", "190MiB"]), 190 << 20);
}

#[test]
fn a_read_only_disk_and_a_full_one() {
    let ground = Ground::new();
    let up_on = |disk: &SmallDisk| {
        let mut command = forebay(["up"]);
        command.arg(ground.ufs()).arg(ground.mnt()).arg("--cache").arg(disk.0.join("cache"));
        finish(command, SOON)
    };
    let read_only = SmallDisk::mount(&ground, "ro");
    refused(&ground, &up_on(&read_only), "Read-only file system");
    drop(read_only);
    fs::remove_dir(ground.file("disk")).unwrap();
    let full = SmallDisk::mount(&ground, "size=64k");
    fs::write(full.0.join("filler"), vec![0; 48 << 10]).unwrap();
    refused(&ground, &up_on(&full), "is full");
    assert!(!full.0.join("cache").exists());
}
