//! Each request in the bytes of the protocol, and bytes that are none.

use super::*;
use crate::op::OpKind;
use forebay_types::FileKind;
use forebay_vfs::{AllocateMode, RenameFlags, Whence, XattrSetMode};
use proptest::prelude::*;
use zerocopy::IntoBytes;

fn header(opcode: u32) -> abi::InHeader {
    abi::InHeader { opcode, unique: 7, nodeid: 42, uid: 1000, gid: 100, pid: 9, ..Default::default() }
}

fn asked(opcode: u32, head: &[u8], tail: &[u8]) -> Incoming {
    decode(Message { header: &header(opcode), head, tail })
}

fn op_of(opcode: u32, head: &[u8], tail: &[u8]) -> Op {
    match asked(opcode, head, tail) {
        Incoming::Ask(op, _) => op,
        other => panic!("{other:?}"),
    }
}

fn refused(opcode: u32, head: &[u8], tail: &[u8]) -> Errno {
    match asked(opcode, head, tail) {
        Incoming::Refuse(errno) => errno,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_taken_from_behind_the_first_argument() {
    let Op::Lookup(at) = op_of(opcode::LOOKUP, b"", b"name\0") else { panic!() };
    assert_eq!((at.parent, at.name.as_bytes()), (Ino(42), &b"name"[..]));
    let Op::SymLink { at, target } = op_of(opcode::SYMLINK, b"", b"link\0to/there\0") else { panic!() };
    assert_eq!((at.name.as_bytes(), &*target), (&b"link"[..], &b"to/there"[..]));
    let ask = abi::Rename2In { newdir: 43, flags: libc::RENAME_EXCHANGE, padding: 0 };
    let Op::Rename { from, to, flags } = op_of(opcode::RENAME2, ask.as_bytes(), b"a\0b\0") else { panic!() };
    assert_eq!((from.parent, from.name.as_bytes()), (Ino(42), &b"a"[..]));
    assert_eq!((to.parent, to.name.as_bytes(), flags), (Ino(43), &b"b"[..], RenameFlags::Exchange));
}

#[test]
fn names_that_cannot_be_are_refused_with_their_errno() {
    let long = [vec![b'x'; 256], vec![0]].concat();
    assert_eq!(refused(opcode::LOOKUP, b"", &long), Errno::NAMETOOLONG);
    assert_eq!(refused(opcode::UNLINK, b"", b"..\0"), Errno::INVAL);
    assert_eq!(refused(opcode::UNLINK, b"", b"no end"), Errno::IO);
    let ask = abi::Rename2In { newdir: 43, flags: 64, padding: 0 };
    assert_eq!(refused(opcode::RENAME2, ask.as_bytes(), b"a\0b\0"), Errno::INVAL);
}

#[test]
fn attributes_are_changed_as_far_as_their_bits_say() {
    use abi::fattr;
    let ask = abi::SetattrIn {
        valid: fattr::MODE | fattr::SIZE | fattr::ATIME | fattr::ATIME_NOW | fattr::MTIME | fattr::FH,
        fh: 5,
        mode: 0o100_644,
        size: 10,
        mtime: i64::MIN.cast_unsigned(),
        mtimensec: 999_999_999,
        uid: 3,
        ..Default::default()
    };
    let Op::SetAttr { ino, handle, set } = op_of(opcode::SETATTR, ask.as_bytes(), b"") else { panic!() };
    assert_eq!((ino, handle), (Ino(42), Some(HandleId(5))));
    assert_eq!((set.mode, set.uid, set.size), (Some(0o644), None, Some(10)));
    assert_eq!(set.atime, Some(SetTime::Now));
    assert_eq!(set.mtime, Some(SetTime::To(TimeSpec { secs: i64::MIN, nanos: 999_999_999 })));
    let wrong = abi::SetattrIn { mtimensec: NANOS_PER_SEC, ..ask };
    assert_eq!(refused(opcode::SETATTR, wrong.as_bytes(), b""), Errno::INVAL);
}

#[test]
fn what_is_made_has_its_kind_and_mode() {
    let ask = abi::MknodIn { mode: libc::S_IFIFO | 0o640, rdev: 3, umask: 0o22, padding: 0 };
    let Op::MkNod { node, .. } = op_of(opcode::MKNOD, ask.as_bytes(), b"pipe\0") else { panic!() };
    assert_eq!(node, NewNode { kind: FileKind::Fifo, mode: 0o640, rdev: 3 });
    let flags = (libc::O_RDWR | libc::O_APPEND).cast_unsigned();
    let ask = abi::CreateIn { flags, mode: libc::S_IFREG | 0o600, umask: 0, open_flags: 0 };
    let Op::Create { mode, flags, .. } = op_of(opcode::CREATE, ask.as_bytes(), b"new\0") else { panic!() };
    assert_eq!((mode, flags.read, flags.write, flags.append), (0o600, true, true, true));
}

#[test]
fn open_files_are_asked_by_handle_and_place() {
    let ask = abi::ReadIn { fh: 5, offset: 4096, size: 100, ..Default::default() };
    let Incoming::Ask(Op::Read { handle, offset, len, .. }, form) = asked(opcode::READ, ask.as_bytes(), b"")
    else {
        panic!()
    };
    assert_eq!((handle, offset, len, form), (HandleId(5), 4096, 100, Form::Bytes(100)));
    let ask = abi::WriteIn {
        fh: 5,
        offset: 8,
        size: 3,
        write_flags: abi::WRITE_KILL_SUIDGID,
        ..Default::default()
    };
    let Incoming::Write(write) = asked(opcode::WRITE, ask.as_bytes(), b"") else { panic!() };
    let expected = WriteAsk { handle: HandleId(5), offset: 8, len: 3, clear_privileges: true };
    assert_eq!(write, expected);
    let ask = abi::LseekIn { fh: 5, offset: 9, whence: libc::SEEK_DATA.cast_unsigned(), padding: 0 };
    let Op::LSeek { whence, .. } = op_of(opcode::LSEEK, ask.as_bytes(), b"") else { panic!() };
    assert_eq!(whence, Whence::Data);
    let before = abi::LseekIn { offset: (-1_i64).cast_unsigned(), ..ask };
    assert_eq!(refused(opcode::LSEEK, before.as_bytes(), b""), Errno::NXIO);
    let ask = abi::FallocateIn { fh: 5, mode: 3, length: 10, ..Default::default() };
    let Op::FAllocate { mode, .. } = op_of(opcode::FALLOCATE, ask.as_bytes(), b"") else { panic!() };
    assert_eq!(mode, AllocateMode::PunchHole);
}

#[test]
fn a_copy_answers_in_the_width_it_was_asked_in() {
    let ask =
        abi::CopyFileRangeIn { fh_in: 1, off_in: 2, fh_out: 3, off_out: 4, len: 5, ..Default::default() };
    for (opcode, expected) in
        [(opcode::COPY_FILE_RANGE, Form::Written), (opcode::COPY_FILE_RANGE_64, Form::Copied)]
    {
        let Incoming::Ask(Op::CopyFileRange { from, to, len }, form) = asked(opcode, ask.as_bytes(), b"")
        else {
            panic!()
        };
        assert_eq!(
            (from, to, len, form),
            (
                CopyEnd { handle: HandleId(1), offset: 2 },
                CopyEnd { handle: HandleId(3), offset: 4 },
                5,
                expected
            )
        );
    }
}

#[test]
fn extended_attributes_have_name_value_and_room() {
    let ask = abi::SetxattrIn { size: 3, flags: libc::XATTR_CREATE.cast_unsigned() };
    let Op::SetXattr { name, value, mode, .. } = op_of(opcode::SETXATTR, ask.as_bytes(), b"user.a\0v\0w")
    else {
        panic!()
    };
    assert_eq!((&*name, &*value, mode), (&b"user.a"[..], &b"v\0w"[..], XattrSetMode::Create));
    assert_eq!(refused(opcode::SETXATTR, ask.as_bytes(), b"user.a\0v"), Errno::IO);
    let ask = abi::GetxattrIn { size: 64, padding: 0 };
    let Op::GetXattr { name, room, .. } = op_of(opcode::GETXATTR, ask.as_bytes(), b"user.a\0") else {
        panic!()
    };
    assert_eq!((&*name, room), (&b"user.a"[..], 64));
}

#[test]
fn what_has_no_reply_is_never_refused() {
    let one = |nodeid| abi::ForgetOne { nodeid, nlookup: nodeid * 10 };
    let batch = abi::BatchForgetIn { count: 1000, dummy: 0 };
    let tail = [one(2).as_bytes(), one(3).as_bytes(), b"half of one"].concat();
    let Op::Forget(inodes) = op_of(opcode::BATCH_FORGET, batch.as_bytes(), &tail) else { panic!() };
    assert_eq!(inodes, [(Ino(2), 20), (Ino(3), 30)]);
    let fewer = abi::BatchForgetIn { count: 1, dummy: 0 };
    let Op::Forget(inodes) = op_of(opcode::BATCH_FORGET, fewer.as_bytes(), &tail) else { panic!() };
    assert_eq!(inodes, [(Ino(2), 20)]);
    assert!(matches!(asked(opcode::INTERRUPT, &8_u64.to_ne_bytes(), b""), Incoming::Interrupt(RequestId(8))));
    for opcode in [opcode::FORGET, opcode::INTERRUPT, opcode::DESTROY] {
        assert!(matches!(asked(opcode, b"", b""), Incoming::Nothing), "{opcode}");
    }
}

#[test]
fn what_nobody_knows_is_not_there() {
    for opcode in [0, 7, 19, 31, 34, 37, 39, 40, 51, 52, 4096, u32::MAX] {
        assert_eq!(refused(opcode, &[0; 128], b"name\0"), Errno::NOSYS, "{opcode}");
        assert_eq!(abi::head_len(opcode), None, "{opcode}");
    }
}

#[test]
fn every_request_that_is_served_is_whole_with_its_first_argument() {
    let kinds = (0..64).filter_map(|opcode| {
        let head = vec![0; abi::head_len(opcode)?];
        match asked(opcode, &head, b"one\0two\0") {
            Incoming::Ask(op, _) => Some(op.kind()),
            Incoming::Write(_) => Some(OpKind::Write),
            Incoming::Interrupt(_) | Incoming::Nothing => None,
            Incoming::Refuse(errno) => {
                assert!(opcode == opcode::LSEEK || opcode == opcode::INIT, "{opcode}: {errno}");
                None
            }
        }
    });
    let kinds: std::collections::HashSet<OpKind> = kinds.collect();
    // LSEEK is refused above because 0 is no search of ours.
    assert_eq!(kinds.len(), OpKind::ALL.len() - 1, "{kinds:?}");
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(
        opcode in prop_oneof![0_u32..64, any::<u32>()],
        head in prop::collection::vec(any::<u8>(), 0..140),
        tail in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..600),
    ) {
        let _ = asked(opcode, &head, &tail);
    }

    #[test]
    fn a_message_that_is_cut_short_is_refused_or_needs_no_reply(opcode in 0_u32..64, missing in 1_usize..88) {
        if let Some(len) = abi::head_len(opcode).filter(|len| *len >= missing) {
            let incoming = asked(opcode, &vec![0; len - missing], b"one\0two\0");
            let forgets_nothing = matches!(&incoming, Incoming::Ask(Op::Forget(inodes), _) if inodes.is_empty());
            // The flags of an OPENDIR matter to nobody here.
            let needs_no_more = matches!(&incoming, Incoming::Ask(Op::OpenDir(_), _)) || forgets_nothing;
            let harmless = matches!(incoming, Incoming::Refuse(_) | Incoming::Nothing) || needs_no_more;
            prop_assert!(harmless, "{}: {:?}", opcode, incoming);
        }
    }
}
