//! Bare io_uring: one loop, registered huge-page buffers, a registered file. What a runtime can at best reach.

use crate::{CORE, Job, MEMORY, Meter, Offsets, open_direct};
use io_uring::{IoUring, opcode, types};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use std::os::fd::AsRawFd;
use std::time::Instant;

const HUGE: usize = 2 << 20;

/// Prefaulted memory, aligned to huge pages; never unmapped.
fn memory() -> *mut u8 {
    let len = MEMORY + HUGE;
    // SAFETY: a fresh anonymous mapping; the advice is for a range inside it.
    unsafe {
        let raw =
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        let raw = raw.expect("memory");
        let base = raw.byte_add(raw.align_offset(HUGE));
        madvise(base, MEMORY, Advice::LinuxHugepage).expect("huge pages");
        madvise(base, MEMORY, Advice::LinuxPopulateWrite).expect("memory");
        base.cast()
    }
}

/// Reads until the time is up.
pub fn run(job: &Job) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(CORE);
    rustix::thread::sched_setaffinity(None, &set).expect("the core can be used");
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .build(1024)
        .expect("io_uring");
    let base = memory();
    let file = open_direct(&job.file);
    let whole = libc::iovec { iov_base: base.cast(), iov_len: MEMORY };
    // SAFETY: the memory is never unmapped.
    unsafe { ring.submitter().register_buffers(&[whole]) }.expect("buffers register");
    ring.submitter().register_files(&[file.as_raw_fd()]).expect("the file registers");
    let mut offsets: Vec<Offsets> = (0..job.depth).map(|lane| Offsets::new(job, lane)).collect();
    let mut start = |ring: &mut IoUring, lane: usize| {
        let offset = offsets[lane].next().expect("endless");
        let buffer = base.wrapping_add(lane * job.block);
        let read = opcode::ReadFixed::new(types::Fixed(0), buffer, job.block as u32, 0).offset(offset);
        // SAFETY: the buffer is one lane's alone and lives for ever.
        unsafe { ring.submission().push(&read.build().user_data(lane as u64)) }.expect("room");
    };
    let meter = Meter::start();
    (0..job.depth).for_each(|lane| start(&mut ring, lane));
    let end = Instant::now() + job.time;
    let mut reads = 0;
    let mut lanes = Vec::with_capacity(job.depth);
    while Instant::now() < end {
        ring.submit_and_wait(1).expect("submits");
        lanes.extend(ring.completion().map(|done| {
            assert_eq!(done.result(), job.block as i32, "a whole block is read");
            done.user_data() as usize
        }));
        reads += lanes.len() as u64;
        lanes.drain(..).for_each(|lane| start(&mut ring, lane));
    }
    meter.stop(reads);
}
