//! The life of a mount: how it shows, how it ends, and what is in its way.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Base, Dirs, LONG, Node, SOURCE, Setup, eventually, fs_type, node};
use forebay_fuse::op::OpKind;
use forebay_fuse::{ChannelKind, MountError, Notice, SessionEnd, clear_dead, mount_of, remount};
use forebay_types::{Ino, Name};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The line of `/proc/self/mounts` for a mount point.
fn line_of(dir: &std::path::Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table.lines().find(|line| line.split(' ').nth(1) == dir.to_str()).map(str::to_owned)
}

#[test]
fn the_mount_shows_type_source_and_options() {
    let node = Node::start(&Setup { options: "ro,noexec,noatime", ..Setup::default() }, Dirs::new());
    let entry = mount_of(&node.mnt()).unwrap();
    assert_eq!((entry.fs_type.as_str(), entry.source.as_str()), ("fuse.forebay", SOURCE));
    let line = line_of(&node.mnt()).unwrap();
    for word in ["ro", "noexec", "noatime", "nodev", "nosuid", "default_permissions", "allow_other"] {
        assert!(line.split([' ', ',']).any(|shown| shown == word), "{word} is missing: {line}");
    }
    let error = File::create(node.at("new")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
}

#[test]
fn requests_come_the_way_that_was_asked_for() {
    for kind in [ChannelKind::Fuser, ChannelKind::DevFuse, ChannelKind::Uring] {
        let unmounted = Node::unmounted(Dirs::new());
        let options = format!("channel={kind}");
        let mount = match unmounted.try_mount(&unmounted.spec(&options)) {
            Ok(mount) => mount,
            // The switch of the kernel's module may be off.
            Err(error) if kind == ChannelKind::Uring => {
                assert!(error.to_string().contains("io_uring"), "{error}");
                continue;
            }
            Err(error) => panic!("{kind}: {error}"),
        };
        assert_eq!(mount.channel().kind, kind);
        fs::write(unmounted.at("file"), b"bytes").unwrap();
        assert_eq!(fs::read(unmounted.at("file")).unwrap(), b"bytes");
        mount.unmount(LONG).unwrap();
    }
}

/// A file system that answers nothing after its beginning, until the device is closed.
fn mount_hung(dir: &std::path::Path) -> File {
    let mut device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let data = CString::new(data).unwrap();
    rustix::mount::mount("hung", dir, "fuse", MountFlags::empty(), data.as_c_str()).unwrap();
    let mut init = [0; 8192];
    assert!(device.read(&mut init).unwrap() > 40);
    // `struct fuse_out_header` and `struct fuse_init_out` of protocol 7.31, with no abilities.
    let mut answer = [0; 80];
    answer[..4].copy_from_slice(&80_u32.to_ne_bytes());
    answer[8..16].copy_from_slice(&init[8..16]);
    answer[16..20].copy_from_slice(&7_u32.to_ne_bytes());
    answer[20..24].copy_from_slice(&31_u32.to_ne_bytes());
    device.write_all(&answer).unwrap();
    device
}

/// By fuser it could not: it tells the kernel that it knows no INTERRUPT.
#[test]
fn who_waits_for_an_under_file_system_that_hangs_can_be_killed() {
    for kind in [ChannelKind::DevFuse, ChannelKind::Uring] {
        let options = format!("channel={kind}");
        let setup = Setup { options: &options, ..Setup::default() };
        let Ok(node) = Node::try_start(&setup, Dirs::new()) else {
            assert_eq!(kind, ChannelKind::Uring, "only this one may be missing");
            continue;
        };
        let hung = node.dirs.ufs().join("hung");
        fs::create_dir(&hung).unwrap();
        let device = mount_hung(&hung);
        let mut asks = Command::new("stat").arg(node.at("hung")).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let waits = asks.try_wait().unwrap().is_none();
        let begun = Instant::now();
        asks.kill().unwrap();
        asks.wait().unwrap();
        let took = begun.elapsed();
        // Others are served meanwhile.
        fs::write(node.at("near"), b"bytes").unwrap();
        assert_eq!(fs::read(node.at("near")).unwrap(), b"bytes");
        drop(device);
        rustix::mount::unmount(&hung, UnmountFlags::DETACH).unwrap();
        assert!(waits, "the under file system did not hang");
        // Else it waits for as long as the under file system may take for a call, which is a minute.
        assert!(took < Duration::from_secs(40), "{kind}: it took {took:?}");
        eventually("the directory is found", || fs::metadata(node.at("hung")).is_ok());
    }
}

/// Answers after a while what a directory is, and nothing else.
fn answer_late(mut device: File) {
    const GETATTR: u32 = 3;
    const NO_ANSWER: [u32; 3] = [2, 36, 42]; // FORGET, INTERRUPT, BATCH_FORGET
    std::thread::sleep(Duration::from_millis(700));
    let mut asked = [0; 8192];
    // An error is the end of the mount.
    while device.read(&mut asked).is_ok() {
        let opcode = u32::from_ne_bytes(asked[4..8].try_into().unwrap());
        // `struct fuse_out_header` and `struct fuse_attr_out`, or the former alone with ENOSYS.
        let mut answer = [0; 120];
        let len = if opcode == GETATTR { 120 } else { 16 };
        answer[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        answer[4..8].copy_from_slice(&if len == 16 { -libc::ENOSYS } else { 0 }.to_ne_bytes());
        answer[8..16].copy_from_slice(&asked[8..16]);
        answer[32..40].copy_from_slice(&1_u64.to_ne_bytes());
        answer[92..96].copy_from_slice(&0o40755_u32.to_ne_bytes());
        answer[96..100].copy_from_slice(&1_u32.to_ne_bytes());
        if !NO_ANSWER.contains(&opcode) {
            // It may have been unmounted meanwhile.
            let _ = device.write(&answer[..len]);
        }
    }
}

/// A signal that ends nobody is no reason for an error: no program expects one of stat(2).
#[test]
fn who_has_a_signal_handled_waits_for_the_answer() {
    const ASKS: &str = "$SIG{USR1} = sub {}; syswrite STDOUT, qq(ready\n); \
        @found = stat $ARGV[0]; print @found ? 'found' : qq(failed: $!)";
    let node = node();
    let slow = node.dirs.ufs().join("slow");
    fs::create_dir(&slow).unwrap();
    let device = mount_hung(&slow);
    let mut command = Command::new("perl");
    let mut asks = command.args(["-e", ASKS]).arg(node.at("slow")).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(asks.stdout.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    let late = std::thread::spawn(move || answer_late(device));
    let pid = rustix::process::Pid::from_child(&asks);
    while asks.try_wait().unwrap().is_none() {
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    rustix::mount::unmount(&slow, UnmountFlags::DETACH).unwrap();
    late.join().unwrap();
    assert_eq!(std::io::read_to_string(said).unwrap(), "found");
}

#[test]
fn an_unmount_ends_the_session_and_leaves_the_directory() {
    let node = node();
    fs::write(node.at("file"), b"bytes").unwrap();
    node.unmount();
    assert_eq!(node.mount().wait(), SessionEnd::Unmounted);
    assert_ne!(fs_type(&node.mnt()), "fuse.forebay");
    assert_eq!(fs::read_dir(node.mnt()).unwrap().count(), 0);
    node.unmount();
}

#[test]
fn an_unmount_from_outside_ends_the_session_too() {
    let node = node();
    fs::write(node.at("file"), b"bytes").unwrap();
    // A process that another test is just starting has copies of what is open here until it becomes its program.
    eventually("it can be unmounted", || Command::new("umount").arg(node.mnt()).status().unwrap().success());
    assert_eq!(node.mount().wait(), SessionEnd::Unmounted);
    assert_eq!((node.mount().open_files(), node.opens().open_now), (0, 0));
}

#[test]
fn a_lazy_unmount_from_outside_ends_with_the_last_file() {
    let node = node();
    let mut file = File::create(node.at("file")).unwrap();
    assert!(Command::new("umount").arg("-l").arg(node.mnt()).status().unwrap().success());
    file.write_all(b"still written").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 13);
    drop(file);
    assert_eq!(node.mount().wait(), SessionEnd::Unmounted);
    eventually("all is closed", || node.opens().open_now == 0);
}

#[test]
fn a_mount_in_use_stays_and_says_who_uses_it() {
    let node = node();
    let file = File::create(node.at("held")).unwrap();
    let begun = Instant::now();
    let error = node.mount().unmount(Duration::from_millis(300)).unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let MountError::Busy { holders, .. } = &error else { panic!("{error}") };
    assert_eq!(holders.0[0].pid, std::process::id());
    assert!(error.to_string().contains("held"), "{error}");
    assert_eq!(fs_type(&node.mnt()), "fuse.forebay");
    drop(file);
    node.unmount();
}

#[test]
fn a_user_who_leaves_in_time_does_not_stop_the_unmount() {
    let node = node();
    let file = File::create(node.at("held")).unwrap();
    let leaver = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(file);
    });
    node.unmount();
    leaver.join().unwrap();
}

#[test]
fn a_place_in_use_is_refused() {
    let node = node();
    let error = node.try_mount(&node.spec("")).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, MountError::InUse { .. }) && text.contains(SOURCE), "{text}");
    fs::write(node.at("still"), b"there").unwrap();
}

