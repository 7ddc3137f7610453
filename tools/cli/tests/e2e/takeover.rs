//! A daemon that is started again goes on with the mount of the one that died, and an upgrade is nobody's business.

use crate::support::{
    Ground, SOON, asked, eventually, finish, forebay, kind_of_mount, pattern, refusal, umount,
};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// By the channel that can be taken over, whatever is the best one here.
const KEPT: [&str; 2] = ["-o", "channel=dev-fuse,takeover_timeout=120"];
/// Longer than a page, so that it can be here in part.
const LARGE: usize = 5 << 20;
/// A process that has files open: Python, which is told expressions and says what they come to. It is a process of its own
/// since whoever starts a daemon closes what he has open in the child, and would wait for the daemon with that.
struct Actor {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Actor {
    fn new(dir: &Path) -> Self {
        const PROGRAM: &str = "import os, sys, mmap, fcntl\n\
            for line in sys.stdin:\n\
            \ttry:\n\t\tprint(eval(line), flush=True)\n\
            \texcept BaseException as e:\n\t\tprint(repr(e), flush=True)\n";
        let mut command = Command::new("python3");
        let command = command.args(["-c", PROGRAM]).current_dir(dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn begin(&mut self, expression: &str) {
        writeln!(self.to, "{expression}").unwrap();
    }

    fn end(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn says(&mut self, expression: &str) -> String {
        self.begin(expression);
        self.end()
    }

    /// Opens a file under a name of one letter, for reading and writing.
    fn opens(&mut self, name: &str, path: &str, flags: &str) {
        let said = self.says(&format!("globals().update({name}=os.open('{path}', {flags}))"));
        assert_eq!(said, "None", "{path}");
    }

    /// Sees to it that an expression comes to what it should.
    fn demand(&mut self, expression: &str, wanted: &str) {
        assert_eq!(self.says(expression), wanted, "{expression}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const NEW: &str = "os.O_RDWR | os.O_CREAT | os.O_EXCL";

#[test]
fn what_is_open_stays_open_when_the_daemon_is_killed_and_started_again() {
    let ground = Ground::new();
    fs::create_dir(ground.ufs().join("d")).unwrap();
    for name in ["whole", "part", "d/theirs"] {
        fs::write(ground.ufs().join(name), pattern(LARGE, 1)).unwrap();
    }
    let daemon = ground.up(&KEPT);
    let at = |name: &str| ground.mnt().join(name);
    assert_eq!(fs::read(at("whole")).unwrap().len(), LARGE);
    for i in 0..300 {
        File::create(at(&format!("d/ours{i:03}"))).unwrap();
    }
    let mut actor = Actor::new(&at("d"));
    actor.opens("w", "../whole", "os.O_RDONLY");
    actor.opens("p", "../part", "os.O_RDWR");
    actor.demand("os.pwrite(p, b'daemon', 3 << 20)", "6");
    actor.opens("n", "../new", NEW);
    actor.demand("os.write(n, b'before')", "6");
    actor.opens("u", "../gone", NEW);
    actor.demand("os.write(u, b'unlinked'), os.unlink('../gone')", "(8, None)");
    actor.demand("globals().update(s=os.scandir('.')), [next(s).name for _ in range(5)][:0]", "(None, [])");
    actor.opens("f", "../mapped", NEW);
    actor.demand("os.write(f, b'.' * 8192)", "8192");
    actor.demand("globals().update(m=mmap.mmap(f, 8192), r=mmap.mmap(w, 4096, prot=mmap.PROT_READ))", "None");
    actor.demand("fcntl.flock(w, fcntl.LOCK_EX)", "None");
    let opens = asked(&["info", "--on"], &ground.mnt());
    assert!(opens["opens_passthrough"].as_u64().unwrap() > 300, "nothing is proved of passthrough: {opens}");
    assert!(opens["opens_cached"].as_u64().unwrap() > 0, "nothing is proved of the daemon's reads: {opens}");

    daemon.kill();
    // The kernel does this by itself.
    actor.demand("os.write(n, b', while nobody serves')", "21");
    actor.begin("os.stat('ours007').st_size");
    let mut other = Actor::new(Path::new("/"));
    other.begin(&format!("sorted(os.listdir({:?}))[-1]", at("d")));

    let daemon = ground.up(&KEPT);
    assert!(daemon.log().contains("lost=0"), "{}", daemon.log());
    assert_eq!(actor.end(), "0");
    assert_eq!(other.end(), "theirs");
    actor.demand("os.write(n, b', after'), os.fsync(n), os.fstat(n).st_size", "(7, None, 34)");
    assert_eq!(fs::read_to_string(at("new")).unwrap(), "before, while nobody serves, after");
    assert_eq!(
        actor.says("os.pread(w, 8, 0)"),
        other.says(&format!("open({:?}, 'rb').read(8)", at("whole")))
    );
    actor.demand("os.pread(p, 6, 3 << 20), os.pwrite(p, b'again', 3 << 20)", "(b'daemon', 5)");
    let mut wanted = pattern(LARGE, 1);
    wanted[3 << 20..(3 << 20) + 6].copy_from_slice(b"againn");
    assert!(fs::read(at("part")).unwrap() == wanted);
    actor.demand(
        "os.write(u, b', still'), os.pread(u, 99, 0), os.fstat(u).st_size",
        "(7, b'unlinked, still', 15)",
    );
    actor.demand("len([entry.name for entry in s])", "296");
    actor.demand("m.__setitem__(slice(0, 6), b'mapped'), m.flush()", "(None, None)");
    assert_eq!(&fs::read(at("mapped")).unwrap()[..8], b"mapped..");
    assert_eq!(other.says("len(r) if 'r' in globals() else 0"), "0");
    actor.demand("os.path.basename(os.getcwd()), os.path.getsize('theirs')", "('d', 5242880)");
    let lock = Command::new("flock").arg("-n").arg(at("whole")).arg("true").status().unwrap();
    assert!(!lock.success(), "the lock was lost");
    other.opens("n", at("new").to_str().unwrap(), "os.O_RDWR");
    other.demand("os.pread(n, 6, 0)", "b'before'");

    drop((actor, other));
    eventually("what was written is carried", SOON, || {
        fs::read(ground.ufs().join("new")).is_ok_and(|bytes| bytes.len() == 34)
            && fs::read(ground.ufs().join("part")).is_ok_and(|bytes| bytes == wanted)
    });
    daemon.stop();
    eventually("the custodian goes with the mount", SOON, || custodian_of(&ground.cache()).is_none());
}

#[test]
fn a_file_that_is_written_while_nobody_serves_is_not_carried_before_it_is_closed() {
    let ground = Ground::new();
    let daemon = ground.up(&KEPT);
    let mut actor = Actor::new(&ground.mnt());
    actor.opens("f", "f", NEW);
    actor.demand("os.write(f, b'1' * 100000)", "100000");
    daemon.kill();
    actor.demand("os.write(f, b'2' * 100000)", "100000");
    let daemon = ground.up(&KEPT);
    let said = asked(&["fs", "stat"], &ground.mnt().join("f"));
    assert_eq!(said["state"], "dirty", "{said}");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!ground.ufs().join("f").exists(), "it is open for write");
    actor.demand("os.write(f, b'3' * 100000)", "100000");
    drop(actor);
    let wanted = [[b'1'; 100_000], [b'2'; 100_000], [b'3'; 100_000]].concat();
    eventually("it is carried after its close", SOON, || {
        fs::read(ground.ufs().join("f")).is_ok_and(|bytes| bytes == wanted)
    });
    daemon.stop();
}

#[test]
fn times_are_those_of_the_last_write_or_as_they_were_set_whoever_serves() {
    const SET: &str = "1000000000000000007";
    let ground = Ground::new();
    let daemon = ground.up(&KEPT);
    let mut actor = Actor::new(&ground.mnt());
    for name in ["w", "s", "n"] {
        actor.opens(name, name, NEW);
        actor.demand(&format!("os.write({name}, b'written')"), "7");
    }
    let last = actor.says("os.fstat(w).st_mtime_ns");
    actor.demand(&format!("[os.utime(f, ns=(1, {SET})) for f in (s, n)]"), "[None, None]");
    actor.demand("[os.rename(f, f + '2') for f in ('w', 's', 'n')]", "[None, None, None]");
    // The kernel asks once about capabilities after attributes have changed, and then writes by itself.
    actor.demand("os.write(n, b' again')", "6");
    daemon.kill();
    let before = actor.says("__import__('time').sleep(0.03) or __import__('time').time_ns()");
    actor.demand("os.write(n, b' still')", "6");

    let daemon = ground.up(&KEPT);
    assert!(daemon.log().contains("lost=0"), "{}", daemon.log());
    let look = format!(
        "[os.stat('w2').st_mtime_ns, os.stat('s2').st_mtime_ns, os.stat('n2').st_mtime_ns > {before} - 20_000_000]"
    );
    let wanted = format!("[{last}, {SET}, True]");
    actor.demand(&look, &wanted);
    actor.demand("[os.close(f) for f in (w, s, n)]", "[None, None, None]");
    actor.demand(&look, &wanted);
    drop(actor);
    daemon.stop();
}

#[test]
fn whoever_waits_gets_an_error_when_nobody_takes_over_in_time() {
    let ground = Ground::new();
    let daemon = ground.up(&["-o", "channel=dev-fuse,takeover_timeout=2"]);
    let file = File::create(ground.mnt().join("f")).unwrap();
    daemon.kill();
    let began = Instant::now();
    let failed = fs::metadata(ground.mnt().join("g")).unwrap_err();
    assert!(began.elapsed() > Duration::from_secs(1), "it did not wait: {failed}");
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for {:?}", began.elapsed());
    assert_ne!(failed.kind(), std::io::ErrorKind::NotFound);
    file.metadata().unwrap_err();
    drop(file);
    umount(&ground.mnt());
    assert_ne!(kind_of_mount(&ground.mnt()), "fuse.forebay");
    let daemon = ground.up(&KEPT);
    assert!(ground.mnt().join("f").exists());
    daemon.stop();
}

#[test]
fn a_daemon_that_is_started_otherwise_makes_its_mount_anew() {
    let ground = Ground::new();
    let daemon = ground.up(&KEPT);
    fs::write(ground.mnt().join("f"), "kept").unwrap();
    let file = File::open(ground.mnt().join("f")).unwrap();
    daemon.kill();
    let daemon = ground.up(&["-o", "channel=dev-fuse,takeover_timeout=120,noexec"]);
    let log = daemon.log();
    assert!(log.contains("cannot be taken over") && log.contains("options was otherwise"), "{log}");
    file.metadata().unwrap_err();
    assert_eq!(fs::read_to_string(ground.mnt().join("f")).unwrap(), "kept");
    daemon.kill();
    // Without a custodian of its own it takes none over either.
    let daemon = ground.up(&["-o", "channel=dev-fuse,takeover_timeout=0"]);
    assert_eq!(fs::read_to_string(ground.mnt().join("f")).unwrap(), "kept");
    assert_eq!(asked(&["info", "--on"], &ground.mnt())["takeover"], "off: fuse.takeover_timeout is 0");
    daemon.stop();
}

#[test]
fn what_outlasts_a_stop_stays_open_for_the_next_daemon() {
    let ground = Ground::new();
    for name in ["whole", "part"] {
        fs::write(ground.ufs().join(name), pattern(LARGE, 2)).unwrap();
    }
    let mut daemon = ground.up(&KEPT);
    let at = |name: &str| ground.mnt().join(name);
    asked(&["config", "set", "node.stop_grace", "1s", "--on"], &ground.mnt());
    assert_eq!(fs::read(at("whole")).unwrap().len(), LARGE);
    let load = Load::begin(&ground.mnt());
    let mut actor = Actor::new(&ground.mnt());
    actor.opens("w", "whole", "os.O_RDONLY");
    actor.opens("p", "part", "os.O_RDONLY");
    actor.opens("n", "new", NEW);
    actor.demand("len(os.pread(w, 9, 0)), len(os.pread(p, 9, 0)), os.write(n, b'before')", "(9, 9, 6)");

    daemon.signal("TERM");
    let status = daemon.ended(SOON).expect("it waits for its grace only");
    assert!(!status.success() && daemon.log().contains("still in use"), "{status}: {}", daemon.log());
    daemon.leave();
    let daemon = ground.up(&KEPT);
    assert!(daemon.log().contains("lost=0"), "{}", daemon.log());
    actor.demand(
        "os.write(n, b', after'), len(os.pread(w, 9, 4 << 20)), len(os.pread(p, 9, 4 << 20))",
        "(7, 9, 9)",
    );
    assert_eq!(fs::read_to_string(at("new")).unwrap(), "before, after");
    load.end();
    drop(actor);
    daemon.stop();
}

#[test]
fn a_custodian_that_is_killed_is_replaced() {
    let ground = Ground::new();
    let daemon = ground.up(&KEPT);
    let first = custodian_of(&ground.cache()).expect("the mount is kept");
    assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
    eventually("there is another one", SOON, || {
        custodian_of(&ground.cache()).is_some_and(|second| second != first)
    });
    let mut actor = Actor::new(Path::new("/"));
    actor.opens("f", ground.mnt().join("f").to_str().unwrap(), NEW);
    daemon.kill();
    let daemon = ground.up(&KEPT);
    actor.demand("os.write(f, b'x')", "1");
    drop(actor);
    daemon.stop();
}

/// The process that keeps the mount of the daemon with this cache.
fn custodian_of(cache: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.get(1).is_some_and(|word| word == "custodian")
            && words.get(2).is_some_and(|dir| Path::new(&**dir) == cache)
    })
}

/// The directory in which the load of [`names_and_bytes_change`] works.
const LOAD_DIR: &str = "E2E_LOAD_DIR";
const LOAD_THREADS: u64 = 12;

/// Programs that change names and bytes, and see to it that each change is what they made. In a process of its own, for the
/// reason that [`Actor`] is.
struct Load(Child);

impl Load {
    fn begin(dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "takeover::names_and_bytes_change"]).env(LOAD_DIR, dir);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// No request may have failed.
    fn end(mut self) {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success() && said[0].contains("1 passed"), "{}", said.concat());
    }
}

#[test]
#[ignore = "a process that others start"]
fn names_and_bytes_change() {
    let Some(dir) = std::env::var_os(LOAD_DIR).map(PathBuf::from) else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..LOAD_THREADS).map(|n| work(dir.join(format!("load{n}")), n, &stop)).collect();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    stop.store(true, SeqCst);
    let rounds: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
}

fn work(dir: PathBuf, n: u64, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut rounds = 0;
        fs::create_dir(&dir).unwrap();
        while !stop.load(SeqCst) {
            let done = round(&dir, n, rounds);
            done.unwrap_or_else(|(what, error)| panic!("{what} of thread {n} in round {rounds}: {error}"));
            rounds += 1;
        }
        rounds
    })
}

