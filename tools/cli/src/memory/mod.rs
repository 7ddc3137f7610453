//! The daemon's memory: one budget, its parts, and what they take.
//!
//! **Owns** the split of `node.memory` into parts with a limit each ([`split`]), what it is derived from where nobody sets
//! it ([`machine`]), and the count of what each part takes now ([`account`]). **Never does** hold a part to its limit: each
//! part is told its limit at the start and keeps it by its own means.
//!
//! **What counts:** memory that only the end of the process would give back. Pages of files (the program itself, the map of
//! the metadata engine, what is cached of extents) are the kernel's to take back whenever it wants, and do not count.
//!
//! **What cannot be held to a limit** is a part all the same: inodes that the kernel has looked up stay until it forgets
//! them, every extent of the tiers and every name that waits to be carried is known in memory. Their limits say what was
//! foreseen; what they take is counted by their weight, and the log says so when the whole passes the budget. Where the
//! kernel can be asked to forget inodes, it is ([`pruning`]).

mod account;
mod machine;
mod pruning;
mod resident;
mod split;

pub(crate) use account::{Account, Counted, PartReport, Report};
pub(crate) use machine::available;
pub(crate) use split::{Split, default_budget};

use forebay_types::ByteSize;

/// A part of the daemon's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What data passes through: registered, and taken as a whole at the start.
    Arena,
    /// Parts of files on their way to an under file system.
    Persist,
    /// What requests to under file systems hold beside the arena.
    Transfers,
    /// Changes of metadata that the engine does not have yet.
    Changes,
    /// Inodes.
    Inodes,
    /// The cache of names, present and absent.
    Names,
    /// Extents of all tiers.
    Extents,
    /// Names that wait to be carried.
    Queue,
    /// Code, stacks, sockets, handles, and what the allocator keeps.
    Process,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Arena,
        Self::Persist,
        Self::Transfers,
        Self::Changes,
        Self::Inodes,
        Self::Names,
        Self::Extents,
        Self::Queue,
        Self::Process,
    ];

    /// What people and metrics call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Arena => "arena",
            Self::Persist => "persist",
            Self::Transfers => "transfers",
            Self::Changes => "changes",
            Self::Inodes => "inodes",
            Self::Names => "names",
            Self::Extents => "extents",
            Self::Queue => "queue",
            Self::Process => "process",
        }
    }

    /// Whether it is never larger than its limit.
    pub(crate) const fn is_held(self) -> bool {
        matches!(self, Self::Arena | Self::Persist | Self::Transfers | Self::Changes | Self::Names)
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// The whole of a few sizes.
fn sum(sizes: impl IntoIterator<Item = ByteSize>) -> ByteSize {
    ByteSize::bytes(sizes.into_iter().map(ByteSize::as_u64).fold(0, u64::saturating_add))
}

/// Down to whole MiB, so that it reads well.
fn whole_mib(bytes: u64) -> ByteSize {
    ByteSize::mib(bytes >> 20)
}
