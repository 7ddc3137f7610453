//! A spike: can another process take over the requests of a FUSE-over-io_uring server that was killed?
//!
//! A keeper holds the device and the buffers (shared memory at one address). The first server is killed with requests
//! in three states: *delivered* (it has them and did not answer), *assigned* (the kernel chose an entry, but the server
//! was stopped before it could see them) and *queued* (no entry was free). A second server on the same buffers registers
//! new entries, answers the delivered ones by the commit ids in the old buffers, and finds the assigned ones by a sweep
//! over the ids. In the end every program must have an answer, and the mount must serve on.

use crate::abi::{self, RingHeaders, ring};
use crate::bare;
use crate::tree::Tree;
use io_uring::IoUring;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// Entries of the one queue that is looked at, for each server.
const DEPTH: usize = 4;
const PAYLOAD_LEN: usize = 128 << 10;
/// Where a buffer begins after its headers.
const HEADERS_LEN: usize = 4096;
const SLOT_LEN: usize = HEADERS_LEN + PAYLOAD_LEN;
/// Ids are even; so far beyond the last one seen may those be that nobody saw.
const ID_STEP: u64 = 2;
const SWEEP_BEYOND: u64 = 64;
const HELD: &str = "slow";
const PATIENCE: Duration = Duration::from_secs(5);

type Ring = IoUring<io_uring::squeue::Entry128, io_uring::cqueue::Entry>;

/// Runs the spike on a mount point.
pub fn run(dir: &Path) -> io::Result<()> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse")?;
    let mount = bare::mounted(&device, bare::Checks::None)?;
    bare::shake_hands(&device, PAYLOAD_LEN as u32)?;
    let cpus = std::thread::available_parallelism()?.get();
    let slots = Slots::new(2 * DEPTH * cpus)?;
    bare::attach(&mount, dir)?;
    // A child that inherited it would keep the mount busy.
    drop(mount);
    let first = server(&device, &slots, cpus, 0)?;
    std::thread::sleep(Duration::from_millis(300));
    let mut programs = start(dir, "delivered", DEPTH / 2)?;
    std::thread::sleep(Duration::from_millis(300));
    signal(first, libc::SIGSTOP);
    programs.extend(start(dir, "assigned", DEPTH / 2)?);
    std::thread::sleep(Duration::from_millis(300));
    programs.extend(start(dir, "queued", DEPTH)?);
    std::thread::sleep(Duration::from_millis(300));
    signal(first, libc::SIGKILL);
    wait_for(first);
    std::thread::sleep(Duration::from_millis(500));
    println!("after the kill {} of {} programs wait", waiting(&mut programs), programs.len());
    tell(&mut programs);
    let second = server(&device, &slots, cpus, DEPTH)?;
    let begun = Instant::now();
    while waiting(&mut programs) > 0 && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = waiting(&mut programs);
    println!("with the second server {left} wait, after {:?}", begun.elapsed());
    tell(&mut programs);
    std::thread::sleep(Duration::from_millis(500));
    let works =
        Command::new("timeout").args(["3", "stat", "-c", "%s"]).arg(dir.join("other")).status()?.success();
    println!("the mount {}", if works { "serves on" } else { "does not serve" });
    let unmounted = Command::new("umount").arg(dir).status()?.success();
    signal(second, libc::SIGKILL);
    wait_for(second);
    if !unmounted {
        println!("the mount stays; closing the device ends it");
    }
    if left == 0 && works && unmounted { Ok(()) } else { Err(io::Error::other("the takeover failed")) }
}

fn start(dir: &Path, what: &str, count: usize) -> io::Result<Vec<Child>> {
    // On one CPU, so that all come to one queue.
    let one = |n| {
        let path = dir.join(format!("{HELD}-{what}-{n}"));
        Command::new("taskset").args(["-c", "0", "stat"]).arg(path).stdout(Stdio::null()).spawn()
    };
    (0..count).map(one).collect()
}

fn tell(programs: &mut [Child]) {
    for (n, program) in programs.iter_mut().enumerate() {
        let state = program.try_wait().ok().flatten().map_or("waits".to_owned(), |status| status.to_string());
        let what = ["delivered", "assigned", "queued", "queued"][n * 2 / DEPTH];
        println!("  {n} {what}: {state}");
    }
}

