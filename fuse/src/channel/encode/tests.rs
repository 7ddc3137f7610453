//! Each answer, read back as the kernel reads it.

use super::*;
use forebay_types::{HandleId, Ino, InodeState};
use proptest::prelude::*;
use zerocopy::FromBytes;

fn attr() -> Attr {
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

fn validity() -> Validity {
    Validity { entry: Duration::from_millis(1500), attr: Duration::from_secs(7) }
}

fn body(form: Form, reply: Reply) -> Vec<u8> {
    let encoded = encode(form, reply, Vec::new());
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
    let encoded = encode(Form::Entry, Reply::Error(Errno::NOENT), Vec::new());
    assert_eq!((encoded.error, encoded.body.bytes().len()), (-libc::ENOENT, 0));
}

fn entry(name: &[u8], with_attributes: bool) -> Listed<'_> {
    let entry = Entry { attr: attr(), generation: 0, entry_ttl: Duration::ZERO, attr_ttl: Duration::ZERO };
    Listed {
        name,
        ino: Ino(42),
        kind: FileKind::Directory,
        next_offset: 77,
        entry: with_attributes.then_some(entry),
    }
}

/// Reads a listing as the kernel does (`parse_dirfile` and `parse_dirplusfile` of fs/fuse/readdir.c).
fn names_in(mut listing: &[u8], plus: bool) -> Vec<(u64, Vec<u8>)> {
    let mut names = Vec::new();
    while !listing.is_empty() {
        let mut at = 0;
        let mut node = 0;
        if plus {
            node = abi::EntryOut::read_from_prefix(listing).unwrap().0.nodeid;
            at = size_of::<abi::EntryOut>();
        }
        let (dirent, rest) = abi::Dirent::read_from_prefix(&listing[at..]).unwrap();
        assert_eq!((dirent.off, dirent.kind), (77, 4));
        let len = dirent.namelen as usize;
        names.push((node, rest[..len].to_vec()));
        at = (at + size_of::<abi::Dirent>() + len).next_multiple_of(8);
        listing = &listing[at..];
    }
    names
}

#[test]
fn a_listed_entry_without_attributes_is_no_lookup() {
    let mut listing = Vec::new();
    assert_eq!(add_entry(&mut listing, 4096, true, &entry(b".", false), validity()), Room::Taken);
    assert_eq!(add_entry(&mut listing, 4096, true, &entry(b"dir", true), validity()), Room::Taken);
    assert_eq!(names_in(&listing, true), [(0, b".".to_vec()), (42, b"dir".to_vec())]);
}

#[test]
fn as_many_names_of_a_length_find_room_as_is_told() {
    for (plus, len) in [(false, 1), (false, 24), (true, 24), (true, 255)] {
        let (mut listing, name) = (Vec::new(), vec![b'n'; len]);
        let entry = entry(&name, plus);
        let left = entries_left(&listing, 5000, plus, len);
        for n in 0..left {
            assert_eq!(entries_left(&listing, 5000, plus, len), left - n);
            assert_eq!(add_entry(&mut listing, 5000, plus, &entry, validity()), Room::Taken);
        }
        assert_eq!(add_entry(&mut listing, 5000, plus, &entry, validity()), Room::Full);
    }
}

proptest! {
    #[test]
    fn a_listing_never_outgrows_its_room_and_reads_back(
        names in prop::collection::vec(prop::collection::vec(1_u8..=255, 1..=255), 0..40),
        room in 0_usize..8192,
        plus: bool,
    ) {
        let mut listing = Vec::new();
        let mut taken = Vec::new();
        for name in &names {
            if add_entry(&mut listing, room, plus, &entry(name, plus), validity()) == Room::Full {
                break;
            }
            taken.push(name.clone());
        }
        prop_assert!(listing.len() <= room);
        let found: Vec<Vec<u8>> = names_in(&listing, plus).into_iter().map(|(_, name)| name).collect();
        prop_assert_eq!(found, taken);
    }
}