fn round(dir: &Path, n: u64, round: u64) -> Result<(), (&'static str, std::io::Error)> {
    let at = |name: &str| dir.join(name);
    let bytes = pattern(3000, n * 1000 + round);
    fs::create_dir(at("sub")).map_err(|e| ("mkdir", e))?;
    let mut file = File::create_new(at("sub/f")).map_err(|e| ("create", e))?;
    file.write_all(&bytes).map_err(|e| ("write", e))?;
    fs::rename(at("sub/f"), at("moved")).map_err(|e| ("rename", e))?;
    fs::hard_link(at("moved"), at("link")).map_err(|e| ("link", e))?;
    std::os::unix::fs::symlink("link", at("symlink")).map_err(|e| ("symlink", e))?;
    let mut found = Vec::new();
    let opened = File::open(at("symlink")).map_err(|e| ("open", e));
    opened?.read_to_end(&mut found).map_err(|e| ("read", e))?;
    assert!(found == bytes, "thread {n} read something else in round {round}");
    for name in ["symlink", "link", "moved"] {
        fs::remove_file(at(name)).map_err(|e| ("unlink", e))?;
    }
    fs::remove_dir(at("sub")).map_err(|e| ("rmdir", e))?;
    let left = fs::read_dir(dir).map_err(|e| ("list", e))?.count();
    assert_eq!(left, 0, "thread {n} has names left over in round {round}");
    Ok(())
}

