//! By mount(8) and fstab: the real mount(8), which finds our helper in a tree of mounts of its own.

use crate::support::{Ground, SOON, eventually, forebay};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Lets go of what others have mounted, who could not unmount it for good (without a look at it: its daemon may be dead),
/// puts a directory with nothing but our helper where mount(8) looks for helpers, and stays until it is killed.
const APART: &str = r#"
findmnt -nr -o TARGET,FSTYPE,SOURCE | awk '$2 == "fuse.forebay" || $3 ~ "^/dev/loop" { print $1 }' | xargs -r umount -l -c
mount --bind "$0" "$(realpath /sbin)" && echo there && exec sleep infinity
"#;

/// A tree of mounts that nobody else sees.
struct Apart {
    keeper: Child,
    mnt: PathBuf,
}

impl Apart {
    fn new(ground: &Ground) -> Self {
        let helpers = ground.file("helpers");
        fs::create_dir(&helpers).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_forebay"), helpers.join("mount.fuse.forebay"))
            .unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", APART]).arg(helpers);
        let mut keeper = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "there\n");
        Self { keeper, mnt: ground.mnt() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--mount").arg(format!("--target={}", self.keeper.id())).args(words);
        command.env("FOREBAY_NODE_ARENA", "64MiB").stdin(Stdio::null());
        command
    }

    /// Runs a command there.
    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?} was not refused");
        String::from_utf8(output.stderr).unwrap()
    }

    fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap() + &said
    }

    /// The options that the mount has now.
    fn has(&self, option: &str) -> bool {
        let mnt = self.mnt.to_str().unwrap();
        let shown = self.does(&["findmnt", "-n", "-t", "fuse.forebay", "-o", "OPTIONS", mnt]);
        shown.trim().split(',').any(|shown| shown == option)
    }

    /// Unmounts, and waits for the daemon to let go of its cache.
    fn umount(&self, ground: &Ground) {
        // A process that another test is just starting has copies of what is open here until it becomes its program.
        eventually("it can be unmounted", SOON, || {
            self.run(&["umount", self.mnt.to_str().unwrap()]).status.success()
        });
        // By another process: one that a test starts meanwhile would have our copy of the lock, and hold the next daemon up.
        eventually("the daemon lets go of its cache", SOON, || {
            let lock = ground.cache().join("LOCK");
            Command::new("flock").args(["-n", "-s"]).arg(lock).arg("true").status().unwrap().success()
        });
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // A test that failed leaves a daemon, which ends with its mount.
        self.run(&["umount", "-q", "-l", self.mnt.to_str().unwrap()]);
        self.keeper.kill().ok();
        self.keeper.wait().ok();
    }
}

fn options(ground: &Ground, words: &str) -> String {
    format!("cache={},cache_size=1GiB,{words}", ground.cache().display())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn mount_finds_its_helper_and_remounts_keep_what_they_do_not_name() {
    let ground = Ground::new();
    fs::write(ground.ufs().join("f"), "by mount").unwrap();
    let (apart, mnt, ufs) = (Apart::new(&ground), text(&ground.mnt()), text(&ground.ufs()));
    let mount = |words: &str| {
        apart.does(&["mount", "-t", "fuse.forebay", "-o", &options(&ground, words), &ufs, &mnt])
    };
    mount("noatime,nosuid,nodev,_netdev,nofail,x-note=1");
    assert_eq!(apart.does(&["cat", &format!("{mnt}/f")]), "by mount");
    assert!(["rw", "noatime", "nosuid", "nodev"].iter().all(|option| apart.has(option)));

    apart.does(&["mount", "-o", "remount,ro", &mnt]);
    assert!(["ro", "noatime", "nosuid", "nodev"].iter().all(|option| apart.has(option)));
    let refused = apart.fails(&["touch", &format!("{mnt}/x")]);
    assert!(refused.contains("Read-only file system"), "{refused}");
    apart.does(&["mount", "-o", "remount,rw,noexec", &mnt]);
    assert!(["rw", "noatime", "nosuid", "nodev", "noexec"].iter().all(|option| apart.has(option)));
    apart.does(&["touch", &format!("{mnt}/x")]);
    apart.does(&["mount", "-o", "remount,suid,exec,relatime", &mnt]);
    assert!(apart.has("nodev") && apart.has("relatime") && !apart.has("nosuid") && !apart.has("noexec"));
    // With the source, mount(8) says no more than it was told.
    apart.does(&["mount", "-t", "fuse.forebay", "-o", "remount,ro", &ufs, &mnt]);
    assert!(apart.has("ro") && apart.has("nodev") && !apart.has("nosuid"));
    apart.does(&["mount", "-o", "remount,rw", &mnt]);

    let note = apart.does(&["mount", "-o", "remount,attr_timeout=3", &mnt]);
    assert!(note.contains("attr_timeout=3 counts from the next mount on"), "{note}");
    let unknown = apart.fails(&["mount", "-o", "remount,frobnicate", &mnt]);
    assert!(unknown.contains("unknown mount option \"frobnicate\""), "{unknown}");
    let again = apart.fails(&["mount", "-t", "fuse.forebay", "-o", &options(&ground, "rw"), &ufs, &mnt]);
    assert!(again.contains("is in use"), "{again}");
    apart.umount(&ground);
    let wrong =
        apart.fails(&["mount", "-t", "fuse.forebay", "-o", &options(&ground, "nonsense"), &ufs, &mnt]);
    assert!(wrong.contains("\"nonsense\""), "{wrong}");
}

/// The command lines of running processes that have all of `words` in them.
fn command_lines(words: &[&str]) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| words.iter().all(|word| line.contains(word))).collect()
}

