//! FUSE over io_uring: requests come into buffers of ours, on the ring of the core where they were made. Linux 6.14.
//!
//! **Owns** a queue for every CPU that the machine could have, registered on the ring of the shard that runs there or
//! nearest to it ([`places`]), and the entries of these queues, each a task with two buffers ([`entry`]). Depth and
//! size of the entries are fitted to the memory lent to them ([`mod@fit`]). **Never does** serve a request on another
//! shard than the one whose ring it came to.
//!
//! **In and out:** a command hands an entry to the kernel; it completes when a request was put into its buffers; the
//! next command hands in the answer and waits for the next request. One system call of the ring does all of this for
//! all entries. The payload of a write is used where the kernel put it; the payload of an answer is copied there.
//!
//! **What still goes by `/dev/fuse`:** FORGET, INTERRUPT and notifications, as the kernel wants it; and everything, if
//! the kernel refuses an entry before all queues have one. So the classic channel runs beside, on the same connection.
//!
//! **A queue is bounded:** requests of one CPU beyond the depth wait in the kernel until an entry is free. Each request
//! has its deadline below the channel, so an entry always comes free.

mod entry;
mod fit;
mod places;

pub(crate) use fit::Fit;

use super::dev_fuse::DevFuse;
use super::ends::{End, Ends};
use super::serving::Serving;
use super::{Channel, Granted, device::clone_device};
use crate::front::Front;
use entry::Entry;
use forebay_shard::{Device as ShardDevice, spawn};
use forebay_types::ByteSize;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// How long entries that serve a request may take after the session has ended.
const LAST_ANSWERS_WAIT: Duration = Duration::from_secs(5);

/// The size of the queues that the arena of the running shards can bear, or why there can be none.
pub(crate) fn fit() -> Result<Fit, &'static str> {
    let cpus = places::possible_cpus().ok_or("the kernel does not say how many CPUs there could be")?;
    Fit::into(forebay_shard::arena().size(), cpus)
        .ok_or("the arena is too small for a queue for every possible CPU")
}

/// A session over io_uring, connected.
pub(crate) struct Uring {
    classic: DevFuse,
    serving: Serving,
    device: ShardDevice,
    fit: Fit,
    granted: Granted,
    entries: Ends,
}

impl Channel for Uring {
    fn granted(&self) -> Granted {
        self.granted
    }

    fn buffers(&self) -> ByteSize {
        let queues = places::possible_cpus().unwrap_or_default() as u64;
        let of_entries = queues * self.fit.depth as u64 * u64::from(self.fit.payload_len);
        ByteSize::bytes(of_entries + self.classic.buffers().as_u64())
    }

    fn start(&mut self) -> io::Result<()> {
        self.classic.start()?;
        self.register_all()
    }

    fn serve(self: Box<Self>) -> io::Result<()> {
        let Self { classic, mut entries, .. } = *self;
        let ended = Box::new(classic).serve();
        let left = entries.wait_for(LAST_ANSWERS_WAIT);
        if left > 0 {
            tracing::warn!(left, "requests of the ended session are still being served");
        }
        ended
    }
}

impl Uring {
    /// Over a device whose INIT was answered with `granted`, a ring among it.
    pub(super) fn over(device: &OwnedFd, serving: Serving, fit: Fit, granted: Granted) -> io::Result<Self> {
        let classic = DevFuse::over(device, serving.clone(), granted)?;
        let device = ShardDevice::new(clone_device(device)?);
        Ok(Self { classic, serving, device, fit, granted, entries: Ends::new() })
    }

    /// Starts the entries of all queues. The kernel uses the rings once every queue has one.
    fn register_all(&mut self) -> io::Result<()> {
        let front = Arc::clone(self.serving.front());
        let cores = (0..front.shards().len()).map(|shard| core_of(&front, shard));
        let cores = cores.collect::<io::Result<Vec<usize>>>()?;
        let cpus = places::possible_cpus().ok_or_else(|| io::Error::other("no list of possible CPUs"))?;
        let places = places::assign(cpus, &cores, places::node_of);
        for shard in 0..cores.len() {
            let mut entries = Vec::new();
            for (cpu, _) in places.iter().enumerate().filter(|(_, place)| **place == shard) {
                let queue = u16::try_from(cpu).map_err(io::Error::other)?;
                let entry = || Entry::new(self.device.clone(), self.serving.clone(), queue);
                entries.extend((0..self.fit.depth).map(|_| (entry(), self.entries.one_more())));
            }
            let len = self.fit.payload_len as usize;
            front.start_on(shard, move || {
                entries.into_iter().for_each(|(entry, end)| spawn(serve_entry(entry, len, end)));
            })?;
        }
        let Fit { depth, payload_len } = self.fit;
        tracing::info!(queues = cpus, depth, payload_len, "FUSE requests come over io_uring");
        Ok(())
    }
}

async fn serve_entry(entry: Entry, payload_len: usize, end: End) {
    let queue = entry.queue();
    let ended = match forebay_shard::arena().frame(payload_len).await {
        Ok(payload) => entry.run(payload).await,
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = &ended {
        tracing::error!(queue, %error, "an entry of a FUSE queue is out of service");
    }
    end.report(ended);
}

/// The CPU that a shard is pinned to.
fn core_of(front: &Front, shard: usize) -> io::Result<usize> {
    let (tell, told) = sync_channel(1);
    front.start_on(shard, move || {
        // Whoever asked may have given up.
        let _ = tell.send(rustix::thread::sched_getcpu());
    })?;
    told.recv().map_err(io::Error::other)
}
