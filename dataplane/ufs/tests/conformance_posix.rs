//! The conformance suite against directories: the temporary directory's file system and memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use forebay_ufs::{UfsOptions, conformance};
use tempfile::TempDir;

async fn run_in(dir: TempDir) {
    let options = UfsOptions { part_len_min: forebay_types::ByteSize::kib(256), ..Default::default() };
    let url = format!("file://{}", dir.path().display());
    let ufs = forebay_ufs::open(&url, &options).await.unwrap();
    let report = conformance::run(ufs).await;
    println!("{report}");
    assert_eq!(report.not_shown(), [], "a directory can show everything");
    let left: Vec<_> = walk(dir.path());
    assert_eq!(left, Vec::<String>::new(), "temporary files were left");
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let below = entries.flat_map(|entry| match entry.file_type().unwrap().is_dir() {
        true => walk(&entry.path()),
        false => vec![entry.file_name().to_string_lossy().into_owned()],
    });
    below.filter(|name| name.starts_with(".forebay-put.")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_conforms() {
    run_in(TempDir::new().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_memory_conforms() {
    run_in(TempDir::new_in("/dev/shm").unwrap()).await;
}
