//! Every way to use a file beside every other, in every state a file can be in: never EIO, never ENODEV, never a
//! SIGBUS, always the right bytes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::actor::{Actor, Outcome, Way};
use common::{Dirs, Node, PAGE, Setup, eventually};
use forebay_types::ByteSize;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

/// A program with a tail of other bytes: an executable may be longer than what its headers name.
const PROGRAM: &str = "/bin/cat";
const FILE_LEN: usize = 512 << 10;
/// So slow that a file of this length is filling for a quarter of a second.
const UFS_BANDWIDTH: ByteSize = ByteSize::mib(2);

/// What state the file is in when the two processes come.
#[derive(Clone, Copy, Debug)]
enum State {
    Cold,
    Filling,
    Resident,
    BeingWritten,
}

const STATES: [State; 4] = [State::Cold, State::Filling, State::Resident, State::BeingWritten];

/// Not a test: the part of the second process.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn actor() {
    common::actor::perform();
}

fn content() -> Vec<u8> {
    let mut bytes = std::fs::read(PROGRAM).unwrap();
    bytes.extend(common::pattern(7, FILE_LEN - bytes.len()));
    bytes
}

fn put(dirs: &Dirs, name: &str, bytes: &[u8]) {
    let path = dirs.ufs().join(name);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn name_of(state: State, first: Way, second: Way) -> String {
    format!("{state:?}-{first:?}-{second:?}")
}

/// What goes on beside the two processes until it is dropped.
struct Beside {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    fn nothing() -> Self {
        Self { stop: Arc::default(), thread: None }
    }

    fn run(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Self { stop, thread: Some(std::thread::spawn(move || work(&told))) }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn bring_into(state: State, path: &Path) -> Beside {
    let path = path.to_owned();
    match state {
        State::Cold => Beside::nothing(),
        State::Filling => Beside::run(move |_| drop(std::fs::read(path).unwrap())),
        State::Resident => {
            assert_eq!(std::fs::read(path).unwrap().len(), FILE_LEN);
            Beside::nothing()
        }
        State::BeingWritten => {
            let bytes = std::fs::read(&path).unwrap();
            let file = File::options().read(true).write(true).open(path).unwrap();
            Beside::run(move |stop| {
                for at in (0..FILE_LEN).step_by(8192).cycle() {
                    file.write_all_at(&bytes[at..at + 8192], at as u64).unwrap();
                    if stop.load(SeqCst) {
                        return;
                    }
                }
            })
        }
    }
}

/// Running what is open for write, and opening for write what runs, is refused by every file system.
fn is_refused_anywhere(way: Way, other: Way, state: State, errno: i32) -> bool {
    let written = matches!(state, State::BeingWritten) || other.writes();
    errno == libc::ETXTBSY && ((way == Way::Exec && written) || (way.writes() && other == Way::Exec))
}

fn check(outcome: &Outcome, way: Way, other: Way, state: State) -> Result<(), String> {
    match outcome {
        Outcome::Fine => Ok(()),
        Outcome::Errno(errno) if is_refused_anywhere(way, other, state, *errno) => Ok(()),
        bad => Err(format!("{way:?} beside {other:?} on a {state:?} file: {bad:?}")),
    }
}

/// Both processes, the first still holding when the second comes.
fn pair(node: &Node, state: State, first: Way, second: Way) -> Vec<String> {
    let path = node.at(&name_of(state, first, second));
    let beside = bring_into(state, &path);
    let one = Actor::start(first, &path);
    let two = Actor::start(second, &path);
    let finish = |actor: Result<Actor, Outcome>| actor.map_or_else(|failed| failed, Actor::end);
    let (two, one) = (finish(two), finish(one));
    drop(beside);
    let results = [check(&one, first, second, state), check(&two, second, first, state)];
    results.into_iter().filter_map(Result::err).collect()
}

fn matrix(passthrough: bool) {
    let dirs = Dirs::new();
    let bytes = content();
    for state in STATES {
        for (first, second) in pairs() {
            put(&dirs, &name_of(state, first, second), &bytes);
        }
    }
    let ufs_bandwidth = Some(UFS_BANDWIDTH);
    let node = Node::start(&Setup { ufs_bandwidth, passthrough, ..Setup::default() }, dirs);
    let mut failures = Vec::new();
    for state in STATES {
        for (first, second) in pairs() {
            failures.extend(pair(&node, state, first, second));
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    for state in STATES {
        for (first, second) in pairs() {
            let name = name_of(state, first, second);
            assert!(std::fs::read(node.at(&name)).unwrap() == bytes, "{name} has other bytes now");
        }
    }
    eventually("all files are closed", || node.mount().open_files() == 0);
    let opens = node.opens();
    assert!(opens.cached > 0 && (opens.passthrough > 0) == passthrough, "{opens:?}");
    node.unmount();
}

fn pairs() -> impl Iterator<Item = (Way, Way)> {
    Way::ALL.into_iter().flat_map(|first| Way::ALL.into_iter().map(move |second| (first, second)))
}

#[test]
fn all_ways_go_together_with_passthrough() {
    matrix(true);
}

#[test]
fn all_ways_go_together_without_passthrough() {
    matrix(false);
}

/// Whoever writes past the page cache does not wait for another writer of the same file whose page has to be fetched first.
#[test]
fn two_write_one_file_past_the_page_cache_at_one_time() {
    let dirs = Dirs::new();
    let bytes = common::pattern(3, FILE_LEN);
    std::fs::write(dirs.ufs().join("file"), &bytes).unwrap();
    let slow = Setup { ufs_bandwidth: Some(ByteSize::kib(256)), passthrough: false, ..Setup::default() };
    let node = Node::start(&slow, dirs);
    let open = || File::options().write(true).custom_flags(libc::O_DIRECT).open(node.at("file")).unwrap();
    let (one, other) = (open(), open());
    let first_has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            one.write_all_at(b"part of a page", 5).unwrap();
            first_has_ended.store(true, SeqCst);
        });
        // It has to be on its way; a moment too early would only make the test easier.
        std::thread::sleep(Duration::from_millis(50));
        let whole_page = vec![9; PAGE as usize];
        other.write_all_at(&whole_page, 4 * PAGE).unwrap();
        assert!(
            !first_has_ended.load(SeqCst),
            "the first write was to take longer, or the second waited for it"
        );
    });
    let mut expected = bytes;
    expected[5..19].copy_from_slice(b"part of a page");
    expected[4 * PAGE as usize..5 * PAGE as usize].fill(9);
    assert!(std::fs::read(node.at("file")).unwrap() == expected);
    drop((one, other));
    node.unmount();
}

/// Each of several writers has his own part of every page, of a file that comes from the UFS meanwhile.
#[test]
fn writers_beside_each_other_lose_no_byte() {
    const WRITERS: usize = 4;
    const PART_LEN: usize = 1000;
    let dirs = Dirs::new();
    std::fs::write(dirs.ufs().join("file"), common::pattern(5, 2 * FILE_LEN)).unwrap();
    let node = Node::start(&Setup { passthrough: false, ..Setup::default() }, dirs);
    let path = node.at("file");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let path = &path;
            scope.spawn(move || {
                let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
                let starts = (writer * PART_LEN..2 * FILE_LEN).step_by(WRITERS * PART_LEN);
                for at in starts {
                    let len = PART_LEN.min(2 * FILE_LEN - at);
                    file.write_all_at(&vec![writer as u8; len], at as u64).unwrap();
                }
            });
        }
    });
    let now = std::fs::read(&path).unwrap();
    assert_eq!(now.len(), 2 * FILE_LEN);
    let wrong = now.iter().enumerate().find(|(at, byte)| usize::from(**byte) != at / PART_LEN % WRITERS);
    assert_eq!(wrong, None);
    node.unmount();
}

