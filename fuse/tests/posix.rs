//! What programs see: the calls that a front door can get wrong, on a real mount.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Node, channel, eventually, node, pattern};
use forebay_fuse::{ChannelKind, OpKind};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn what_is_written_is_read_by_every_way() {
    let node = node();
    let bytes = pattern(1, 3 << 20);
    fs::write(node.at("file"), &bytes).unwrap();
    assert!(fs::read(node.at("file")).unwrap() == bytes);
    let file = File::options().read(true).write(true).open(node.at("file")).unwrap();
    file.write_all_at(b"middle", 1_000_000).unwrap();
    let mut piece = [0; 6];
    file.read_exact_at(&mut piece, 1_000_000).unwrap();
    assert_eq!(&piece, b"middle");
    file.set_len(10).unwrap();
    assert_eq!((file.metadata().unwrap().len(), fs::read(node.at("file")).unwrap().len()), (10, 10));
    let mut appender = File::options().append(true).open(node.at("file")).unwrap();
    appender.write_all(b"end").unwrap();
    assert_eq!(fs::metadata(node.at("file")).unwrap().len(), 13);
    file.sync_all().unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_large_directory_is_listed_whole_in_pieces_and_from_the_middle() {
    let node = node();
    let expected: BTreeSet<String> =
        (0..3000).map(|n| format!("a name of some length, number {n}")).collect();
    fs::create_dir(node.at("dir")).unwrap();
    for name in &expected {
        fs::write(node.at("dir").join(name), b"").unwrap();
    }
    let listed = || -> BTreeSet<String> {
        let entries = fs::read_dir(node.at("dir")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    for by_image in [false, true] {
        if by_image {
            node.draw("dir");
        }
        assert_eq!(listed(), expected);
        // With attributes, as `ls -l` asks for them.
        for entry in fs::read_dir(node.at("dir")).unwrap() {
            assert!(entry.unwrap().metadata().unwrap().is_file());
        }
        seek_within(&node);
    }
    assert_eq!(fs::metadata(node.at("dir")).unwrap().nlink(), 2);
}

/// Goes back to a place that an earlier entry named, as telldir(3) and seekdir(3) do.
fn seek_within(node: &Node) {
    let dir = File::open(node.at("dir")).unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut names = Vec::new();
    let mut reader = rustix::fs::RawDir::new(&dir, &mut buffer);
    while let Some(entry) = reader.next() {
        let entry = entry.unwrap();
        names.push((entry.file_name().to_owned(), entry.next_entry_cookie()));
    }
    assert_eq!(names.len(), 3002, "3000 names and the two dots");
    let middle = 1500;
    rustix::fs::seek(&dir, SeekFrom::Start(names[middle].1)).unwrap();
    let mut reader = rustix::fs::RawDir::new(&dir, &mut buffer);
    let next = reader.next().unwrap().unwrap().file_name().to_owned();
    assert_eq!(next, names[middle + 1].0);
}

/// The kernel forgets as often as it was given an entry. Were readdirplus to count entries that did not fit, or not to
/// count those that did, inodes in use would vanish, or none would ever be let go.
#[test]
fn lookups_and_forgets_balance_over_many_listings() {
    let node = node();
    fs::create_dir(node.at("dir")).unwrap();
    for n in 0..500 {
        fs::write(node.at("dir").join(format!("file {n}")), format!("{n}")).unwrap();
    }
    for round in 0..5 {
        for entry in fs::read_dir(node.at("dir")).unwrap() {
            entry.unwrap().metadata().unwrap();
        }
        fs::write("/proc/sys/vm/drop_caches", b"2").ok();
        let n = round * 17;
        assert_eq!(fs::read_to_string(node.at("dir").join(format!("file {n}"))).unwrap(), format!("{n}"));
        // From the next round on it is listed by an image.
        node.draw("dir");
    }
    eventually("the kernel has given back all lookups", || {
        fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
        node.looked_up() == 0
    });
    fs::remove_dir_all(node.at("dir")).unwrap();
}

/// What a listing by an image brings is what there is, also of what has changed since the image was made.
#[test]
fn a_listing_by_an_image_brings_what_is_known_of_each_name() {
    let node = node();
    fs::create_dir(node.at("dir")).unwrap();
    for n in 0..500_usize {
        fs::write(node.at("dir").join(format!("file {n}")), "x".repeat(n)).unwrap();
    }
    node.draw("dir");
    let grown = File::options().append(true).open(node.at("dir/file 7")).unwrap();
    fs::write(node.at("dir/file 8"), "anew").unwrap();
    fs::set_permissions(node.at("dir/file 9"), fs::Permissions::from_mode(0o600)).unwrap();
    for round in 0..3_u64 {
        (&grown).write_all(b"more").unwrap();
        let look = |entry: std::io::Result<fs::DirEntry>| {
            let (entry, name) = entry.map(|entry| (entry.metadata().unwrap(), entry.file_name())).unwrap();
            (name.into_string().unwrap(), (entry.len(), entry.permissions().mode() & 0o777))
        };
        let shown: BTreeMap<_, _> = fs::read_dir(node.at("dir")).unwrap().map(look).collect();
        assert_eq!(shown.len(), 500);
        for (n, (len, mode)) in (0..500).map(|n| (n, shown[&format!("file {n}")])) {
            let expected = match n {
                7 => (7 + 4 * (round + 1), 0o644),
                8 => (4, 0o644),
                9 => (9, 0o600),
                _ => (n, 0o644),
            };
            assert_eq!((len, mode), expected, "file {n}");
        }
    }
}

/// Who lists a directory and then looks at each name in it asks for none of them again.
#[test]
fn a_listing_brings_what_is_known_of_each_name() {
    // fuser cannot leave any out, and the kernel chooses.
    if channel().ends_with("fuser") {
        return;
    }
    let node = node();
    fs::create_dir(node.dirs.ufs().join("dir")).unwrap();
    for n in 0..1000 {
        fs::write(node.dirs.ufs().join(format!("dir/file {n}")), format!("{n}")).unwrap();
    }
    let asked = || {
        let stats = node.mount().stats();
        [OpKind::Lookup, OpKind::GetAttr].map(|kind| stats.of(kind).count).iter().sum::<u64>()
    };
    let names: Vec<_> = fs::read_dir(node.at("dir")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let before = asked();
    let len: u64 = names.iter().map(|name| fs::symlink_metadata(name).unwrap().len()).sum();
    assert_eq!((names.len(), len), (1000, 2890));
    assert!(asked() - before < 20, "{} questions for 1000 names", asked() - before);
}

/// The kernel looks at the mode of what it has just made: it is told with the answer. And a length it was told is not kept past
/// the first write.
#[test]
fn a_new_file_is_not_asked_about_before_it_is_written() {
    let node = node();
    let dir = node.at("dir");
    fs::create_dir(&dir).unwrap();
    let asked = || node.mount().stats().of(OpKind::GetAttr).count;
    let before = asked();
    for n in 0..100_u64 {
        let file = fs::File::create(dir.join(format!("{n}"))).unwrap();
        file.write_all_at(b"x", n).unwrap();
        assert_eq!(file.metadata().unwrap().len(), n + 1);
    }
    // The directory, which has changed, and the file after the write.
    assert!(asked() - before < 250, "{} questions for 100 files", asked() - before);
}

#[test]
fn names_may_be_any_bytes_up_to_their_limit() {
    let node = node();
    let odd = std::ffi::OsStr::from_bytes(b"a\xff\n \x01b");
    fs::write(node.at("x").with_file_name(odd), b"odd").unwrap();
    assert_eq!(fs::read_dir(node.mnt()).unwrap().next().unwrap().unwrap().file_name(), odd);
    let longest = "n".repeat(255);
    fs::write(node.at(&longest), b"").unwrap();
    assert_eq!(errno(fs::write(node.at(&"n".repeat(256)), b"")), Some(libc::ENAMETOOLONG));
    assert_eq!(errno(fs::metadata(node.at(&"n".repeat(1000)))), Some(libc::ENAMETOOLONG));
}

#[test]
fn renames_know_their_flags() {
    let node = node();
    fs::write(node.at("a"), b"A").unwrap();
    fs::write(node.at("b"), b"B").unwrap();
    let rename =
        |from: &str, to: &str, flags| rustix::fs::renameat_with(CWD, node.at(from), CWD, node.at(to), flags);
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename("a", "b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(node.at("a")).unwrap(), b"B");
    assert_eq!(rename("a", "b", RenameFlags::WHITEOUT), Err(Errno::INVAL));
    rename("a", "b", RenameFlags::empty()).unwrap();
    assert_eq!(fs::read(node.at("b")).unwrap(), b"B");
    assert_eq!(errno(fs::metadata(node.at("a"))), Some(libc::ENOENT));
}

#[test]
fn links_of_both_kinds_lead_to_their_file() {
    let node = node();
    fs::write(node.at("file"), b"bytes").unwrap();
    fs::hard_link(node.at("file"), node.at("hard")).unwrap();
    symlink("file", node.at("soft")).unwrap();
    assert_eq!(fs::metadata(node.at("hard")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(node.at("hard")).unwrap().ino(), fs::metadata(node.at("file")).unwrap().ino());
    assert_eq!(fs::read_link(node.at("soft")).unwrap().as_os_str(), "file");
    assert_eq!(fs::read(node.at("soft")).unwrap(), b"bytes");
    fs::remove_file(node.at("file")).unwrap();
    assert_eq!(fs::metadata(node.at("hard")).unwrap().nlink(), 1);
    assert_eq!(errno(fs::read(node.at("soft"))), Some(libc::ENOENT));
}

#[test]
fn nodes_of_all_kinds_keep_their_kind_and_number() {
    let node = node();
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, node.at(name), kind, Mode::RUSR | Mode::WUSR, device).unwrap();
        fs::symlink_metadata(node.at(name)).unwrap()
    };
    assert!(make("pipe", rustix::fs::FileType::Fifo, 0).file_type().is_fifo());
    assert!(make("socket", rustix::fs::FileType::Socket, 0).file_type().is_socket());
    assert!(make("plain", rustix::fs::FileType::RegularFile, 0).is_file());
    let device = rustix::fs::makedev(259, 70_000);
    let found = make("device", rustix::fs::FileType::CharacterDevice, device);
    assert!(found.file_type().is_char_device() && found.rdev() == device);
}

/// What a call with no buffer at all says; rustix hides that length.
fn length_of_colour(file: &std::path::Path) -> isize {
    let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
    // SAFETY: both strings end with a zero byte, and with a length of 0 the call writes nothing.
    unsafe { libc::getxattr(path.as_ptr(), c"user.colour".as_ptr(), std::ptr::null_mut(), 0) }
}

#[test]
fn attributes_are_measured_refused_and_given() {
    let node = node();
    fs::write(node.at("file"), b"").unwrap();
    let file = node.at("file");
    let mut room = [0_u8; 64];
    rustix::fs::setxattr(&file, "user.colour", b"blue", XattrFlags::CREATE).unwrap();
    assert_eq!(length_of_colour(&file), 4);
    assert_eq!(rustix::fs::getxattr(&file, "user.colour", &mut room[..3]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::getxattr(&file, "user.colour", &mut room[..]), Ok(4));
    assert_eq!(&room[..4], b"blue");
    let create = rustix::fs::setxattr(&file, "user.colour", b"red", XattrFlags::CREATE);
    assert_eq!(create, Err(Errno::EXIST));
    let replace = rustix::fs::setxattr(&file, "user.none", b"red", XattrFlags::REPLACE);
    assert_eq!(replace, Err(Errno::NODATA));
    let listed = rustix::fs::listxattr(&file, &mut room[..]).unwrap();
    assert_eq!(&room[..listed], b"user.colour\0");
    rustix::fs::removexattr(&file, "user.colour").unwrap();
    assert_eq!(rustix::fs::getxattr(&file, "user.colour", &mut room[..]), Err(Errno::NODATA));
    // Version 2; owner, group and others may read.
    let mut list = vec![2, 0, 0, 0];
    for tag in [1, 4, 0x20] {
        list.extend([tag, 0, 4, 0, 255, 255, 255, 255]);
    }
    let acl = rustix::fs::setxattr(&file, "system.posix_acl_access", &list, XattrFlags::empty());
    assert_eq!(acl, Err(Errno::OPNOTSUPP));
}

#[test]
fn ranges_are_reserved_punched_zeroed_and_searched() {
    let node = node();
    let bytes = pattern(3, 1 << 20);
    fs::write(node.at("file"), &bytes).unwrap();
    let file = File::options().read(true).write(true).open(node.at("file")).unwrap();
    let allocate = |flags, offset, len| rustix::fs::fallocate(&file, flags, offset, len);
    let len = || file.metadata().unwrap().len();
    allocate(FallocateFlags::empty(), 1 << 20, 4096).unwrap();
    assert_eq!(len(), (1 << 20) + 4096);
    allocate(FallocateFlags::KEEP_SIZE, 2 << 20, 4096).unwrap();
    assert_eq!(len(), (1 << 20) + 4096);
    allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 65536, 65536).unwrap();
    allocate(FallocateFlags::ZERO_RANGE, 300_000, 1000).unwrap();
    for refused in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(allocate(refused, 65536, 65536), Err(Errno::OPNOTSUPP));
    }
    let mut expected = bytes;
    expected.resize((1 << 20) + 4096, 0);
    expected[65536..131_072].fill(0);
    expected[300_000..301_000].fill(0);
    assert!(fs::read(node.at("file")).unwrap() == expected);
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(0)), Ok(0));
    let hole = rustix::fs::seek(&file, SeekFrom::Hole(0)).unwrap();
    assert!((1..=len()).contains(&hole));
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(len())), Err(Errno::NXIO));
}

