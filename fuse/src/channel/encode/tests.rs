//! Each answer, read back as the kernel reads it.

use super::*;
use forebay_types::{HandleId, Ino, InodeState};
use zerocopy::FromBytes;

pub(in crate::channel) fn attr() -> Attr {
    let time = |secs| TimeSpec { secs, nanos: 5 };
    Attr {
        ino: Ino(42),
        kind: FileKind::Directory,
        mode: 0o1755,
        nlink: 3,
        uid: 1,
        gid: 2,
        rdev: 0,
        size: 10,
        blocks_512: 8,
        atime: time(-1),
        mtime: time(2),
        ctime: time(3),
        state: InodeState::Dirty,
    }
}

pub(in crate::channel) fn validity() -> Validity {
    Validity { entry: Duration::from_millis(1500), attr: Duration::from_secs(7) }
}

fn body(form: Form, reply: Reply) -> Vec<u8> {
    let encoded = encode(form, reply, Listing::default());
    assert_eq!(encoded.error, 0);
    encoded.body.bytes().to_vec()
}

fn read<T: FromBytes>(bytes: &[u8]) -> T {
    T::read_from_bytes(bytes).unwrap()
}

#[test]
fn an_entry_says_what_and_for_how_long() {
    let entry = EntryReply { attr: attr(), generation: 9, valid: validity() };
    let out: abi::EntryOut = read(&body(Form::Entry, Reply::Entry(entry)));
    assert_eq!((out.nodeid, out.generation), (42, 9));
    assert_eq!((out.entry_valid, out.entry_valid_nsec, out.attr_valid), (1, 500_000_000, 7));
    assert_eq!((out.attr.mode, out.attr.atime, out.attr.atimensec), (0o041_755, u64::MAX, 5));
    let out: abi::EntryOut = read(&body(Form::Entry, Reply::NoEntry(Duration::from_secs(3))));
    assert_eq!((out.nodeid, out.entry_valid), (0, 3));
}

#[test]
fn a_new_file_comes_with_its_handle() {
    let entry = EntryReply { attr: attr(), generation: 0, valid: validity() };
    let opened = OpenReply { handle: HandleId(5), mode: OpenMode::Passthrough(BackingId(3)), flush: false };
    let bytes = body(Form::Create, Reply::Created(entry, opened));
    let (entry, open) = bytes.split_at(size_of::<abi::EntryOut>());
    assert_eq!(read::<abi::EntryOut>(entry).nodeid, 42);
    let open: abi::OpenOut = read(open);
    assert_eq!((open.fh, open.backing_id), (5, 3));
    assert_eq!(open.open_flags, fopen::PASSTHROUGH | fopen::NOFLUSH);
}

#[test]
fn each_mode_has_the_flags_of_the_protocol() {
    let flags = |mode| open_out(OpenReply { handle: HandleId(1), mode, flush: true }).open_flags;
    assert_eq!(flags(OpenMode::Cached { keep_cache: false }), 0);
    assert_eq!(flags(OpenMode::Cached { keep_cache: true }), fopen::KEEP_CACHE);
}

#[test]
fn counts_and_places_have_their_width() {
    assert_eq!(read::<abi::WriteOut>(&body(Form::Written, Reply::Written(7))).size, 7);
    assert_eq!(read::<abi::CopyFileRangeOut>(&body(Form::Copied, Reply::Written(7))).bytes_copied, 7);
    assert_eq!(read::<abi::LseekOut>(&body(Form::Offset, Reply::Offset(1 << 40))).offset, 1 << 40);
    assert_eq!(read::<abi::GetxattrOut>(&body(Form::Xattr, Reply::Len(7))).size, 7);
    let space = SpaceUsage { total_bytes: 10 << 20, available_bytes: 4 << 20 };
    let out: abi::StatfsOut = read(&body(Form::Space, Reply::Space(space)));
    assert_eq!((out.blocks, out.bavail, out.files, out.namelen), (2560, 1024, 0, 255));
}

#[test]
fn what_has_no_reply_is_encoded_without_a_fault() {
    assert_eq!(body(Form::Silent, Reply::Done), b"");
}

#[test]
fn failures_are_negative_and_have_no_bytes() {
    let encoded = encode(Form::Entry, Reply::Error(Errno::NOENT), Listing::default());
    assert_eq!((encoded.error, encoded.body.bytes().len()), (-libc::ENOENT, 0));
}
