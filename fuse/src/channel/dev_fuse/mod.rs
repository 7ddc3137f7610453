//! The classic channel: requests read from `/dev/fuse`, answers written back to it. Linux 6.1 and later.
//!
//! **Owns** one clone of the device for each shard (FUSE_DEV_IOC_CLONE) and the task that reads it ([`reader`]).
//! **Never does** serve a request on another shard than the one that read it.
//!
//! **In and out:** the shard's ring says when there is something to read; the task then reads by plain readv(2) until
//! nothing is left. The header of a request goes to one place and the payload of a write to an arena frame, so that it
//! is copied once, by the kernel. Answers are written by writev(2), to the clone that the request came from.
//!
//! **Why not a read on the ring:** `/dev/fuse` has no IOCB_NOWAIT. The ring would therefore either hand each read to a
//! kernel thread, which costs the wakeup that a shard is there to avoid, or (on a descriptor that does not block) answer
//! EAGAIN instead of waiting. Waiting on the ring and reading beside it is one plain system call for each request.
//!
//! **What the kernel does not give:** all clones are read from one queue, and of the shards that sleep, one is woken in
//! turn, wherever the request was made. A request may so cross to another core, which FUSE over io_uring avoids.

mod reader;

use super::ends::Ends;
use super::serving::Serving;
use super::{Channel, Granted, REQUEST_LEN_MAX, device::clone_device};
use forebay_shard::{Device as ShardDevice, spawn};
use forebay_types::ByteSize;
use reader::Reader;
use rustix::fs::OFlags;
use std::io;
use std::os::fd::OwnedFd;

/// A session on `/dev/fuse`, connected.
pub(crate) struct DevFuse {
    serving: Serving,
    clones: Vec<ShardDevice>,
    granted: Granted,
    readers: Ends,
}

impl DevFuse {
    /// Over a device whose INIT was answered with `granted`.
    pub(super) fn over(device: &OwnedFd, serving: Serving, granted: Granted) -> io::Result<Self> {
        let clone = |_| {
            let clone = clone_device(device)?;
            rustix::fs::fcntl_setfl(&clone, OFlags::RDWR | OFlags::NONBLOCK)?;
            Ok(ShardDevice::new(clone))
        };
        let clones = (0..serving.front().shards().len()).map(clone).collect::<io::Result<_>>()?;
        Ok(Self { serving, clones, granted, readers: Ends::new() })
    }
}

impl Channel for DevFuse {
    fn granted(&self) -> Granted {
        self.granted
    }

    fn buffers(&self) -> ByteSize {
        ByteSize::bytes(self.clones.len() as u64 * u64::from(REQUEST_LEN_MAX))
    }

    fn start(&mut self) -> io::Result<()> {
        let front = self.serving.front();
        for (shard, clone) in self.clones.iter().enumerate() {
            let (device, serving, end) = (clone.clone(), self.serving.clone(), self.readers.one_more());
            front.start_on(shard, move || {
                spawn(async move {
                    end.report(Reader::new(device, serving).run().await);
                })
            })?;
        }
        Ok(())
    }

    fn serve(mut self: Box<Self>) -> io::Result<()> {
        self.readers.wait()
    }
}