fn waiting(programs: &mut [Child]) -> usize {
    programs.iter_mut().filter_map(|program| program.try_wait().ok()).filter(Option::is_none).count()
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: a system call without memory, on a child of ours.
    unsafe { libc::kill(pid, signal) };
}

fn wait_for(pid: i32) {
    // SAFETY: a system call that is given no memory, on a child of ours.
    unsafe { libc::waitpid(pid, null_mut(), 0) };
}

/// The buffers of all entries, at the same address in every server.
struct Slots(*mut u8);

impl Slots {
    fn new(count: usize) -> io::Result<Self> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, kept for good, which children inherit at the same address.
        let base = unsafe { libc::mmap(null_mut(), count * SLOT_LEN, prot, flags, -1, 0) };
        if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(base.cast())) }
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "the memory is shared with processes and the kernel, not with Rust"
    )]
    fn headers(&self, slot: usize) -> &mut RingHeaders {
        // SAFETY: the slot is within the mapping; its server alone uses it, and the kernel not while it does.
        unsafe { &mut *self.0.add(slot * SLOT_LEN).cast::<RingHeaders>() }
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "the memory is shared with processes and the kernel, not with Rust"
    )]
    fn payload(&self, slot: usize) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(slot * SLOT_LEN + HEADERS_LEN), PAYLOAD_LEN) }
    }
}

/// Starts a server as a process of its own: `from` is the first of its entries in each queue, 0 for the first server.
fn server(device: &std::fs::File, slots: &Slots, cpus: usize, from: usize) -> io::Result<i32> {
    // SAFETY: this process has one thread, so the child may do what it likes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let served = std::thread::scope(|scope| {
                let serve = |cpu| move || Server::new(device, slots, cpu, from).and_then(Server::run);
                let queues: Vec<_> = (0..cpus)
                    .map(|cpu| {
                        // SAFETY (of sharing): each queue uses its own slots.
                        let job = Shared(serve(cpu));
                        scope.spawn(move || job.run())
                    })
                    .collect();
                queues.into_iter().all(|queue| queue.join().is_ok_and(|served| served.is_ok()))
            });
            std::process::exit(i32::from(!served))
        }
        pid => Ok(pid),
    }
}

/// Lets a job go to a thread although it holds the raw address of the slots.
struct Shared<F>(F);
// SAFETY: the jobs of different queues use different slots, and the device by system calls only.
unsafe impl<F> Send for Shared<F> {}
impl<F: FnOnce() -> io::Result<()>> Shared<F> {
    fn run(self) -> io::Result<()> {
        (self.0)()
    }
}

/// The queue of one CPU in one server.
struct Server<'a> {
    device: &'a std::fs::File,
    slots: &'a Slots,
    ring: Ring,
    cpu: usize,
    from: usize,
}

/// Marks completions of the sweep, whose entry is not known.
const SWEPT: u64 = 1 << 32;

impl<'a> Server<'a> {
    fn new(device: &'a std::fs::File, slots: &'a Slots, cpu: usize, from: usize) -> io::Result<Self> {
        bare::pin(cpu)?;
        let ring = Ring::builder().setup_single_issuer().setup_defer_taskrun().build(256)?;
        Ok(Self { device, slots, ring, cpu, from })
    }

    fn slot(&self, entry: usize) -> usize {
        self.cpu * 2 * DEPTH + entry
    }

