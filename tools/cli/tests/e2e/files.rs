//! `forebay fs cat|cp|rm` over the real mount.

use crate::support::{Ground, SOON, finish, forebay, pattern, refusal};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn said(arguments: &[&str]) -> Vec<u8> {
    let output = finish(forebay(arguments), SOON);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_slice(&said(arguments)).unwrap()
}

#[test]
fn cat_writes_the_bytes_that_were_asked_for() {
    let ground = Ground::new();
    let bytes = pattern(3_000_000, 4);
    fs::write(ground.ufs().join("f"), &bytes).unwrap();
    let daemon = ground.up(&[]);
    let path = ground.mnt().join("f");
    let path = path.to_str().unwrap();
    assert!(said(&["fs", "cat", path]) == bytes);
    assert!(said(&["fs", "cat", path, path]) == [bytes.clone(), bytes.clone()].concat());
    assert!(said(&["fs", "cat", path, "--offset", "1MiB", "--length", "1000"]) == bytes[1 << 20..][..1000]);
    assert!(said(&["fs", "cat", path, "--offset", "1GiB"]).is_empty());
    assert!(refusal(&["fs", "cat", ground.mnt().join("none").to_str().unwrap()]).contains("No such file"));
    assert!(refusal(&["fs", "cat", path, "--offset", "1MB"]).contains("write it like"));
    daemon.stop();
}

#[test]
fn cp_brings_a_tree_onto_the_mount_and_back() {
    let ground = Ground::new();
    let (here, back) = (ground.file("here"), ground.file("back"));
    fs::create_dir_all(here.join("a/b")).unwrap();
    fs::write(here.join("a/one"), pattern(5_000_000, 1)).unwrap();
    fs::write(here.join("a/b/two"), pattern(10, 2)).unwrap();
    fs::set_permissions(here.join("a/b/two"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("b/two", here.join("a/link")).unwrap();
    let daemon = ground.up(&[]);
    let there = ground.mnt().join("there");
    let [here, there, back] = [&here, &there, &back].map(|path| path.to_str().unwrap().to_owned());
    assert!(refusal(&["fs", "cp", &here, &there]).contains("copy it with -r"));
    let copied = json(&["fs", "cp", "-r", &here, &there, "--json"]);
    assert_eq!((&copied["files"], &copied["bytes"]), (&2.into(), &5_000_010.into()));
    // By lines where there is no terminal, and only the result on standard output.
    let told = String::from_utf8(said(&["fs", "cp", "-r", &there, &back])).unwrap();
    assert_eq!(told, "copied 2 files, 5000010 bytes\n");
    let compared =
        std::process::Command::new("diff").args(["-r", "--no-dereference", &here, &back]).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    let mode = fs::metadata(format!("{back}/a/b/two")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> = fs::read_dir(format!("{there}/a")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "something of the copying was left: {left:?}");
    daemon.stop();
}

#[test]
fn rm_removes_files_and_trees_and_never_a_mount() {
    let (ground, other) = (Ground::new(), Ground::new());
    fs::create_dir_all(ground.ufs().join("a/b")).unwrap();
    for name in ["a/1", "a/b/2", "f"] {
        fs::write(ground.ufs().join(name), "x").unwrap();
    }
    fs::write(other.ufs().join("precious"), "x").unwrap();
    let daemon = ground.up(&[]);
    let at = |name: &str| ground.mnt().join(name).to_str().unwrap().to_owned();
    assert!(refusal(&["fs", "rm", &at("a")]).contains("with -r"));
    assert!(refusal(&["fs", "rm", &at("none")]).contains("No such file"));
    assert_eq!(json(&["fs", "rm", "-f", &at("none"), "--json"])["files"], 0);
    said(&["mount", "add", other.ufs().to_str().unwrap(), &at("a/nested")]);
    let refused = refusal(&["fs", "rm", "-r", &at("a")]);
    assert!(
        refused.contains("holds the mount at /a/nested") && refused.contains("forebay mount remove"),
        "{refused}"
    );
    assert!(refusal(&["fs", "rm", "-r", ground.mnt().to_str().unwrap()]).contains("is the mount itself"));
    assert!(other.ufs().join("precious").exists() && ground.mnt().join("a/b/2").exists());
    said(&["mount", "remove", &at("a/nested")]);
    let removed = json(&["fs", "rm", "-r", &at("a"), &at("f"), "--json"]);
    assert_eq!((&removed["files"], &removed["directories"]), (&3.into(), &2.into()));
    assert_eq!(fs::read_dir(ground.mnt()).unwrap().count(), 0);
    daemon.stop();
}

#[test]
fn every_command_of_a_daemon_teaches_by_an_example() {
    let groups: [(&str, &[&str]); 3] = [
        ("fs", &["ls", "stat", "cat", "cp", "rm", "load", "free", "persist", "pin", "unpin", "check"]),
        ("mount", &["add", "remove", "list", "set"]),
        ("config", &["list", "get", "set"]),
    ];
    for (group, commands) in groups {
        for command in commands {
            let help = String::from_utf8(said(&[group, command, "--help"])).unwrap();
            let example = help.split("Example:\n").nth(1).unwrap_or_default();
            assert!(example.contains(&format!("forebay {group} {command} ")), "{group} {command}: {example}");
        }
    }
}