#[test]
fn ranges_are_copied_between_files() {
    let node = node();
    let bytes = pattern(4, 700_000);
    fs::write(node.at("from"), &bytes).unwrap();
    assert_eq!(fs::copy(node.at("from"), node.at("to")).unwrap(), 700_000);
    assert!(fs::read(node.at("to")).unwrap() == bytes);
    let (from, to) = (File::open(node.at("from")).unwrap(), File::create(node.at("part")).unwrap());
    let (mut at_from, mut at_to) = (100, 50);
    let copied = rustix::fs::copy_file_range(&from, Some(&mut at_from), &to, Some(&mut at_to), 1000).unwrap();
    assert_eq!(copied, 1000);
    let part = fs::read(node.at("part")).unwrap();
    assert!(part[..50].iter().all(|byte| *byte == 0) && part[50..] == bytes[100..1100]);
}

#[test]
fn times_are_kept_to_the_nanosecond_also_before_1970() {
    let node = node();
    fs::write(node.at("file"), b"").unwrap();
    let set = |last_access: (i64, i64), last_modification: (i64, i64)| {
        let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: time(last_access), last_modification: time(last_modification) };
        rustix::fs::utimensat(CWD, node.at("file"), &times, AtFlags::empty()).unwrap();
        let found = fs::metadata(node.at("file")).unwrap();
        assert_eq!((found.atime(), found.atime_nsec()), last_access);
        assert_eq!((found.mtime(), found.mtime_nsec()), last_modification);
    };
    set((1_700_000_000, 123_456_789), (1, 0));
    set((-1, 500_000_000), (-86_400, 1));
    set((4_102_444_800, 999_999_999), (-2, 0));
}

