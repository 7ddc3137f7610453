//! The ground the tests stand on: fresh directories, and the real binary mounting one on the other.
//!
//! A test that panics leaves nothing behind: dropping a [`Daemon`] kills it and takes its mount away.

use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest that anything here may take: a machine that does ten other things keeps one waiting for minutes.
pub(crate) const SOON: Duration = Duration::from_secs(240);

/// A place for one test: an under file system, a mount point and a cache, all empty.
pub(crate) struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("forebay-e2e.").tempdir().unwrap();
        let ground = Self { dir };
        for part in [ground.ufs(), ground.mnt()] {
            std::fs::create_dir(part).unwrap();
        }
        ground
    }

    pub(crate) fn ufs(&self) -> PathBuf {
        self.dir.path().join("ufs")
    }

    pub(crate) fn mnt(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Mounts with the flags that every test wants and those of its own.
    pub(crate) fn up(&self, extra: &[&str]) -> Daemon {
        self.up_on(&self.cache(), &[&["--cache-size", "1GiB"], extra].concat())
    }

    /// Mounts with a cache elsewhere.
    pub(crate) fn up_on(&self, cache: &Path, extra: &[&str]) -> Daemon {
        let (mut child, said) = self.start(cache, extra);
        let ready = match said.recv_timeout(SOON) {
            Ok(line) if line.starts_with("ready") => line,
            other => {
                child.kill().ok();
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                panic!("no line beginning `ready` within {SOON:?}: {other:?}\n{log}");
            }
        };
        let daemon = Daemon { child, mnt: self.mnt(), log: self.log(), ready };
        assert_eq!(kind_of_mount(&daemon.mnt), "fuse.forebay");
        daemon
    }

    fn log(&self) -> PathBuf {
        self.file("log")
    }

    fn start(&self, cache: &Path, extra: &[&str]) -> (Child, mpsc::Receiver<String>) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = forebay([OsStr::new("up"), self.ufs().as_ref(), self.mnt().as_ref()]);
        command.arg("--cache").arg(cache).args(extra);
        command.env("FOREBAY_NODE_ARENA", "64MiB");
        // A mount that waits for another daemon would have the end of a test wait too; who wants it says so by -o.
        command.env("FOREBAY_FUSE_TAKEOVER_TIMEOUT", "0s");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (says, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if says.send(line).is_err() {
                    return;
                }
            }
        });
        (child, said)
    }

    /// Runs `forebay up` where it must not come up, and returns how it ended.
    pub(crate) fn up_fails(&self, extra: &[&str]) -> Output {
        let mut command = forebay([OsStr::new("up"), self.ufs().as_ref(), self.mnt().as_ref()]);
        command.arg("--cache").arg(self.cache()).args(extra);
        finish(command, SOON)
    }
}

/// The binary under test, with nothing of our own environment that could be a setting.
pub(crate) fn forebay(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command with `--json` says about a path.
pub(crate) fn asked(arguments: &[&str], path: &Path) -> serde_json::Value {
    let mut command = forebay(arguments);
    command.arg(path).arg("--json");
    let output = finish(command, SOON);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a command says that must fail; it names a cause, and a remedy or what it expected.
pub(crate) fn refusal(arguments: &[&str]) -> String {
    let output = finish(forebay(arguments), SOON);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} was not refused: {said}");
    said
}

/// Runs a command to its end, which must come within the time given.
pub(crate) fn finish(command: Command, within: Duration) -> Output {
    Running::start(command).end(within)
}

/// A command that runs, and is killed if nobody waits for its end.
pub(crate) struct Running {
    child: Child,
    what: String,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
        Self { child, what: format!("{command:?}"), out, err }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Its end, which must come within the time given.
    pub(crate) fn end(mut self, within: Duration) -> Output {
        let status = wait(&mut self.child, within);
        let status = status.unwrap_or_else(|| panic!("{} did not end within {within:?}", self.what));
        let said = |pipe: Option<JoinHandle<Vec<u8>>>| pipe.unwrap().join().unwrap();
        Output { status, stdout: said(self.out.take()), stderr: said(self.err.take()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        bytes
    })
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return Some(status),
            None if Instant::now() > deadline => return None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The type of the file system that `path` is on.
pub(crate) fn kind_of_mount(path: &Path) -> String {
    let output = Command::new("findmnt").args(["-nT"]).arg(path).args(["-o", "FSTYPE"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A daemon that serves a mount.
pub(crate) struct Daemon {
    child: Child,
    mnt: PathBuf,
    log: PathBuf,
    /// The line it said when it was ready.
    pub(crate) ready: String,
}

impl Daemon {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// How it ended, if it ended within the time given.
    pub(crate) fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, within)
    }

    /// Stops it as an operator would; it must unmount and end well.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended(SOON);
        let log = self.log();
        let status = status.unwrap_or_else(|| panic!("SIGTERM did not stop it within {SOON:?}\n{log}"));
        assert!(status.success(), "it ended with {status}\n{log}");
        assert_ne!(kind_of_mount(&self.mnt), "fuse.forebay", "it ended and left its mount\n{log}");
    }

    /// Kills it without warning, as a crash would. The dead mount stays.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.leave();
    }

    /// Lets its mount be, however it ended.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        take_mount_away(&self.mnt);
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        take_mount_away(&self.mnt());
    }
}

/// An address that nothing listens at, for a server that is started next. None of those that the kernel gives: on a busy
/// machine it would give the same one to whoever connects to something else meanwhile.
pub(crate) fn free_address() -> String {
    let any = || 10_000 + RandomState::new().build_hasher().finish() % 20_000;
    let mut addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", any()));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("it goes on for ever")
}

/// As umount(8) does it. A process that another test is just starting has copies of what this one has open until it
/// becomes its program, so that the mount may be busy for a moment after the last close.
pub(crate) fn umount(mnt: &Path) {
    eventually("it can be unmounted", SOON, || Command::new("umount").arg(mnt).status().unwrap().success());
}

/// Lazily, because a test that failed may have left files open.
fn take_mount_away(mnt: &Path) {
    Command::new("umount").args(["-q", "-l"]).arg(mnt).stderr(Stdio::null()).status().ok();
}

/// Bytes that no two positions share, so that a page in the wrong place is noticed.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Asks again until it is so, or the time is up.
pub(crate) fn eventually(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
