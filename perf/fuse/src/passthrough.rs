//! The ceiling of passthrough: a server that hands one file to the kernel and answers nothing else.
//!
//! Every name of its only directory is the file. What reads of it cost beyond reads of the file itself is the kernel's
//! own: no daemon sees them.

use crate::abi::{self, opcode};
use crate::bare::{Checks, attach, mounted};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

/// `FUSE_DEV_IOC_BACKING_OPEN` of linux/fuse.h.
const BACKING_OPEN: libc::c_ulong = 0x4010_e501;
const ROOT: u64 = 1;
const THE_FILE: u64 = 2;
/// Attributes are believed for as long as the server runs: a read is not to ask for them.
const VALID_S: u64 = 3600;

/// `struct fuse_backing_map`
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

struct Server {
    device: File,
    len: u64,
    backing_id: i32,
}

/// Mounts and serves until it is unmounted.
pub fn serve(file: &Path, dir: &Path) -> io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let mount = mounted(&device, Checks::None)?;
    let file = File::options().read(true).write(true).open(file)?;
    let mut server = Server { device, len: file.metadata()?.len(), backing_id: 0 };
    server.answer_one()?;
    let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads the structure during the call.
    server.backing_id = unsafe { libc::ioctl(server.device.as_raw_fd(), BACKING_OPEN, &raw const map) };
    if server.backing_id <= 0 {
        return Err(io::Error::last_os_error());
    }
    attach(&mount, dir)?;
    drop(mount);
    println!("ready");
    loop {
        match server.answer_one() {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            other => other?,
        }
    }
}

impl Server {
    fn answer_one(&mut self) -> io::Result<()> {
        let mut message = vec![0; 1 << 20];
        let len = self.device.read(&mut message)?;
        let (header, rest) =
            abi::InHeader::read_from_prefix(&message[..len]).expect("a request has a header");
        let Some(reply) = self.reply(&header, rest) else { return Ok(()) };
        let (error, body) = reply.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
        let out = abi::OutHeader { len: 16 + body.len() as u32, error, unique: header.unique };
        match self.device.write_all(&[out.as_bytes(), &body].concat()) {
            // Whoever asked has gone away.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn reply(&self, header: &abi::InHeader, rest: &[u8]) -> Option<Result<Vec<u8>, i32>> {
        let (valid, ino) = (VALID_S, header.nodeid);
        Some(Ok(match header.opcode {
            opcode::INIT => self.hands(rest).as_bytes().to_vec(),
            opcode::GETATTR => abi::AttrOut { attr: self.attr(ino), attr_valid: valid, ..Default::default() }
                .as_bytes()
                .to_vec(),
            opcode::LOOKUP => {
                let attr = self.attr(THE_FILE);
                let entry = abi::EntryOut { nodeid: THE_FILE, attr, attr_valid: valid, ..Default::default() };
                abi::EntryOut { entry_valid: valid, ..entry }.as_bytes().to_vec()
            }
            opcode::OPEN => {
                let open_flags = abi::fopen::PASSTHROUGH | abi::fopen::NOFLUSH;
                abi::OpenOut { fh: 1, open_flags, backing_id: self.backing_id }.as_bytes().to_vec()
            }
            opcode::RELEASE | opcode::FLUSH => Vec::new(),
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return None,
            _ => return Some(Err(libc::ENOSYS)),
        }))
    }

    fn hands(&self, rest: &[u8]) -> abi::InitOut {
        let (offer, _) = abi::InitIn::read_from_prefix(rest).expect("INIT is whole");
        let flags =
            abi::init::INIT_EXT | abi::init::PASSTHROUGH | abi::init::ASYNC_DIO | abi::init::MAX_PAGES;
        abi::InitOut {
            major: abi::MAJOR,
            minor: abi::MINOR,
            max_readahead: offer.max_readahead,
            flags: flags as u32,
            flags2: (flags >> 32) as u32,
            max_background: 64,
            congestion_threshold: 48,
            max_write: 1 << 17,
            max_pages: 32,
            max_stack_depth: 1,
            time_gran: 1,
            ..Default::default()
        }
    }

    fn attr(&self, ino: u64) -> abi::Attr {
        let (mode, size) = if ino == ROOT { (0o040_755, 0) } else { (0o100_644, self.len) };
        abi::Attr { ino, mode, size, nlink: 1, blksize: 4096, ..Default::default() }
    }
}