/// fuser panics on such a time; the mount must not end with it, however often. Our own channels take it as it is.
#[test]
fn a_time_that_nobody_can_decode_harms_nobody_else() {
    let node = node();
    fs::write(node.at("file"), b"bytes").unwrap();
    let mut file = File::options().append(true).open(node.at("file")).unwrap();
    let impossible = Timespec { tv_sec: i64::MIN, tv_nsec: 1 };
    let times = Timestamps { last_access: impossible, last_modification: impossible };
    for _ in 0..5 {
        let set = rustix::fs::utimensat(CWD, node.at("file"), &times, AtFlags::empty());
        match node.mount().channel().kind {
            ChannelKind::Fuser => assert_eq!(set, Err(Errno::CONNABORTED)),
            ChannelKind::DevFuse | ChannelKind::Uring => {
                set.unwrap();
                assert_eq!(fs::metadata(node.at("file")).unwrap().mtime(), i64::MIN);
            }
        }
        file.write_all(b"x").unwrap();
        fs::write(node.at("other"), b"other").unwrap();
    }
    assert_eq!(fs::read(node.at("file")).unwrap(), b"bytesxxxxx");
}

#[test]
fn an_open_file_outlives_its_name() {
    let node = node();
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(node.at("gone")).unwrap();
    fs::remove_file(node.at("gone")).unwrap();
    file.write_all(b"nameless").unwrap();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((&bytes, file.metadata().unwrap().nlink()), (b"nameless", 0));
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).unwrap();
    drop(file);
    assert_eq!(errno(File::open(node.at("gone"))), Some(libc::ENOENT));
    eventually("it is closed", || node.mount().open_files() == 0);
}

