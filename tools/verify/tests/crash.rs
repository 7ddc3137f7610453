//! The crash ledger by its commands: nothing is found where nothing was lost, and each loss is found.
#![allow(clippy::unwrap_used, reason = "a test's helper functions may fail the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn verify(args: &[&str], dir: &Path, ledger: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-verify"));
    command.args(args).arg(dir).arg("--ledger").arg(ledger);
    command.output().unwrap()
}

fn files_below(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files_below(&entry.path(), out),
            kind if kind.is_file() => out.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn a_directory_that_keeps_all_passes_and_one_that_loses_is_found_out() {
    let place = tempfile::tempdir().unwrap();
    let (dir, ledger) = (place.path().join("dir"), place.path().join("ledger"));
    fs::create_dir(&dir).unwrap();
    for round in ["1", "2"] {
        let load = ["crash", "load", "--ops", "400", "--threads", "2", "--seed", round];
        let loaded = verify(&load, &dir, &ledger);
        assert!(loaded.status.success(), "{loaded:?}");
        let checked = verify(&["crash", "check"], &dir, &ledger);
        assert!(checked.status.success(), "{checked:?}");
    }
    let mut files = Vec::new();
    files_below(&dir, &mut files);
    let victim = files.iter().find(|path| fs::metadata(path).unwrap().len() > 0).unwrap();

    let whole = fs::read(victim).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x80;
    for spoiled in [&flipped[..], &whole[1..], &[]] {
        fs::write(victim, spoiled).unwrap();
        assert_eq!(verify(&["crash", "check", "--keep"], &dir, &ledger).status.code(), Some(1));
    }
    fs::write(victim, &whole).unwrap();
    assert!(verify(&["crash", "check", "--keep"], &dir, &ledger).status.success());
    fs::remove_file(victim).unwrap();
    assert_eq!(verify(&["crash", "check", "--keep"], &dir, &ledger).status.code(), Some(1));
}

#[test]
fn a_check_without_a_ledger_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let checked = verify(&["crash", "check"], place.path(), &place.path().join("none"));
    assert_eq!(checked.status.code(), Some(2));
}
