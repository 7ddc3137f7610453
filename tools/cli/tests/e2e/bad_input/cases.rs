//! Starts that fail by what they are given: one table of commands and of what each must say.

use super::{bare_up, up};
use crate::support::{Ground, SOON, finish, forebay, kind_of_mount};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// What is wrong with a start, and what it must say: the cause, and what to do or what was expected.
struct Case {
    what: &'static str,
    command: fn(&Ground) -> Command,
    says: &'static [&'static str],
}

const fn case(what: &'static str, command: fn(&Ground) -> Command, says: &'static [&'static str]) -> Case {
    Case { what, command, says }
}

/// Denies io_uring_setup (system call 425) by seccomp, as the default profile of a container does, and runs the rest
/// of its arguments.
const WITHOUT_IO_URING: &str = r#"
import ctypes, os, sys
class Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Filter))]
load, equal, eperm, allow = (0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)
rules = (Filter * 4)(*(Filter(*rule) for rule in (load, equal, eperm, allow)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(Program(4, rules))) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn tier(name: &str, dir: &Path, kind: &str, quota: &str) -> String {
    format!("[[cache.tiers]]\nname = {name:?}\ndir = {dir:?}\nkind = {kind:?}\nquota = {quota:?}\n")
}

const CASES: &[Case] = &[
    case(
        "an unknown key",
        |ground| with_config(ground, "[cache]\nsise = \"1GiB\"\n"),
        &["forebay.toml:2: cache.sise: unknown field `sise`, expected one of"],
    ),
    case(
        "an unknown section",
        |ground| with_config(ground, "[cash]\nsize = \"1GiB\"\n"),
        &["forebay.toml:1: cash: unknown field `cash`, expected one of"],
    ),
    case(
        "a wrong unit",
        |ground| with_config(ground, "[cache]\nsize = \"64GB\"\n"),
        &["forebay.toml:2: cache.size: \"64GB\" is not a size", "write it like 512MiB or 64GiB"],
    ),
    case(
        "a value of another kind",
        |ground| with_config(ground, "[node]\nstop_grace = 30\n"),
        &["node.stop_grace", "expected a string"],
    ),
    case("no TOML", |ground| with_config(ground, "[cache\n"), &["forebay.toml:1"]),
    case(
        "a file that is not there",
        |ground| with(up(ground), &["--config", "/no/such/file.toml"]),
        &["cannot read the configuration file /no/such/file.toml"],
    ),
    case(
        "an unknown variable",
        |ground| with_variable(up(ground), "FOREBAY_CACHE_SISE", "1GiB"),
        &["FOREBAY_CACHE_SISE names no setting; known are"],
    ),
    case(
        "a wrong variable",
        |ground| with_variable(up(ground), "FOREBAY_NODE_STOP_GRACE", "30"),
        &["FOREBAY_NODE_STOP_GRACE (node.stop_grace)", "write it like 250ms or 30s"],
    ),
    case(
        "a wrong log filter",
        |ground| with(up(ground), &["--log", "info,=,"]),
        &["is no filter", "write a level"],
    ),
    case("an unknown mount option", |ground| with(up(ground), &["-o", "allow_others"]), &["allow_others"]),
    case(
        "a remount by a start",
        |ground| with(up(ground), &["-o", "remount,ro"]),
        &["makes a mount anew", "mount -o remount,ro /"],
    ),
    case(
        "a tier of memory on a disk",
        |ground| {
            let dir = Path::new("/var/tmp").join(ground.file("ram").file_name().unwrap());
            with_config(ground, &tier("ram", &dir, "mem", "64MiB"))
        },
        &["tier ram is of kind mem, and /var/tmp/ram is not on a tmpfs", "/dev/shm/forebay"],
    ),
    case(
        "a tier larger than its disk",
        |ground| with_config(ground, &tier("disk", &ground.file("tier"), "nvme", "1048576TiB")),
        &["disk may take 1024PiB, and the disk of", "give the tiers smaller quotas"],
    ),
    case(
        "two tiers in one directory",
        |ground| {
            let one = |name| tier(name, &ground.file("tier"), "nvme", "64MiB");
            with_config(ground, &(one("a") + &one("b")))
        },
        &["tiers a and b have the same directory"],
    ),
    case(
        "tiers and the size of one",
        |ground| {
            let config = with_config(ground, &tier("disk", &ground.file("tier"), "nvme", "64MiB"));
            with(config, &["--cache-size", "1GiB"])
        },
        &["cache.size speaks of one tier", "leave cache.size (--cache-size) out"],
    ),
    case(
        "an unknown order of eviction",
        |ground| with_config(ground, "[cache]\neviction = \"random\"\n"),
        &["cache.eviction: unknown variant `random`, expected one of `s3-fifo`, `lru`"],
    ),
    case(
        "marks that contradict each other",
        |ground| with_config(ground, "[cache]\ndirty_mark = 95\n"),
        &["cache.dirty_mark = 95 and cache.full_mark = 90 cannot be", "the dirty mark is below the full one"],
    ),
    case(
        "no files carried at one time",
        |ground| with_config(ground, "[persist]\ntasks = 0\n"),
        &["persist.tasks = 0 cannot be", "from 1 to 256"],
    ),
    case(
        "a policy that one node cannot keep",
        |ground| node(ground, "[mounts.policy]\nreplicas = 2\n"),
        &["replicas above 1 is not supported"],
    ),
    case(
        "an unknown policy",
        |ground| node(ground, "[mounts.policy]\nwrite_mod = \"through\"\n"),
        &["unknown field `write_mod`, expected one of"],
    ),
    case(
        "a prefix that is none",
        |ground| node(ground, "[mounts.prefixes.\"../x\"]\npin = true\n"),
        &["is no prefix", "write a path below the mount"],
    ),
    case(
        "no mount at the root",
        |ground| node(ground, "at = \"/sub\"\n"),
        &["no under file system is mounted at /", "at = \"/\""],
    ),
    case(
        "an under file system that is not there",
        |ground| on_ufs(ground, "/no/such/dir"),
        &["cannot reach the under file system /no/such/dir", "give an existing directory"],
    ),
    case(
        "an under file system that is a file",
        |ground| on_ufs(ground, "/etc/passwd"),
        &["is not a directory", "give a directory, or a URL"],
    ),
    case(
        "an unknown scheme",
        |ground| on_ufs(ground, "ftp://h/x"),
        &["its scheme is not one of", "s3://bucket/prefix"],
    ),
    case(
        "parts of the memory that are more than all of it",
        |ground| {
            let text = "[node]\nmemory = \"512MiB\"\narena = \"384MiB\"\n[persist]\nmemory = \"128MiB\"\n";
            with_config(ground, text)
        },
        &[
            "node.memory = 512MiB does not hold its parts: node.arena = 384MiB, persist.memory = 128MiB, and at least",
            "remedy: set node.memory to at least 612MiB, or lower these, or leave them out",
        ],
    ),
    case(
        "more memory than there is",
        |ground| with_variable(up(ground), "FOREBAY_NODE_MEMORY", "1024TiB"),
        &["node.memory = 1PiB is more than the", "would be the default for node.memory here"],
    ),
    case(
        "too little memory",
        |ground| with_variable(up(ground), "FOREBAY_NODE_MEMORY", "16MiB"),
        &["node.memory = 16MiB is too small", "give at least 140MiB"],
    ),
    case(
        "a store that cannot be reached",
        |ground| on_s3(ground, &["access_key_id=a", "secret_access_key=hunter2"]),
        &["cannot be reached", "Connection refused", "check the endpoint, the network and any proxy"],
    ),
    case(
        "missing credentials",
        |ground| on_s3(ground, &[]),
        &["no credentials could be obtained", "AWS_ACCESS_KEY_ID"],
    ),
    case(
        "an unknown option of a directory",
        |ground| with(up(ground), &["--ufs-option", "endpoint=x"]),
        &["a directory has no such option", "read_bandwidth"],
    ),
    case(
        "a cap that cannot be",
        |ground| with(up(ground), &["--ufs-option", "write_bandwidth=1KiB"]),
        &["\"write_bandwidth\"", "at least 4MiB"],
    ),
    case(
        "an unknown option of the store",
        |ground| on_s3(ground, &["endpont=x"]),
        &["there is no such option", "endpoint"],
    ),
    case(
        "a mount point that is not there",
        |ground| on_dir(ground, &ground.file("none")),
        &["does not exist", "mkdir -p"],
    ),
    case(
        "a mount point that is a file",
        |ground| on_dir(ground, Path::new("/etc/passwd")),
        &["is not a directory"],
    ),
    case(
        "a mount point in use",
        |ground| on_dir(ground, Path::new("/proc")),
        &["is in use: proc", "choose another"],
    ),
    case(
        "a mount point within the under file system",
        |ground| {
            fs::create_dir_all(ground.ufs().join("inside")).unwrap();
            on_dir(ground, &ground.ufs().join("inside"))
        },
        &["overlap", "choose directories of which none lies within another"],
    ),
    case(
        "a cache within the under file system",
        |ground| with(bare_up(ground), &["--cache", ground.ufs().join("c").to_str().unwrap()]),
        &["overlap"],
    ),
    case(
        "a cache that is too small",
        |ground| with(up(ground), &["--cache-size", "1MiB"]),
        &["is too small", "give at least"],
    ),
    case(
        "a cache where nothing can be made",
        |ground| with(bare_up(ground), &["--cache", "/proc/forebay"]),
        &["the cache directory /proc/forebay", "choose a directory you may write"],
    ),
    case(
        "a port that is taken",
        |ground| with_variable(up(ground), "FOREBAY_METRICS_LISTEN", &taken_port()),
        &["cannot serve metrics on 127.0.0.1", "to a free address and port"],
    ),
    case(
        "an audit log that cannot be written",
        |ground| with_variable(up(ground), "FOREBAY_AUDIT_FILE", "/no/such/dir/audit"),
        &["cannot write the audit log /no/such/dir/audit", "in a directory that exists"],
    ),
    case(
        "io_uring forbidden",
        |ground| {
            let up = up(ground);
            let mut command = Command::new("python3");
            command.args(["-c", WITHOUT_IO_URING]).arg(up.get_program()).args(up.get_args());
            with_variable(command, "FOREBAY_NODE_ARENA", "64MiB")
        },
        &["io_uring is forbidden here", "seccomp"],
    ),
];

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

fn with_variable(mut command: Command, name: &str, value: &str) -> Command {
    command.env(name, value);
    command
}

fn with_config(ground: &Ground, text: &str) -> Command {
    let config = ground.file("forebay.toml");
    fs::write(&config, text).unwrap();
    with(up(ground), &["--config", config.to_str().unwrap()])
}

/// `forebay node` with one mount, of which `rest` says more.
fn node(ground: &Ground, rest: &str) -> Command {
    let config = ground.file("forebay.toml");
    let [ufs, mnt, cache] = [ground.ufs(), ground.mnt(), ground.cache()].map(|dir| dir.display().to_string());
    let text =
        format!("[cache]\ndir = \"{cache}\"\n[fuse]\ndir = \"{mnt}\"\n[[mounts]]\nufs = \"{ufs}\"\n{rest}");
    fs::write(&config, text).unwrap();
    with(forebay(["node"]), &["--config", config.to_str().unwrap()])
}

fn on_ufs(ground: &Ground, ufs: &str) -> Command {
    let mut command = forebay(["up", ufs]);
    command.arg(ground.mnt()).arg("--cache").arg(ground.cache());
    command
}

/// A bucket on a port where nobody listens, asked by somebody without any credentials of his own.
fn on_s3(ground: &Ground, options: &[&str]) -> Command {
    let mut command = on_ufs(ground, "s3://bucket/prefix");
    for option in ["endpoint=http://127.0.0.1:1", "region=x"].iter().chain(options) {
        command.args(["--ufs-option", option]);
    }
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", ground.file("nobody"));
    command
}

fn on_dir(ground: &Ground, dir: &Path) -> Command {
    let mut command = forebay(["up"]);
    command.arg(ground.ufs()).arg(dir).arg("--cache").arg(ground.cache());
    command
}

/// A port with a listener that stays as long as the process.
fn taken_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::mem::forget(listener);
    address
}

#[test]
fn every_start_that_must_fail_says_why_and_what_to_do_and_leaves_nothing() {
    for Case { what, command, says } in CASES {
        let ground = Ground::new();
        let output = finish(command(&ground), SOON);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(output.stdout.is_empty(), "{what}: it said on standard output: {:?}", output.stdout);
        for part in *says {
            assert!(said.contains(part), "{what}: {part:?} is not in: {said}");
        }
        assert!(!said.contains("hunter2") && !said.contains("panicked"), "{what}: {said}");
        assert_ne!(kind_of_mount(&ground.mnt()), "fuse.forebay", "{what}: it left a mount");
        assert!(!ground.cache().exists(), "{what}: it left a cache directory");
        assert!(!ground.ufs().join("c").exists(), "{what}: it left something in the under file system");
    }
}

#[test]
fn a_wrong_unit_on_the_command_line() {
    let ground = Ground::new();
    let output = ground.up_fails(&["--cache-size", "64GB"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("write it like 512MiB or 64GiB"), "{said}");
}
