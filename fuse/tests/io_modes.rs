//! Every way to use a file beside every other, in every state a file can be in: never EIO, never ENODEV, never a
//! SIGBUS, always the right bytes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::actor::{Actor, Outcome, Way};
use common::{Dirs, Node, Setup, eventually};
use forebay_types::ByteSize;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

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
