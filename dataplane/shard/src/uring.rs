//! The driver on the kernel's io_uring.
//!
//! **Owns** one ring, made and used by its shard's thread only, and the poll on the shard's eventfd. SQEs are
//! 128 bytes because FUSE's commands need them (`IORING_SETUP_SQE128`). With `DEFER_TASKRUN` the kernel runs
//! completion work only when the shard enters the ring: no interrupt of running tasks, and a flag in the ring
//! says when there is some, so a busy shard enters no more often than it must.
//!
//! **Never does** keep more operations in the kernel than the completion ring has places: the others wait in
//! a backlog here, so a burst cannot overflow it.

use crate::arena::Arena;
use crate::driver::{Command, Driver, Event, Op, Patience, Span, Token};
use crate::error::StartError;
use crate::inbox::Inbox;
use forebay_types::ShardId;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Ring = IoUring<squeue::Entry128, cqueue::Entry>;

/// `user_data` of completions that are not operations; tokens are small numbers, far below.
const BELL_BY_PEER: u64 = u64::MAX;
const BELL_BY_EVENTFD: u64 = u64::MAX - 1;
const CANCEL: u64 = u64::MAX - 2;
/// The low 16 bits are the shard that could not be rung.
const RING_PEER: u64 = u64::MAX << 32;

/// Completion places for each submission place: how many operations may be in the kernel at once.
const CQ_PER_SQ: u32 = 4;

/// A ring for the calling thread.
pub(crate) struct Uring {
    ring: Ring,
    inbox: Arc<Inbox>,
    backlog: VecDeque<squeue::Entry128>,
    in_kernel: usize,
    in_kernel_max: usize,
}

impl Uring {
    /// Makes a ring, registers the arena on it, and arms the bell.
    ///
    /// # Errors
    /// [`StartError`] with what the operator can change.
    pub(crate) fn new(entries: u32, arena: Arena, inbox: Arc<Inbox>) -> Result<(Self, bool), StartError> {
        let ring = build(entries)?;
        // Saves looking up the descriptor at each entry; where it is refused nothing is lost but that.
        let _ = ring.submitter().register_ring_fd();
        let registered = register(&ring, arena);
        let in_kernel_max = ring.params().cq_entries() as usize - 1;
        let backlog = VecDeque::new();
        let mut this = Self { ring, inbox, backlog, in_kernel: 0, in_kernel_max };
        this.arm_bell();
        Ok((this, registered))
    }

    /// A second descriptor of the ring, for peers to ring it by.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring owns its descriptor and is borrowed for as long as it is borrowed here.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&self.ring)) };
        fd.as_fd().try_clone_to_owned()
    }

    fn arm_bell(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.inbox.bell_fd()), libc::POLLIN as u32).multi(true);
        self.enqueue(poll.build().user_data(BELL_BY_EVENTFD));
    }

    fn enqueue(&mut self, entry: squeue::Entry) {
        self.enqueue_wide(squeue::Entry128::from(entry));
    }

    fn enqueue_wide(&mut self, entry: squeue::Entry128) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    /// Puts an entry into the submission ring, if there is room in it and in the kernel.
    fn try_push(&mut self, entry: &squeue::Entry128) -> bool {
        // SAFETY: the memory and descriptors named in the entry stay valid until its completion: by the
        // contract of `start` for operations; the bell's descriptor belongs to `inbox`; a cancellation and a
        // message name no memory.
        let pushed =
            self.in_kernel < self.in_kernel_max && unsafe { self.ring.submission().push(entry) }.is_ok();
        self.in_kernel += usize::from(pushed);
        pushed
    }

    /// Moves what waits here into the submission ring, as far as there is room.
    fn fill(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                return self.backlog.push_front(entry);
            }
        }
    }

    /// Whether entering the ring without waiting would do something.
    fn must_enter(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    fn enter(&mut self, patience: Patience) -> io::Result<()> {
        let waits = patience != Patience::None && self.ring.completion().is_empty();
        if !waits && !self.must_enter() {
            return Ok(());
        }
        self.inbox.counters.enters.add_mine(1);
        let entered = match patience {
            Patience::UpTo(time) if waits => {
                let time = types::Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&time))
            }
            _ => self.ring.submitter().submit_and_wait(usize::from(waits)),
        };
        match entered.map_err(|e| (e.raw_os_error(), e)) {
            Ok(_) => Ok(()),
            // The time is up; a signal came; the kernel is short of something and the entries stay queued.
            Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    fn reap(&mut self, events: &mut Vec<Event>) {
        let mut rearm = false;
        for entry in self.ring.completion() {
            match entry.user_data() {
                BELL_BY_PEER => {}
                BELL_BY_EVENTFD => {
                    let more = cqueue::more(entry.flags());
                    rearm |= !more;
                    self.in_kernel -= usize::from(!more);
                }
                CANCEL => self.in_kernel -= 1,
                tag if tag >= RING_PEER => {
                    self.in_kernel -= 1;
                    if entry.result() < 0 {
                        events.push(Event::BellFailed { peer: ShardId(tag as u16) });
                    }
                }
                token => {
                    self.in_kernel -= 1;
                    events.push(Event::Done { token: token as Token, result: entry.result() });
                }
            }
        }
        if rearm {
            self.arm_bell();
        }
    }
}

