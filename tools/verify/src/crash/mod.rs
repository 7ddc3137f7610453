//! The crash ledger: a load that notes what was acknowledged, and a check of what is there after a loss.
//!
//! `load` writes operations and their acknowledgements to a ledger outside the directory under test; somebody kills
//! the daemon or the disk; `check` says whether what is there is allowed. The tools know nothing of Forebay: they run
//! against any directory, and are proven against ext4. Refused: a random reader that compares two mounts, because it
//! cannot tell a lost acknowledgement from an operation that never ended.

mod check;
mod choose;
mod expect;
mod identity;
mod ledger;
mod load;
mod perform;
mod scan;
mod world;

pub(crate) use check::{CheckArgs, check};
pub(crate) use load::{LoadArgs, load};
pub(crate) use perform::map_write;
