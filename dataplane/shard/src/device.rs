//! Devices on the ring: waiting until a descriptor can be read, and commands to the driver behind it.
//!
//! **Owns** the way of what a command names: it is moved in with the command and comes back with the result, so
//! that nobody touches it while the kernel may. **Never does** know what a command means.

use crate::driver::{Command, Op};
use crate::file::{File, checked, is_transient, off_shard};
use crate::ops::{self, Held, Memory};
use std::any::Any;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// `EPOLLEXCLUSIVE` of linux/eventpoll.h, which a poll on the ring takes too (Linux 5.13).
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;

/// Who is woken when several wait for the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakes {
    /// Everyone.
    All,
    /// One of those who asked for this, in turn. Whoever is woken looks until nothing is left.
    OneOf,
}

/// An open device. Clones share the descriptor.
#[derive(Debug, Clone)]
pub struct Device(File);

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device {
    /// Takes an open descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        Self(File::new(fd.into()))
    }

    /// Ready when there is something to read, or the other end is gone. It may be early: read without waiting, and
    /// come back if there is nothing.
    ///
    /// # Errors
    /// The system's. `Unsupported` off the shards.
    pub async fn readable(&self, wakes: Wakes) -> io::Result<()> {
        let exclusive = if wakes == Wakes::OneOf { EXCLUSIVE } else { 0 };
        let op = Op::Poll { fd: self.0.raw(), events: libc::POLLIN as u32 | exclusive };
        loop {
            let completion = ops::start(op, self.held(Memory::None)).map_err(|_| off_shard())?;
            match checked(completion.await.0) {
                Err(error) if is_transient(&error) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Gives the driver a command, and waits for as long as that takes. `memory` comes back with the result.
    ///
    /// A future that is dropped leaves the command with the kernel, and `memory` with the shard until it completes.
    ///
    /// # Safety
    /// All memory that the kernel may touch until the command completes is owned by what `memory` points to, and
    /// stays where it is when the box is moved.
    ///
    /// # Panics
    /// On a thread that is no shard.
    pub async unsafe fn command<T: Any>(
        &self,
        command: Command,
        memory: Box<T>,
    ) -> (io::Result<usize>, Box<T>) {
        let held = self.held(Memory::Boxed(memory));
        let started = ops::start(Op::Command { fd: self.0.raw(), command }, held);
        let (result, held) = started.expect("a command is given on a shard").await;
        let Memory::Boxed(memory) = held.memory else {
            unreachable!("a command gives back what it was given")
        };
        let memory =
            memory.downcast().unwrap_or_else(|_| unreachable!("the type is the one it was given with"));
        (checked(result), memory)
    }

    fn held(&self, memory: Memory) -> Held {
        Held { _file: Arc::clone(&self.0.0), memory }
    }
}
