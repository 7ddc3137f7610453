//! The ceiling: a FUSE-over-io_uring server that answers every request at once, and touches no byte of a file unless it is told to
//! read them.
//!
//! One pinned thread with one ring for each CPU, as Forebay has it. What it answers is in [`crate::tree`].

use crate::abi::{self, RingHeaders, ring};
use crate::tree::Tree;
use io_uring::{IoUring, cqueue, opcode as op, squeue, types};
use rustix::fs::CWD;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::null_mut;
use zerocopy::{FromBytes, IntoBytes};

const DEPTH: usize = 32;
const PAYLOAD_LEN: usize = 1 << 20;
/// Where `len` stands in `struct io_uring_sqe`.
const SQE_LEN_AT: usize = 24;

type Ring = IoUring<squeue::Entry128, cqueue::Entry>;

/// Who checks permissions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Nobody.
    None,
    /// The kernel, as on a mount of Forebay: where attributes expire at once it asks for them before each check, which is
    /// one request more for a stat and three more for a create.
    Kernel,
}

/// Mounts and serves until it is unmounted.
pub fn serve(dir: &Path, checks: Checks, tree: &Tree) -> io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let mount = mounted(&device, checks)?;
    shake_hands(&device, PAYLOAD_LEN as u32)?;
    let cpus = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| -> io::Result<()> {
        let queues: Vec<_> = (0..cpus)
            .map(|cpu| {
                scope.spawn({
                    let device = &device;
                    move || Queue::new(device, tree, cpu).and_then(Queue::run)
                })
            })
            .collect();
        // FORGETs and the like still come this way.
        let forgets =
            scope.spawn(|| while matches!((&device).read(&mut vec![0; 2 << 20]), Ok(len) if len > 0) {});
        attach(&mount, dir)?;
        drop(mount);
        println!("ready");
        for queue in queues {
            queue.join().expect("no queue panics")?;
        }
        forgets.join().expect("the reader does not panic");
        Ok(())
    })
}

/// A mount that is in no tree yet.
pub fn mounted(device: &File, checks: Checks) -> io::Result<OwnedFd> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &str| fsconfig_set_string(context.as_fd(), key, value);
    set("source", "bare")?;
    set("fd", &device.as_raw_fd().to_string())?;
    set("rootmode", "40000")?;
    set("user_id", "0")?;
    set("group_id", "0")?;
    fsconfig_set_flag(context.as_fd(), "allow_other")?;
    if checks == Checks::Kernel {
        fsconfig_set_flag(context.as_fd(), "default_permissions")?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Puts it there.
pub fn attach(mount: &OwnedFd, dir: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Pins this thread.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Answers INIT.
pub fn shake_hands(mut device: &File, max_write: u32) -> io::Result<()> {
    let mut message = [0; 8192];
    let len = device.read(&mut message)?;
    let (header, rest) = abi::InHeader::read_from_prefix(&message[..len]).expect("INIT has a header");
    let (offer, _) = abi::InitIn::read_from_prefix(rest).expect("INIT is whole");
    let offered = u64::from(offer.flags) | u64::from(offer.flags2) << 32;
    if offered & abi::init::OVER_IO_URING == 0 {
        return Err(io::Error::other(
            "FUSE over io_uring is off: echo Y > /sys/module/fuse/parameters/enable_uring",
        ));
    }
    let flags = abi::init::INIT_EXT
        | abi::init::OVER_IO_URING
        | abi::init::MAX_PAGES
        | abi::init::BIG_WRITES
        | abi::init::ASYNC_READ
        | abi::init::ASYNC_DIO
        | abi::init::PARALLEL_DIROPS
        | abi::init::DO_READDIRPLUS
        | abi::init::HANDLE_KILLPRIV_V2;
    let out = abi::InitOut {
        major: abi::MAJOR,
        minor: abi::MINOR,
        max_readahead: offer.max_readahead,
        flags: flags as u32,
        flags2: (flags >> 32) as u32,
        max_background: 64,
        congestion_threshold: 48,
        max_write,
        max_pages: (max_write / 4096) as u16,
        time_gran: 1,
        ..Default::default()
    };
    let header = abi::OutHeader { len: 80, error: 0, unique: header.unique };
    device.write_all(&[header.as_bytes(), out.as_bytes()].concat())
}

/// What one entry is made of.
struct Entry {
    headers: Box<RingHeaders>,
    payload: *mut u8,
    iovec: Box<[libc::iovec; 2]>,
}

/// The queue of one CPU.
struct Queue<'a> {
    device: &'a File,
    tree: &'a Tree,
    ring: Ring,
    cpu: usize,
    entries: Vec<Entry>,
}

impl<'a> Queue<'a> {
    fn new(device: &'a File, tree: &'a Tree, cpu: usize) -> io::Result<Self> {
        pin(cpu)?;
        let ring = Ring::builder().setup_single_issuer().setup_defer_taskrun().build(2 * DEPTH as u32)?;
        let entries = (0..DEPTH).map(|_| Entry::new()).collect::<io::Result<_>>()?;
        Ok(Self { device, tree, ring, cpu, entries })
    }

    fn run(mut self) -> io::Result<()> {
        for index in 0..DEPTH {
            let iovec = self.entries[index].iovec.as_ptr() as u64;
            self.push(index, ring::REGISTER, 0, iovec, 2);
        }
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                other => other?,
            };
            let done: Vec<(usize, i32)> =
                self.ring.completion().map(|entry| (entry.user_data() as usize, entry.result())).collect();
            for (index, result) in done {
                if result < 0 {
                    return Ok(());
                }
                let commit_id = self.entries[index].answer(self.tree);
                self.push(index, ring::COMMIT_AND_FETCH, commit_id, 0, 0);
            }
        }
    }

    fn push(&mut self, index: usize, code: u32, commit_id: u64, address: u64, len: u32) {
        let entry = command(self.device, code, self.cpu, commit_id, address, len).user_data(index as u64);
        // SAFETY: what the entry names lives as long as the queue, which ends after its connection.
        unsafe { self.ring.submission().push(&entry) }.expect("the ring has a place for every entry");
    }
}

