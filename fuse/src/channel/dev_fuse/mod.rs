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
//! **Going on with another process's session**: its clones are read on, after the kernel was asked to send again what was
//! read from them and not answered.
//!
//! **What the kernel does not give:** all clones are read from one queue, and of the shards that sleep, one is woken in
//! turn, wherever the request was made. A request may so cross to another core, which FUSE over io_uring avoids.

mod reader;

use super::ends::Ends;
use super::serving::Serving;
use super::{Channel, Device, Gate, Granted, Kept, REQUEST_LEN_MAX, device::clone_device};
use forebay_shard::{Device as ShardDevice, spawn};
use forebay_types::ByteSize;
use reader::Reader;
use rustix::fs::OFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A session on `/dev/fuse`, connected.
pub(crate) struct DevFuse {
    serving: Serving,
    clones: Vec<ShardDevice>,
    granted: Granted,
    readers: Ends,
    gates: Vec<Arc<Gate>>,
    /// Of each clone, and of those that a process with more shards had.
    kept: Vec<OwnedFd>,
    /// On which requests that were not answered are asked for, if there was a process before this one.
    former: Option<Device>,
}

impl DevFuse {
    /// Over a device whose INIT was answered with `granted`.
    pub(super) fn over(device: &OwnedFd, serving: Serving, granted: Granted) -> io::Result<Self> {
        Self::on(device, Vec::new(), serving, granted)
    }

    /// Over a session that another process served, with all descriptors that it had.
    pub(super) fn over_former(
        device: &OwnedFd,
        clones: Vec<OwnedFd>,
        serving: Serving,
        granted: Granted,
    ) -> io::Result<Self> {
        let former = Some(Device::new(device.try_clone()?));
        Ok(Self { former, ..Self::on(device, clones, serving, granted)? })
    }

    fn on(device: &OwnedFd, mut kept: Vec<OwnedFd>, serving: Serving, granted: Granted) -> io::Result<Self> {
        let shards = serving.front().shards().len();
        while kept.len() < shards {
            kept.push(clone_device(device)?);
        }
        let clone = |kept: &OwnedFd| {
            let clone = kept.try_clone()?;
            rustix::fs::fcntl_setfl(&clone, OFlags::RDWR | OFlags::NONBLOCK)?;
            Ok(ShardDevice::new(clone))
        };
        let clones = kept[..shards].iter().map(clone).collect::<io::Result<_>>()?;
        let gates = (0..shards).map(|_| Arc::default()).collect();
        Ok(Self { serving, clones, granted, readers: Ends::new(), gates, kept, former: None })
    }
}

impl Channel for DevFuse {
    fn granted(&self) -> Granted {
        self.granted
    }

    fn buffers(&self) -> ByteSize {
        ByteSize::bytes(self.clones.len() as u64 * u64::from(REQUEST_LEN_MAX))
    }

    fn kept(&self) -> io::Result<Option<Kept>> {
        if !self.granted.resend {
            return Ok(None);
        }
        let clones = self.kept.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        Ok(Some(Kept { clones, gates: self.gates.clone() }))
    }

    fn start(&mut self) -> io::Result<()> {
        if let Some(former) = self.former.take() {
            former.resend()?;
        }
        let front = self.serving.front();
        for (shard, clone) in self.clones.iter().enumerate() {
            let (device, serving, end) = (clone.clone(), self.serving.clone(), self.readers.one_more());
            let gate = Arc::clone(&self.gates[shard]);
            front.start_on(shard, move || {
                spawn(async move {
                    end.report(Reader::new(device, serving, gate).run().await);
                })
            })?;
        }
        Ok(())
    }

    fn serve(mut self: Box<Self>) -> io::Result<()> {
        self.readers.wait()
    }
}
