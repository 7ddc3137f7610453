//! What the operator reads when io_uring is forbidden: a seccomp filter on one thread, which its children
//! inherit, stands for a container's profile.

use crate::common::small;
use forebay_shard::{Shards, StartError};

/// Lets io_uring_setup fail with `errno` on this thread and those that it starts.
fn forbid_io_uring(errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless_setup_skip = libc::sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32)
    };
    let mut program = [
        // The number of the system call is the first word of seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        unless_setup_skip,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter is valid for the duration of the calls, which change this thread only.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter), 0);
    }
}

fn start_without(errno: i32) -> StartError {
    let thread = std::thread::spawn(move || {
        forbid_io_uring(errno);
        Shards::start(&small(2)).map(drop)
    });
    thread.join().unwrap().unwrap_err()
}

#[test]
fn a_start_without_io_uring_names_cause_and_remedy() {
    let refused = start_without(libc::EPERM);
    assert!(matches!(refused, StartError::Forbidden { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("kernel.io_uring_disabled") && text.contains("seccomp"), "{text}");

    let missing = start_without(libc::ENOSYS).to_string();
    assert!(missing.contains("CONFIG_IO_URING") && missing.contains("seccomp"), "{missing}");
}

#[test]
fn other_refusals_are_told_apart() {
    assert!(matches!(start_without(libc::EINVAL), StartError::TooOld { .. }));
    let short = start_without(libc::ENOMEM);
    assert!(short.to_string().contains("RLIMIT_MEMLOCK"), "{short}");
}