#[test]
fn what_is_not_there_says_so() {
    let node = node();
    let anonymous = rustix::fs::open(node.mnt(), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR);
    assert_eq!(anonymous.err(), Some(Errno::OPNOTSUPP));
    fs::write(node.at("file"), b"").unwrap();
    let flags = rustix::fs::ioctl_getflags(File::open(node.at("file")).unwrap());
    assert_eq!(flags.err(), Some(Errno::NOTTY));
    assert_eq!(errno(fs::read_dir(node.at("file"))), Some(libc::ENOTDIR));
    assert_eq!(errno(fs::remove_dir(node.at("file"))), Some(libc::ENOTDIR));
    assert_eq!(errno(fs::remove_file(node.mnt().join("none"))), Some(libc::ENOENT));
    fs::create_dir(node.at("dir")).unwrap();
    fs::write(node.at("dir/file"), b"").unwrap();
    assert_eq!(errno(fs::remove_dir(node.at("dir"))), Some(libc::ENOTEMPTY));
    assert_eq!(errno(fs::rename(node.at("dir"), node.at("dir/below"))), Some(libc::EINVAL));
    let create = File::options().write(true).create_new(true).open(node.at("file"));
    assert_eq!(errno(create), Some(libc::EEXIST));
}

#[test]
fn space_is_that_of_the_tier() {
    let node = node();
    let space = rustix::fs::statvfs(node.mnt()).unwrap();
    assert_eq!((space.f_namemax, space.f_frsize), (255, 4096));
    assert!(space.f_blocks > 0 && space.f_bavail > 0 && space.f_bavail <= space.f_blocks);
}