#[test]
fn a_failed_mount_leaves_nothing() {
    let dirs = Dirs::new();
    fs::remove_dir(dirs.mnt()).unwrap();
    let node = Node::unmounted(dirs);
    assert!(matches!(node.try_mount(&node.spec("")).err().unwrap(), MountError::Missing(_)));
    fs::write(node.dirs.mnt(), b"").unwrap();
    assert!(matches!(node.try_mount(&node.spec("")).err().unwrap(), MountError::NotADirectory(_)));
    assert_eq!(fs::read_dir(node.dirs.base.path()).unwrap().count(), 5);
}

/// The number by which the kernel's control file system knows the connection.
fn connection_of(node: &Node) -> u32 {
    rustix::fs::minor(fs::metadata(node.mnt()).unwrap().dev())
}

#[test]
fn an_aborted_connection_is_a_broken_session_that_can_be_cleared() {
    let control = std::path::Path::new("/sys/fs/fuse/connections");
    if fs::read_dir(control).map_or(0, Iterator::count) == 0 {
        let _ = Command::new("mount").args(["-t", "fusectl", "none"]).arg(control).status();
    }
    let node = node();
    let file = control.join(connection_of(&node).to_string()).join("abort");
    fs::write(&file, b"1").unwrap();
    let end = node.mount().wait();
    assert!(matches!(end, SessionEnd::Broken(_)), "{end:?}");
    let error = File::create(node.at("new")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    let refused = node.try_mount(&node.spec("")).err().unwrap().to_string();
    assert!(refused.contains("umount"), "{refused}");
    assert!(!clear_dead(&node.dirs.mnt(), "another source").unwrap());
    assert!(clear_dead(&node.dirs.mnt(), SOURCE).unwrap());
    assert!(!clear_dead(&node.dirs.mnt(), SOURCE).unwrap());
    drop(node.try_mount(&node.spec("")).unwrap());
}

#[test]
fn a_live_mount_is_not_cleared() {
    let node = node();
    assert!(!clear_dead(&node.dirs.mnt(), SOURCE).unwrap());
    fs::write(node.at("still"), b"there").unwrap();
}

#[test]
fn a_remount_changes_the_flags_of_a_mount() {
    let node = Node::start(&Setup { options: "suid,nodev", ..Setup::default() }, Dirs::new());
    let has = |word: &str| line_of(&node.mnt()).unwrap().split([' ', ',']).any(|shown| shown == word);
    assert!(remount(&node.mnt(), "ro").unwrap().is_empty());
    assert_eq!(File::create(node.at("new")).unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(remount(&node.mnt(), "rw,noexec,noatime,attr_timeout=9").unwrap(), ["attr_timeout=9"]);
    for word in ["noexec", "noatime", "nodev"] {
        assert!(has(word), "no {word} in {:?}", line_of(&node.mnt()));
    }
    assert!(!has("nosuid"), "it was not named");
    let written = File::create(node.at("new")).unwrap();
    let busy = remount(&node.mnt(), "ro").unwrap_err().to_string();
    assert!(
        busy.contains("cannot become read-only") && busy.contains(&std::process::id().to_string()),
        "{busy}"
    );
    drop(written);
    remount(&node.mnt(), "remount,atime").unwrap();
    assert!(has("noexec") && !has("noatime"), "what was not named changed, or what was named did not");
}

/// More requests at once than find a place: they wait for one, and none is lost.
#[test]
fn a_full_mailbox_makes_requests_wait() {
    let node = Node::start(&Setup { mailbox_len: 2, ..Setup::default() }, Dirs::new());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let dir = node.mnt();
            scope.spawn(move || {
                for n in 0..20 {
                    let path = dir.join(format!("{thread}-{n}"));
                    fs::write(&path, format!("{n}")).unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{n}"));
                }
            });
        }
    });
    assert_eq!(fs::read_dir(node.mnt()).unwrap().count(), 320);
    eventually("every file is closed", || node.mount().open_files() == 0);
}

