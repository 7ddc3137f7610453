//! The first request of a session, INIT: what the kernel can do, and which of it we take.
//!
//! **Owns** the negotiation. **Never does** read another request: until INIT is answered the kernel sends none.

use super::abi::{self, init};
use super::{Agreed, BACKGROUND_MAX, Granted, Wish};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use zerocopy::{FromBytes, IntoBytes};

/// How deep tiers may be stacked on other file systems: not at all. With 1 the kernel refuses a backing file on
/// overlayfs (ELOOP), and this mount itself may still be a layer of one.
const STACK_DEPTH: u32 = 1;
const PAGE_LEN: u32 = 4096;

/// What is taken whenever the kernel has it.
///
/// Not among it: ATOMIC_O_TRUNC (a truncate must reach the extent before the open is answered), WRITEBACK_CACHE
/// (excludes passthrough), READDIRPLUS_AUTO (the kernel would list with attributes as long as programs ask for them, and they
/// would come too late for most names; here each entry brings them where they cost nothing), POSIX_ACL, FLOCK and POSIX locks (the kernel's own serve one node), SPLICE (the payload
/// goes into an arena frame anyway). ABORT_ERROR tells an aborted connection, under which files may be open, from an
/// unmount, after which none are.
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::DO_READDIRPLUS
    | init::ASYNC_DIO
    | init::PARALLEL_DIROPS
    | init::ABORT_ERROR
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::HANDLE_KILLPRIV_V2
    | init::INIT_EXT
    | init::HAS_EXPIRE_ONLY
    | init::DIRECT_IO_ALLOW_MMAP
    | init::HAS_RESEND;

/// What the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offer {
    unique: u64,
    major: u32,
    minor: u32,
    max_readahead: u32,
    flags: u64,
}