    fn run(mut self) -> io::Result<()> {
        let iovecs: Vec<_> = (self.from..self.from + DEPTH).map(|entry| self.iovec(entry)).collect();
        for (entry, iovec) in (self.from..).zip(&iovecs) {
            self.push(entry as u64, ring::REGISTER, 0, iovec.as_ptr() as u64, 2);
        }
        let mut to_sweep = self.from > 0;
        if to_sweep {
            self.answer_delivered();
        }
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                other => other?,
            };
            let done: Vec<(u64, i32)> =
                self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
            for (tag, result) in done {
                match result {
                    0 => self.serve(tag),
                    // Not in flight: it was answered before.
                    error if -error == libc::ENOENT => {}
                    _ => return Ok(()),
                }
            }
            if to_sweep && self.cpu == 0 {
                to_sweep = false;
                self.sweep();
            }
        }
    }

    fn iovec(&self, entry: usize) -> Box<[libc::iovec; 2]> {
        let slot = self.slot(entry);
        let headers = std::ptr::from_mut(self.slots.headers(slot)).cast();
        let payload = self.slots.payload(slot).as_mut_ptr().cast();
        Box::new([
            libc::iovec { iov_base: headers, iov_len: size_of::<RingHeaders>() },
            libc::iovec { iov_base: payload, iov_len: PAYLOAD_LEN },
        ])
    }

    fn push(&mut self, tag: u64, code: u32, commit_id: u64, address: u64, len: u32) {
        let entry = bare::command(self.device, code, self.cpu, commit_id, address, len).user_data(tag);
        // SAFETY: what the entry names is mapped for good.
        unsafe { self.ring.submission().push(&entry) }.expect("the ring is large enough");
    }

    /// Fails what the first server had in its hands.
    fn answer_delivered(&mut self) {
        for entry in 0..DEPTH {
            let headers = self.slots.headers(self.slot(entry));
            let commit_id = headers.ring.commit_id;
            // Also for those whose id is not known: the kernel reads this when the sweep finds them.
            fail(headers, commit_id.max(ID_STEP));
            headers.ring.commit_id = 0;
            if commit_id != 0 {
                self.push(entry as u64, ring::COMMIT_AND_FETCH, commit_id, 0, 0);
            }
        }
    }

    /// Fails what was assigned to an entry of the first server and never seen by anybody.
    fn sweep(&mut self) {
        let seen =
            (self.from..self.from + DEPTH).map(|entry| self.slots.headers(self.slot(entry)).ring.commit_id);
        let last = seen.max().unwrap_or(0) + SWEEP_BEYOND;
        let mut found = 0;
        for id in (ID_STEP..=last).step_by(ID_STEP as usize) {
            self.push(SWEPT, ring::COMMIT_AND_FETCH, id, 0, 0);
            // What a commit lets in is served before the next one: its id may be among those to come.
            let mut refused = false;
            while let Some((tag, result)) = self.next_within(Duration::from_millis(1)) {
                refused |= tag == SWEPT && -result == libc::ENOENT;
                if result == 0 {
                    self.serve(tag);
                }
            }
            found += usize::from(!refused);
        }
        println!("the sweep over the ids up to {last} found {found}");
    }

    fn next_within(&mut self, time: Duration) -> Option<(u64, i32)> {
        let time = io_uring::types::Timespec::from(time);
        if self.ring.completion().is_empty() {
            let args = io_uring::types::SubmitArgs::new().timespec(&time);
            let _ = self.ring.submitter().submit_with_args(1, &args);
        } else {
            let _ = self.ring.submit();
        }
        self.ring.completion().next().map(|entry| (entry.user_data(), entry.result()))
    }

    /// A request came into the entry, or, after a sweep, into one that must be found.
    fn serve(&mut self, tag: u64) {
        let entry = if tag == SWEPT {
            (0..DEPTH).find(|entry| self.slots.headers(self.slot(*entry)).ring.commit_id != 0)
        } else {
            Some(tag as usize)
        };
        let Some(entry) = entry else { return };
        let slot = self.slot(entry);
        let (headers, payload) = (self.slots.headers(slot), self.slots.payload(slot));
        if self.from == 0 && payload.starts_with(HELD.as_bytes()) {
            return;
        }
        let (header, _) = abi::InHeader::read_from_prefix(&headers.in_out).expect("the area is large enough");
        let commit_id = headers.ring.commit_id;
        Tree::default().answer(&header, headers, payload);
        headers.ring.commit_id = 0;
        self.push(entry as u64, ring::COMMIT_AND_FETCH, commit_id, 0, 0);
    }
}

fn fail(headers: &mut RingHeaders, unique: u64) {
    let out = abi::OutHeader { len: 16, error: -libc::EIO, unique };
    headers.in_out[..16].copy_from_slice(out.as_bytes());
    headers.ring.payload_sz = 0;
}