impl Driver for Uring {
    unsafe fn start(&mut self, token: Token, op: Op) {
        match op {
            Op::Command { fd, command } => self.enqueue_wide(wide_sqe(fd, command).user_data(token as u64)),
            op => self.enqueue(sqe(op).user_data(token as u64)),
        }
    }

    fn cancel(&mut self, token: Token) {
        self.enqueue(opcode::AsyncCancel::new(token as u64).build().user_data(CANCEL));
    }

    fn ring_peer(&mut self, peer: &Inbox) -> bool {
        let Some(fd) = peer.ring_fd() else { return false };
        let message = opcode::MsgRingData::new(types::Fd(fd), 0, BELL_BY_PEER, None);
        self.enqueue(message.build().user_data(RING_PEER | u64::from(peer.id.0)));
        true
    }

    fn turn(&mut self, patience: Patience, events: &mut Vec<Event>) -> io::Result<()> {
        self.fill();
        self.enter(patience)?;
        self.reap(events);
        Ok(())
    }

    fn reads_page_cache(&self) -> bool {
        true
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

fn sqe(op: Op) -> squeue::Entry {
    match op {
        Op::Read { fd, span: Span { address, len, registered: Some(index) }, offset } => {
            opcode::ReadFixed::new(types::Fd(fd), address, len, index).offset(offset).build()
        }
        Op::Read { fd, span, offset } => {
            opcode::Read::new(types::Fd(fd), span.address, span.len).offset(offset).build()
        }
        Op::Write { fd, span: Span { address, len, registered: Some(index) }, offset } => {
            opcode::WriteFixed::new(types::Fd(fd), address, len, index).offset(offset).build()
        }
        Op::Write { fd, span, offset } => {
            opcode::Write::new(types::Fd(fd), span.address, span.len).offset(offset).build()
        }
        Op::Sync { fd, data_only } => {
            let flags = if data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
            opcode::Fsync::new(types::Fd(fd)).flags(flags).build()
        }
        Op::Allocate { fd, mode, offset, len } => {
            opcode::Fallocate::new(types::Fd(fd), len).offset(offset).mode(mode).build()
        }
        Op::Poll { fd, events } => opcode::PollAdd::new(types::Fd(fd), events).build(),
        Op::Command { .. } => unreachable!("a command takes a wide entry"),
    }
}

/// Where `len` stands in `struct io_uring_sqe`; the crate's builder has no word for it.
const SQE_LEN_AT: usize = 24;
const _: () = assert!(size_of::<squeue::Entry128>() == 128);

fn wide_sqe(fd: i32, command: Command) -> squeue::Entry128 {
    let built = opcode::UringCmd80::new(types::Fd(fd), command.code).cmd(command.data);
    let mut entry = built.addr(Some(command.address)).build();
    // SAFETY: the entry is `repr(C)` over the kernel's 128-byte structure, in which a u32 stands at this place; any
    // bytes are a valid u32, and the entry is ours alone.
    unsafe { std::ptr::from_mut(&mut entry).cast::<u8>().add(SQE_LEN_AT).cast::<u32>().write(command.len) };
    entry
}

/// Builds a ring with the flags that this kernel takes, best first.
fn build(entries: u32) -> Result<Ring, StartError> {
    let best = builder(entries).setup_single_issuer().setup_defer_taskrun().build(entries);
    match best {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        other => return other.map_err(refused),
    }
    let plain = builder(entries).setup_coop_taskrun().build(entries);
    if plain.is_ok() {
        warn_once(
            "the kernel refuses SINGLE_ISSUER or DEFER_TASKRUN (Linux 6.1 has them): completions will \
                   interrupt running tasks",
        );
    }
    plain.map_err(refused)
}

fn builder(entries: u32) -> io_uring::Builder<squeue::Entry128, cqueue::Entry> {
    let mut builder = IoUring::<squeue::Entry128, cqueue::Entry>::builder();
    builder.setup_submit_all().setup_taskrun_flag().setup_cqsize(entries * CQ_PER_SQ).setup_clamp();
    builder
}

fn refused(error: io::Error) -> StartError {
    let remedy = "raise RLIMIT_MEMLOCK and RLIMIT_NOFILE (systemd: LimitMEMLOCK=infinity, LimitNOFILE=)";
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => forbidden(),
        Some(libc::ENOSYS) => StartError::Forbidden {
            cause: "the system call io_uring_setup is missing: a seccomp filter hides it, or the kernel was \
                    built without CONFIG_IO_URING"
                .into(),
            remedy: "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp \
                     profile, or use a kernel that has it"
                .into(),
        },
        Some(libc::EINVAL) => StartError::TooOld { missing: "SQE128, SUBMIT_ALL or TASKRUN_FLAG" },
        _ => StartError::Resource { what: "an io_uring", remedy, source: error },
    }
}

/// Names the rule that forbids io_uring: the sysctl if it is set, else a filter on system calls.
fn forbidden() -> StartError {
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let (cause, remedy) = match setting.trim() {
        "1" => (
            "sysctl kernel.io_uring_disabled is 1: only CAP_SYS_ADMIN and kernel.io_uring_group may use it",
            "run `sysctl -w kernel.io_uring_disabled=0`, start as root, or join that group",
        ),
        "2" => (
            "sysctl kernel.io_uring_disabled is 2: nobody may use it",
            "run `sysctl -w kernel.io_uring_disabled=0`",
        ),
        _ => (
            "sysctl kernel.io_uring_disabled allows it, so a seccomp filter or a security module refuses \
             io_uring_setup",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile \
             (docker: --security-opt seccomp=...)",
        ),
    };
    StartError::Forbidden { cause: cause.into(), remedy: remedy.into() }
}

/// Registers the arena as fixed buffers. False where that is refused: then plain reads and writes are used.
fn register(ring: &Ring, arena: Arena) -> bool {
    let buffers: Vec<libc::iovec> = arena
        .pieces()
        .into_iter()
        .map(|(address, len)| libc::iovec { iov_base: address.cast(), iov_len: len })
        .collect();
    // SAFETY: the arena is unmapped only after every ring was closed; a frame that outlives the shards keeps
    // it mapped for good.
    match unsafe { ring.submitter().register_buffers(&buffers) } {
        Ok(()) => true,
        Err(error) => {
            warn_once(&format!(
                "the arena could not be registered with the ring ({error}; RLIMIT_MEMLOCK?): each operation \
                 will pin its pages anew"
            ));
            false
        }
    }
}

/// All shards meet the same refusal: say it once.
fn warn_once(message: &str) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| tracing::warn!("{message}"));
}

const _: () = assert!(RING_PEER < CANCEL);
/// The longest sleep is bounded by the kernel's timespec, far above any deadline in use.
const _: () = assert!(Duration::MAX.as_secs() >= i64::MAX as u64);