/// Answers INIT on `device`, which blocks until it is there.
///
/// # Errors
/// The system's; `Unsupported` if the kernel speaks a protocol from before Linux 6.1.
pub(super) fn shake_hands(device: impl AsFd, wish: &Wish) -> io::Result<Granted> {
    loop {
        let offer = read_offer(&device)?;
        if offer.major > abi::MAJOR {
            // The kernel then sends another INIT, in the version named here.
            answer(&device, offer.unique, &abi::InitOut { major: abi::MAJOR, ..abi::InitOut::default() })?;
            continue;
        }
        if offer.major < abi::MAJOR || offer.minor < abi::MINOR_MIN {
            refuse(&device, offer.unique)?;
            let (major, minor) = (offer.major, offer.minor);
            let text =
                format!("the kernel speaks FUSE {major}.{minor}; 7.{} is needed (Linux 6.1)", abi::MINOR_MIN);
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let (granted, out) = choose(&offer, wish);
        answer(&device, offer.unique, &out)?;
        return Ok(granted);
    }
}

fn read_offer(device: impl AsFd) -> io::Result<Offer> {
    let mut buffer = [0; abi::READ_BUFFER_MIN];
    loop {
        match rustix::io::read(&device, &mut buffer) {
            Ok(len) => {
                return parse(&buffer[..len])
                    .ok_or_else(|| io::Error::other("the kernel's INIT is malformed"));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `None` if it is no INIT.
fn parse(message: &[u8]) -> Option<Offer> {
    let (header, body) = abi::InHeader::read_from_prefix(message).ok()?;
    if header.opcode != abi::opcode::INIT {
        return None;
    }
    // Kernels before 7.36 send less; what is not sent is 0.
    let mut whole = [0; size_of::<abi::InitIn>()];
    let len = body.len().min(whole.len());
    whole[..len].copy_from_slice(&body[..len]);
    let ask = abi::InitIn::read_from_bytes(&whole).ok()?;
    let low = u64::from(ask.flags);
    let high = if low & init::INIT_EXT != 0 { u64::from(ask.flags2) << 32 } else { 0 };
    let (unique, max_readahead) = (header.unique, ask.max_readahead);
    Some(Offer { unique, major: ask.major, minor: ask.minor, max_readahead, flags: low | high })
}

fn choose(offer: &Offer, wish: &Wish) -> (Granted, abi::InitOut) {
    let mut wanted = WANTED;
    if wish.passthrough {
        wanted |= init::PASSTHROUGH;
    }
    if wish.ring.is_some() {
        wanted |= init::OVER_IO_URING;
    }
    let flags = wanted & offer.flags;
    let has = |flag: u64| flags & flag != 0;
    let ring = wish.ring.filter(|_| has(init::OVER_IO_URING));
    let max_write = ring.map_or(super::REQUEST_LEN_MAX, |ring| ring.payload_len);
    let out = abi::InitOut {
        major: abi::MAJOR,
        minor: offer.minor.min(abi::MINOR),
        max_readahead: offer.max_readahead,
        flags: flags as u32,
        max_background: BACKGROUND_MAX,
        congestion_threshold: BACKGROUND_MAX / 4 * 3,
        max_write,
        time_gran: 1,
        max_pages: (max_write / PAGE_LEN) as u16,
        flags2: (flags >> 32) as u32,
        max_stack_depth: if has(init::PASSTHROUGH) { STACK_DEPTH } else { 0 },
        ..abi::InitOut::default()
    };
    let granted = Granted {
        passthrough: has(init::PASSTHROUGH),
        direct_mmap: has(init::DIRECT_IO_ALLOW_MMAP),
        prune: offer.minor >= abi::MINOR_PRUNE,
        ring,
        ring_offered: offer.flags & init::OVER_IO_URING != 0,
        resend: has(init::HAS_RESEND),
        agreed: Agreed {
            major: offer.major,
            minor: offer.minor,
            max_readahead: offer.max_readahead,
            offered: offer.flags,
            taken: flags,
        },
    };
    (granted, out)
}

/// What the kernel grants to whoever goes on with a session of which INIT was answered by another process; `None` if we
/// would have answered otherwise. Whether the kernel chooses itself how it lists is all the same to us.
pub(super) fn repeat(agreed: Agreed, wish: &Wish) -> Option<Granted> {
    let Agreed { major, minor, max_readahead, offered, taken } = agreed;
    if major != abi::MAJOR || minor < abi::MINOR_MIN {
        return None;
    }
    let (granted, _) = choose(&Offer { unique: 0, major, minor, max_readahead, flags: offered }, wish);
    let same = granted.agreed.taken == taken & !init::READDIRPLUS_AUTO;
    same.then_some(Granted { agreed, ..granted })
}

fn answer(device: impl AsFd, unique: u64, out: &abi::InitOut) -> io::Result<()> {
    let len = size_of::<abi::OutHeader>() + size_of::<abi::InitOut>();
    let header = abi::OutHeader { len: len as u32, error: 0, unique };
    rustix::io::writev(device, &[IoSlice::new(header.as_bytes()), IoSlice::new(out.as_bytes())])?;
    Ok(())
}

fn refuse(device: impl AsFd, unique: u64) -> io::Result<()> {
    let len = size_of::<abi::OutHeader>() as u32;
    let header = abi::OutHeader { len, error: -libc::EPROTO, unique };
    rustix::io::write(device, header.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::uring::Fit;
    use proptest::prelude::*;

    const FIT: Fit = Fit { depth: 4, payload_len: 256 << 10 };

    fn init(flags: u64) -> Vec<u8> {
        let header = abi::InHeader { len: 104, opcode: abi::opcode::INIT, unique: 2, ..Default::default() };
        let ask = abi::InitIn {
            major: 7,
            minor: 45,
            max_readahead: 131_072,
            flags: flags as u32,
            flags2: (flags >> 32) as u32,
            unused: [0; 11],
        };
        [header.as_bytes(), ask.as_bytes()].concat()
    }

    fn wish(ring: Option<Fit>) -> Wish {
        Wish { passthrough: true, ring }
    }

    #[test]
    fn nothing_is_taken_that_was_not_offered() {
        let offer = parse(&init(init::INIT_EXT | init::ASYNC_READ | init::PASSTHROUGH)).unwrap();
        let (granted, out) = choose(&offer, &wish(Some(FIT)));
        assert!(granted.passthrough && granted.ring.is_none() && !granted.direct_mmap);
        assert_eq!(u64::from(out.flags) | u64::from(out.flags2) << 32, offer.flags);
        assert_eq!((out.max_write, out.max_pages, out.max_stack_depth), (1 << 20, 256, 1));
    }

    #[test]
    fn a_ring_bounds_what_a_request_may_carry() {
        let offer = parse(&init(init::INIT_EXT | init::OVER_IO_URING)).unwrap();
        let (granted, out) = choose(&offer, &wish(Some(FIT)));
        assert_eq!((granted.ring, out.max_write, out.max_pages), (Some(FIT), 256 << 10, 64));
        let (granted, _) = choose(&offer, &wish(None));
        assert!(granted.ring.is_none() && granted.ring_offered);
    }

    #[test]
    fn a_session_is_gone_on_with_only_as_it_was_begun() {
        let offer = parse(&init(init::INIT_EXT | init::PASSTHROUGH | init::HAS_RESEND)).unwrap();
        let (granted, _) = choose(&offer, &wish(None));
        assert!(granted.resend && repeat(granted.agreed, &wish(None)) == Some(granted));
        for taken in [granted.agreed.taken | init::OVER_IO_URING, granted.agreed.taken & !init::HAS_RESEND] {
            assert_eq!(repeat(Agreed { taken, ..granted.agreed }, &wish(None)), None);
        }
        // One that was begun when the kernel was still to choose how it lists is kept as it was.
        let chosen = Agreed { taken: granted.agreed.taken | init::READDIRPLUS_AUTO, ..granted.agreed };
        assert_eq!(repeat(chosen, &wish(None)).map(|granted| granted.agreed), Some(chosen));
        assert_eq!(repeat(Agreed { major: 8, ..granted.agreed }, &wish(None)), None);
    }

    #[test]
    fn a_kernel_is_asked_to_prune_only_if_it_knows_how() {
        let offer = parse(&init(init::INIT_EXT)).unwrap();
        assert!(choose(&offer, &wish(None)).0.prune);
        assert!(!choose(&Offer { minor: abi::MINOR_PRUNE - 1, ..offer }, &wish(None)).0.prune);
    }

    #[test]
    fn a_short_init_has_no_further_flags() {
        let whole = init(init::ASYNC_READ | init::PASSTHROUGH);
        let offer = parse(&whole[..size_of::<abi::InHeader>() + 16]).unwrap();
        assert_eq!(offer.flags, init::ASYNC_READ);
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(offer) = parse(&bytes) {
                choose(&offer, &wish(Some(FIT)));
            }
        }
    }
}
