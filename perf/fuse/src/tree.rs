//! The tree that the bare server shows, and what it answers about it.
//!
//! A root with one file, with every name that was made, and with directories of [`NAMES`] files: nothing is remembered. A name
//! that begins with [`NEW`] is not there until it is made, one that begins with [`LISTED`] is a directory, any other is the file.
//! Nothing that is said may be kept, but what a listing brings.

use crate::abi::{self, RingHeaders, opcode};
use crate::load::{FILE_LEN, LISTED, NAMES, NEW};
use std::fs::File;
use std::os::unix::fs::FileExt;
use zerocopy::{FromBytes, IntoBytes};

const ROOT: u64 = 1;
const THE_FILE: u64 = 2;
/// The directories that are listed; their files count from their number times this on.
const FIRST_DIR: u64 = 1 << 20;
/// How long the kernel may keep what a listing brings.
const KEPT_SECS: u64 = 300;

/// What there is to say.
#[derive(Default)]
pub struct Tree {
    /// Where the bytes that are read come from; `None`: they are whatever the buffer has.
    pub bytes: Option<File>,
}

impl Tree {
    /// Answers a request in its buffers.
    pub fn answer(&self, header: &abi::InHeader, headers: &mut RingHeaders, payload: &mut [u8]) {
        let (error, len) = self.reply(header, headers, payload);
        let out = abi::OutHeader { len: 16 + len as u32, error, unique: header.unique };
        headers.in_out[..16].copy_from_slice(out.as_bytes());
        headers.ring.payload_sz = len as u32;
    }

    fn reply(&self, header: &abi::InHeader, headers: &RingHeaders, payload: &mut [u8]) -> (i32, usize) {
        let ask = || abi::ReadIn::read_from_prefix(&headers.op_in).expect("the area is large enough").0;
        let (is_new, is_listed) =
            (payload.starts_with(NEW.as_bytes()), payload.starts_with(LISTED.as_bytes()));
        let found = if is_listed { FIRST_DIR + u64::from(payload[LISTED.len()]) } else { THE_FILE };
        let mut put = |part: &[u8], at: usize| {
            payload[at..at + part.len()].copy_from_slice(part);
            at + part.len()
        };
        match header.opcode {
            opcode::GETATTR => {
                (0, put(abi::AttrOut { attr: attr(header.nodeid), ..Default::default() }.as_bytes(), 0))
            }
            opcode::LOOKUP if is_new => (-libc::ENOENT, 0),
            opcode::LOOKUP => (0, put(entry(found, 0).as_bytes(), 0)),
            opcode::CREATE => {
                let at = put(entry(THE_FILE, 0).as_bytes(), 0);
                (0, put(opened().as_bytes(), at))
            }
            opcode::OPEN | opcode::OPENDIR => (0, put(opened().as_bytes(), 0)),
            opcode::READ => self.read(&ask(), payload),
            opcode::READDIRPLUS => (0, list(header.nodeid, &ask(), payload)),
            opcode::RELEASE | opcode::RELEASEDIR | opcode::FLUSH => (0, 0),
            opcode::STATFS => {
                (0, put(abi::StatfsOut { bsize: 4096, namelen: 255, ..Default::default() }.as_bytes(), 0))
            }
            _ => (-libc::ENOSYS, 0),
        }
    }

    fn read(&self, ask: &abi::ReadIn, payload: &mut [u8]) -> (i32, usize) {
        let len = ask.size as usize;
        match &self.bytes {
            None => (0, len),
            Some(file) => file
                .read_at(&mut payload[..len], ask.offset)
                .map_or_else(|error| (-error.raw_os_error().unwrap_or(libc::EIO), 0), |len| (0, len)),
        }
    }
}

/// Puts down names with their attributes from an offset on, as many as there is room for.
fn list(dir: u64, ask: &abi::ReadIn, payload: &mut [u8]) -> usize {
    let mut at = 0;
    for index in ask.offset..NAMES {
        let (name, ino) = (format!("file-{index:011}"), dir * NAMES + index);
        let dirent =
            abi::Dirent { ino, off: index + 1, namelen: name.len() as u32, kind: libc::S_IFREG >> 12 };
        let parts = [entry(ino, KEPT_SECS).as_bytes(), dirent.as_bytes(), name.as_bytes()].concat();
        let end = at + parts.len().next_multiple_of(abi::DIRENT_ALIGN);
        if end > ask.size as usize {
            break;
        }
        payload[at..at + parts.len()].copy_from_slice(&parts);
        at = end;
    }
    at
}

fn attr(ino: u64) -> abi::Attr {
    let is_dir = ino == ROOT || (FIRST_DIR..FIRST_DIR + 256).contains(&ino);
    let (mode, size) = if is_dir { (0o040_755, 0) } else { (0o100_644, FILE_LEN) };
    abi::Attr { ino, mode, size, nlink: 1, blksize: 4096, ..Default::default() }
}

fn entry(ino: u64, kept_secs: u64) -> abi::EntryOut {
    let (entry_valid, attr_valid) = (kept_secs, kept_secs);
    abi::EntryOut { nodeid: ino, entry_valid, attr_valid, attr: attr(ino), ..Default::default() }
}

fn opened() -> abi::OpenOut {
    abi::OpenOut { fh: 1, open_flags: abi::fopen::NOFLUSH, ..Default::default() }
}