impl Entry {
    fn new() -> io::Result<Self> {
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::POPULATE);
        // SAFETY: a new anonymous mapping, never unmapped.
        let payload = unsafe { mmap_anonymous(null_mut(), PAYLOAD_LEN, prot, flags) }?;
        let mut headers = Box::<RingHeaders>::default();
        let iovec = Box::new([
            libc::iovec {
                iov_base: std::ptr::from_mut(&mut *headers).cast(),
                iov_len: size_of::<RingHeaders>(),
            },
            libc::iovec { iov_base: payload, iov_len: PAYLOAD_LEN },
        ]);
        Ok(Self { headers, payload: payload.cast(), iovec })
    }

    /// Puts an answer where the request was; gives the number to commit.
    fn answer(&mut self, tree: &Tree) -> u64 {
        let (header, _) =
            abi::InHeader::read_from_prefix(&self.headers.in_out).expect("the area is large enough");
        let commit_id = self.headers.ring.commit_id;
        // SAFETY: the mapping is so long, and the kernel is not at it while the request is answered.
        let payload = unsafe { std::slice::from_raw_parts_mut(self.payload, PAYLOAD_LEN) };
        tree.answer(&header, &mut self.headers, payload);
        commit_id
    }
}

/// A command of FUSE over io_uring.
pub fn command(
    device: &File,
    code: u32,
    cpu: usize,
    commit_id: u64,
    address: u64,
    len: u32,
) -> squeue::Entry128 {
    let mut data = [0; 80];
    let command = abi::RingCommand { flags: 0, commit_id, qid: cpu as u16, padding: [0; 6] };
    data[..24].copy_from_slice(command.as_bytes());
    let built = op::UringCmd80::new(types::Fd(device.as_raw_fd()), code).cmd(data);
    let mut entry = built.addr(Some(address)).build();
    // SAFETY: the entry is `repr(C)` over the kernel's 128 bytes, in which a u32 stands at this place.
    unsafe { std::ptr::from_mut(&mut entry).cast::<u8>().add(SQE_LEN_AT).cast::<u32>().write(len) };
    entry
}
