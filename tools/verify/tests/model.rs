//! The model and the matrix by their commands: they agree with the file system of this machine, and a directory that
//! changes behind their back is found out.
#![allow(clippy::unwrap_used, reason = "a test's helper functions may fail the test")]

use std::fs;
use std::process::{Command, Output, Stdio};

fn verify(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay-verify")).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_local_file_system_agrees_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let output = verify(&["model", place, "--ops", "3000", "--seed", "11", "--seeds", "2"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("seed 12: 3000 operations agree"));
}

#[test]
fn a_lost_byte_is_found_shortened_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("dir");
    fs::create_dir(&place).unwrap();
    let (place, failures) = (place.to_str().unwrap(), dir.path().to_str().unwrap());
    let spoil = format!("find {place} -type f -size +0 -exec truncate -s -1 {{}} +");
    let run =
        ["model", place, "--ops", "2000", "--act-every", "50", "--evict", &spoil, "--failures", failures];
    let output = verify(&run);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let file = dir.path().join("seed-1.json");
    let left = fs::read_to_string(&file).unwrap().lines().count();
    assert!(left <= 4, "{left} operations are left: {}", text(&output));

    let file = file.to_str().unwrap();
    assert_eq!(verify(&["replay", place, file, "--evict", &spoil]).status.code(), Some(1));
    assert!(verify(&["replay", place, file]).status.success(), "without the act nothing is wrong");
}

#[test]
fn the_matrix_passes_here() {
    let dir = tempfile::tempdir().unwrap();
    let output = verify(&["matrix", dir.path().to_str().unwrap(), "--mib", "2", "--hold-ms", "1"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_user_of_the_matrix_finds_a_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (file, like) = (dir.path().join("file"), dir.path().join("like"));
    fs::write(&like, vec![7; 2_000_000]).unwrap();
    let mut data = vec![7; 2_000_000];
    data[1_500_000] = 0;
    fs::write(&file, data).unwrap();
    for way in ["read", "shared", "private"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-verify"));
        let output =
            command.args(["matrix-user", way]).args([&file, &like]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{way}");
        assert!(text(&output).contains("wrong bytes from 1500000 on"), "{way}: {}", text(&output));
    }
}
