//! What is kept and what is not: pins, times to live, quotas, over the real mount.

use crate::support::{Ground, SOON, asked, eventually, finish, forebay, pattern, refusal};
use std::fs;
use std::io::ErrorKind;

const MIB: usize = 1 << 20;

fn with_keeper(ground: &Ground, every: &str) -> String {
    let config = ground.file("forebay.toml");
    fs::write(&config, format!("[keeper]\nevery = \"{every}\"\n")).unwrap();
    config.to_str().unwrap().to_owned()
}

#[test]
fn a_pin_loads_and_holds_what_is_there_and_what_comes_until_it_is_taken_away() {
    let ground = Ground::new();
    fs::create_dir_all(ground.ufs().join("set/deep")).unwrap();
    fs::write(ground.ufs().join("set/deep/a"), pattern(MIB + 5, 1)).unwrap();
    let config = with_keeper(&ground, "100ms");
    let up = ["--config", &config, "--metadata-ttl", "1s"];
    let daemon = ground.up(&up);
    let (set, a) = (ground.mnt().join("set"), ground.mnt().join("set/deep/a"));
    let pinned = asked(&["fs", "pin"], &set);
    assert_eq!((&pinned["files"], &pinned["bytes"]), (&1.into(), &(MIB + 5).into()));
    let known = asked(&["fs", "stat"], &a);
    assert_eq!(
        (&known["pinned"], &known["held"], &known["cached_bytes"]),
        (&true.into(), &true.into(), &(MIB + 5).into())
    );
    assert_eq!(asked(&["fs", "free"], &ground.mnt())["files_in_use"], 1, "a pinned file was freed");

    fs::write(ground.ufs().join("set/b"), pattern(MIB, 2)).unwrap();
    eventually("what came later is brought here and held", SOON, || {
        let known =
            ground.mnt().join("set/b").exists().then(|| asked(&["fs", "stat"], &ground.mnt().join("set/b")));
        known.is_some_and(|known| known["held"] == true && known["cached_bytes"] == MIB)
    });
    daemon.stop();

    let daemon = ground.up(&up);
    eventually("the pin holds after a restart", SOON, || asked(&["fs", "stat"], &a)["held"] == true);
    let refused = refusal(&["fs", "unpin", a.to_str().unwrap()]);
    assert!(refused.contains("is not pinned itself") && refused.contains("the pin of /set"), "{refused}");
    assert_eq!(asked(&["fs", "unpin"], &set)["pins"], serde_json::json!([]));
    assert_eq!(asked(&["fs", "stat"], &a)["held"], false);
    assert!(asked(&["fs", "free"], &ground.mnt())["freed_bytes"].as_u64().unwrap() > 2 * MIB as u64);
    daemon.stop();
}

#[test]
fn a_pin_that_cannot_be_kept_is_taken_back() {
    let ground = Ground::new();
    // Far more than the fetches that may be under way at once, each of which finds room.
    fs::File::create(ground.ufs().join("large")).unwrap().set_len(400 << 20).unwrap();
    let daemon = ground.up(&[]);
    assert!(
        finish(
            forebay(["config", "set", "cache.size", "64MiB", "--on", ground.mnt().to_str().unwrap()]),
            SOON
        )
        .status
        .success()
    );
    let large = ground.mnt().join("large");
    let refused = refusal(&["fs", "pin", large.to_str().unwrap()]);
    assert!(refused.contains("it is not pinned") && refused.contains("remedy"), "{refused}");
    assert_eq!(asked(&["fs", "stat"], &large)["pinned"], false);
    let missing = refusal(&["fs", "pin", ground.mnt().join("none").to_str().unwrap()]);
    assert!(missing.contains("NotFound"), "{missing}");
    daemon.stop();
}