#[test]
fn directories_and_files_can_be_synced() {
    let node = node();
    fs::create_dir(node.at("dir")).unwrap();
    File::open(node.at("dir")).unwrap().sync_all().unwrap();
    rustix::fs::syncfs(File::open(node.mnt()).unwrap()).unwrap();
    let file = rustix::fs::open(
        node.at("synced"),
        OFlags::CREATE | OFlags::WRONLY | OFlags::DSYNC,
        Mode::RUSR | Mode::WUSR,
    );
    rustix::io::write(file.unwrap(), b"durable").unwrap();
}

/// A plain user's shell.
fn as_user(command: &str, dir: &std::path::Path) -> bool {
    let (uid, gid) = (65_534, 65_534);
    Command::new("sh").args(["-c", command]).current_dir(dir).uid(uid).gid(gid).status().unwrap().success()
}

fn mode_of(node: &Node, name: &str) -> u32 {
    fs::metadata(node.at(name)).unwrap().permissions().mode() & 0o7777
}

#[test]
fn who_changes_a_setuid_file_takes_the_bit_away() {
    let node = node();
    let make = |name: &str, mode| {
        fs::write(node.at(name), b"program").unwrap();
        fs::set_permissions(node.at(name), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(mode_of(&node, name), mode);
    };
    open_the_way(&node);
    make("written", 0o6777);
    assert!(as_user("echo x >> written", &node.mnt()));
    assert_eq!(mode_of(&node, "written"), 0o777);
    make("cut", 0o6777);
    assert!(as_user(": > cut", &node.mnt()));
    assert_eq!(mode_of(&node, "cut"), 0o777);
    make("given", 0o6755);
    rustix::fs::chown(node.at("given"), Some(rustix::fs::Uid::from_raw(65_534)), None).unwrap();
    assert_eq!(mode_of(&node, "given"), 0o755);
    make("read", 0o6777);
    assert!(as_user("cat read > /dev/null", &node.mnt()));
    assert_eq!(mode_of(&node, "read"), 0o6777, "reading takes nothing away");
    make("by root", 0o6755);
    fs::write(node.at("by root"), b"new").unwrap();
    assert_eq!(mode_of(&node, "by root"), 0o6755, "root may keep it");
}

#[test]
fn permissions_are_the_kernels_to_check() {
    let node = node();
    open_the_way(&node);
    fs::write(node.at("secret"), b"x").unwrap();
    fs::set_permissions(node.at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!as_user("cat secret 2> /dev/null", &node.mnt()));
    assert!(as_user("! rm -f secret 2> /dev/null || exit 1", &node.mnt()) || node.at("secret").exists());
    fs::create_dir(node.at("open")).unwrap();
    fs::set_permissions(node.at("open"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(as_user("umask 027; echo x > open/mine", &node.mnt()));
    let mine = fs::metadata(node.at("open/mine")).unwrap();
    assert_eq!((mine.uid(), mine.gid(), mine.permissions().mode() & 0o777), (65_534, 65_534, 0o640));
}

/// The temporary directory and the root of the mount let plain users through.
fn open_the_way(node: &Node) {
    for dir in [node.dirs.base.path(), &node.mnt()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn many_threads_work_in_one_directory() {
    let node = node();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let dir = node.mnt();
            scope.spawn(move || {
                for n in 0..40 {
                    let (first, second) =
                        (dir.join(format!("{thread}-{n}.tmp")), dir.join(format!("{thread}-{n}")));
                    let bytes = pattern(thread * 1000 + n, 5000);
                    fs::write(&first, &bytes).unwrap();
                    fs::rename(&first, &second).unwrap();
                    assert!(fs::read(&second).unwrap() == bytes);
                    if n % 2 == 0 {
                        fs::remove_file(&second).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(fs::read_dir(node.mnt()).unwrap().count(), 160);
}
