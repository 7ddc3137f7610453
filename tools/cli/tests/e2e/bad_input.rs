//! Every start that must fail: it says why and what to do, ends non-zero, and leaves nothing behind.

use crate::support::{Ground, finish, forebay, kind_of_mount};
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);

/// The failure must name the cause and a remedy, and neither mount nor cache may be there.
fn refused(ground: &Ground, output: &Output, cause: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it came up: {said}");
    assert!(output.stdout.is_empty(), "it said on standard output: {:?}", output.stdout);
    assert!(said.contains(cause), "{cause:?} is not in: {said}");
    assert!(said.contains("remedy: ") || said.contains("; "), "no remedy in: {said}");
    assert_ne!(kind_of_mount(&ground.mnt()), "fuse.forebay");
}

fn refused_without_trace(ground: &Ground, output: &Output, cause: &str) {
    refused(ground, output, cause);
    assert!(!ground.cache().exists(), "a cache directory was left");
}

fn with_config(ground: &Ground, text: &str) -> Output {
    let config = ground.file("forebay.toml");
    fs::write(&config, text).unwrap();
    ground.up_fails(&["--config", config.to_str().unwrap()])
}

#[test]
fn an_unknown_key_and_a_wrong_unit_in_the_file() {
    let ground = Ground::new();
    let output = with_config(&ground, "[cache]\nsise = \"1GiB\"\n");
    refused_without_trace(&ground, &output, "forebay.toml:2: cache.sise: unknown field `sise`");
    let output = with_config(&ground, "[cache]\nsize = \"64GB\"\n");
    refused_without_trace(&ground, &output, "forebay.toml:2: cache.size: \"64GB\" is not a size");
}

#[test]
fn a_wrong_variable() {
    let ground = Ground::new();
    let mut command = forebay(["up"]);
    command.arg(ground.ufs()).arg(ground.mnt()).env("FOREBAY_NODE_STOP_GRACE", "30");
    refused_without_trace(&ground, &finish(command, SOON), "FOREBAY_NODE_STOP_GRACE (node.stop_grace)");
}

#[test]
fn a_wrong_unit_on_the_command_line() {
    let ground = Ground::new();
    let output = ground.up_fails(&["--cache-size", "64GB"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("write it like 512MiB or 64GiB"), "{said}");
}

#[test]
fn an_unknown_mount_option() {
    let ground = Ground::new();
    refused_without_trace(&ground, &ground.up_fails(&["-o", "allow_others"]), "allow_others");
}

#[test]
fn an_under_file_system_that_is_not_there() {
    let ground = Ground::new();
    fs::remove_dir(ground.ufs()).unwrap();
    refused_without_trace(&ground, &ground.up_fails(&[]), "cannot reach the under file system");
    fs::write(ground.ufs(), "a file").unwrap();
    refused_without_trace(&ground, &ground.up_fails(&[]), "is not a directory");
}

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