const USER_DIR: &str = "FOREBAY_USER_DIR";
const NOBODY: u32 = 65_534;

/// Not a test: what the plain user does.
#[test]
#[ignore = "started by another test as a process of its own"]
fn plain_user() {
    let Some(dir) = std::env::var_os(USER_DIR) else { return };
    let dirs = Dirs::below(Base::Given(dir.into()));
    let node = Node::start(&Setup { options: "", ..Setup::default() }, dirs);
    let line = line_of(&node.mnt()).unwrap();
    for word in ["nosuid", "nodev", "user_id=65534"] {
        assert!(line.split([' ', ',']).any(|shown| shown == word), "{word} is missing: {line}");
    }
    assert_eq!(mount_of(&node.mnt()).unwrap().source, SOURCE);
    fs::write(node.at("file"), b"bytes").unwrap();
    let file = File::open(node.at("file")).unwrap();
    let busy = node.mount().unmount(Duration::from_millis(100)).unwrap_err();
    assert!(matches!(busy, MountError::Busy { .. }), "{busy}");
    drop(file);
    assert_eq!((fs::read(node.at("file")).unwrap(), node.opens().passthrough), (b"bytes".to_vec(), 0));
    node.unmount();
}

/// Needs what distributions give: fusermount3 with its setuid bit, and a `/dev/fuse` that everybody may open.
#[test]
fn a_plain_user_mounts_with_fusermount3_and_without_passthrough() {
    let device = fs::metadata("/dev/fuse").unwrap().mode();
    if device & 0o006 != 0o006 || !std::path::Path::new("/usr/bin/fusermount3").exists() {
        eprintln!("skipped: no fusermount3, or /dev/fuse is root's alone");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(base.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["plain_user", "--exact", "--nocapture", "--ignored"])
        .env(USER_DIR, base.path())
        .env("TMPDIR", base.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn requests_are_counted_with_their_latencies() {
    let node = node();
    fs::write(node.at("file"), b"bytes").unwrap();
    assert!(fs::metadata(node.at("none")).is_err());
    let stats = node.mount().stats();
    assert_eq!(stats.of(OpKind::Create).count, 1);
    let lookups = stats.of(OpKind::Lookup);
    assert!(lookups.count >= 2 && lookups.errors >= 1, "{lookups:?}");
    assert!(lookups.quantile_us(0.5) > 0);
    assert_eq!(stats.of(OpKind::RmDir).count, 0);
}

#[test]
fn notices_reach_the_kernel_and_harm_nobody() {
    let node = node();
    fs::write(node.at("file"), b"bytes").unwrap();
    let notifier = node.mount().notifier();
    let name = Name::new(*b"file").unwrap();
    let lookups = || node.mount().stats().of(OpKind::Lookup).count;
    fs::metadata(node.at("file")).unwrap();
    fs::metadata(node.at("file")).unwrap();
    let before = lookups();
    fs::metadata(node.at("file")).unwrap();
    assert_eq!(lookups(), before, "the name was not kept, so nothing is shown below");
    assert!(notifier.send(Notice::Entry { parent: Ino::ROOT, name: name.clone() }));
    eventually("the kernel asks for the name again", || {
        fs::metadata(node.at("file")).unwrap();
        lookups() > before
    });
    let before = lookups();
    assert!(notifier.send(Notice::Expired { parent: Ino::ROOT, name: name.clone() }));
    eventually("the kernel asks for the name once more", || {
        fs::metadata(node.at("file")).unwrap();
        lookups() > before
    });
    assert!(notifier.send(Notice::Inode { ino: Ino(77_777), offset: 0, len: 0 }));
    assert!(notifier.send(Notice::Gone { parent: Ino::ROOT, child: Ino(77_777), name }));
    assert_eq!(fs::read(node.at("file")).unwrap(), b"bytes");
    node.unmount();
    eventually("the notifier knows of the end", || {
        !notifier.send(Notice::Inode { ino: Ino::ROOT, offset: -1, len: 0 })
    });
}
