//! Tiers, extent files, residency, integrity and eviction.
//!
//! **Owns** the bytes on this node: directories with quotas ([`TierConfig`]), one sparse file for each cached or written
//! file ([`Extent`]), which of its pages are here and which of those would survive a power loss, their checksums, and the
//! choice of what goes when there is no room. `docs/FORMATS.md`, section "Tiers", has the bytes on disk.
//!
//! **Never does** fetch anything, talk to anyone, or know names: a content is a [`forebay_types::ContentKey`], a file an
//! [`forebay_types::ExtentId`].
//!
//! **How data comes in and leaves:** a new file takes a blank ([`Store::create`]) and is written through
//! [`Extent::write`] or by the kernel through [`Extent::file`]; bytes of the under file system come in by
//! [`Extent::fill`]; reads ask [`Extent::is_resident`] and then read, or let the kernel read. Whoever needs an extent to
//! stay takes a [`Held`] guard.
//!
//! **Why this shape:** each byte stands at its native offset in a file of a file system that already knows how to
//! allocate, so a complete extent can be handed to the kernel as it is. What is ours is policy and truthfulness: a bit
//! says "here" only when that is so after any crash. A log-structured store was refused: it would need an index from
//! pages to places, and the kernel could not read it.
#![forbid(unsafe_code)]

mod binding;
mod blanks;
mod change;
mod config;
mod counters;
mod cut;
mod dir;
mod direct;
mod error;
pub mod eviction;
mod extent;
mod format;
mod guard;
mod io;
mod memory;
mod moving;
mod opened;
mod own_file;
mod pack;
mod recovery;
mod residency;
mod room;
mod scrub;
mod segment;
mod sidecar;
mod store;
mod table;
mod tend;
mod tier;
mod verify;

pub use config::{StoreConfig, TierConfig, TierKind};
pub use counters::Counters;
pub use dir::LastExit;
pub use error::StoreError;
pub use eviction::EvictionKind;
pub use extent::{Authority, Extent};
pub use guard::{Evictable, Held, Hold};
pub use own_file::FileStat;
pub use recovery::RecoveryReport;
pub use store::{ExtentSpec, Store};
pub use table::EXTENT_WEIGHT;
pub use tier::{Reservation, TierUsage};
pub use verify::Verdict;