#[test]
fn a_time_to_live_frees_or_deletes() {
    let ground = Ground::new();
    for dir in ["cached", "scratch", "kept"] {
        fs::create_dir(ground.ufs().join(dir)).unwrap();
        fs::write(ground.ufs().join(dir).join("f"), pattern(MIB, 3)).unwrap();
    }
    let config = with_keeper(&ground, "100ms");
    let daemon = ground.up(&["--config", &config]);
    let at = |path: &str| ground.mnt().join(path);
    for path in ["cached/f", "scratch/f", "kept/f"] {
        assert_eq!(fs::read(at(path)).unwrap().len(), MIB);
    }
    let set = |path: &str, changes: &[&str]| {
        let mut command = forebay(["mount", "set"]);
        command.arg(at(path)).args(changes);
        let output = finish(command, SOON);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    set("cached", &["ttl=1s"]);
    set("scratch", &["ttl=1s", "ttl_action=delete"]);
    eventually("the cached bytes go and the file stays", SOON, || {
        asked(&["fs", "stat"], &at("cached/f"))["cached_bytes"] == 0
    });
    eventually("the file goes", SOON, || !at("scratch/f").exists());
    eventually("... in the under file system as well", SOON, || !ground.ufs().join("scratch/f").exists());
    assert_eq!(fs::read(at("cached/f")).unwrap(), pattern(MIB, 3));
    assert!(at("scratch").exists(), "directories stay");
    assert_eq!(asked(&["fs", "stat"], &at("kept/f"))["cached_bytes"], MIB);
    daemon.stop();
}

#[test]
fn a_quota_refuses_writers_and_evicts_what_can_be_had_again() {
    let ground = Ground::new();
    fs::create_dir(ground.ufs().join("read")).unwrap();
    for n in 0..4 {
        fs::write(ground.ufs().join(format!("read/{n}")), pattern(MIB, n)).unwrap();
    }
    let config = with_keeper(&ground, "100ms");
    let daemon = ground.up(&["--config", &config, "--write-mode", "transient"]);
    let at = |path: &str| ground.mnt().join(path);
    fs::create_dir(at("written")).unwrap();
    for (path, quota) in [("read", "quota=2MiB"), ("written", "quota=2MiB")] {
        let mut command = forebay(["mount", "set"]);
        command.arg(at(path)).arg(quota);
        assert!(finish(command, SOON).status.success());
    }
    let cached = |n: u64| asked(&["fs", "stat"], &at(&format!("read/{n}")))["cached_bytes"].as_u64().unwrap();
    for n in 0..4 {
        assert_eq!(fs::read(at(&format!("read/{n}"))).unwrap(), pattern(MIB, n));
    }
    eventually("no more is kept than the quota", SOON, || (0..4).map(cached).sum::<u64>() <= 2 * MIB as u64);

    // The quota is known from the first round on.
    fs::write(at("written/a"), pattern(2 * MIB, 9)).unwrap();
    let quota_of =
        |error: std::io::Error| error.raw_os_error() == Some(rustix::io::Errno::DQUOT.raw_os_error());
    eventually("a further file is refused", SOON, || match fs::File::create(at("written/b")) {
        Ok(_) => fs::remove_file(at("written/b")).is_err(),
        Err(error) => quota_of(error),
    });
    let refused = fs::File::options().append(true).open(at("written/a")).unwrap_err();
    assert!(quota_of(refused));
    fs::write(at("elsewhere"), "not bound").unwrap();
    assert_eq!(fs::read(at("written/a")).unwrap(), pattern(2 * MIB, 9), "reading is free");
    fs::remove_file(at("written/a")).unwrap();
    eventually("there is room again", SOON, || fs::write(at("written/c"), "x").is_ok());
    daemon.stop();
}

#[test]
fn a_read_only_part_of_a_mount_refuses_changes() {
    let ground = Ground::new();
    fs::create_dir(ground.ufs().join("ro")).unwrap();
    fs::write(ground.ufs().join("ro/f"), "x").unwrap();
    let daemon = ground.up(&[]);
    let mut command = forebay(["mount", "set"]);
    command.arg(ground.mnt().join("ro")).arg("read_only=true");
    assert!(finish(command, SOON).status.success());
    assert_eq!(fs::write(ground.mnt().join("ro/g"), "y").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    fs::write(ground.mnt().join("g"), "y").unwrap();
    daemon.stop();
}