#[test]
fn no_request_fails_while_the_daemon_is_killed_again_and_again() {
    let ground = Ground::new();
    let mut daemon = ground.up(&KEPT);
    let load = Load::begin(&ground.mnt());
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(1500));
        daemon.kill();
        daemon = ground.up(&KEPT);
    }
    std::thread::sleep(Duration::from_millis(500));
    load.end();
    daemon.stop();
}

#[test]
fn an_upgrade_fails_no_request_and_keeps_the_process() {
    let ground = Ground::new();
    let binary = ground.file("forebay-now");
    // By another process: one that a test starts meanwhile would have it open for write, and nobody could execute it.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_forebay")).arg(&binary).status().unwrap();
    assert!(copied.success());
    let daemon = ground.up(&KEPT);
    let (pid, mnt) = (daemon.pid(), ground.mnt());
    let mut held = Actor::new(&mnt);
    held.opens("h", "held", NEW);
    let load = Load::begin(&mnt);
    let said = refusal(&["upgrade", "--binary", "/bin/true", "--on", mnt.to_str().unwrap()]);
    assert!(said.contains("cannot take this mount over"), "{said}");
    for round in 0..3 {
        std::thread::sleep(Duration::from_millis(500));
        let said = upgrade(&binary, &mnt);
        assert_eq!((said["pid"].as_i64(), &said["taken_over"]), (Some(pid.into()), &true.into()), "{round}");
        held.demand("os.write(h, b'x')", "1");
    }
    let running = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(running, binary.canonicalize().unwrap());
    load.end();
    held.demand("os.fstat(h).st_size", "3");
    drop(held);
    daemon.stop();
}

fn upgrade(binary: &PathBuf, mnt: &Path) -> serde_json::Value {
    let mut command = forebay(["upgrade", "--json", "--on"]);
    command.arg(mnt).arg("--binary").arg(binary);
    let output = finish(command, SOON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
