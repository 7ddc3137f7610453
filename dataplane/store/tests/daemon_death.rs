//! kill -9: everything acknowledged is there, synced or not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{bytes_of, config, fetched, fill, frame_of, on_shard, read};
use forebay_store::{ExtentSpec, LastExit, Store};
use forebay_types::{ContentKey, ExtentId};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

const DIR_VAR: &str = "FOREBAY_TEST_CHILD_DIR";
const PAGES: u64 = 4;

/// Says on stdout what it has done, after it was acknowledged.
fn child(dir: &std::path::Path) {
    let (store, _) = Store::open(config(dir)).unwrap();
    on_shard(move || async move {
        let say = |line: String| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "did {line}").and_then(|()| out.flush()).unwrap();
        };
        for key in 1.. {
            let extent = fetched(&store, key, PAGES * common::PAGE).await;
            for page in 0..PAGES {
                fill(&extent, key as u64, page).await;
                say(format!("fill {key} {page}"));
            }
            let written = store.create(ExtentSpec::BORN_HERE).await.unwrap();
            let bytes = bytes_of(1000 + key as u64, 0, 10_000);
            written.write(frame_of(&bytes).await, 77).await.unwrap();
            say(format!("write {} {key}", written.id().0));
            store.unbind_all(extent.id()).await.unwrap();
            let ours = bytes_of(2000 + key as u64, 2, common::PAGE as usize);
            extent.write(frame_of(&ours).await, 2 * common::PAGE).await.unwrap();
            say(format!("overwrite {} {key}", extent.id().0));
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some(dir) = std::env::var_os(DIR_VAR) {
        return child(dir.as_ref());
    }
    for round in 0..3u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_acknowledged_is_lost", "--nocapture"])
            .env(DIR_VAR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let told = |line: &String| {
                // Nobody counts any more once it is at work.
                begun.send(line.contains("did ")).ok();
            };
            lines.map_while(Result::ok).inspect(told).collect::<Vec<_>>()
        });
        // The time it takes to start depends on the machine; what is random is only when it is killed after that.
        let enough = has_begun.iter().filter(|did| *did).take(11).count();
        assert_eq!(enough, 11, "the child ended by itself");
        std::thread::sleep(Duration::from_millis(round * 230));
        process.kill().unwrap();
        process.wait().unwrap();
        let did: Vec<_> = reader.join().unwrap();
        let did: Vec<_> = did.iter().filter_map(|l| l.split("did ").nth(1)).map(str::to_owned).collect();
        assert!(did.len() > 10, "the child did nothing: {did:?}");
        verify(dir.path(), did);
    }
}

fn verify(dir: &std::path::Path, did: Vec<String>) {
    let (store, report) = Store::open(config(dir)).unwrap();
    assert_eq!(report.tiers[0].1, Some(LastExit::DaemonDied));
    assert_eq!((report.records_refused, report.dropped), (0, 0));
    on_shard(move || async move {
        let page = common::PAGE as usize;
        let last = did.last().cloned().unwrap();
        let overwritten: Vec<&str> = did.iter().filter_map(|l| l.strip_prefix("overwrite ")).collect();
        for line in &did {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "fill" => {
                    let Some(extent) = store.find(&ContentKey(u128::from(number(1)))) else {
                        // Unbound to be overwritten; checked below by id.
                        let later = overwritten.iter().any(|l| l.ends_with(&format!(" {}", number(1))));
                        assert!(later || last.starts_with("write"), "{line} is lost");
                        continue;
                    };
                    let at = number(2) * common::PAGE;
                    assert!(extent.is_resident(at..at + common::PAGE), "{line} is lost");
                    assert_eq!(read(&extent, at, page).await, bytes_of(number(1), number(2), page), "{line}");
                }
                "write" => {
                    let extent = store.get(ExtentId(number(1))).unwrap();
                    assert_eq!(
                        read(&extent, 77, 20_000).await,
                        bytes_of(1000 + number(2), 0, 10_000),
                        "{line}"
                    );
                }
                "overwrite" => {
                    let extent = store.get(ExtentId(number(1))).unwrap();
                    assert!(extent.is_complete(), "{line}");
                    let ours = bytes_of(2000 + number(2), 2, page);
                    assert_eq!(read(&extent, 2 * common::PAGE, page).await, ours, "{line}");
                    assert_eq!(read(&extent, 0, page).await, bytes_of(number(2), 0, page), "{line}");
                }
                other => panic!("unknown line {other}"),
            }
        }
    });
}