/// One writes long runs, which go to the disk past all page caches, while another writes a few bytes in the middle of the same
/// pages. Whoever comes last there, around them are the bytes of the run.
#[test]
fn a_run_loses_nothing_to_who_writes_in_the_middle_of_it() {
    const ROUNDS: u8 = 100;
    const RUN_LEN: usize = 256 << 10;
    const IN_PAGE: std::ops::Range<usize> = 1000..1100;
    let node = Node::start(&Setup { passthrough: false, ..Setup::default() }, Dirs::new());
    std::fs::write(node.at("file"), vec![0; RUN_LEN]).unwrap();
    let open = || {
        let mut how = File::options();
        how.read(true).write(true).custom_flags(libc::O_DIRECT).open(node.at("file")).unwrap()
    };
    let (long, short) = (open(), open());
    for round in 1..ROUNDS {
        std::thread::scope(|scope| {
            scope.spawn(|| long.write_all_at(&vec![round; RUN_LEN], 0).unwrap());
            for page in (0..RUN_LEN).step_by(4096) {
                short.write_all_at(&[u8::MAX; 100], (page + IN_PAGE.start) as u64).unwrap();
            }
        });
        let mut now = vec![0; RUN_LEN];
        short.read_exact_at(&mut now, 0).unwrap();
        let of_the_run = now.iter().enumerate().filter(|(at, _)| !IN_PAGE.contains(&(at % 4096)));
        let lost = of_the_run.clone().find(|(_, byte)| **byte != round);
        assert_eq!(lost, None, "in round {round}");
    }
    // The file system of the tier says here that the two met, whether or not it cost bytes this time.
    long.sync_all().unwrap();
    drop((long, short));
    node.unmount();
}
