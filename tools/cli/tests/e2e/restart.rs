//! What survives an orderly stop, a kill -9, and a second start.

use crate::support::{Ground, SOON, eventually, pattern};
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

#[test]
fn an_orderly_restart_keeps_what_was_written() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let bytes = pattern(1_500_000, 5);
    fs::write(ground.mnt().join("f"), &bytes).unwrap();
    daemon.stop();
    let daemon = ground.up(&[]);
    assert!(fs::read(ground.mnt().join("f")).unwrap() == bytes);
    daemon.stop();
}

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_is_killed() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let at = |name: &str| ground.mnt().join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/written"), pattern(700_000, 1)).unwrap();
    fs::write(at("d/before"), "renamed").unwrap();
    fs::rename(at("d/before"), at("d/after")).unwrap();
    fs::write(at("d/gone"), "x").unwrap();
    fs::remove_file(at("d/gone")).unwrap();
    let mut open = OpenOptions::new().read(true).write(true).create_new(true).open(at("d/open")).unwrap();
    open.write_all(&pattern(300_000, 2)).unwrap();
    open.write_all_at(b"patch", 100).unwrap();
    daemon.kill();
    drop(open);
    let daemon = ground.up(&[]);
    assert!(fs::read(at("d/written")).unwrap() == pattern(700_000, 1));
    assert_eq!(fs::read_to_string(at("d/after")).unwrap(), "renamed");
    let mut names: Vec<_> = fs::read_dir(at("d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["after", "open", "written"]);
    let mut wanted = pattern(300_000, 2);
    wanted[100..105].copy_from_slice(b"patch");
    assert!(fs::read(at("d/open")).unwrap() == wanted);
    eventually("all of it is in the under file system", SOON, || {
        fs::read(ground.ufs().join("d/open")).is_ok_and(|native| native == wanted)
            && fs::read(ground.ufs().join("d/written")).is_ok_and(|native| native == pattern(700_000, 1))
            && fs::read_to_string(ground.ufs().join("d/after")).is_ok_and(|native| native == "renamed")
    });
    assert!(!ground.ufs().join("d/gone").exists());
    daemon.stop();
}

#[test]
fn a_stop_waits_for_files_open_for_writing_and_then_names_who_holds_them() {
    let ground = Ground::new();
    let config = ground.file("forebay.toml");
    fs::write(&config, "[node]\nstop_grace = \"1s\"\n").unwrap();
    let mut daemon = ground.up(&["--config", config.to_str().unwrap()]);
    let mut file = fs::File::create(ground.mnt().join("f")).unwrap();
    file.write_all(b"x").unwrap();
    daemon.signal("TERM");
    let status = daemon.ended(SOON).expect("it ends after the grace");
    assert!(!status.success(), "it must say that it could not stop in order");
    let log = daemon.log();
    assert!(log.contains(&std::process::id().to_string()), "the log names no holder:\n{log}");
}

#[test]
fn a_file_closed_within_the_grace_makes_the_stop_an_orderly_one() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let mut file = fs::File::create(ground.mnt().join("f")).unwrap();
    file.write_all(b"late").unwrap();
    let closer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        file.write_all(b"r").unwrap();
    });
    daemon.stop();
    closer.join().unwrap();
    let daemon = ground.up(&[]);
    assert_eq!(fs::read_to_string(ground.mnt().join("f")).unwrap(), "later");
    daemon.stop();
}

/// Writes to a file with a time that is set before the first or after the last write, and changes something else then.
/// Gives the file and the time it is to have.
fn written(path: &Path, set_before: bool, set_after: bool, change: &dyn Fn()) -> (File, SystemTime) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 7);
    let set = |file: &File| file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
    let mut file = File::create_new(path).unwrap();
    file.write_all(b"first").unwrap();
    if set_before {
        set(&file);
    }
    std::thread::sleep(Duration::from_millis(30));
    file.write_all(b"last").unwrap();
    let last = file.metadata().unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    if set_after {
        set(&file);
    }
    change();
    (file, if set_after { long_ago } else { last })
}

#[test]
fn after_a_kill_a_file_has_the_time_of_its_last_write_or_the_one_that_was_set_since() {
    let ground = Ground::new();
    let daemon = ground.up(&[]);
    let at = |name: String| ground.mnt().join(name);
    let mut open = Vec::new();
    for (set_before, set_after) in [(false, false), (true, false), (false, true)] {
        let name = |what: &str| format!("{what}-{set_before}-{set_after}");
        let from = at(name("old"));
        let rename = || fs::rename(&from, at(name("renamed"))).unwrap();
        open.push((name("renamed"), written(&from, set_before, set_after, &rename)));
        let linked = at(name("linked"));
        let link = || fs::hard_link(&linked, at(name("link"))).unwrap();
        open.push((name("linked"), written(&linked, set_before, set_after, &link)));
        let mode = at(name("mode"));
        let chmod = || fs::set_permissions(&mode, Permissions::from_mode(0o600)).unwrap();
        open.push((name("mode"), written(&mode, set_before, set_after, &chmod)));
    }
    daemon.kill();
    let wanted: Vec<_> = open.into_iter().map(|(name, (_, time))| (name, time)).collect();
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    for _ in 0..2 {
        let daemon = ground.up(&[]);
        for (name, time) in &wanted {
            assert_eq!(modified(&at(name.clone())).unwrap(), *time, "{name}");
        }
        eventually("the under file system has them with their times", SOON, || {
            wanted.iter().all(|(name, time)| modified(&ground.ufs().join(name)).is_ok_and(|at| at == *time))
        });
        daemon.stop();
    }
}
