//! Waiting for descriptors, commands to a driver, and frames at an address that stays.

use crate::common::{small, start};
use forebay_shard::{Command, Device, FixedFrame, Wakes, arena, sleep, spawn, timeout};
use std::cell::Cell;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// `SOCKET_URING_OP_SIOCINQ` of linux/io_uring.h (Linux 6.7): how many bytes a socket has to read.
const SOCKET_BYTES_TO_READ: u32 = 0;

fn socket() -> (UnixStream, Device) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, Device::new(OwnedFd::from(theirs)))
}

/// Sockets of the Unix family know no commands.
fn tcp_with(bytes: &[u8]) -> (TcpStream, Device) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    ours.write_all(bytes).unwrap();
    theirs.peek(&mut [0; 1]).unwrap();
    (ours, Device::new(OwnedFd::from(theirs)))
}

#[test]
fn a_device_is_readable_when_something_came_or_its_end_is_gone() {
    let shards = start(&small(1));
    let waited = shards.handles()[0].block_on(|| async {
        let (mut peer, device) = socket();
        let too_early = timeout(Duration::from_millis(50), device.readable(Wakes::All)).await.is_err();
        peer.write_all(b"x").unwrap();
        device.readable(Wakes::All).await.unwrap();
        device.readable(Wakes::OneOf).await.unwrap();
        drop(peer);
        device.readable(Wakes::All).await.unwrap();
        too_early
    });
    assert!(waited.unwrap(), "it was readable before anything came");
}

#[test]
fn one_of_those_who_share_the_wake_is_woken() {
    let shards = start(&small(1));
    let woken = shards.handles()[0].block_on(|| async {
        let (mut peer, device) = socket();
        let woken = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (device, woken) = (device.clone(), Rc::clone(&woken));
            spawn(async move {
                device.readable(Wakes::OneOf).await.unwrap();
                woken.set(woken.get() + 1);
            });
        }
        sleep(Duration::from_millis(20)).await;
        let mut woken_by = Vec::new();
        for byte in [b"x", b"y"] {
            let before = woken.get();
            peer.write_all(byte).unwrap();
            let give_up = Instant::now() + Duration::from_secs(60);
            while woken.get() == before && Instant::now() < give_up {
                sleep(Duration::from_millis(1)).await;
            }
            // Others would be woken by now.
            sleep(Duration::from_millis(50)).await;
            woken_by.push(woken.get());
        }
        woken_by
    });
    assert_eq!(woken.unwrap(), [1, 2]);
}

#[test]
fn a_command_reaches_the_driver_and_gives_back_its_memory() {
    let shards = start(&small(1));
    let (counted, kept, refused) = shards.handles()[0]
        .block_on(|| async {
            let (_peer, device) = tcp_with(b"five!");
            let command = Command { code: SOCKET_BYTES_TO_READ, data: [0; 80], address: 0, len: 0 };
            // SAFETY: this command names no memory.
            let (counted, kept) = unsafe { device.command(command, Box::new([7_u8; 16])) }.await;
            let unknown = Command { code: 0x7fff, ..command };
            // SAFETY: as above.
            let (refused, _) = unsafe { device.command(unknown, Box::new(())) }.await;
            (counted.unwrap(), *kept, refused.unwrap_err().raw_os_error())
        })
        .unwrap();
    assert_eq!((counted, kept, refused), (5, [7; 16], Some(libc::EOPNOTSUPP)));
}

#[test]
fn a_fixed_frame_is_lent_to_one_at_a_time_and_comes_back_from_any_thread() {
    let shards = start(&small(1));
    let before = shards.arena().in_use();
    shards.handles()[0]
        .block_on(|| async {
            let fixed = FixedFrame::new(arena().try_frame(8192).unwrap());
            let mut lent = fixed.lend(100).unwrap();
            lent.fill(3);
            assert!(fixed.is_lent_as(&lent) && !fixed.is_lent_as(&arena().try_frame(1).unwrap()));
            assert_eq!((lent.len(), fixed.is_out()), (100, true));
            assert!(fixed.lend(1).is_none(), "it is out");
            assert!(timeout(Duration::from_millis(30), fixed.back()).await.is_err());
            let borrower = std::thread::spawn(move || drop(lent));
            fixed.back().await;
            borrower.join().unwrap();
            let again = fixed.lend(50).unwrap();
            assert!(again.iter().all(|byte| *byte == 3), "the memory is the same");
            // The block outlives its home while it is lent.
            drop(fixed);
            assert!(again.iter().all(|byte| *byte == 3));
        })
        .unwrap();
    assert_eq!(shards.arena().in_use(), before, "the block went back to the arena");
}