#[test]
fn secrets_do_not_stay_on_a_command_line() {
    let ground = Ground::new();
    // A store that takes its time.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("endpoint=http://{}", silent.local_addr().unwrap());
    let (mnt, source) = (text(&ground.mnt()), "s3://bucket/prefix");
    let options = [endpoint.as_str(), "region=x", "access_key_id=a", "secret_access_key=hunter2"];
    let mut up = forebay(["up", source, &mnt, "--cache"]);
    up.arg(ground.cache()).args(options.iter().flat_map(|option| ["--ufs-option", option]));
    let mut up = up.stderr(Stdio::null()).spawn().unwrap();
    let (mut asked, _) = silent.accept().unwrap();
    // Now it knows the secret, and asks for its store.
    let shown = command_lines(&[source, &mnt, "from-stdin"]);
    assert!(shown.len() == 1 && shown[0].contains("region=x"), "{shown:?}");
    assert!(command_lines(&[&mnt, "hunter2"]).is_empty());
    let mut request = vec![0; 4096];
    let len = asked.read(&mut request).unwrap();
    assert!(
        String::from_utf8_lossy(&request[..len]).contains("Credential=a/"),
        "it signs with what it was given"
    );
    up.kill().unwrap();
    up.wait().unwrap();
    drop(asked);

    let apart = Apart::new(&ground);
    let words = options.map(|option| format!("ufs.{option}")).join(",");
    let mount = apart.command(&["mount", "-t", "fuse.forebay", "-o", &words, source, &mnt]).spawn();
    let mut mount = mount.unwrap();
    let _asked = silent.accept().unwrap();
    assert!(!command_lines(&[source, &mnt, " up ", "from-stdin"]).is_empty());
    assert!(command_lines(&[&mnt, " up ", "hunter2"]).is_empty(), "the daemon has it on its command line");
    drop(silent);
    mount.kill().unwrap();
    mount.wait().unwrap();
    for pid in daemons_of(&mnt) {
        Command::new("kill").args(["-9", &pid]).status().unwrap();
    }
}

/// The numbers of the daemons that were started for a mount point.
fn daemons_of(mnt: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mnt)
    });
    ours.map(|process| process.file_name().into_string().unwrap()).collect()
}

#[test]
fn suid_dev_and_exec_of_fstab_take_effect() {
    let ground = Ground::new();
    let (apart, mnt) = (Apart::new(&ground), text(&ground.mnt()));
    let fstab = text(&ground.file("fstab"));
    let by_fstab = |words: &str| {
        let line = format!("{} {mnt} fuse.forebay {} 0 0\n", ground.ufs().display(), options(&ground, words));
        fs::write(ground.file("fstab"), line).unwrap();
        apart.does(&["mount", "-T", &fstab, &mnt])
    };
    by_fstab("noauto,suid,dev,exec");
    assert!(["nosuid", "nodev", "noexec"].iter().all(|option| !apart.has(option)));
    let program = format!("{mnt}/id");
    apart.does(&["cp", "/usr/bin/id", &program]);
    apart.does(&["chmod", "4755", &program]);
    let as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", &program, "-u"];
    assert_eq!(apart.does(&as_nobody).trim(), "0", "the setuid bit works");
    apart.does(&["mknod", &format!("{mnt}/null"), "c", "1", "3"]);
    apart.does(&["sh", "-c", "echo x > $0", &format!("{mnt}/null")]);
    apart.does(&["mount", "-T", &fstab, "-o", "remount,nosuid,nodev", &mnt]);
    assert!(apart.has("nosuid") && apart.has("nodev"));
    assert_eq!(apart.does(&as_nobody).trim(), "65534");
    let denied = apart.fails(&["sh", "-c", "echo x > $0", &format!("{mnt}/null")]);
    assert!(denied.contains("ermission denied"), "{denied}");
    apart.does(&["mount", "-T", &fstab, "--options-source", "mtab", "-o", "remount,suid", &mnt]);
    assert!(!apart.has("nosuid") && apart.has("nodev"));
    apart.umount(&ground);

    // `user` stands for all three switched off.
    by_fstab("noauto,user");
    assert!(["nosuid", "nodev", "noexec"].iter().all(|option| apart.has(option)));
    apart.umount(&ground);
}
