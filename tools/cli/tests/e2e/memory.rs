//! The budget of the daemon's memory: what it says of itself, and that it is true.

use crate::support::{Daemon, Ground, SOON, asked, eventually, finish, forebay};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;

fn memory(ground: &Ground) -> Value {
    asked(&["info", "--on"], &ground.mnt())["memory"].clone()
}

fn part(memory: &Value, name: &str) -> Value {
    let parts = memory["parts"].as_array().unwrap();
    parts.iter().find(|part| part["part"] == name).unwrap_or_else(|| panic!("no {name} in {memory}")).clone()
}

fn figure(of: &Value, key: &str) -> u64 {
    of[key].as_u64().unwrap_or_else(|| panic!("no {key} in {of}"))
}

/// A daemon with a budget of its own.
fn up(ground: &Ground, budget: &str, more: &str) -> Daemon {
    let config = ground.file("forebay.toml");
    fs::write(&config, format!("[node]\nmemory = \"{budget}\"\n{more}")).unwrap();
    ground.up(&["--config", config.to_str().unwrap()])
}

#[test]
fn the_budget_is_split_into_parts_and_kept() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("f"), vec![7; 32 << 20]).unwrap();
    let daemon = up(&ground, "320MiB", "[persist]\nmemory = \"24MiB\"\n");
    assert!(daemon.log().contains("the memory is shared out"), "{}", daemon.log());
    assert_eq!(fs::read(ground.mnt().join("f")).unwrap().len(), 32 << 20);
    fs::write(ground.mnt().join("g"), vec![8; 32 << 20]).unwrap();
    let now = memory(&ground);
    assert_eq!((figure(&now, "budget"), &now["budget_from"]), (320 * MIB, &"node.memory".into()));
    let (arena, persist) = (part(&now, "arena"), part(&now, "persist"));
    assert_eq!((figure(&arena, "limit"), &arena["set_by"]), (64 * MIB, &"node.arena".into()));
    assert_eq!((figure(&persist, "limit"), &persist["set_by"]), (24 * MIB, &"persist.memory".into()));
    assert_eq!(figure(&arena, "taken"), 64 * MIB, "it is taken as a whole");
    let inodes = part(&now, "inodes");
    assert_eq!((&inodes["set_by"], &inodes["held"]), (&Value::Null, &false.into()));
    assert!(figure(&inodes, "used") > 500 && figure(&inodes, "limit") > 16 * MIB, "{now}");
    let limits: u64 = now["parts"].as_array().unwrap().iter().map(|part| figure(part, "limit")).sum();
    assert!(limits <= 320 * MIB, "{now}");
    let resident = figure(&now, "resident");
    assert!((64 * MIB..320 * MIB).contains(&resident), "{now}");
    daemon.stop();
}

#[test]
fn without_a_setting_the_budget_comes_from_the_machine() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let now = memory(&ground);
    let host = serde_json::from_slice::<Value>(&finish(forebay(["info", "--json"]), SOON).stdout).unwrap();
    assert_eq!(now["budget"], host["memory_budget_default"], "{now}");
    assert!(now["budget_from"].as_str().unwrap().starts_with("derived from"), "{now}");
    let mut info = forebay(["info", "--on"]);
    info.arg(ground.mnt());
    let text = String::from_utf8(finish(info, SOON).stdout).unwrap();
    let rows = ["memory  ", "- arena  ", "- inodes  ", "of 64MiB (node.arena)", "not held to it"];
    assert!(rows.iter().all(|row| text.contains(row)), "{text}");
    daemon.stop();
}

/// What the kernel has looked up stays with the daemon, and the daemon says how much that is.
#[test]
fn inodes_that_the_kernel_has_looked_up_are_counted() {
    const FILES: usize = 4000;
    let ground = Ground::new();
    for n in 0..FILES {
        fs::write(ground.ufs().join(format!("f{n}")), "").unwrap();
    }
    let daemon = up(&ground, "172MiB", ""); // The least with an arena of 64 MiB.
    let before = part(&memory(&ground), "inodes");
    for n in 0..FILES {
        fs::metadata(ground.mnt().join(format!("f{n}"))).unwrap();
    }
    let after = part(&memory(&ground), "inodes");
    let grown = figure(&after, "used") - figure(&before, "used");
    assert!(grown >= (FILES * 500) as u64, "{before} before, {after} after");
    daemon.stop();
}

/// More inodes than their part of the budget has room for, of which nobody uses all but one.
#[test]
fn the_kernel_is_asked_to_forget_inodes_beyond_the_budget() {
    const FILES: usize = 20_000;
    let ground = Ground::new();
    for n in 0..FILES {
        fs::write(ground.ufs().join(format!("f{n}")), format!("{n}")).unwrap();
    }
    let daemon = up(&ground, "172MiB", "");
    if memory(&ground)["can_prune"] != true {
        eprintln!("this kernel cannot be asked");
        return daemon.stop();
    }
    let at = |n: usize| ground.mnt().join(format!("f{n}"));
    let held = fs::File::open(at(7)).unwrap();
    let number = held.metadata().unwrap().ino();
    for n in 0..FILES {
        assert_eq!(fs::metadata(at(n)).unwrap().len(), n.to_string().len() as u64);
    }
    eventually("the inodes are back in their part", SOON, || {
        let inodes = part(&memory(&ground), "inodes");
        figure(&inodes, "used") <= figure(&inodes, "limit")
    });
    let now = memory(&ground);
    assert!(figure(&now, "asked_to_forget") > 0 && figure(&now, "inodes") < FILES as u64, "{now}");
    // What is open is the same file, and what was forgotten is there again when it is asked for.
    assert_eq!(std::io::read_to_string(&held).unwrap(), "7");
    assert_eq!(fs::metadata(at(7)).unwrap().ino(), number);
    for n in (0..FILES).step_by(97) {
        assert_eq!(fs::read_to_string(at(n)).unwrap(), n.to_string());
    }
    drop(held);
    daemon.stop();
}
